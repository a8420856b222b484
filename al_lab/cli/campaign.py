"""One campaign as a command: compose the configuration, check it, run what is left to do."""

import logging
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from al_lab.cli.command import start_log
from al_lab.cli.waiting import said_while
from al_lab.config.load import prepare
from al_lab.config.options import CONF_DIR

log = logging.getLogger("al_lab")


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def campaign(cfg: DictConfig) -> dict[str, Any]:
    """Run one campaign: compose the configuration, check it, run what is left to do; a sweep calls this once a job."""
    job = HydraConfig.get()
    is_sweep = job.mode is not None and job.mode.name == "MULTIRUN"
    start_log(f"{job.runtime.choices['strategy']} seed{cfg.seed}" if is_sweep else "")
    parts, run_dir = prepare(cfg)  # a configuration that can't run stops here, before anything is created
    log.info("run folder: %s", run_dir)
    with said_while("loading torch"):
        from al_lab.campaign.loop import run_campaign  # noqa: PLC0415 - seconds, and minutes on a busy machine

    outcome = run_campaign(parts, run_dir)
    log.info("%s: %s", outcome["status"], outcome.get("message") or run_dir)
    return outcome
