"""``trainer.precision=auto``: decided once, on the device that will train, and kept as long as the run goes on."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.campaign.assemble import trains_here
from al_lab.config.load import load_config
from al_lab.config.parts import Parts
from al_lab.core.errors import ResumeError
from al_lab.execution.job import Job
from al_lab.execution.machine import visible_gpus

log = logging.getLogger(__name__)

_PROBE = "device.json"  # of a run that was begun with auto: the device's name and its precision


def as_begun(config: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return a configuration with the precision that the folder's run was begun with, where it asks for ``auto``.

    On another device a training in it goes on, or is refused there with a sentence; it never changes to another one.
    """
    if not _is_open(config):
        return dict(config)
    try:
        begun = (load_config(run_dir).get("trainer") or {}).get("precision", "auto")
    except ResumeError:  # there is no run, or its configuration is lost; then the probe's result may be left
        return dict(config)
    return _with(config, begun)


def decide(parts: Parts, run_dir: Path) -> None:
    """Let a job say what ``auto`` is where the trainings will run, and write it into the parts' configuration.

    Without a GPU on the machine that trains it is 32, and nobody is asked. The answer stays in the run folder.

    Raises:
        JobError: if the device can't be asked.
    """
    if not _is_open(parts.config):
        return
    answer: dict[str, Any] = {"device": "a CPU", "precision": 32}
    if not trains_here(parts.config) or visible_gpus():
        try:
            (answer,) = parts.executor.run([Job("ask the device", "al_lab.stages.probe:device", {}, run_dir / _PROBE)])
        except BaseException:
            parts.executor.close()
            raise
    log.info("trainer.precision=auto is %s, for %s; this run keeps it", answer["precision"], answer["device"])
    parts.change(_with(parts.config, answer["precision"]))


def _is_open(config: Mapping[str, Any]) -> bool:
    return (config.get("trainer") or {}).get("precision") == "auto"


def _with(config: Mapping[str, Any], precision: int | str) -> dict[str, Any]:
    return {**config, "trainer": {**config["trainer"], "precision": precision}}
