"""From a resolved configuration to the learner a worker runs."""

import functools
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.config.build import build
from al_lab.core.errors import ConfigError, explain
from al_lab.core.record.moved import first_path, with_targets
from al_lab.data.loading.byte_cache import ByteCache
from al_lab.data.loading.processes import loader_processes
from al_lab.learners.base import Learner
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.segmentation import SegmentationLearner
from al_lab.models.detectors.detector import Detector
from al_lab.models.segmenters.segmenter import SegmenterNetwork


def build_learner(config: Mapping[str, Any], dataset: Any) -> Learner:
    """Build the learner of a campaign.

    A model that brings its own ``fit`` and ``views`` is its own learner (it is given ``num_classes``, and ``dataset``
    if its constructor has such an argument); a `Detector` is wrapped in a `DetectionLearner`, a
    `SegmenterNetwork` in a `SegmentationLearner`.

    Args:
        config: the resolved configuration; ``detector`` or ``segmenter``, ``objective``, ``trainer`` and ``runtime``
            are read.
        dataset: as the config's ``dataset`` describes it.

    Raises:
        ConfigError: if there is no model, or it is neither a learner nor a network of the right kind.
    """
    node = config.get("detector") or config.get("segmenter")
    if not node:
        raise ConfigError(
            explain(
                expected="a detector or a segmenter", got="neither", where="config", do="choose one, e.g. detector=tiny"
            )
        )
    target = _target(node["_target_"])
    num_classes = len(dataset.classes)
    if hasattr(target, "fit") and hasattr(target, "views"):
        extra = {"dataset": dataset} if "dataset" in inspect.signature(target).parameters else {}
        return build(node, num_classes=num_classes, **extra)
    kind, learner = ("detector", DetectionLearner) if config.get("detector") else ("segmenter", SegmentationLearner)
    _check_parts(config, kind, target)
    return learner(
        dataset,
        functools.partial(build, node, num_classes=num_classes),
        functools.partial(build, config["objective"]),
        build(config["trainer"]),
        provides=getattr(target, "provides", None),
        identity=with_targets(
            {key: config.get(key) for key in (kind, "objective")} | {"trainer": _recipe(config["trainer"])}, first_path
        )
        | {"dataset": dataset.name},
        **_options(config.get("runtime") or {}),
    )


def _check_parts(config: Mapping[str, Any], kind: str, target: Any) -> None:
    """Refuse a network without objective or trainer, and a class that is no network of its kind."""
    for group in ("objective", "trainer"):
        if not config.get(group):
            raise ConfigError(
                explain(
                    expected=f"{'an' if group == 'objective' else 'a'} {group}",
                    got="none",
                    where="config",
                    do=f"choose one, e.g. {group}={'supervised' if group == 'objective' else 'tiny'}",
                )
            )
    network = Detector if kind == "detector" else SegmenterNetwork
    if inspect.isclass(target) and not issubclass(target, network):
        raise ConfigError(
            explain(
                expected=f"a {network.__name__}, or a class with fit and views",
                got=config[kind]["_target_"],
                where=f"config.{kind}",
                do=f"see {network.__module__.replace('.', '/')}.py and al_lab/learners/base.py",
            )
        )


def _options(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a learner takes of ``runtime``."""
    options = {
        key: runtime[key]
        for key in ("predict_batch", "num_workers", "checkpoint_minutes", "checkpoint_steps", "deterministic", "speed")
        if runtime.get(key) is not None
    }
    if runtime.get("image_cache_gb") and runtime.get("data_dir"):
        options["image_cache"] = ByteCache(Path(runtime["data_dir"]) / ".pixels", runtime["image_cache_gb"])
    options["num_workers"] = loader_processes(options.get("num_workers", 0))
    return options


def _recipe(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the trainer by which one training is told from another."""
    # How a diverged training begins again may change while a run goes on; an attempt's seed and rate tell it from
    # others.
    recipe = {key: value for key, value in trainer.items() if key not in ("on_divergence", "tf32")}
    if trainer.get("tf32") is False:
        recipe["tf32"] = False  # recipes without it were, and are, as with true
    if recipe.get("warmup_power") is None:
        recipe.pop("warmup_power", None)  # as recipes were before there was one
    return recipe


def _target(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
