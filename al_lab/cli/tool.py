"""What the commands beside a campaign share: a dataset by overrides, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
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


def wrote(write: Callable[[], Path]) -> int:
    """Write a page and print where it is; 2 if it can't be written, with one sentence that says why."""
    from al_lab.core.disk import disk_error
    from al_lab.core.errors import LabError

    try:
        path = write()
    except (LabError, OSError) as error:
        sys.stderr.write(f"error: {disk_error(error) if isinstance(error, OSError) else error}\n")
        return 2
    sys.stdout.write(f"{path}\n")
    return 0


def parser_of(name: str, about: str | None, examples: str) -> argparse.ArgumentParser:
    """Return the parser of ``al-lab <name>``; its commands come from `add_command`."""
    return argparse.ArgumentParser(
        prog=f"al-lab {name}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    about: str,
    overrides: str = "as for a campaign; without any: the default dataset",
) -> argparse.ArgumentParser:
    """Add a command that works on a dataset, named by overrides, with the user's own yamls where there are any."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=about)
    add_overrides(command, overrides)
    command.set_defaults(run=run)
    return command


def add_overrides(command: argparse.ArgumentParser, overrides: str) -> None:
    """Let a command take ``key=value``, and the user's own yamls."""
    command.add_argument("overrides", nargs="*", metavar="dataset=…", help=overrides)
    command.add_argument("--config-dir", "-cd", type=Path, help="your own yamls, as for a campaign")


def add_target(command: argparse.ArgumentParser) -> None:
    """Let a command write a dataset in another format."""
    formats = "voc, coco, yolo, cvat, label_studio, labelme; masks for label maps"
    command.add_argument("--to", required=True, metavar="FORMAT", help=formats)
    command.add_argument("--out", type=Path, required=True, help="a new folder")
    command.add_argument("--images", choices=("link", "copy", "none"), default="link", help="default: link")


def composed(args: argparse.Namespace) -> dict[str, Any]:
    """Compose the configuration that a command's overrides describe.

    Raises:
        ConfigError: for a key that is none.
    """
    from al_lab.config.checks import check_root
    from al_lab.config.load import ROOT_KEYS, compose

    own = [f"hydra.searchpath=[file://{args.config_dir.resolve()}]"] if args.config_dir else []
    config = compose([*own, *args.overrides])
    check_root(config, ROOT_KEYS)
    return config


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
