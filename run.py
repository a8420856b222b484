"""Run an active-learning campaign, or go on with one: compose the configuration, check it, run what is left to do."""

import logging
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from al_lab.cli.command import run_command, start_log
from al_lab.config.load import prepare

log = logging.getLogger("al_lab")


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def campaign(cfg: DictConfig) -> dict[str, Any]:
    """Run one campaign; a sweep calls this once a job."""
    job = HydraConfig.get()
    start_log(f"{job.runtime.choices.strategy} seed{cfg.seed}" if job.mode.name == "MULTIRUN" else "")
    config, run_dir = prepare(cfg)  # a configuration that can't run stops here, before anything is created

    from al_lab.campaign.loop import run_campaign  # noqa: PLC0415 - torch takes seconds to import

    outcome = run_campaign(config, run_dir)
    log.info("%s: %s", outcome["status"], outcome.get("message") or run_dir)
    return outcome


if __name__ == "__main__":
    sys.exit(run_command(campaign))
