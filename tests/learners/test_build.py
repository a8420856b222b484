"""From a configuration to the learner of a worker."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from al_lab.core.errors import ConfigError
from al_lab.learners.build import build_learner
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.settings import TrainSettings

CONF = Path(__file__).parents[2] / "conf"


class ForeignLearner:
    """A model of another framework that is its own learner."""

    provides = ("detections",)

    def __init__(self, num_classes: int, dataset: Any, width: int = 1) -> None:
        self.num_classes, self.dataset, self.width = num_classes, dataset, width

    def fit(self, task: Any) -> dict[str, float]:
        return {}

    def load(self, checkpoint: Path) -> None:
        return None

    def views(self, ids: Any, needs: Any) -> Any:
        return iter(())


def config(**changes: Any) -> dict[str, Any]:
    """Return the part of a resolved configuration that a learner is made of."""
    return {
        "detector": {
            "_target_": "al_lab.models.detectors.tiny.TinyDetector",
            "input_px": 32,
            "widths": [8, 8, 16, 16, 16],
        },
        "objective": {"_target_": "al_lab.objectives.supervised.Supervised"},
        "trainer": {
            "_target_": "al_lab.learners.settings.TrainSettings",
            "batch_size": 2,
            "max_iters": 1,
            "augmentation": {"_target_": "al_lab.data.transforms.detection.FlipAugmentation"},
        },
        "runtime": {"predict_batch": 3, "checkpoint_minutes": 5, "num_workers": 0, "outputs_dir": "x"},
    } | changes


def test_a_network_gets_a_learner_that_fits_and_looks(dataset: Any, make_task: Any) -> None:
    learner = build_learner(config(), dataset)
    assert isinstance(learner, DetectionLearner)
    assert {"class_probs", "flip_probs", "image_embedding", "box_embedding", "anchors"} < set(learner.provides)
    assert (learner.predict_batch, learner.checkpoint_minutes) == (3, 5)
    task = make_task()
    assert learner.fit(task)["steps"] == 1
    learner.load(task.checkpoint)
    assert [v.sample_id for v in learner.views(("test1", "test0"), ("detections",))] == ["test1", "test0"]


def test_a_changed_recipe_is_another_training(dataset: Any, make_task: Any) -> None:
    task = make_task()
    for steps in (1, 2):  # the second must not take the first's checkpoint for its own
        trainer = config()["trainer"] | {"max_iters": steps}
        assert build_learner(config(trainer=trainer), dataset).fit(task)["steps"] == steps


def test_a_model_that_fits_itself_is_its_own_learner(dataset: Any) -> None:
    learner = build_learner(config(detector={"_target_": f"{__name__}.ForeignLearner", "width": 7}), dataset)
    assert (learner.num_classes, learner.width) == (2, 7)
    assert learner.dataset is dataset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector": None}, "expected a detector or a segmenter, got neither"),
        (
            {"detector": {"_target_": "torch.nn.Linear"}},
            "expected a Detector, or a class with fit and views, got torch.nn.Linear",
        ),
        ({"objective": None}, "expected an objective, got none"),
        ({"trainer": None}, "expected a trainer, got none"),
    ],
)
def test_what_is_missing_is_named(dataset: Any, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_learner(config(**changes), dataset)


@pytest.mark.parametrize("path", sorted((CONF / "trainer").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_says_every_number(path: Path) -> None:
    node = OmegaConf.to_container(OmegaConf.load(path))
    assert set(node) == {"_target_", *TrainSettings.__dataclass_fields__}
    settings = TrainSettings(**{k: v for k, v in node.items() if k != "_target_"})
    assert settings.schedule(1000).total_steps > 0


def test_the_published_recipes_have_the_published_numbers() -> None:
    def schedule(name: str, images: int) -> tuple[int, int, tuple[int, ...]]:
        node = OmegaConf.to_container(OmegaConf.load(CONF / "trainer" / f"{name}.yaml"))
        settings = TrainSettings(**{k: v for k, v in node.items() if k != "_target_"})
        return settings.batch_size, settings.schedule(images).total_steps, settings.schedule(images).milestones

    assert schedule("ssd_120k", 2000) == (32, 120_000, (80_000, 100_000))
    assert schedule("ssd_300ep", 1000) == (32, 9375, (7500,))
    assert schedule("retinanet_26ep", 2345) == (8, 7622, (5863,))
