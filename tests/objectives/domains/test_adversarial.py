"""Adversarial adaptation: whose gradient goes where, and that two optimizers step as they would alone."""

import math

import pytest
import torch
import torch.nn.functional as F

from al_lab.core.errors import ConfigError
from al_lab.data.loading.dense_batch import DenseBatch
from al_lab.learners.device.together import Together
from al_lab.models.segmenters.segmenter import upsample
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives.domains.adversarial import Adversarial, Discriminator


def network() -> TinySegmenter:
    torch.manual_seed(0)
    return TinySegmenter(4, widths=(8, 8, 8))


def batch(size: int = 40) -> DenseBatch:
    g = torch.Generator().manual_seed(1)
    return DenseBatch(
        torch.randn(2, 3, 40, 72, generator=g), torch.randint(0, 4, (2, 40, 72), generator=g),
        torch.randn(1, 3, size, 64, generator=g), torch.full((1, size, 64), 255), ["source/0", "source/1", "t0"],
    )  # fmt: skip


def attached(**options: float) -> tuple[TinySegmenter, Adversarial]:
    net, objective = network(), Adversarial(channels=4, **options)  # type: ignore[arg-type]
    objective.attach(net)
    return net, objective


def test_a_discriminator_is_five_convolutions_of_stride_two() -> None:
    discriminator = Discriminator(19)
    assert discriminator(torch.rand(1, 19, 64, 96)).shape == (1, 1, 2, 3)
    convolutions = [m for m in discriminator if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 128, 256, 512, 1]
    assert sum(isinstance(m, torch.nn.LeakyReLU) for m in discriminator) == 4


def test_the_loss_is_what_the_formula_says() -> None:
    net, objective = attached(adversarial=0.3)
    data, found = batch(), objective.discriminator
    parts = objective(net, data, 0, 10)
    assert found is not None
    source, target = (
        found(upsample(net(images).logits, images.shape[2:]).softmax(1))
        for images in (data.source_images, data.target_images)
    )
    fooled = F.softplus(target).mean()  # -ln(1 - sigmoid): called the source's
    told = (F.softplus(source).mean() + F.softplus(-target).mean()) / 2
    assert float(parts["adversarial"]) == pytest.approx(float(fooled.detach()), rel=1e-5)
    assert float(parts["discriminator"]) == pytest.approx(float(told.detach()), rel=1e-5)
    expected = parts["source_ce"] + parts["target_ce"] + 0.3 * parts["adversarial"] + parts["discriminator"]
    assert float(parts["loss"].detach()) == pytest.approx(float(expected), rel=1e-6)


def test_neither_players_loss_reaches_the_other() -> None:
    net, objective = attached(adversarial=1.0)
    found = objective.discriminator
    assert found is not None
    of_network = [p for p in net.parameters() if p.requires_grad]
    for name, mine, others in (
        ("adversarial", of_network, list(found.parameters())),
        ("discriminator", list(found.parameters()), of_network),
    ):
        seen = [
            objective._look(net, getattr(batch(), f"{d}_images"), getattr(batch(), f"{d}_labels"), (f"{d}_ce",), False)
            for d in ("source", "target")
        ]
        loss = objective.more_terms(net, *seen)[name]
        gradients = torch.autograd.grad(loss, [*mine, *others], allow_unused=True)
        assert any(g is not None and float(g.abs().sum()) > 0 for g in gradients[: len(mine)])
        assert all(g is None for g in gradients[len(mine) :])


def test_a_blind_discriminator_says_one_half() -> None:
    net, objective = attached()
    for p in objective.discriminator.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(p)
    parts = objective(net, batch(), 0, 10)
    assert float(parts["adversarial"]) == pytest.approx(math.log(2)) == pytest.approx(float(parts["discriminator"]))


def test_two_optimizers_step_together_as_they_do_alone() -> None:
    """Also after a state is written and read again."""

    def optimizers() -> tuple[list[torch.nn.Parameter], list[torch.optim.Optimizer]]:
        ps = [torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2)]
        return ps, [torch.optim.SGD(ps[:1], lr=0.1, momentum=0.9), torch.optim.Adam(ps[1:], lr=0.01, betas=(0.9, 0.99))]

    def step(ps: list[torch.nn.Parameter], k: int) -> None:
        for p in ps:
            p.grad = p.detach() * (k + 1)

    alone, two = optimizers()
    for k in range(4):
        step(alone, k)
        for optimizer in two:
            optimizer.step()
    ps, parts = optimizers()
    together = Together(parts)
    for k in range(4):
        if k == 2:
            state = together.state_dict()
            fresh, parts = optimizers()
            with torch.no_grad():
                for p, old in zip(fresh, ps, strict=True):
                    p.copy_(old)
            ps, together = fresh, Together(parts)
            together.load_state_dict(state)
        step(ps, k)
        together.step()
        together.param_groups[0]["lr"] = 0.1  # rates are set through the one
    assert all(torch.equal(a, b) for a, b in zip(alone, ps, strict=True))
    together.param_groups[1]["lr"] = 0.0
    before = ps[1].detach().clone()
    together.step()
    assert torch.equal(ps[1].detach(), before) and not torch.equal(ps[0].detach(), alone[0].detach())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"adversarial": -1}, "objective.adversarial"),
        ({"discriminator_lr": 0}, "objective.discriminator_lr"),
        ({"betas": [0.9]}, "objective.betas"),
        ({"channels": 0}, "objective.channels"),
    ],
)
def test_what_is_no_value_is_named(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Adversarial(**options)


def test_images_too_small_for_the_discriminator_are_refused() -> None:
    net, objective = attached()
    with pytest.raises(ConfigError, match="expected images of at least 32 pixels a side, got 24 x 64"):
        objective(net, batch(24), 0, 10)
