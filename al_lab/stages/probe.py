"""What the device is on which jobs run, asked before the first of them."""

from collections.abc import Mapping
from typing import Any

from al_lab.execution.machine import check_gpu
from al_lab.learners.device.precision import best_precision, describe
from al_lab.learners.device.speed import check_compiler
from al_lab.learners.trainer import this_device


def device() -> dict[str, Any]:
    """Return what the device of this process is called, and the precision that ``trainer.precision=auto`` is on it.

    Raises:
        ConfigError: if this process was given a GPU that torch can't use.
    """
    check_gpu()
    found = this_device()
    return {"device": describe(found), "precision": best_precision(found)}


def check_speed(config: Mapping[str, Any]) -> None:
    """Refuse ``runtime.speed.compile`` where trainings run on this machine and it has no compiler.

    Raises:
        ConfigError: naming what is missing.
    """
    if (config["runtime"].get("speed") or {}).get("compile"):
        check_compiler()
