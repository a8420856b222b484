"""What the commands beside a campaign share: a dataset by overrides, and how they end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def run(args: argparse.Namespace) -> int:
    """Run a parsed command, ``args.run``; 2 if it can't run, with one sentence that says why."""
    from al_lab.cli.command import start_log
    from al_lab.cli.mistakes import readable

    start_log()
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: the same command goes on where this one stopped\n")
        return 130
    except Exception as error:
        sentence = readable(error, getattr(args, "overrides", ()))
        if sentence is None:
            raise
        sys.stderr.write(sentence + "\n")
        return 2


def own_configurations(command: argparse.ArgumentParser) -> None:
    """Let a command take a folder of the user's own yamls."""
    command.add_argument("--config-dir", "-cd", type=Path, help="your own yamls, as for a campaign")


def composed(args: argparse.Namespace) -> dict[str, Any]:
    """Compose the configuration that a command's overrides describe."""
    from al_lab.config.load import compose

    own = [f"hydra.searchpath=[file://{args.config_dir.resolve()}]"] if args.config_dir else []
    return compose([*own, *args.overrides])


def dataset_of(args: argparse.Namespace) -> Any:
    """Open the dataset that a command's overrides describe.

    Raises:
        LabError: if it can't be opened; a wrong key is named as a campaign names it.
    """
    from al_lab.config.build import build
    from al_lab.config.checks import check_targets

    node = composed(args)["dataset"]
    check_targets({"dataset": node})
    return build(node)
