"""The training objective of adaptation: which terms a batch gets, what each is, and which gradients reach the
backbone."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
import yaml

from al_lab.core.errors import ConfigError
from al_lab.models.segmenters.segmenter import upsample
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives import adaptation as A
from al_lab.objectives.adapt import Adaptation

SOURCE, TARGET, BOTH = {"source_ce", "consistency", "margin"}, {"target_ce", "negative"}, {"aux", "density"}
NOTHING = dict.fromkeys(SOURCE | TARGET | BOTH, 0.0)


def network(estimator="dmc3", seed=0):
    torch.manual_seed(seed)
    return TinySegmenter(4, widths=(8, 8, 8), branch=estimator and {"dim": 6, "estimator": estimator})


def batch(source=2, target=2, labeled=20, seed=1):
    g = torch.Generator().manual_seed(seed)
    labels = torch.full((target, 24, 32), 255)
    bought = torch.randperm(labels.numel(), generator=g)[:labeled]
    labels.view(-1)[bought] = torch.randint(0, 4, (len(bought),), generator=g)
    return SimpleNamespace(
        source_images=torch.randn(source, 3, 32, 40, generator=g) if source else None,
        source_labels=torch.randint(0, 4, (source, 32, 40), generator=g) if source else None,
        target_images=torch.randn(target, 3, 24, 32, generator=g) if target else None,
        target_labels=labels if target else None,
    )


def only(name, **options):
    return Adaptation(**{**NOTHING, name: 1.0}, **options)


def backbone_gradient(objective, step, net=None, data=None):
    net = net or network()
    objective(net, data or batch(), step, 40000)["loss"].backward()
    return sum(float(p.grad.abs().sum()) for p in net.backbone.parameters() if p.grad is not None), net


def test_the_total_is_the_weighted_sum_of_its_parts():
    weights = {
        "source_ce": 1.0,
        "target_ce": 2.0,
        "consistency": 0.1,
        "negative": 0.5,
        "margin": 3.0,
        "aux": 0.4,
        "density": 7.0,
    }
    parts = Adaptation(**weights, negative_threshold=0.3)(network(), batch(), 0, 100)
    assert set(parts) == {"loss", "relative_error"} | set(weights)
    assert parts["loss"].item() == pytest.approx(sum(w * parts[name].item() for name, w in weights.items()), rel=1e-5)
    assert all(parts[name] > 0 and not parts[name].requires_grad for name in weights)


def test_each_part_is_its_loss_at_image_size():
    net, data = network(), batch()
    parts = Adaptation(negative_threshold=0.3)(net, data, 0, 100)
    source, target = net(data.source_images), net(data.target_images)
    logits = upsample(source.logits, (32, 40)), upsample(target.logits, (24, 32))
    branch = net.branch(source.backbone), net.branch(target.backbone)
    aux = [upsample(b.aux_logits, size) for b, size in zip(branch, ((32, 40), (24, 32)), strict=True)]
    expected = {
        "source_ce": A.cross_entropy(logits[0], data.source_labels),
        "target_ce": A.cross_entropy(logits[1], data.target_labels),
        "consistency": A.boundary_consistency(logits[0], data.source_labels),
        "negative": A.negative_learning(logits[1], 0.3),
        "margin": A.margin_loss(logits[0], data.source_labels),
        "aux": A.cross_entropy(aux[0], data.source_labels) + A.cross_entropy(aux[1], data.target_labels),
        "density": sum(A.reconstruction_loss(b.reconstruction, b.features) for b in branch) / 2,
    }
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value.detach(), rtol=1e-4, atol=1e-7)
    assert 0 < parts["relative_error"] < 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"consistency_where": "all"}, lambda z, y: A.boundary_consistency(z, y, "all")),
        ({"margin_reduction": "sum"}, lambda z, y: A.margin_loss(z, y, "sum")),
    ],
)
def test_the_switches_of_source_terms_arrive(options, expected):
    net, data = network(None), batch(target=0)
    name = next(iter(options)).split("_")[0]
    value = only(name, **options)(net, data, 0, 100)[name]
    torch.testing.assert_close(
        value,
        expected(upsample(net(data.source_images).logits, (32, 40)), data.source_labels).detach(),
        rtol=1e-4,
        atol=1e-6,
    )


def test_the_other_switches_arrive():
    net, data = network(), batch(source=0)
    literal, mean = (only("density", density_tau=tau)(net, data, 0, 100)["density"].item() for tau in (0.25, None))
    assert literal == pytest.approx(mean * 6 / 0.25, rel=1e-5)
    few, many = (only("negative", negative_threshold=t)(net, data, 0, 100)["negative"].item() for t in (0.2, 0.9))
    assert few < many


def test_class_weights_weigh_every_cross_entropy_and_only_by_their_ratios():
    data = batch()
    plain, heavy, same = (
        Adaptation(**NOTHING | {"source_ce": 1, "target_ce": 1, "aux": 1}, class_weights=w)
        for w in (None, [1, 1, 1, 9], [0.01, 0.01, 0.01, 0.09])
    )
    net = network()
    found = [objective(net, data, 0, 100) for objective in (plain, heavy, same)]
    for name in ("source_ce", "target_ce", "aux"):
        assert found[0][name] != found[1][name] and found[1][name].item() == pytest.approx(
            found[2][name].item(), rel=1e-5
        )
    seen = upsample(net(data.source_images).logits, (32, 40))
    weight = torch.tensor([1.0, 1, 1, 9])
    expected = torch.nn.functional.cross_entropy(seen, data.source_labels, weight, ignore_index=255)
    assert found[1]["source_ce"].item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(ConfigError, match="expected a weight for each of 4 classes, got 3"):
        only("source_ce", class_weights=[1, 2, 3]).attach(network())


@pytest.mark.parametrize(
    ("data", "expected"),
    [(batch(source=0), TARGET | BOTH), (batch(target=0), SOURCE | BOTH), (batch(), SOURCE | TARGET | BOTH)],
)
def test_a_domain_that_is_not_there_drops_its_terms(data, expected):
    net = network()
    parts = Adaptation()(net, data, 0, 100)
    assert set(parts) - {"loss", "relative_error"} == expected
    parts["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_density_of_one_domain_has_its_full_weight():
    net, data = network(), batch(source=0)
    seen = net.branch(net(data.target_images).backbone)
    torch.testing.assert_close(
        Adaptation()(net, data, 0, 100)["density"], A.reconstruction_loss(seen.reconstruction, seen.features).detach()
    )


@pytest.mark.parametrize("name", sorted(SOURCE | TARGET))
def test_a_term_of_weight_zero_is_not_computed(name, monkeypatch):
    """Nor is the branch run, nor a domain without a term."""
    net, data = network(), batch()
    monkeypatch.setattr(net.branch.reduce, "forward", lambda *_: pytest.fail("the branch has no loss"))
    if name in SOURCE:
        # an image of no dimension: touching it raises
        data.target_images = data.target_labels = torch.full((), torch.nan)
    else:
        data.source_images = data.source_labels = torch.full((), torch.nan)
    parts = only(name)(net, data, 0, 100)
    assert set(parts) == {"loss", name}


def test_without_a_bought_pixel_the_target_terms_are_zero():
    net = network()
    parts = Adaptation(negative=0, density=0)(net, batch(source=0, labeled=0), 0, 100)
    assert parts["target_ce"] == parts["aux"] == parts["loss"] == 0
    parts["loss"].backward()
    assert all(not p.grad.any() for p in net.backbone.parameters())  # and no NaN


@pytest.mark.parametrize("name", ["aux", "density"])
def test_the_branch_trains_the_backbone_until_the_stop_gradient_step(name):
    objective = only(name)
    before, _ = backbone_gradient(objective, 17999)
    after, net = backbone_gradient(objective, 18000)
    assert before > 0 and after == 0
    assert net.branch.reduce.weight.grad.abs().sum() > 0  # the branch itself goes on learning
    assert backbone_gradient(only(name, stop_gradient_step=None), 39999)[0] > 0


def test_after_the_stop_the_backbone_learns_from_the_other_terms_alone():
    with_branch, without = network(), network()
    data = batch()
    Adaptation()(with_branch, data, 18000, 40000)["loss"].backward()
    Adaptation(aux=0, density=0)(without, data, 18000, 40000)["loss"].backward()
    for own, other in zip(with_branch.backbone.parameters(), without.backbone.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


@pytest.mark.parametrize(
    ("weights", "trained"),
    [
        ({}, {"reduce", "classifier", "taps", "project", "kernel_head"}),
        ({"density": 0}, {"reduce", "classifier"}),
        ({"aux": 0}, {"reduce", "taps", "project", "kernel_head"}),
        ({"aux": 0, "density": 0}, set()),
    ],
)
def test_every_parameter_left_trainable_gets_a_gradient(weights, trained, caplog):
    """Else distributed training waits for ever."""
    net, objective = network(), Adaptation(**weights)
    objective.attach(net)
    objective(net, batch(), 0, 100)["loss"].backward()
    assert {n.split(".")[0] for n, p in net.branch.named_parameters() if p.requires_grad} == trained
    assert all((p.grad is not None) == p.requires_grad for p in net.parameters())
    assert ("features stay random" in caplog.text) == (not trained)


def test_mixed_precision_gives_nearly_the_same_loss_in_float32():
    net, data = network(), batch()
    full = Adaptation(negative_threshold=0.3)(net, data, 0, 100)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = Adaptation(negative_threshold=0.3)(net, data, 0, 100)
    assert all(value.dtype == torch.float32 for value in mixed.values())
    assert mixed["loss"].item() == pytest.approx(full["loss"].item(), rel=0.02)


def _half(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    whole, net = batch(labeled=7), network()
    Adaptation(margin_reduction="sum")(
        net, SimpleNamespace(**{k: v[rank : rank + 1] for k, v in vars(whole).items()}), 0, 100
    )["loss"].backward()
    torch.save([p.grad for p in net.parameters()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # two processes import torch
def test_two_devices_minimize_what_one_does(tmp_path):
    mp.spawn(_half, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    net = network()
    Adaptation(margin_reduction="sum")(net, batch(labeled=7), 0, 100)["loss"].backward()
    for p, a, b in zip(net.parameters(), first, second, strict=True):
        torch.testing.assert_close((a + b) / 2, p.grad, rtol=1e-3, atol=1e-5)


def test_it_learns():
    """Density Matters' whole loss on one batch of two domains: every pixel that has a label is soon classified."""
    net, data = network(), batch(labeled=100)
    data.source_labels = (data.source_images[:, 0] > 0).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for step in range(20):
        parts = Adaptation(stop_gradient_step=10)(net, data, step, 20)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(parts["loss"].item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_weight_of_negative_learning_may_rise_over_the_training():
    data, net = batch(), network()
    objective = Adaptation(
        **NOTHING | {"target_ce": 1.0, "negative": 2.0}, negative_ramp={"kind": "up_only", "up": 0.5}
    )
    for step, factor in ((0, 0.0), (25, math.exp(-5 / 4)), (50, 1.0), (99, 1.0)):
        parts = objective(net, data, step, 100)
        expected = parts["target_ce"] + 2 * factor * parts["negative"]
        assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(ConfigError, match="objective.ramp"):
        Adaptation(negative_ramp={"up": 0})


@pytest.mark.parametrize("name", ["density", "ripu", "segment", "segment_negative"])
def test_the_yamls_weights(name):
    with open(f"conf/objective/{name}.yaml") as stream:
        options = yaml.safe_load(stream)
    assert options.pop("_target_") == "al_lab.objectives.adapt.Adaptation"
    objective = Adaptation(**options)
    ripu = {"source_ce": 1.0, "target_ce": 1.0, "consistency": 0.1, "negative": 1.0}
    expected = {
        "density": ripu | {"margin": 1.0, "aux": 1.0, "density": 1.0},
        "ripu": ripu,
        "segment": {"source_ce": 1.0, "target_ce": 1.0},
        "segment_negative": {"source_ce": 1.0, "target_ce": 1.0, "negative": 1.0},
    }[name]
    assert objective.weights == NOTHING | expected
    assert (objective.stop_gradient_step, objective.source_ratio, objective.negative_threshold) == (18000, 0.5, 0.05)


@pytest.mark.parametrize(
    ("branch", "name", "message"),
    [
        (None, "aux", "objective.aux: .*got segmenter.branch=null; set 'segmenter.branch={dim.* or objective.aux=0"),
        (
            None,
            "density",
            "objective.density: .*got segmenter.branch=null; set 'segmenter.branch={dim.*estimator.* or "
            "objective.density=0",
        ),
        (
            "none",
            "density",
            "got segmenter.branch.estimator=none; set segmenter.branch.estimator=dmc5, or objective.density=0",
        ),
    ],
)
def test_a_weight_the_branch_cannot_serve_is_refused(branch, name, message):
    with pytest.raises(ConfigError, match=message):
        only(name).attach(network(branch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -1}, "objective.margin: expected a finite number >= 0, got -1"),
        (NOTHING, "expected a loss, got a weight of 0 for every term"),
        ({"source_ratio": 1.5}, r"objective.source_ratio: expected a number in \[0, 1\]"),
        (
            {"margin_reduction": "mean_pixels"},
            "objective.margin_reduction: .*got 'mean_pixels'; did you mean 'mean_pixel'",
        ),
        ({"consistency_where": "edges"}, r"objective.consistency_where: expected boundary \| all"),
        ({"class_weights": [1, -1]}, r"objective.class_weights\[1\]|objective.class_weights: .*got -1"),
        ({"class_weights": [0, 0]}, "expected a class with a weight above 0"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Adaptation(**options)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Adaptation(), True),
        (only("density"), True),
        (only("negative"), True),
        (Adaptation(**NOTHING | {"source_ce": 1, "target_ce": 1}), False),
    ],
)
def test_target_images_without_a_label_are_of_use_to_two_terms(objective, expected):
    assert objective.uses_unlabeled == expected


def test_a_batch_without_any_term_is_refused():
    with pytest.raises(ConfigError, match="expected a term on target images, all there are"):
        only("source_ce")(network(), batch(source=0), 0, 100)
