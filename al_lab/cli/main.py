"""The command ``al-lab``: run a campaign or go on with one; ``al-lab report``, ``data`` and ``doctor`` stand beside it."""

import importlib
import logging
import os
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from al_lab.cli.command import run_command, start_log
from al_lab.config.load import CONF_DIR, prepare

log = logging.getLogger("al_lab")
# The first word of a command that runs no campaign -> where its ``main(arguments)`` is.
_BESIDE = {word: f"al_lab.cli.{word}" for word in ("report", "data", "doctor", "labels")}


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def campaign(cfg: DictConfig) -> dict[str, Any]:
    """Run one campaign: compose the configuration, check it, run what is left to do; a sweep calls this once a job."""
    job = HydraConfig.get()
    start_log(f"{job.runtime.choices.strategy} seed{cfg.seed}" if job.mode.name == "MULTIRUN" else "")
    parts, run_dir = prepare(cfg)  # a configuration that can't run stops here, before anything is created

    from al_lab.campaign.loop import run_campaign  # noqa: PLC0415 - torch takes seconds to import

    outcome = run_campaign(parts, run_dir)
    log.info("%s: %s", outcome["status"], outcome.get("message") or run_dir)
    return outcome


def main() -> int:
    """Run what the command line says and return its exit status.

    Classes in the folder where the command is given are found by the ``_target_`` of a configuration; what is installed
    comes first, so that a file named as a library does not hide it.
    """
    if os.getcwd() not in map(os.path.abspath, sys.path):
        sys.path.append(os.getcwd())
    if sys.argv[1:] and sys.argv[1] in _BESIDE:
        return int(importlib.import_module(_BESIDE[sys.argv[1]]).main(sys.argv[2:]))
    return run_command(campaign)
