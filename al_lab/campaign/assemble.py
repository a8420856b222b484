"""What a campaign's objects say of each other, before it creates anything: some values only they can judge."""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.config.checks import check_data, is_generated
from al_lab.config.embedding import EmbeddingSource
from al_lab.config.parts import Parts
from al_lab.core.budget import ColdStart
from al_lab.core.errors import ConfigError, LabError, WeightsError, explain
from al_lab.data.bought_test import with_test
from al_lab.data.loading.dense_batch import domain_counts
from al_lab.data.predictions.vectors import FileVectors
from al_lab.data.transforms.dense_view import DenseAugmentation
from al_lab.metrics.build import build_metrics
from al_lab.metrics.segmentation import check_metrics
from al_lab.stages.probe import check_speed

_NUM_CLASSES = 2  # where the config names no classes; our networks take any number
# Their trainings run with the packages and files of this machine; a cluster's nodes may have others.
_HERE = ("al_lab.execution.inline.InlineExecutor", "al_lab.execution.local.LocalExecutor")


def check_parts(parts: Parts, is_new: bool = True) -> None:
    """Build a campaign's objects and refuse what would stop it later.

    At its first training, in a worker, hours from now.

    Nothing is downloaded, no pretrained weights are read, and torch's random state stays as it was.

    Args:
        parts: of the campaign; what is built here is what it runs with.
        is_new: its first training is still to come.

    Raises:
        LabError: for the first object that can't be built, or does not fit the others.
    """
    config, settings = parts.config, parts.settings
    if config.get("detector"):
        build_metrics(config["dataset"].get("metrics") or ())
    check_data(parts)
    if (config.get("budget") or {}).get("test"):  # else a generated dataset is not drawn for a look at the plan
        with_test(parts.dataset, config)  # refuses what can't be drawn
    settings.check_stops(parts.budget.cycles)
    if trains_here(config):
        check_speed(config)
    parts.strategy.check_budget(parts.budget)
    parts.strategy.check_task("segmentation" if config.get("segmenter") else "detection")
    if parts.budget.initial_by == "cold_start" and is_new and trains_here(config):
        _check_start(parts.budget.start)
    _ = parts.oracle, parts.objective, parts.executor
    if is_new and trains_here(config):
        _check_embedding(parts)
    if is_new and settings.init is not None and trains_here(config) and not Path(settings.init).expanduser().is_file():
        raise WeightsError(
            explain(
                expected="a checkpoint of an earlier training",
                got="no such file",
                where=f"trainer.init={settings.init}",
                do="give the model.ckpt of a run's cycle folder, or trainer.init=null",
            )
        )
    if config.get("detector"):
        named = config["dataset"].get("classes") if is_generated(config["dataset"]) else parts.dataset.classes
        network = _check_network(parts, "detector", len(named or ()) or _NUM_CLASSES)
        if network is not None:
            _check_detector(parts, network)
    if config.get("segmenter"):
        _check_segmentation(parts)
    if not is_generated(config["dataset"]):
        parts.strategy.check_dataset(parts.dataset)


def trains_here(config: Mapping[str, Any]) -> bool:
    """Whether trainings run on this machine; those of a cluster may have other packages and files."""
    return config["executor"]["_target_"] in _HERE


def _check_detector(parts: Parts, network: Any) -> None:
    """Hold detector, objective, strategy and machine against each other."""
    parts.strategy.check_model(network)
    if isinstance(parts.settings.augmentation, DenseAugmentation):
        raise ConfigError(
            explain(
                expected="null or an augmentation of al_lab.data.transforms.detection",
                got="DenseAugmentation",
                where="trainer.augmentation",
                do="it moves label maps, no boxes; LightAugmentation is a small detector's",
            )
        )
    if hasattr(parts.objective, "attach"):
        parts.objective.attach(network)  # it refuses a network that does not read what it says
    devices = int(parts.config["runtime"]["devices"])
    if devices > 1 and "anchors" not in network.provides:
        raise ConfigError(
            explain(
                expected=f"runtime.devices=1 for {type(network).__name__}",
                got=str(devices),
                where="runtime.devices",
                do="its own loss is divided by what one device sees, so that more of them would train another model; "
                "several campaigns side by side use several devices",
            )
        )


def _check_dense_augmentation(augmentation: Any, objective: Any) -> None:
    """Refuse what moves boxes, and a second geometry beside an objective's own."""
    if augmentation is None:
        return
    if not isinstance(augmentation, DenseAugmentation):
        got = type(augmentation).__name__
        do = "augmentations of detectors move boxes; use al_lab.data.transforms.dense_view.DenseAugmentation"
    elif hasattr(objective, "geometry"):
        got = f"{type(augmentation).__name__} beside {type(objective).__name__}, which turns every image itself"
        do = "set objective.geometry and objective.strong, with trainer.augmentation=null"
    else:
        return
    raise ConfigError(explain(expected="null or a DenseAugmentation", got=got, where="trainer.augmentation", do=do))


def _check_segmentation(parts: Parts) -> None:
    """Hold segmenter, objective, strategy and the first training against each other."""
    dataset, settings, objective, budget = parts.dataset, parts.settings, parts.objective, parts.budget
    check_metrics(dataset.metrics, dataset.classes)
    _check_dense_augmentation(settings.augmentation, objective)
    if objective is not None and settings.stop_step(0, 1, budget.cycles) != 0:
        has_target = budget.initial_images(len(dataset.pool_ids)) != 0 or getattr(objective, "uses_unlabeled", True)
        domain_counts(settings.batch_size, objective, has_source=bool(dataset.source_ids), has_target=has_target)
    _check_segments(parts)
    network = _check_network(parts, "segmenter", len(dataset.classes))
    if network is None:
        return
    lacking = [word for word in parts.strategy.needs_for(budget.unit) if word not in network.provides]
    if lacking:
        raise ConfigError(
            explain(
                expected=f"a segmenter that provides {', '.join(lacking)} (the strategy needs it)",
                got=f"one that provides {', '.join(network.provides)}",
                where="segmenter",
                do="give segmenter.branch a dim and an estimator, or choose another strategy=…",
            )
        )
    if hasattr(objective, "attach"):
        objective.attach(network)  # it refuses a network that lacks what it trains


def _check_segments(parts: Parts) -> None:
    """Refuse segments that can't be made, and an oracle of segments where none are bought."""
    if "segments" in parts.strategy.shown_for(parts.budget.unit):
        parts.dataset.segments.check()
    elif parts.oracle.only_segments:
        raise ConfigError(
            explain(
                expected="segments, of which each gets one class",
                got=f"budget.unit={parts.budget.unit}",
                where="oracle",
                do="set budget.unit=segment, or use oracle=simulated",
            )
        )


def _check_network(parts: Parts, kind: str, num_classes: int) -> Any:
    """Build the network from random weights.

    One from elsewhere may need its classes, its weights or a download, so it is left alone.

    Returns:
        The network; None if it was left alone, or needs packages that the machines of a cluster may have.
    """
    import torch  # noqa: PLC0415 - for what is refused above, it need not be imported

    node = parts.config[kind]
    module, _, name = node["_target_"].rpartition(".")
    if not module.startswith("al_lab.models."):
        return None
    is_here = trains_here(parts.config)
    if is_here:
        _check_file(node)
    bare = _without_weights(node)
    if "weights" in inspect.signature(getattr(importlib.import_module(module), name)).parameters:
        bare["weights"] = None  # its default may be a download
    try:
        with torch.random.fork_rng(devices=[]):
            return parts.build(kind, bare, num_classes=num_classes)
    except LabError as error:
        if is_here or not isinstance(error.__cause__, ImportError):
            raise
        return None


def _check_embedding(parts: Parts) -> None:
    """Refuse embeddings from a file or a network that is not there, or a file that lacks images.

    Raises:
        LabError: naming the key.
    """
    source = EmbeddingSource.read(parts.config.get("embedding"))
    if source is None or source.kind == "objects":
        return
    source.check_file()
    if source.kind == "backbone":
        from al_lab.models.backbone import check_backbone  # noqa: PLC0415

        check_backbone(source.backbone, "embedding", source.weights)
    elif not is_generated(parts.config["dataset"]):
        FileVectors(source.path, parts.dataset).check(parts.dataset.pool_ids)


def _check_start(start: ColdStart) -> None:
    """Refuse a backbone that there is not, and weights in a file that is not there.

    Raises:
        LabError: naming the key.
    """
    from al_lab.models.backbone import check_backbone  # noqa: PLC0415

    check_backbone(start.backbone)
    source = str(start.weights or "")
    if (
        source
        and "://" not in source
        and not source.startswith("torchvision:")
        and not Path(source).expanduser().is_file()
    ):
        raise WeightsError(
            explain(
                expected="a file with pretrained weights",
                got="no such file",
                where=f"budget.cold_start.weights={source}",
                do=f"put it there, or use null for torchvision's weights of {start.backbone}",
            )
        )


def _without_weights(node: Any) -> Any:
    """Copy a node without the weights that mmengine would load: ``init_cfg`` of type Pretrained, ``pretrained``."""
    if isinstance(node, Mapping):
        return {
            k: _without_weights(v)
            for k, v in node.items()
            if k != "pretrained" and not (k == "init_cfg" and isinstance(v, Mapping) and v.get("type") == "Pretrained")
        }
    return [_without_weights(v) for v in node] if isinstance(node, list | tuple) else node


def _check_file(node: Mapping[str, Any]) -> None:
    """Refuse pretrained weights in a file that is not there."""
    from al_lab.models.weights import read_weights  # noqa: PLC0415

    model = node.get("model")
    backbone = (model.get("backbone") if isinstance(model, Mapping) else None) or {}
    source = str(node.get("weights") or (backbone.get("init_cfg") or {}).get("checkpoint") or "")
    is_file = source and "://" not in source and not source.startswith("torchvision:")
    if is_file and not Path(source).expanduser().is_file():
        read_weights(source)  # names it, and says what to do
