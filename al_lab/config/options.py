"""The options that the groups of the configuration have: the yaml files on Hydra's search path, read as they stand."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from al_lab.config.signatures import literal_of
from al_lab.core.errors import ConfigError
from al_lab.core.record.moved import present_path, with_targets

__all__ = [
    "CONF_DIR",
    "changes_detector",
    "datasets_for",
    "every",
    "option",
    "options",
    "search_path",
    "strategies_in",
    "task_of",
    "union",
]

_IN_WHEEL = Path(__file__).resolve().parents[1] / "conf"  # setup.py puts it there
CONF_DIR = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_WHEEL.parents[1] / "conf"


def search_path() -> list[Path]:
    """Return the folders that hold options, ``--config-dir`` included; `CONF_DIR` where no Hydra application runs."""
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415

    engine = GlobalHydra.instance().hydra
    if engine is None:
        return [CONF_DIR]
    return [Path(source.path) for source in engine.config_loader.get_sources() if source.scheme() == "file"]


def option(group: str, name: str) -> dict[str, Any]:
    """Return one yaml of a group as it stands; empty if there is none."""
    path = next((p for p in (source / group / f"{name}.yaml" for source in search_path()) if p.is_file()), None)
    return {} if path is None else _read_yaml(path)


def options(group: str) -> list[str]:
    """Return the names of a group's options."""
    return sorted({p.stem for source in search_path() for p in (source / group).glob("*.yaml")})


def task_of(dataset: str) -> str:
    """Return the task of a dataset's option: detection where it can't be told."""
    target = option("dataset", dataset).get("_target_")
    try:
        return str(literal_of(target, "task", "detection")) if isinstance(target, str) else "detection"
    except ConfigError:  # a wrong path is reported by check_targets, with the place it stands in
        return "detection"


@cache
def changes_detector(strategy: str) -> bool:
    """Whether a strategy, by its name, changes the detector: the literal ``detector_changed`` of its class."""
    try:
        return bool(literal_of(str(option("strategy", strategy)["_target_"]), "detector_changed", False))
    except (OSError, KeyError, ConfigError):
        return False  # no strategy of ours: nothing is known of it


def datasets_for(tasks: tuple[str, ...]) -> list[str]:
    """Return the datasets of some tasks, those that are drawn first: they need no files."""
    found = [name for name in options("dataset") if task_of(name) in tasks]
    return sorted(found, key=lambda name: not isinstance(option("dataset", name).get("num_pool"), int))


def strategies_in(node: Mapping[str, Any]) -> list[str]:
    """Return the class of a strategy's configuration, and of those that it is made of (see `Strategy.made_of`)."""
    target = str(node["_target_"])
    parts = [node[key] for key in literal_of(target, "made_of", ()) if isinstance(node.get(key), Mapping)]
    return [target, *(inner for part in parts for inner in strategies_in(part))]


def every(node: Mapping[str, Any], attribute: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a strategy and all it is made of have in a class attribute, in the strategy's own order."""
    first, *others = [literal_of(target, attribute, default) for target in strategies_in(node)]
    return tuple(word for word in first if all(word in other for other in others))


def union(node: Mapping[str, Any], attribute: str) -> tuple[str, ...]:
    """Return what a strategy or anything it is made of has in a class attribute."""
    lists = [literal_of(target, attribute, ()) for target in strategies_in(node)]
    return tuple(dict.fromkeys(word for words in lists for word in words))


@cache
def _read_yaml(path: Path) -> dict[str, Any]:
    value = OmegaConf.to_container(OmegaConf.load(path))
    return {str(k): with_targets(v, present_path) for k, v in value.items()} if isinstance(value, dict) else {}
