"""Fourier domain adaptation: what of a spectrum is taken over, and that the loss is what the formula says."""

import math

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.data.loading.dense_batch import DenseBatch, domain_counts
from al_lab.models.segmenters.segmenter import upsample
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives.adaptation import cross_entropy
from al_lab.objectives.domains.fda import FDA
from al_lab.objectives.domains.fourier import in_style, robust_entropy


def images(seed: int, hw: tuple[int, int] = (30, 44)) -> torch.Tensor:
    return 255 * torch.rand(2, 3, *hw, generator=torch.Generator().manual_seed(seed))


def network() -> TinySegmenter:
    torch.manual_seed(0)
    return TinySegmenter(4, widths=(8, 8, 8))


def batch() -> DenseBatch:
    g = torch.Generator().manual_seed(1)
    bought = torch.full((2, 24, 32), 255)
    bought[:, :3, :5] = 2
    return DenseBatch(
        torch.randn(4, 3, 28, 36, generator=g), torch.randint(0, 4, (4, 28, 36), generator=g),
        torch.randn(2, 3, 24, 32, generator=g), bought, ["source/0", "source/1", "source/2", "source/3", "t0", "t1"],
    )  # fmt: skip


def test_a_window_of_nothing_gives_the_source_back() -> None:
    assert torch.equal(in_style(images(0), images(1), 0.03), images(0))  # 0.9 of a period


def test_an_image_in_its_own_style_is_itself() -> None:
    torch.testing.assert_close(in_style(images(0), images(0), 0.2), images(0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("hw", [(30, 44), (31, 45)])
def test_the_window_is_the_targets_amplitude_and_the_rest_the_sources(hw: tuple[int, int]) -> None:
    own, theirs, found = (torch.fft.fft2(x.double()) for x in (
        images(0, hw), images(1, hw), in_style(images(0, hw), images(1, hw), 0.15)))  # fmt: skip
    reach = math.floor(0.15 * hw[0])
    assert reach == 4
    for u in (*range(-6, 7), 15):
        for v in (*range(-6, 7), 15):
            expected = (theirs if max(abs(u), abs(v)) < reach else own)[:, :, u, v].abs()
            torch.testing.assert_close(found[:, :, u, v].abs(), expected, rtol=1e-3, atol=0.5)
    between = (found / own)[:, :, 3, -2].angle().abs()
    assert float(between.max()) < 1e-3  # phases are the source's


def test_a_target_of_another_size_gives_its_mean_color() -> None:
    flat = torch.tensor([200.0, 100.0, 50.0])[None, :, None, None].expand(2, 3, 12, 20)
    styled = in_style(images(0), flat, 1 / 30)
    torch.testing.assert_close(styled.mean((2, 3)), flat[:, :, 0, 0], rtol=1e-4, atol=1e-2)


def test_the_charbonnier_penalty_of_known_entropies() -> None:
    even, sure = torch.zeros(1, 4, 1, 1), torch.tensor([50.0, 0, 0, 0]).reshape(1, 4, 1, 1)
    assert robust_entropy(even, 2.0).item() == pytest.approx(1.0, abs=1e-6)
    assert robust_entropy(sure, 2.0).item() == pytest.approx(1e-16, rel=1e-3)
    half = torch.tensor([0.0, 0.0, -50.0, -50.0]).reshape(1, 4, 1, 1)
    assert robust_entropy(half, 2.0).item() == pytest.approx(0.5**4, rel=1e-4)


def test_the_loss_is_what_the_formula_says() -> None:
    net, data = network(), batch()
    parts = FDA(beta=0.2, entropy=0.3, eta=1.5)(net, data, 0, 10)
    mean, std = (torch.tensor(v)[:, None, None] for v in (net.mean, net.std))
    own, theirs = data.source_images * std + mean, data.target_images[[0, 0, 1, 1]] * std + mean
    seen = net((in_style(own, theirs, 0.2) - mean) / std)
    source = cross_entropy(upsample(seen.logits, (28, 36)), data.source_labels)
    entropy = robust_entropy(net(data.target_images).logits, 1.5).mean()
    assert float(parts["source_ce"]) == pytest.approx(float(source.detach()), rel=1e-5)
    assert float(parts["entropy"]) == pytest.approx(float(entropy.detach()), rel=1e-5)
    expected = parts["source_ce"] + parts["target_ce"] + 0.3 * parts["entropy"]
    assert float(parts["loss"].detach()) == pytest.approx(float(expected), rel=1e-6)


def test_no_style_and_no_entropy_are_plain_cross_entropies() -> None:
    parts = FDA(beta=0.0, entropy=0.0)(network(), batch(), 0, 10)
    plain = cross_entropy(upsample(network()(batch().source_images).logits, (28, 36)), batch().source_labels)
    assert float(parts["source_ce"]) == pytest.approx(float(plain.detach()), rel=1e-6) and "entropy" not in parts


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"beta": 0.6}, "objective.beta"), ({"entropy": -1}, "objective.entropy"), ({"eta": 0}, "objective.eta")],
)
def test_what_is_no_value_is_named(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        FDA(**options)


def test_one_domain_is_refused_before_a_training() -> None:
    objective = FDA()
    assert objective.uses_unlabeled and domain_counts(4, objective, has_source=True, has_target=True) == (2, 2)
    with pytest.raises(ConfigError, match="FDA: expected images of both domains in a batch, got no source images"):
        domain_counts(4, objective, has_source=False, has_target=True)
