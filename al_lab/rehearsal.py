"""Build what a campaign will need once, before it creates anything: some values only the objects themselves can judge."""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.config import build
from al_lab.core.errors import ConfigError, LabError, explain
from al_lab.metrics.build import build_metrics
from al_lab.metrics.miou import check_metrics

_NUM_CLASSES = 2  # where the config names no classes; our networks take any number
# Their trainings run with the packages and files of this machine; a cluster's nodes may have others.
_HERE = ("al_lab.execution.inline.InlineExecutor", "al_lab.execution.local.LocalExecutor")


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse values that would stop the campaign later: at its first training, in a worker, hours from now.

    Nothing is downloaded, no pretrained weights are read, and torch's random state stays as it was.

    Raises:
        LabError: for the first object that can't be built.
    """
    for group in ("strategy", "oracle", "executor", "objective"):
        if config.get(group):
            _try(group, config[group])
    settings = _try("trainer", config["trainer"])
    for cycle in range(int(config["budget"]["cycles"]) + 1):
        settings.stop_step(cycle, num_images=1)  # a list of stops has one entry a cycle
    if config.get("detector"):
        build_metrics(config["dataset"].get("metrics") or ())
        _check_detector(config)
    if config.get("segmenter"):
        dataset = build(config["dataset"])
        check_metrics(dataset.metrics, dataset.classes)


def _try(group: str, node: Mapping[str, Any], **runtime: Any) -> Any:
    try:
        return build(node, **runtime)
    except LabError:
        raise
    except Exception as error:  # constructors of torch, mmdet and the user raise what they like
        cause = error.__cause__ or error
        raise ConfigError(explain(expected=f"arguments that {node['_target_']} can be built with", got=f"{type(cause).__name__}: {cause}",
                                  where=group, do=f"correct {group}.… (HYDRA_FULL_ERROR=1 shows where it failed)")) from error


def _check_detector(config: Mapping[str, Any]) -> None:
    """Build the network from random weights; one from elsewhere may need its classes, its weights or a download, so it is left alone."""
    import torch  # noqa: PLC0415 - for what is refused above, it need not be imported

    node = config["detector"]
    module, _, name = node["_target_"].rpartition(".")
    if not module.startswith("al_lab.models."):
        return
    trains_here = config["executor"]["_target_"] in _HERE
    if trains_here:
        _check_file(node)
    bare = _without_weights(node)
    if "weights" in inspect.signature(getattr(importlib.import_module(module), name)).parameters:
        bare["weights"] = None  # its default may be a download
    try:
        with torch.random.fork_rng(devices=[]):
            _try("detector", bare, num_classes=len(config["dataset"].get("classes") or ()) or _NUM_CLASSES)
    except LabError as error:
        if trains_here or not isinstance(error.__cause__, ImportError):
            raise


def _without_weights(node: Any) -> Any:
    """Copy a node without the weights that mmengine would load: ``init_cfg`` of type Pretrained, ``pretrained``."""
    if isinstance(node, Mapping):
        return {k: _without_weights(v) for k, v in node.items() if k != "pretrained"
                and not (k == "init_cfg" and isinstance(v, Mapping) and v.get("type") == "Pretrained")}
    return [_without_weights(v) for v in node] if isinstance(node, list | tuple) else node


def _check_file(node: Mapping[str, Any]) -> None:
    """Refuse pretrained weights in a file that is not there."""
    from al_lab.models.weights import read_weights  # noqa: PLC0415

    backbone = (node.get("model") or {}).get("backbone") or {}
    source = str(node.get("weights") or (backbone.get("init_cfg") or {}).get("checkpoint") or "")
    is_file = source and "://" not in source and not source.startswith("torchvision:")
    if is_file and not Path(source).expanduser().is_file():
        read_weights(source)  # names it, and says what to do
