"""Models that are trained elsewhere: what of a configuration is none of theirs, and what can't go with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from al_lab.config.fitting import fitting, only_views, provides_of
from al_lab.config.options import option
from al_lab.config.signatures import literal_of
from al_lab.core.errors import ConfigError, explain

log = logging.getLogger(__name__)

_MODELS = ("detector", "segmenter")
_OWN = "own"  # the trainer whose numbers mean nothing


def is_foreign(model: Any) -> bool:
    """Say whether a model brings a training that knows no objective and no recipe of ours."""
    target = model.get("_target_") if isinstance(model, Mapping) else None
    try:
        return isinstance(target, str) and bool(literal_of(target, "is_foreign", False))
    except ConfigError:  # a wrong path is reported by check_targets, with the place it stands in
        return False


def leave_to_itself(config: dict[str, Any]) -> None:
    """Take away the objective and the recipe that a protocol chose: a foreign model's training is its own."""
    model = next((config[key] for key in _MODELS if is_foreign(config.get(key))), None)
    if model is None:
        return
    config["objective"], config["choices"]["objective"] = None, None
    config["trainer"], config["choices"]["trainer"] = dict(option("trainer", _OWN)), _OWN
    if "start" in model:
        config["trainer"]["start"] = model["start"]


def warn_of_idle(overrides: Iterable[str], config: Mapping[str, Any]) -> None:
    """Say which words of a command have no effect."""
    name = next((key for key in _MODELS if is_foreign(config.get(key))), None)
    for word in overrides if name else ():
        if word.lstrip("+~").startswith(("trainer.", "objective.", "objective=")) or (
            word.startswith("trainer=") and word != f"trainer={_OWN}"
        ):
            log.warning(
                "%s has no effect: %s=%s is trained by its own program", word, name, config["choices"].get(name)
            )


def check_foreign(config: Mapping[str, Any], model: str) -> None:
    """Refuse what a foreign model can't give, naming the strategies that remain.

    Args:
        config: resolved.
        model: detector | segmenter.

    Raises:
        ConfigError: for a strategy with trainings or stages of its own, class distributions that nobody writes, and
            several devices.
    """
    node, name = config[model], config["choices"].get(model)
    if not is_foreign(node):
        return
    strategy, chosen = config["strategy"], config["choices"]["strategy"]
    if not only_views(strategy):
        raise ConfigError(
            explain(
                expected=f"a strategy that lives on what a model predicts: {remaining(config, model)}",
                got=f"{chosen!r}, which trains, or looks, in stages of its own",
                where=f"strategy with {model}={name}",
                do="choose one of them, or a network of ours",
            )
        )
    if strategy.get("sigmoid") == "classes" and not node.get("distributions"):
        raise ConfigError(
            explain(
                expected="whole class distributions, for strategy.sigmoid=classes",
                got="confidences alone",
                where=f"{model}={name}",
                do=f"write distributions and set {model}.distributions=true, or strategy.sigmoid=confidence",
            )
        )
    if config["runtime"].get("devices", 1) != 1:
        raise ConfigError(
            explain(
                expected="1",
                got=str(config["runtime"]["devices"]),
                where=f"runtime.devices with {model}={name}",
                do="a command that trains on several devices starts their processes itself",
            )
        )


def remaining(config: Mapping[str, Any], model: str) -> str:
    """Return the strategies that go with a foreign model, as words."""
    task = "detection" if model == "detector" else "segmentation"
    unit = str((config.get("budget") or {}).get("unit", "image"))
    return ", ".join(fitting(provides_of(config[model]) or (), True, task, unit))
