"""How a command ends: its log on the screen, one sentence for what went wrong, an exit status."""

import logging
import os
import string
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from al_lab.cli import sweep
from al_lab.cli.arguments import arranged
from al_lab.cli.mistakes import readable
from al_lab.config.options import CONF_DIR
from al_lab.core.errors import ConfigError, DataError, Interrupted, LabError, ResumeError, WeightsError
from al_lab.execution.stop import end_on_sigterm

# Mended by changing the command or a file; everything else that fails ends with 1.
_OF_THE_USER = (ConfigError, DataError, ResumeError, WeightsError)
_HELP_GROUPS = (
    "strategy",
    "dataset",
    "protocol",
    "detector",
    "segmenter",
    "objective",
    "budget",
    "trainer",
    "oracle",
    "executor",
    "runtime",
    "tracker",
    "debug",
)
_WIDTH = 118


def start_log(label: str = "") -> None:
    """Show the log on the screen, each line marked with ``label`` where several jobs share one screen."""
    mark = f"[{label}] " if label else ""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {mark}%(message)s", datefmt="%H:%M:%S", force=True)


def help_page(conf_dir: Path = CONF_DIR) -> str:
    """Return ``conf/help.txt`` with the groups, options and recipes that ``conf_dir`` has."""
    groups = []
    for group in _HELP_GROUPS:
        options = sorted(p.stem for p in (conf_dir / group).glob("*.yaml"))
        if options:
            groups.append(
                textwrap.fill(
                    " ".join(options),
                    _WIDTH,
                    initial_indent=f"  {group:<10} ",
                    subsequent_indent=" " * 13,
                    break_on_hyphens=False,
                )
            )
    recipes = []
    for path in sorted((conf_dir / "experiment").glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        about = next((line.lstrip("# ") for line in lines if line.startswith("# ") and not line.startswith("# @")), "")
        name = f"  {path.stem:<20} "
        recipes.append(name + textwrap.shorten(about, _WIDTH - len(name), placeholder=" …"))
    text = (conf_dir / "help.txt").read_text(encoding="utf-8")
    page = string.Template(text).substitute(groups="\n".join(groups), recipes="\n".join(recipes) or "  (none)")
    return page if Path(sys.argv[0]).name == "run.py" else page.replace("python run.py", "al-lab")


def run_command(main: Callable[[], Any]) -> int:
    """Run a ``hydra.main`` function and return the exit status: 0, 1 for a failure, 2 for a command that can't run.

    An error of ours, or of the configuration, is one sentence without a traceback; HYDRA_FULL_ERROR=1 shows the
    traceback.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):  # Hydra's own takes two seconds to list the groups
        sys.stdout.write(help_page())
        return 0
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra would print and exit by itself
    status = 0
    end_on_sigterm()
    try:
        sys.argv[1:] = arranged(sys.argv[1:])
        main()
    except (KeyboardInterrupt, Interrupted) as stop:
        sys.stderr.write("\ninterrupted: the same command goes on where this one stopped\n")
        status = 130 if isinstance(stop, KeyboardInterrupt) else 143
    except Exception as error:
        sentence = readable(error, sys.argv[1:])
        if sentence is None or wants_traceback:
            raise
        sys.stderr.write(sentence + "\n")
        status = 2 if isinstance(error, _OF_THE_USER) or not isinstance(error, LabError) else 1
    finally:
        failed = sweep.finish()
    return status or (1 if failed else 0)
