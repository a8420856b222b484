"""What ``runtime`` may say of the machine."""

from collections.abc import Mapping
from typing import Any

from al_lab.core.errors import ConfigError, did_you_mean, explain

# What the program reads of `runtime`: the least each number may be; None for what is no number or may be absent.
_RUNTIME = {
    "outputs_dir": None,
    "data_dir": None,
    "cache_dir": None,
    "devices": 1,
    "predict_batch": 1,
    "num_workers": 0,
    "image_cache_gb": 0,
    "checkpoint_minutes": 0,
    "checkpoint_steps": None,
    "deterministic": None,
    "analyze_images": 0,
    "speed": None,
}
SPEED = ("channels_last", "benchmark", "fused", "fold_norms", "compile")  # yes or no, each


def check_runtime(runtime: Mapping[str, Any]) -> None:
    """Refuse a key that nobody reads, and a value that is none.

    Raises:
        ConfigError: naming the key.
    """
    for key, value in runtime.items():
        where = f"runtime.{key}"
        if key not in _RUNTIME:
            raise ConfigError(
                explain(expected="a key of runtime", got=repr(key), where=where, do=did_you_mean(key, _RUNTIME))
            )
        if key == "deterministic" and not isinstance(value, bool):
            raise ConfigError(explain(expected="true or false", got=repr(value), where=where, do=f"e.g. {where}=true"))
        if key == "speed":
            _check_speed(value)
        least = _RUNTIME[key]
        is_automatic = key == "num_workers" and value == "auto"
        if least is None or is_automatic:
            continue
        kinds = (int, float) if key in ("checkpoint_minutes", "image_cache_gb") else int
        if not isinstance(value, kinds) or isinstance(value, bool) or value < least:
            raise ConfigError(
                explain(
                    expected=f"{'auto, or ' if key == 'num_workers' else ''}a {'whole ' if kinds is int else ''}number "
                    f">= {least}",
                    got=repr(value),
                    where=where,
                    do=f"e.g. {where}={max(least, 1)}",
                )
            )


def _check_speed(options: Any) -> None:
    for key, value in options.items() if isinstance(options, Mapping) else [("", options)]:
        where = f"runtime.speed.{key}"
        if key not in SPEED:
            raise ConfigError(
                explain(expected="a key of runtime.speed", got=repr(key), where=where, do=did_you_mean(key, SPEED))
            )
        if not isinstance(value, bool):
            raise ConfigError(explain(expected="true or false", got=repr(value), where=where, do=f"e.g. {where}=true"))
