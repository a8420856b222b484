"""Build what a campaign will need once, before it creates anything: some values only the objects themselves can judge."""

import importlib
import inspect
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.config.load import build
from al_lab.core.errors import ConfigError, LabError, WeightsError, explain
from al_lab.data.loading.dense_batch import domain_counts
from al_lab.metrics.build import build_metrics
from al_lab.metrics.miou import check_metrics

_MANY = 10**6  # images: an epoch's part is then never less than a step
_NUM_CLASSES = 2  # where the config names no classes; our networks take any number
# Their trainings run with the packages and files of this machine; a cluster's nodes may have others.
_HERE = ("al_lab.execution.inline.InlineExecutor", "al_lab.execution.local.LocalExecutor")


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse values that would stop the campaign later: at its first training, in a worker, hours from now.

    Nothing is downloaded, no pretrained weights are read, and torch's random state stays as it was.

    Raises:
        LabError: for the first object that can't be built.
    """
    built = {
        group: _try(group, config[group])
        for group in ("strategy", "oracle", "executor", "objective", "trainer")
        if config.get(group)
    }
    settings, cycles = built["trainer"], int(config["budget"]["cycles"])
    _check_stops(settings, cycles)
    built["strategy"].check_budget(build(config["budget"]))
    if (
        settings.init is not None
        and config["executor"]["_target_"] in _HERE
        and not Path(settings.init).expanduser().is_file()
    ):
        raise WeightsError(
            explain(
                expected="a checkpoint of an earlier training",
                got="no such file",
                where=f"trainer.init={settings.init}",
                do="give the model.ckpt of a run's cycle folder, or trainer.init=null",
            )
        )
    if config.get("detector"):
        build_metrics(config["dataset"].get("metrics") or ())
        _check_network(config, "detector", len(config["dataset"].get("classes") or ()) or _NUM_CLASSES)
    if config.get("segmenter"):
        _check_segmentation(config, built)


def _check_stops(settings: Any, cycles: int) -> None:
    """Refuse stops at which a training could not end; a list of stops has one entry a cycle."""
    horizon = settings.schedule(_MANY).total_steps
    stops = [
        horizon if stop is None else stop
        for stop in (settings.stop_step(cycle, _MANY, cycles) for cycle in range(cycles + 1))
    ]
    goes_on = settings.start == "continue"
    pairs = itertools.pairwise(stops) if goes_on else ()
    if not all(a < b for a, b in pairs) or not all(0 <= stop <= horizon for stop in stops):
        raise ConfigError(
            explain(
                expected=f"{'rising ' if goes_on else ''}numbers up to {settings.unit}={settings.length:g}, one for each of "
                f"{cycles + 1} trainings",
                got=str(settings.stop_at),
                where=f"trainer.stop_at with start={settings.start}",
                do="correct trainer.stop_at or lower budget.cycles",
            )
        )


def _check_segmentation(config: Mapping[str, Any], built: Mapping[str, Any]) -> None:
    """Hold segmenter, objective, strategy and the first training against each other."""
    dataset, settings, objective = build(config["dataset"]), built["trainer"], built.get("objective")
    check_metrics(dataset.metrics, dataset.classes)
    if settings.augmentation is not None:
        raise ConfigError(
            explain(
                expected="null",
                got=type(settings.augmentation).__name__,
                where="trainer.augmentation",
                do="augmentations move boxes; segmenters are trained on plainly resized images, as RIPU and Density Matters are",
            )
        )
    if objective is not None and settings.stop_step(0, 1, int(config["budget"]["cycles"])) != 0:
        has_target = build(config["budget"]).initial_images(len(dataset.pool_ids)) != 0 or getattr(
            objective, "uses_unlabeled", True
        )
        domain_counts(settings.batch_size, objective, has_source=bool(dataset.source_ids), has_target=has_target)
    network = _check_network(config, "segmenter", len(dataset.classes))
    if network is None:
        return
    lacking = [word for word in built["strategy"].needs_for(config["budget"]["unit"]) if word not in network.provides]
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


def _try(group: str, node: Mapping[str, Any], **runtime: Any) -> Any:
    try:
        return build(node, **runtime)
    except LabError:
        raise
    except Exception as error:  # constructors of torch, mmdet and the user raise what they like
        cause = error.__cause__ or error
        raise ConfigError(
            explain(
                expected=f"arguments that {node['_target_']} can be built with",
                got=f"{type(cause).__name__}: {cause}",
                where=group,
                do=f"correct {group}.… (HYDRA_FULL_ERROR=1 shows where it failed)",
            )
        ) from error


def _check_network(config: Mapping[str, Any], kind: str, num_classes: int) -> Any:
    """Build the network from random weights; one from elsewhere may need its classes, its weights or a download, so it is left alone.

    Returns:
        The network; None if it was left alone, or needs packages that the machines of a cluster may have.
    """
    import torch  # noqa: PLC0415 - for what is refused above, it need not be imported

    node = config[kind]
    module, _, name = node["_target_"].rpartition(".")
    if not module.startswith("al_lab.models."):
        return None
    trains_here = config["executor"]["_target_"] in _HERE
    if trains_here:
        _check_file(node)
    bare = _without_weights(node)
    if "weights" in inspect.signature(getattr(importlib.import_module(module), name)).parameters:
        bare["weights"] = None  # its default may be a download
    try:
        with torch.random.fork_rng(devices=[]):
            return _try(kind, bare, num_classes=num_classes)
    except LabError as error:
        if trains_here or not isinstance(error.__cause__, ImportError):
            raise
        return None


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

    backbone = (node.get("model") or {}).get("backbone") or {}
    source = str(node.get("weights") or (backbone.get("init_cfg") or {}).get("checkpoint") or "")
    is_file = source and "://" not in source and not source.startswith("torchvision:")
    if is_file and not Path(source).expanduser().is_file():
        read_weights(source)  # names it, and says what to do
