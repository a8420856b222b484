"""The segmentation learner: one training in several parts, bit for bit; source-free; what it says of an image."""

import csv
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from al_lab.core.errors import ConfigError, DataError
from al_lab.core.pool import INITIAL
from al_lab.data.loading.dense_batch import dense_predict_batches
from al_lab.data.transforms.dense_view import DenseAugmentation
from al_lab.learners.base import FitTask
from al_lab.learners.build import build_learner
from al_lab.learners.checkpoint import load_checkpoint
from al_lab.learners.module import FitModule
from al_lab.learners.segmentation import SegmentationLearner
from al_lab.learners.settings import TrainSettings
from al_lab.models.segmenters.segmenter import upsample
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives.adapt import Adaptation
from al_lab.objectives.domains.adversarial import Adversarial
from al_lab.objectives.domains.fda import FDA
from al_lab.objectives.domains.multi_anchor import MultiAnchor
from al_lab.objectives.teacher import Teacher
from tests.patches import Patches, buy

Make = Callable[..., Any]
CONF = Path(__file__).parents[2] / "conf"
RIPU = functools.partial(Adaptation, margin=0, aux=0, density=0)
SUPERVISED = functools.partial(Adaptation, consistency=0, negative=0, margin=0, aux=0, density=0)


class Dies(Adaptation):
    """Dies at step 5, as a machine may."""

    def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, torch.Tensor]:
        if step == 5:
            raise RuntimeError("power cut")
        return super().forward(network, batch, step, total_steps)


class TeacherDies(Dies, Teacher):
    """The same with a teacher."""


class FDADies(Dies, FDA):
    """The same in another style."""


class MultiAnchorDies(Dies, MultiAnchor):
    """The same with anchors."""


class AdversarialDies(Dies, Adversarial):
    """The same with an adversary."""


SURVEYED = functools.partial(MultiAnchor, min_pixels=1)


@pytest.fixture
def patches() -> Patches:
    return Patches()


@pytest.fixture
def run(tmp_path: Path, patches: Patches) -> Path:
    """A run folder: half of four images as the initial set, more at the end of cycle 0."""
    buy(tmp_path, patches, INITIAL, {f"p/{k}": range(0, 24 * 32, 2) for k in range(4)})
    buy(tmp_path, patches, 0, {f"p/{k}": range(1, 24 * 32, 2) for k in range(6)})
    patches.opened.clear()
    return tmp_path


@pytest.fixture
def learner(patches: Patches) -> Make:
    def make(
        objective: Callable[[], Any] = Adaptation, data: Any = None, branch: dict | None = None, **options: Any
    ) -> SegmentationLearner:
        recipe = {"batch_size": 4, "max_iters": 8, "lr": 0.01, "decay": "poly"} | options.pop("recipe", {})
        branch = {"dim": 8, "estimator": "dmc3"} if branch is None else branch
        network = functools.partial(TinySegmenter, 3, widths=(8, 8, 16), branch=branch or None, head_lr=10.0)
        return SegmentationLearner(data or patches, network, objective, TrainSettings(**recipe), **options)

    return make


@pytest.fixture
def task(run: Path, patches: Patches) -> Make:
    def make(name: str = "a", **options: Any) -> FitTask:
        values = {
            "labeled": patches.pool_ids[:4],
            "unlabeled": patches.pool_ids,
            "labels_dir": run,
            "checkpoint": run / name / "model.ckpt",
            "scratch_dir": run / name,
            "seed": 0,
        } | options
        return FitTask(**values)

    return make


def logged(task: FitTask) -> list[dict[str, float]]:
    with (task.scratch_dir / "train_log.csv").open() as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def same_weights(a: Path, b: Path) -> bool:
    states = [load_checkpoint(path) for path in (a, b)]
    return all(torch.equal(states[0]["state_dict"][k], v) for k, v in states[1]["state_dict"].items())


def test_it_looks_at_source_images_too(learner: Make, task: Make, patches: Patches) -> None:
    first = task()
    trained = learner(SUPERVISED, branch={"dim": 4, "estimator": "none"}, recipe={"max_iters": 1})
    trained.fit(first)
    trained.load(first.checkpoint)
    ids = patches.source_ids[:3]
    seen = list(trained.views(ids, ("dense_probs", "pixel_features")))
    assert [v.sample_id for v in seen] == list(ids)
    for view in seen:
        height, width = patches.source_hw or view.size_hw
        assert view.probs.shape == (3, *patches.size_hw(view.sample_id))
        assert view.features.shape == (4, -(-height // 4), -(-width // 4))


# --- fit --------------------------------------------------------------------------------------------------------------


def test_fit_learns_and_says_what_its_labels_were(learner: Make, task: Make) -> None:
    first = task()
    scalars = learner(RIPU, branch={}, recipe={"max_iters": 30, "optimizer": "adamw", "lr": 0.002}).fit(first)
    rows = logged(first)
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert {k: scalars[k] for k in ("steps", "num_labeled", "bought_pixels")} == {
        "steps": 30,
        "num_labeled": 4,
        "bought_pixels": 4 * 384,
    }
    # 16 x 24 of 24 x 32 pixels survive, less the void
    assert 4 * 384 * 0.3 < scalars["effective_labels"] < 4 * 384 * 0.6
    # committed already
    assert learner(RIPU, branch={}, recipe={"max_iters": 30, "optimizer": "adamw", "lr": 0.002}).fit(first) == scalars


@pytest.mark.parametrize(
    ("options", "objective", "dies"),
    [
        ({"optimizer": "sgd"}, Adaptation, Dies),
        ({"optimizer": "adamw", "augmentation": DenseAugmentation()}, Adaptation, Dies),
        ({"optimizer": "sgd"}, Teacher, TeacherDies),
        ({"optimizer": "sgd"}, FDA, FDADies),
        ({"optimizer": "sgd"}, SURVEYED, functools.partial(MultiAnchorDies, min_pixels=1)),
    ],
)
def test_a_killed_training_goes_on_bit_for_bit(
    learner: Make, task: Make, options: dict, objective: Make, dies: Make
) -> None:
    recipe = {"grad_clip": 1.0} | options
    whole, cut = task("whole"), task("cut")
    learner(objective, recipe=recipe).fit(whole)
    with pytest.raises(RuntimeError, match="power cut"):
        learner(dies, recipe=recipe, checkpoint_steps=2).fit(cut)
    assert load_checkpoint(cut.scratch_dir / "last.ckpt")["step"] == 4
    learner(objective, recipe=recipe).fit(cut)
    assert whole.checkpoint.read_bytes() == cut.checkpoint.read_bytes()


def test_an_augmentation_is_another_training_of_the_same_images(learner: Make, task: Make) -> None:
    plain, turned = task("plain"), task("turned")
    learner(SUPERVISED, branch={}, recipe={"max_iters": 2}).fit(plain)
    learner(SUPERVISED, branch={}, recipe={"max_iters": 2, "augmentation": DenseAugmentation(size_hw=[12, 16])}).fit(
        turned
    )
    assert logged(plain)[0]["source_ce"] != logged(turned)[0]["source_ce"]


def test_a_training_cut_by_a_query_is_one_training(learner: Make, task: Make) -> None:
    whole, first, second = (
        task("whole"),
        task("first", stop_at=5),
        task("second", start="continue", init_checkpoint=Path("replaced")),
    )
    second = FitTask.from_json(second.to_json() | {"init_checkpoint": str(first.checkpoint)})
    for each in (whole, first, second):
        learner().fit(each)
    assert same_weights(whole.checkpoint, second.checkpoint)
    assert [row["step"] for row in logged(second)] == [5, 6, 7]


def test_what_was_bought_meanwhile_is_learned_and_the_rest_is_not_seen(
    learner: Make, task: Make, patches: Patches
) -> None:
    first = task("first", labeled=(), stop_at=2)
    assert learner().fit(first)["bought_pixels"] == 0
    second = task("second", start="continue", init_checkpoint=first.checkpoint, labeled=patches.pool_ids, cycle=1)
    assert learner().fit(second)["bought_pixels"] == 4 * 768 + 2 * 384
    assert all(row["target_ce"] == 0 < row["negative"] + row["density"] for row in logged(first))
    assert all(row["target_ce"] > 0 for row in logged(second))


def test_other_labels_are_another_training(learner: Make, task: Make) -> None:
    first = task()
    scalars = learner().fit(first)
    later = task(cycle=1)
    assert learner().fit(later) != scalars  # the checkpoint that lies there is of fewer pixels


@pytest.mark.parametrize(
    ("objective", "labeled", "kinds"),
    [
        (Adaptation, (), {"source", "p"}),
        (SUPERVISED, (), {"source"}),
        (SUPERVISED, ("p/1",), {"source", "p/1"}),
        (functools.partial(Adaptation, source_ratio=1.0), (), {"source"}),
    ],
)
def test_target_images_without_a_loss_take_no_place(
    learner: Make, task: Make, patches: Patches, objective: Any, labeled: tuple, kinds: set
) -> None:
    branch = {} if objective is SUPERVISED else None
    learner(objective, branch=branch, recipe={"max_iters": 4}).fit(task(labeled=labeled))
    seen = {i if labeled and i.startswith("p") else i.split("/")[0] for i in patches.opened}
    assert seen == kinds


def test_nothing_to_train_on_is_named(learner: Make, task: Make) -> None:
    with pytest.raises(DataError, match="expected images to train on, got no source images and no target images"):
        learner(SUPERVISED, data=Patches(source=0), branch={}).fit(task(labeled=()))


def test_source_free_queries_before_the_first_step_and_opens_no_source_file(learner: Make, task: Make) -> None:
    before = task("before", labeled=())
    learner(functools.partial(Adaptation, source_ratio=1.0)).fit(before)
    free = Patches(source=0)
    asked = task("asked", labeled=(), start="weights", init_checkpoint=before.checkpoint, stop_at=0)
    assert learner(data=free).fit(asked)["steps"] == 0
    assert same_weights(before.checkpoint, asked.checkpoint)
    after = task("after", start="continue", init_checkpoint=asked.checkpoint, stop_at=4)
    assert learner(data=free).fit(after)["steps"] == 4
    assert [row["lr"] for row in logged(after)][0] == 0.01
    assert not same_weights(asked.checkpoint, after.checkpoint)
    assert not [i for i in free.opened if i.startswith("source")]


def test_an_adversary_has_an_optimizer_of_its_own_and_goes_on_bit_for_bit(learner: Make, task: Make) -> None:
    large = {"data": Patches(source_hw=(32, 40), target_hw=(32, 48)), "branch": {}, "recipe": {"grad_clip": 1.0}}
    whole, cut = task("whole"), task("cut")
    ours, dies = (functools.partial(made, channels=4) for made in (Adversarial, AdversarialDies))
    learner(ours, **large).fit(whole)
    with pytest.raises(RuntimeError, match="power cut"):
        learner(dies, checkpoint_steps=2, **large).fit(cut)
    learner(ours, **large).fit(cut)
    assert whole.checkpoint.read_bytes() == cut.checkpoint.read_bytes()
    saved = load_checkpoint(whole.checkpoint)["optimizer"]["param_groups"]
    assert [("betas" in group, "momentum" in group) for group in saved] == [(False, True), (False, True), (True, False)]
    assert saved[2]["lr"] == saved[0]["lr"] and saved[2]["betas"] == (0.9, 0.99)


def test_anchors_are_of_the_model_a_training_begins_with(learner: Make, task: Make) -> None:
    first = task("first", stop_at=2)
    learner(SUPERVISED, branch={"dim": 8, "estimator": "none"}).fit(first)
    asked = task("asked", labeled=(), start="weights", init_checkpoint=first.checkpoint, stop_at=0)
    branch = {"dim": 8, "estimator": "none"}
    learner(SURVEYED, branch=branch).fit(asked)
    assert load_checkpoint(asked.checkpoint)["objective"]["target_anchors"].isnan().all()
    second = task("second", start="weights", init_checkpoint=asked.checkpoint)
    learner(functools.partial(SURVEYED, ema=0.0, anchors=1e-9), branch=branch, recipe={"max_iters": 1}).fit(second)
    again = task("again", start="weights", init_checkpoint=asked.checkpoint, unlabeled=())
    learner(functools.partial(SURVEYED, ema=0.0, anchors=1e-9), branch=branch, recipe={"max_iters": 1}).fit(again)
    found, fewer = (load_checkpoint(t.checkpoint)["objective"]["target_anchors"] for t in (second, again))
    assert (found.isfinite().all(1).sum(), fewer.isfinite().all(1).sum()) == (6, 4)  # fewer images than anchors


def test_stopping_at_the_first_step_again_is_refused(learner: Make, task: Make) -> None:
    first = task("first", stop_at=2)
    learner().fit(first)
    with pytest.raises(ConfigError, match="a step to stop at after 2"):
        learner().fit(task("second", start="continue", init_checkpoint=first.checkpoint, stop_at=2))


# Fact sheet, section 4: 2.5e-4 (1 - it / 62500)^0.9 of the backbone, ten times that of all else, also for the
# frozen-BN-free tiny network.
@pytest.mark.parametrize(
    ("step", "rate"), [(0, 2.5e-4), (10_000, 2.136935e-4), (18_000, 1.841501e-4), (40_000, 9.968097e-5)]
)
def test_the_published_rates_of_both_groups(step: int, rate: float) -> None:
    node = OmegaConf.to_container(OmegaConf.load(CONF / "trainer" / "adapt_40k.yaml"))
    settings = TrainSettings(**{k: v for k, v in node.items() if k != "_target_"})
    network = TinySegmenter(3, widths=(8, 8, 16), branch={"dim": 8}, head_lr=10.0)
    module = FitModule(network, RIPU(), settings, settings.schedule(2975), seed=0)
    optimizer = module.configure_optimizers()
    module.optimizers = lambda **_: optimizer  # type: ignore[method-assign]
    module.next_step = step
    module.on_train_batch_start(None, 0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, 10 * rate], rel=1e-6)
    assert [(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.9, 5e-4)] * 2
    groups = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    assert groups[0] == {id(p) for p in network.backbone.parameters()}
    assert groups[0] | groups[1] == {id(p) for p in network.parameters()}


# --- views ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(learner: Make, task: Make) -> Make:
    """Return a factory of learners that hold the same trained weights."""
    done = task("trained", stop_at=2)
    learner().fit(done)

    def make(**options: Any) -> SegmentationLearner:
        one = learner(**options)
        one.load(done.checkpoint)
        return one

    return make


def raw(one: SegmentationLearner, sample_id: str, *, flipped: bool = False) -> Any:
    batch = next(iter(dense_predict_batches(one.dataset, (sample_id,), network=one._network, batch_size=1)))
    with torch.no_grad():
        return one._network(batch.target_images.flip(-1) if flipped else batch.target_images)


def test_views_are_one_an_id_in_order_with_what_was_asked(trained: Make, patches: Patches) -> None:
    one, ids = trained(predict_batch=2), ("t/1", "p/0", "t/0")
    views = list(one.views(ids, one.provides))
    assert [v.sample_id for v in views] == list(ids)
    for view in views:
        assert view.size_hw == patches.size_hw(view.sample_id) == tuple(view.probs.shape[1:])
        assert (view.features.shape, view.extras["error"].shape, view.embedding.shape) == ((8, 4, 6), (4, 6), (16,))
        output = raw(one, view.sample_id)
        branch = one._network.branch(output.backbone)
        torch.testing.assert_close(view.features, branch.features[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            view.extras["error"], (branch.reconstruction - branch.features).square().sum(1)[0], atol=1e-5, rtol=1e-4
        )
        assert np.allclose(view.embedding, output.backbone.mean((2, 3))[0].detach().numpy(), atol=1e-5)
        # By way of the input's size, corners aligned, then softmax.
        torch.testing.assert_close(
            view.probs, upsample(upsample(output.logits, (16, 24)), (24, 32))[0].softmax(0), atol=1e-5, rtol=1e-4
        )


def test_a_flipped_image_is_averaged_after_turning_it_back(trained: Make) -> None:
    one = trained()
    view = next(one.views(("t/0",), ("dense_probs",), {"flip": True}))
    plain, flipped = (upsample(raw(one, "t/0", flipped=m).logits, (24, 32))[0].softmax(0) for m in (False, True))
    torch.testing.assert_close(view.probs, (plain + flipped.flip(-1)) / 2, atol=1e-5, rtol=1e-4)


def test_what_is_not_asked_for_is_not_computed(trained: Make) -> None:
    view = next(trained().views(("t/0",), ("image_embedding",)))
    assert (view.probs, view.features, view.extras) == (None, None, {})
    assert next(trained().views(("t/0",), ("class_probs",))).embedding is None


def test_views_do_not_depend_on_how_ids_are_sharded(trained: Make, patches: Patches) -> None:
    whole = list(trained(predict_batch=2).views(patches.pool_ids, ("dense_probs",)))
    parts = [
        v
        for part in (patches.pool_ids[:4], patches.pool_ids[4:])
        for v in trained(predict_batch=2).views(part, ("dense_probs",))
    ]
    assert all(torch.equal(a.probs, b.probs) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize(
    ("device", "target_hw", "predict_batch", "images"),
    [
        ("cuda", (16, 24), 32, 32),
        ("cuda", (640, 1280), 32, 4),
        ("cuda", (640, 1280), 6, 3),
        ("cuda", (3000, 4000), 8, 1),
        ("cpu", (16, 24), 32, 32),
        ("cpu", (240, 320), 32, 8),
        ("cpu", (240, 320), 12, 6),
        ("cpu", (640, 1280), 32, 1),
    ],
)
def test_a_forward_takes_as_many_images_as_memory_or_cache_may_hold(
    learner: Make, monkeypatch: pytest.MonkeyPatch, device: str, target_hw: tuple, predict_batch: int, images: int
) -> None:
    monkeypatch.setattr("al_lab.learners.segmentation.this_device", lambda: torch.device(device))
    assert learner(data=Patches(target_hw=target_hw), predict_batch=predict_batch)._forward_size(("t/0",)) == images


def test_half_precision_trains_and_predicts(learner: Make, task: Make) -> None:
    half = task("half")
    one = learner(recipe={"precision": "bf16-mixed", "max_iters": 2})
    assert np.isfinite(one.fit(half)["train_loss"])
    one.load(half.checkpoint)
    view = next(one.views(("t/0",), one.provides))
    assert view.probs.dtype == view.features.dtype == view.extras["error"].dtype == torch.float32
    assert torch.allclose(view.probs.sum(0), torch.ones(24, 32), atol=1e-5)


def test_views_name_what_is_wrong(trained: Make, learner: Make, task: Make) -> None:
    with pytest.raises(ConfigError, match="expected options among flip, got 'flop'"):
        trained().views(("t/0",), ("dense_probs",), {"flop": True})
    bare, one = task("bare", stop_at=1), learner(RIPU, branch={})
    one.fit(bare)
    one.load(bare.checkpoint)
    with pytest.raises(
        ConfigError, match="expected needs among dense_probs, class_probs, image_embedding, got 'pixel_features'"
    ):
        one.views(("t/0",), ("pixel_features",))


# --- from a configuration ---------------------------------------------------------------------------------------------


def config(**changes: Any) -> dict[str, Any]:
    return {
        "segmenter": {"_target_": "al_lab.models.segmenters.tiny.TinySegmenter", "widths": [8, 8, 16]},
        "objective": {"_target_": "al_lab.objectives.adapt.Adaptation", "margin": 0, "aux": 0, "density": 0},
        "trainer": {"_target_": "al_lab.learners.settings.TrainSettings", "batch_size": 4, "max_iters": 1},
        "runtime": {"predict_batch": 3, "num_workers": 0},
    } | changes


def test_a_segmenter_gets_a_learner(patches: Patches, task: Make) -> None:
    one = build_learner(config(), patches)
    assert isinstance(one, SegmentationLearner)
    assert one.fit(task())["steps"] == 1
    with pytest.raises(
        ConfigError,
        match="config.segmenter: expected a SegmenterNetwork, or a class with fit and views, got "
        "al_lab.models.detectors.tiny",
    ):
        build_learner(config(segmenter={"_target_": "al_lab.models.detectors.tiny.TinyDetector"}), patches)
