"""MI-AOD's training: phases by the step, what learns in each, and what it learns from."""

import copy

import pytest
import torch

from al_lab.acquisition.boxes.disagreement import image_probs
from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch, pad_boxes
from al_lab.learners.module import FitModule
from al_lab.learners.settings import TrainSettings
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.branches.mial import MultipleInstance, borders, classes_of
from al_lab.objectives.supervised import Supervised, Targets, focal_terms
from tests.objectives.heads import Row

CLASSIFIERS = ("class_heads", "branches.two_heads.second")
STEPS = {"label": 0, "min": 7, "max": 9}  # of 26 under the default passes


def test_the_released_codes_passes() -> None:
    assert borders((6, 2, 2, 6, 2, 2, 6), 26 * 7) == [n * 7 for n in (6, 8, 10, 16, 18, 20, 26)]
    assert borders((80, 16, 16, 80, 16, 16, 80), 304) == [80, 96, 112, 192, 208, 224, 304]
    objective = MultipleInstance(warmup_iters=2, warmup_ratio=0.5, reset_momentum=True)
    names = [objective.phase_at(s, 26)[0] for s in range(26)]
    lengths = [("label", 6), ("min", 2), ("max", 2)] * 2 + [("label", 6)]
    assert names == [name for name, n in lengths for _ in range(n)]
    anew = [s for s in range(26) if objective.starts_anew(s, 26)]
    assert anew == [0, 6, 8, 10, 16, 18, 20]
    assert [objective.lr_factor(s, 26) for s in (0, 1, 2, 5, 6, 7, 8)] == [0.5, 0.75, 1, 1, 0.5, 0.75, 0.5]
    assert not MultipleInstance().starts_anew(6, 26) and MultipleInstance().lr_factor(6, 26) == 1


@pytest.fixture
def world() -> tuple[TinyDetector, Batch]:
    """Three labeled images and three without labels."""
    torch.manual_seed(0)
    network = TinyDetector(2, input_px=64, widths=(8, 8, 8, 8, 8), branches=["two_heads"])
    found = [torch.tensor([[4.0, 4, 30, 30]]), torch.tensor([[20.0, 10, 60, 50], [2, 2, 20, 20]]), torch.zeros(0, 4)]
    boxes, labels = pad_boxes(
        [*found, *[torch.zeros(0, 4)] * 3], [torch.zeros(len(b)) for b in found] + [torch.zeros(0)] * 3
    )
    sizes, kind = torch.tensor([[64, 64]] * 6), torch.tensor([1, 1, 1, 0, 0, 0])
    return network, Batch(torch.randn(6, 3, 64, 64), list("abcdef"), boxes, labels, kind, sizes, sizes)


def is_classifier(name: str) -> bool:
    return name.startswith(CLASSIFIERS)


@pytest.mark.parametrize("phase", ["label", "min", "max"])
def test_what_does_not_learn_has_no_gradient_and_does_not_move(world, phase: str) -> None:
    network, batch = world
    objective = MultipleInstance()
    objective.attach(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    objective(network, batch, 0, 26)["loss"].backward()
    optimizer.step()  # momentum that could go on
    optimizer.zero_grad(set_to_none=True)
    before = copy.deepcopy(network.state_dict())
    parts = objective(network, batch, STEPS[phase], 26)
    parts["loss"].backward()
    optimizer.step()
    learns = {"label": lambda n: True, "min": lambda n: not is_classifier(n), "max": is_classifier}[phase]
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == learns(name), name
        if not learns(name) or name.endswith("weight"):  # a bias may have a gradient of zero, and none to decay
            assert torch.equal(parameter, before[name]) != learns(name), name
    assert (parts.get("disagreement_min", 0) > 0) == (phase == "min")
    assert (parts.get("disagreement_max", 0) > 0) == (phase == "max")
    assert (parts["loss_image"] > 0) == (phase != "max")


def test_each_phase_is_learned_from_the_images_its_losses_name(world) -> None:
    network, batch = world
    objective = MultipleInstance()
    for phase, step in STEPS.items():
        whole = objective(network, batch, step, 26)
        alone = objective(network, batch.rows([0, 1, 2]), step, 26)
        assert alone["loss"].isfinite()
        same = whole["loss"].item() == pytest.approx(alone["loss"].item(), rel=1e-6)
        assert same == (phase == "label")
        assert objective(network, batch.rows([3, 4, 5]), step, 26)["loss"].isfinite()
    gap = [objective(network, batch.rows([0, 1, 2, k]), 7, 26)["disagreement_min"] for k in (3, 4, 5)]
    assert objective(network, batch, 7, 26)["disagreement_min"].item() == pytest.approx(sum(gap).item(), rel=1e-5)
    twice = MultipleInstance(weight=1.0)(network, batch, 7, 26)["disagreement_min"]
    assert twice.item() == pytest.approx(2 * sum(gap).item(), rel=1e-5)


def test_images_without_a_class_have_no_image_loss(world) -> None:
    network, batch = world
    objective, head = MultipleInstance(), network(batch.images[:3])
    target = classes_of(batch.rows([0, 1, 2]), 2)
    assert target.tolist() == [[1, 0], [1, 0], [0, 0]]
    whole = objective.image_loss(network, head, target)
    torch.testing.assert_close(whole, objective.image_loss(network, head.rows(torch.tensor([0, 1])), target[:2]))
    assert objective.image_loss(network, head, target * 0) == 0


def test_as_released_background_is_a_class_and_one_empty_image_drops_the_batch(monkeypatch) -> None:
    """The fact sheet's SSD numbers, with background as it has it (the first column here)."""
    one = torch.tensor([[[0.0, 2, -1], [0, 0, 1], [1, -2, 0.5]]])
    two = torch.tensor([[[0.0, 1, -1], [0, 1, -1], [1, -2, 2]]])
    mil = torch.tensor([[[0.0, 1, 0], [0, 0, 0], [0, 0, 2]]])
    network = Row(2, 3)
    head = network.head(one.softmax(-1))._replace(logits=one, extra={"logits2": two, "instances": mil})
    for as_released, expected in ((False, 0.074762), (True, 0.042646)):
        objective = MultipleInstance(as_released=as_released)
        assert 0.5 * objective.gap(network, head, "min").item() == pytest.approx(expected, abs=1e-6)
        assert objective.with_background(network, torch.ones(1, 2)).tolist() == [[0, 1, 1] if as_released else [1, 1]]
    probs = image_probs(MultipleInstance(as_released=True).weights(network, head), (3,))
    assert probs.tolist() == [pytest.approx([0.211439, 0.342284, 0.446277], abs=1e-6)]
    pair = head._replace(**{n: torch.cat([getattr(head, n), getattr(head, n) - 9]) for n in ("logits", "deltas")})
    sigmoid = Row(3, 3, "sigmoid")
    pair = pair._replace(extra={"logits2": pair.logits, "instances": pair.logits})
    monkeypatch.setattr(MultipleInstance, "of_head", lambda *_: {"loss": torch.zeros(())})
    monkeypatch.setattr(MultipleInstance, "let_learn", lambda *_: None)
    monkeypatch.setattr(Row, "forward", lambda self, images: pair)
    sizes = torch.tensor([[10, 30]] * 2)
    none = torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long)
    batch = Batch(torch.zeros(2, 3, 10, 30), ["a", "b"], *none, torch.zeros(2, dtype=torch.long), sizes, sizes)
    parts = [MultipleInstance(as_released=r)(sigmoid, batch, 7, 26)["loss_image"] for r in (False, True)]
    assert parts[0] > 0 and parts[1] == 0


def test_both_classifiers_share_the_class_loss() -> None:
    """The fact sheet's focal losses of f1 and f2: anchor 0 is of class 0."""
    one, two = torch.tensor([[[2.0, -1], [0, 1], [-2, 0.5]]]), torch.tensor([[[1.0, -1], [1, -1], [-2, 2]]])
    network = Row(2, 3, "sigmoid")
    assigned, first = torch.tensor([[0, -1, -1]]), torch.zeros(1, dtype=torch.long)
    targets = Targets(assigned, first, first, first, torch.zeros(1, 4))
    head = network.head(one.sigmoid())._replace(logits=one, extra={"logits2": two})
    sums = [t.class_positive + t.class_negative for t in (focal_terms(z, head.deltas, targets) for z in (one, two))]
    assert [s.item() for s in sums] == pytest.approx([0.958222, 1.804964], abs=1e-6)
    terms = MultipleInstance().terms(network, head, targets)
    assert (terms.class_positive + terms.class_negative).item() == pytest.approx(1.381593, abs=1e-6)


def test_the_optimizer_forgets_and_warms_up_where_the_objective_says(world) -> None:
    network, batch = world
    objective = MultipleInstance(warmup_iters=2, warmup_ratio=0.5, reset_momentum=True)
    settings = TrainSettings(batch_size=6, max_iters=26, lr=0.1)
    module = FitModule(network, objective, settings, settings.schedule(3), seed=0)
    optimizer = module.configure_optimizers()
    module.optimizers = lambda use_pl_optimizer=False: optimizer
    module._fabric = module._trainer = None
    type(module).global_rank = property(lambda self: 0)
    try:
        for step, rate, is_empty in ((5, 0.1, False), (6, 0.05, True), (7, 0.075, False)):
            optimizer.state[next(network.parameters())] = {"momentum_buffer": torch.ones(1)}
            module.next_step = step
            module.on_train_batch_start(batch, 0)
            assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
            assert (not optimizer.state) == is_empty
    finally:
        del type(module).global_rank


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": [6, 2, 2]}, "objective.passes: expected lengths of label"),
        ({"passes": [6, 0, 2, 6]}, r"objective.passes\[1\]"),
        ({"warmup_ratio": 2}, "objective.warmup_ratio"),
    ],
)
def test_wrong_numbers_are_named(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultipleInstance(**options)
    with pytest.raises(ConfigError, match=r"set detector.branches=\[two_heads\]"):
        MultipleInstance().attach(TinyDetector(2, input_px=64, widths=(8, 8, 8, 8, 8)))
    with pytest.raises(ConfigError, match="objective=mial, which trains the branch two_heads, got Supervised"):
        Supervised().attach(TinyDetector(2, input_px=64, widths=(8, 8, 8, 8, 8), branches=["two_heads"]))


@pytest.mark.parametrize("step", [7, 9])
def test_a_pool_that_is_labeled_to_the_end_leaves_the_labeled_losses(world, step: int) -> None:
    network, batch = world
    parts = MultipleInstance()(network, batch.rows([0, 1, 2]), step, 26)
    assert parts[f"disagreement_{'min' if step == 7 else 'max'}"] == 0
    assert torch.isfinite(parts["loss"]) and parts["loss"] > 0
    parts["loss"].backward()
    assert any(p.grad is not None for p in network.parameters())
