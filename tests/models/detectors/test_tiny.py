"""The two detectors in plain torch: shapes, embedding, and images that don't meet in a batch."""

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.models.detectors.tiny import TinyDetector


def squeeze(num_classes: int) -> SqueezeDetector:
    return SqueezeDetector(num_classes, input_px=96, weights=None, frozen=6)


@pytest.mark.parametrize(("build", "side", "width"), [(TinyDetector, 96, 128), (squeeze, 96, 512)])
def test_outputs_fit_together(build, side: int, width: int) -> None:
    network = build(5).eval()
    with torch.no_grad():
        head = network(torch.randn(2, 3, side, side))
    assert head.logits.shape == (2, len(network.priors), 6)
    assert head.deltas.shape == (2, len(network.priors), 4)
    assert sum(head.level_sizes) == len(head.priors)
    assert network.embedding(head.features).shape == (2, width)
    assert head.input_hw == network.input_hw == (side, side)


@pytest.mark.parametrize("build", [TinyDetector, squeeze])
def test_an_image_does_not_depend_on_its_batch_in_training(build) -> None:
    torch.manual_seed(0)
    network = build(3).train()
    images = torch.randn(3, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(network(images).logits[1:2], network(images[1:2]).logits, rtol=1e-4, atol=1e-5)


def test_anchor_order_is_level_row_column_kind() -> None:
    """Lighting one cell of a level moves exactly that cell's anchors."""
    network = TinyDetector(2)
    cell = (network.priors[:, :2] * 96).reshape(-1, 4, 2)[:, 0]
    assert cell[1].tolist() == [12.0, 4.0]
    assert cell[12].tolist() == [4.0, 12.0]
    with torch.no_grad():
        maps = torch.zeros(1, 4 * network.num_logits, 12, 12)
        maps[0, 2 * network.num_logits + 1, 3, 5] = 1.0
        from al_lab.models.detectors.head import flatten_maps

        flat = flatten_maps([maps], network.num_logits)
    assert flat.nonzero().tolist() == [[0, (3 * 12 + 5) * 4 + 2, 1]]


def test_frozen_modules_get_no_gradient() -> None:
    network = squeeze(2)
    network(torch.randn(1, 3, 96, 96)).logits.sum().backward()
    assert all(p.grad is None for p in network.features[:6].parameters())
    assert all(p.grad is not None for p in network.features[6:].parameters())


def test_more_frozen_modules_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="frozen in 0..13, got 40"):
        SqueezeDetector(2, weights=None, frozen=40)


def test_a_detector_without_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one foreground class"):
        TinyDetector(0)
    assert TinyDetector(1).num_classes == 1


@pytest.mark.parametrize(
    ("make", "sizes", "widest", "maps"),
    [
        (squeeze, (0.1, 0.25, 0.45, 0.7, 0.95), (2, 3, 3, 2), (11, 5, 3, 2)),
        (TinyDetector, (0.12, 0.27, 0.5, 0.85), (2, 2, 2), (12, 6, 3)),
    ],
)
def test_maps_and_sides_of_the_default_anchors(make, sizes, widest, maps) -> None:
    network = make(2)
    per_cell = [2 * ratio for ratio in widest]
    assert network.level_sizes == tuple(side * side * n for side, n in zip(maps, per_cell, strict=True))
    levels = network.priors[:, 2:].double().split(network.level_sizes)
    for sides, small, large, ratio in zip(levels, sizes, sizes[1:], widest, strict=False):
        assert sides[0].tolist() == pytest.approx([small, small])
        assert sides[1].tolist() == pytest.approx([(small * large) ** 0.5] * 2)
        assert (sides[:, 0] / sides[:, 1]).max().item() == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize("frozen", [-1, 14])
def test_squeezenet_has_thirteen_modules_to_freeze_from_none_to_all(frozen: int) -> None:
    for count in (0, 13):
        network = SqueezeDetector(3, weights=None, input_px=64, frozen=count)
        assert any(p.requires_grad for p in network.features.parameters()) == (count == 0)
    with pytest.raises(ConfigError, match=r"frozen in 0\.\.13"):
        SqueezeDetector(3, weights=None, input_px=64, frozen=frozen)


def test_one_foreground_class_is_enough() -> None:
    assert TinyDetector(1, input_px=32).num_logits == 2
    with pytest.raises(ConfigError, match="at least one foreground class"):
        TinyDetector(0, input_px=32)
