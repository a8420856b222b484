"""The detection learner keeps its promises: resuming, starting modes, views, and named mistakes."""

import dataclasses
import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError, DataError, DivergedError, WeightsError
from al_lab.core.record.predictions import save_predictions
from al_lab.core.types import Annotation, Detections
from al_lab.data.transforms.detection import InputSpec, finish, plain
from al_lab.learners.base import FitTask
from al_lab.learners.checkpoint import load_checkpoint
from al_lab.models.detectors.postprocess import decode_batch
from al_lab.models.detectors.settings import Postprocess
from al_lab.objectives.branches.evidential import Evidential
from al_lab.objectives.branches.mial import MultipleInstance
from al_lab.objectives.csd import CSD
from al_lab.objectives.isd import ISD
from al_lab.objectives.sed import SED
from al_lab.objectives.supervised import Supervised
from tests.learners.conftest import Blocks

Make = Callable[..., Any]


class StopAt(Supervised):
    """Dies at one step, as a machine may."""

    step = 5

    def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, torch.Tensor]:
        """Compute the loss, or die."""
        if step == self.step:
            raise RuntimeError("power cut")
        return super().forward(network, batch, step, total_steps)


class NaNAt(StopAt):
    """Has a loss of NaN at one step."""

    def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, torch.Tensor]:
        """Compute the loss, or nonsense."""
        parts = Supervised.forward(self, network, batch, step, total_steps)
        return {**parts, "loss": parts["loss"] * (float("nan") if step == self.step else 1)}


def same(a: Path, b: Path) -> bool:
    """Say whether two checkpoints are the same bit for bit."""
    return a.read_bytes() == b.read_bytes()


# --- fit --------------------------------------------------------------------------------------------------------------


def test_fit_learns_and_leaves_what_a_campaign_needs(make_learner: Make, make_task: Make, run_dir: Path) -> None:
    task = make_task(progress=run_dir / "progress.json")
    scalars = make_learner(recipe={"max_iters": 30}).fit(task)
    rows = [line.split(",") for line in (task.scratch_dir / "train_log.csv").read_text().splitlines()]
    losses = [float(row[rows[0].index("loss")]) for row in rows[1:]]
    assert [row[0] for row in rows[1:]] == [str(n) for n in range(30)]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    assert scalars["steps"] == 30
    assert scalars["num_labeled"] == 13
    assert 0 < scalars["train_loss"] < losses[0]
    progress = json.loads((run_dir / "progress.json").read_text())
    assert progress["step"] == progress["total"] == 30
    assert progress["seconds_left"] == 0
    state = load_checkpoint(task.checkpoint)
    assert state["step"] == 30
    assert state["meta"]["classes"] == ["red", "blue"]
    assert state["meta"]["num_labeled"] == 13
    assert not (task.scratch_dir / "last.ckpt").exists()


def test_the_seed_decides_everything(make_learner: Make, make_task: Make) -> None:
    tasks = [make_task("a"), make_task("b"), make_task("c", seed=1)]
    for task in tasks:
        torch.manual_seed(hash(task.checkpoint))  # whatever the process did before must not matter
        make_learner().fit(task)
    assert same(tasks[0].checkpoint, tasks[1].checkpoint)
    weights = [load_checkpoint(t.checkpoint)["state_dict"]["stem.0.0.weight"] for t in tasks]
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_killed_training_goes_on_bit_for_bit(make_learner: Make, make_task: Make, optimizer: str) -> None:
    recipe = {"optimizer": optimizer, "milestones": [6], "grad_clip": 1.0}
    whole, cut = make_task("whole"), make_task("cut")
    make_learner(recipe=recipe).fit(whole)
    with pytest.raises(RuntimeError, match="power cut"):
        make_learner(StopAt, recipe=recipe, checkpoint_steps=2).fit(cut)
    assert load_checkpoint(cut.scratch_dir / "last.ckpt")["step"] == 4
    scalars = make_learner(recipe=recipe).fit(cut)
    assert same(whole.checkpoint, cut.checkpoint)
    assert (whole.scratch_dir / "train_log.csv").read_text() == (cut.scratch_dir / "train_log.csv").read_text()
    # Killed between the checkpoint and the word that it is done: nothing is trained again.
    assert make_learner(StopAt, recipe=recipe).fit(cut) == scalars


def test_a_head_that_learns_beside_the_detector_leaves_it_as_it_is(make_learner: Make, make_task: Make) -> None:
    """Its gradients and its rate are its own: neither the bound on gradients nor a milestone ties them together."""
    recipe = {"milestones": [4], "grad_clip": 1.0}
    tasks = make_task("plain"), make_task("more")
    make_learner(recipe=recipe).fit(tasks[0])
    make_learner(Evidential, branches=["evidence"], recipe=recipe).fit(tasks[1])
    plain, more = (load_checkpoint(task.checkpoint)["state_dict"] for task in tasks)
    for name, values in plain.items():
        torch.testing.assert_close(more[name], values)
    assert any(name.startswith("branches.evidence") for name in more)


@pytest.mark.parametrize("objective", [CSD, ISD, SED])
def test_a_killed_semi_supervised_training_goes_on_bit_for_bit(
    make_learner: Make, make_task: Make, run_dir: Path, objective: type[CSD]
) -> None:
    class Dies(objective):
        def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, torch.Tensor]:
            if step == 5:
                raise RuntimeError("power cut")
            return super().forward(network, batch, step, total_steps)

    labeled, unlabeled = (f"block{n:02d}" for n in range(4)), (f"block{n:02d}" for n in range(4, 12))
    found = Annotation.make([[4, 4, 20, 20]], [1])
    sure = np.ones((1, 1), np.float32)
    save_predictions(run_dir / "pseudo.npz", {"block04": Detections(found.boxes_xyxy, sure[0], found.labels, sure)})
    options = {"labeled": tuple(labeled), "unlabeled": tuple(unlabeled), "pseudo": run_dir / "pseudo.npz"}
    whole, cut, without = (make_task(name, **options) for name in ("whole", "cut", "without"))
    make_learner(objective).fit(whole)
    with pytest.raises(RuntimeError, match="power cut"):
        make_learner(Dies, checkpoint_steps=2).fit(cut)
    make_learner(objective).fit(cut)
    assert same(whole.checkpoint, cut.checkpoint)
    make_learner(objective).fit(dataclasses.replace(without, pseudo=None))
    assert not same(whole.checkpoint, without.checkpoint)


def test_a_training_that_only_has_to_be_handed_over_is_not_repeated(make_learner: Make, make_task: Make) -> None:
    whole, cut = make_task("whole"), make_task("cut")
    make_learner(checkpoint_steps=4).fit(whole)
    cut.scratch_dir.mkdir()
    (cut.scratch_dir / "last.ckpt").write_bytes(whole.checkpoint.read_bytes())
    make_learner(StopAt).fit(cut)
    assert same(whole.checkpoint, cut.checkpoint)


def test_a_broken_last_checkpoint_costs_the_stage_only(
    make_learner: Make, make_task: Make, caplog: pytest.LogCaptureFixture
) -> None:
    whole, cut = make_task("whole"), make_task("cut")
    make_learner().fit(whole)
    cut.scratch_dir.mkdir()
    (cut.scratch_dir / "last.ckpt").write_bytes(whole.checkpoint.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        make_learner().fit(cut)
    assert "last.ckpt" in caplog.text
    assert "starts over" in caplog.text
    assert same(whole.checkpoint, cut.checkpoint)


@pytest.mark.parametrize("change", [{"seed": 3}, {"labeled": ("block00", "block01")}])
def test_an_unfinished_training_of_another_task_is_left_alone(
    make_learner: Make, make_task: Make, change: dict
) -> None:
    fresh, other = make_task("fresh", **change), make_task("other", **change)
    make_learner().fit(fresh)
    with pytest.raises(RuntimeError):
        make_learner(StopAt, checkpoint_steps=2).fit(make_task("other"))
    make_learner().fit(other)
    assert same(fresh.checkpoint, other.checkpoint)


def test_start_continue_is_one_training_cut_in_two(make_learner: Make, make_task: Make) -> None:
    recipe = {"milestones": [3, 6], "decay": "multistep"}
    whole, first = make_task("whole"), make_task("first", stop_at=5)
    second = make_task("second", start="continue", init_checkpoint=first.checkpoint)
    for task in (whole, first, second):
        make_learner(recipe=recipe).fit(task)
    states = [load_checkpoint(t.checkpoint) for t in (whole, second)]
    assert load_checkpoint(first.checkpoint)["step"] == 5
    assert all(torch.equal(a, b) for a, b in zip(*(s["state_dict"].values() for s in states), strict=True))
    assert states[0]["schedule"] == states[1]["schedule"]
    assert states[0]["step"] == states[1]["step"] == 8


def test_continue_keeps_the_horizon_when_images_were_bought(
    make_learner: Make, make_task: Make, dataset: Blocks
) -> None:
    recipe = {"max_iters": None, "max_epochs": 8}
    first = make_task("first", labeled=dataset.pool_ids[:4], stop_at=4)
    second = make_task("second", start="continue", init_checkpoint=first.checkpoint)
    for task in (first, second):
        make_learner(recipe=recipe).fit(task)
    assert load_checkpoint(second.checkpoint)["step"] == 8  # 8 epochs of the 4 images it began with, not of 13


def test_start_weights_takes_weights_and_nothing_else(make_learner: Make, make_task: Make) -> None:
    base = make_task("base")
    make_learner().fit(base)
    task = make_task("tuned", start="weights", init_checkpoint=base.checkpoint, seed=5)
    make_learner(recipe={"lr": 1e-12, "weight_decay": 0.0, "max_iters": 2}).fit(task)
    before, after = load_checkpoint(base.checkpoint), load_checkpoint(task.checkpoint)
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(before["state_dict"].values(), after["state_dict"].values(), strict=True)
    )
    assert after["step"] == 2
    assert after["schedule"]["total_steps"] == 2


def test_images_without_boxes_are_no_problem(make_learner: Make, make_task: Make) -> None:
    scalars = make_learner(recipe={"max_iters": 2}).fit(make_task(labeled=("empty0",)))
    assert scalars == {"train_loss": 0.0, "steps": 2, "num_labeled": 1}


def test_half_precision_trains_and_predicts(make_learner: Make, make_task: Make, dataset: Blocks) -> None:
    task = make_task()
    learner = make_learner(recipe={"precision": "bf16-mixed"})
    assert np.isfinite(learner.fit(task)["train_loss"])
    learner.load(task.checkpoint)
    view = next(learner.views(dataset.test_ids, learner.provides))
    assert view.detections.probs.dtype == view.embedding.dtype == np.float32


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_step_and_images(make_learner: Make, make_task: Make) -> None:
    task = make_task()
    with pytest.raises(
        DivergedError,
        match=r"training step 5 of 8: expected a finite loss, got nan on the images .*block\d\d.*; look at "
        r"these images",
    ):
        make_learner(NaNAt, checkpoint_steps=2).fit(task)
    assert not task.checkpoint.exists()
    assert not (task.scratch_dir / "last.ckpt").exists()


def test_a_nan_in_the_very_last_step_is_found(make_learner: Make, make_task: Make) -> None:
    with pytest.raises(DivergedError, match="training step 5 of 6"):
        make_learner(NaNAt, recipe={"max_iters": 6}).fit(make_task())


def test_a_broken_image_is_named(make_learner: Make, make_task: Make) -> None:
    with pytest.raises(DataError, match="block03"):
        make_learner(data=Blocks(broken=("block03",))).fit(make_task())


def test_loader_processes_change_nothing_and_name_a_broken_image_in_one_sentence(
    make_learner: Make, make_task: Make
) -> None:
    here, there = make_task("here"), make_task("there")
    make_learner(recipe={"max_iters": 2}).fit(here)
    make_learner(recipe={"max_iters": 2}, num_workers=1).fit(there)
    assert same(here.checkpoint, there.checkpoint)
    with pytest.raises(
        DataError, match=r"^block03.jpg: expected a readable image, got a broken one; replace the file$"
    ):
        make_learner(data=Blocks(broken=("block03",)), num_workers=1).fit(make_task("broken"))


def test_an_empty_labeled_set_is_named(make_learner: Make, make_task: Make) -> None:
    with pytest.raises(DataError, match=r"training on 'blocks': expected at least one labeled image, got none"):
        make_learner().fit(make_task(labeled=()))


def test_nothing_left_to_train_is_named(make_learner: Make, make_task: Make) -> None:
    base = make_task("base")
    make_learner().fit(base)
    with pytest.raises(
        ConfigError, match=r"start=continue: expected a step to stop at after 8 and up to the horizon, 8, got 8"
    ):
        make_learner().fit(make_task("next", start="continue", init_checkpoint=base.checkpoint))
    with pytest.raises(ConfigError, match=r"horizon, 8, got 9; correct trainer.stop_at"):
        make_learner().fit(make_task("far", stop_at=9))


def test_weights_of_another_network_are_named(make_learner: Make, make_task: Make) -> None:
    task = make_task()
    make_learner(recipe={"max_iters": 1}).fit(task)
    state = load_checkpoint(task.checkpoint)
    state["state_dict"].pop("stem.0.0.weight")
    torch.save(state, task.checkpoint)
    with pytest.raises(
        WeightsError, match=r"model.ckpt: expected the weights of TinyDetector, got 1 missing \(stem.0.0.weight\)"
    ):
        make_learner().load(task.checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": "contniue"}, "did you mean 'continue'"),
        ({"start": "weights"}, "FitTask with start='weights': expected init_checkpoint, got none"),
    ],
)
def test_a_wrong_task_is_named(make_task: Make, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_task(**change)


def test_a_task_survives_json(make_task: Make, run_dir: Path) -> None:
    task = make_task(
        start="continue", init_checkpoint=run_dir / "m.ckpt", stop_at=3, unlabeled=("x",), progress=run_dir / "p.json"
    )
    assert FitTask.from_json(json.loads(json.dumps(task.to_json()))) == task
    assert FitTask.from_json(json.loads(json.dumps(make_task().to_json()))) == make_task()


def test_phases_of_a_killed_training_go_on_bit_for_bit(make_learner: Make, make_task: Make) -> None:
    """What did not learn before the kill, or learns no more after it, is as if nothing had happened; and what a branch
    says of an image needs no objective."""

    class Dies(MultipleInstance):
        def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, torch.Tensor]:
            if step == 5:
                raise RuntimeError("power cut")
            return super().forward(network, batch, step, total_steps)

    ids = tuple(f"block{n:02d}" for n in range(12))
    options = {"labeled": ids[:4], "unlabeled": ids[4:]}
    whole, cut = make_task("whole", **options), make_task("cut", **options)
    rules: dict[str, Any] = {"passes": (1, 3, 3, 1), "reset_momentum": True}

    def make(objective: Any = MultipleInstance, **more: Any) -> Any:
        recipe = {"max_iters": 8, "optimizer": "sgd"}
        return make_learner(functools.partial(objective, **rules), branches=["two_heads"], recipe=recipe, **more)

    make().fit(whole)
    with pytest.raises(RuntimeError, match="power cut"):
        make(Dies, checkpoint_steps=2).fit(cut)
    make().fit(cut)
    assert same(whole.checkpoint, cut.checkpoint)
    plain = make_learner(branches=["two_heads"])
    plain.load(cut.checkpoint)
    found = [float(v.extras["head_disagreement"]) for v in plain.views(ids, ("head_disagreement",))]
    assert len(set(found)) == len(ids) and min(found) > 0
    with pytest.raises(WeightsError, match="branches"):
        make_learner().load(cut.checkpoint)


# --- views ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights() -> list[bytes]:
    """A trained checkpoint, once a test needed it."""
    return []


@pytest.fixture
def trained(make_learner: Make, make_task: Make, weights: list[bytes]) -> Make:
    """Return a factory of learners that hold the same trained weights."""
    task = make_task()
    if weights:
        task.checkpoint.parent.mkdir()
        task.checkpoint.write_bytes(weights[0])
    else:
        make_learner().fit(task)
        weights.append(task.checkpoint.read_bytes())

    def make(**options: Any) -> Any:
        learner = make_learner(**options)
        learner.load(task.checkpoint)
        return learner

    return make


def test_views_are_one_an_id_in_order_with_what_was_asked(trained: Make, dataset: Blocks) -> None:
    ids = ("test3", "empty0", "test1")
    views = list(trained(predict_batch=2).views(ids, ("detections", "class_probs", "image_embedding")))
    assert [v.sample_id for v in views] == list(ids)
    assert [v.size_hw for v in views] == [dataset.size_hw(i) for i in ids]
    for view in views:
        assert view.embedding.shape == (16,)
        assert view.embedding.dtype == np.float32
        assert view.detections.probs.shape == (len(view.detections), 3)
        assert len(view.detections) > 0
    bare = next(trained().views(ids, ("image_embedding",)))
    assert bare.detections is None
    assert np.array_equal(bare.embedding, views[0].embedding)
    assert next(trained().views(ids, ("detections",))).embedding is None


def test_views_do_not_depend_on_how_ids_are_sharded(trained: Make, dataset: Blocks) -> None:
    learner, needs = trained(predict_batch=4), ("detections", "image_embedding")
    whole = list(learner.views(dataset.test_ids, needs))
    sharded = [
        v
        for part in (dataset.test_ids[:4], dataset.test_ids[4:8], dataset.test_ids[8:])
        for v in trained(predict_batch=4).views(part, needs)
    ]
    for a, b in zip(whole, sharded, strict=True):
        assert np.array_equal(a.embedding, b.embedding)
        assert np.array_equal(a.detections.boxes_xyxy, b.detections.boxes_xyxy)
        assert np.array_equal(a.detections.probs, b.detections.probs)


def test_flip_views_are_the_flipped_images_own_predictions(trained: Make, dataset: Blocks) -> None:
    """One pass over both views, the boxes that count chosen before suppression: as two passes and full suppression give
    them."""
    ids, rule = dataset.test_ids, {"count_thresh": 0.4, "nms_acq": 0.5}
    learner = trained(predict_batch=4)
    views = list(learner.views(ids, ("flip_probs", "detections"), {"flip": rule}))
    network, count = learner._network, 0
    settings = Postprocess(conf_min=0.01, nms_iou=0.5, max_per_class=200)
    for view in views:
        spec = InputSpec.of(network)
        pixels, *_ = finish(plain(dataset.load_image(view.sample_id), np.zeros((0, 4)), np.zeros(0), spec), spec)
        with torch.no_grad():
            head, flipped = network(pixels[None]), network(pixels.flip(-1)[None])
        expected = decode_batch(head, network, [view.size_hw], settings, flipped=flipped)[0].above(0.4)
        assert np.allclose(view.flip_detections.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
        assert np.allclose(view.flip_detections.flip_probs, expected.flip_probs, atol=1e-5)
        q = network.probs(flipped.logits[0])[network.flip_anchors(head).anchor]
        for row in view.flip_detections.flip_probs:
            assert np.abs(q.numpy() - row).max(1).min() < 1e-5
        count += len(expected)
    assert count > 0
    assert views[0].detections is not None


def test_a_floor_of_confidence_leaves_out_and_changes_nothing_else(trained: Make, dataset: Blocks) -> None:
    whole = trained().views(dataset.test_ids, ("detections",))
    floored = trained().views(dataset.test_ids, ("detections",), {"min_confidence": 0.3})
    for a, b in zip(whole, floored, strict=True):
        assert np.array_equal(a.detections.above(0.3).boxes_xyxy, b.detections.boxes_xyxy)


def test_a_pass_may_have_its_own_numbers_and_counts_merged_boxes(trained: Make, dataset: Blocks) -> None:
    ids, rule = dataset.test_ids[:3], {"conf_min": 0.02, "nms_iou": 0.3, "max_per_image": 5, "nms_pre": 40}
    learner = trained()
    words = ("pre_suppression_count", "detections")
    plain = list(learner.views(ids, ("detections",)))
    own = list(learner.views(ids, words, {"detections": rule}))
    settings = dataclasses.replace(
        learner._network.postprocess, conf_min=0.02, nms_iou=0.3, max_per_image=5, max_per_level=40
    )
    for view, usual in zip(own, plain, strict=True):
        assert len(view.detections) == 5 < len(usual.detections)
        count = view.extras["pre_suppression_count"]
        assert count.tolist() == view.detections.pre_suppression_count.tolist() and count.max() > 1
        assert usual.detections.pre_suppression_count is None
        spec = InputSpec.of(learner._network)
        pixels, *_ = finish(plain_image(dataset, view.sample_id, spec), spec)
        with torch.no_grad():
            expected = decode_batch(learner._network(pixels[None]), learner._network, [view.size_hw], settings)[0]
        assert view.detections.anchor.tolist() == expected.anchor.tolist()
    assert [v.detections is None for v in learner.views(ids, ("image_embedding",))] == [True] * 3
    assert all("pre_suppression_count" in v.extras for v in learner.views(ids, ("pre_suppression_count",)))
    for options in ({"detections": {"iou": 0.3}}, {"predicted_loss": {}}):
        with pytest.raises(ConfigError, match="expected options among"):
            learner.views(ids, words, options)


def plain_image(dataset: Blocks, sample_id: str, spec: InputSpec) -> Any:
    return plain(dataset.load_image(sample_id), np.zeros((0, 4)), np.zeros(0), spec)


def test_views_name_what_is_wrong(trained: Make, make_learner: Make) -> None:
    with pytest.raises(
        ConfigError,
        match=r"learner.views: expected needs among .*, got 'image_embeding'; did you mean 'image_embedding'",
    ):
        trained().views(("test0",), ("image_embeding",))
    with pytest.raises(ConfigError, match="expected options among flip, min_confidence, detections, .*got 'flop'"):
        trained().views(("test0",), ("flip_probs",), {"flop": {}})
    with pytest.raises(ConfigError, match=r"call load\(checkpoint\) first"):
        make_learner().views(("test0",), ("detections",))
    with pytest.raises(DataError, match="test1"):
        list(trained(data=Blocks(broken=("test1",))).views(("test0", "test1"), ("detections",)))
