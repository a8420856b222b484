"""How a command ends: its log on the screen, one sentence for what went wrong, an exit status."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from al_lab import sweep
from al_lab.config import readable
from al_lab.core.errors import ConfigError, DataError, LabError, ResumeError, WeightsError

# Mended by changing the command or a file; everything else that fails ends with 1.
_OF_THE_USER = (ConfigError, DataError, ResumeError, WeightsError)


def start_log(label: str = "") -> None:
    """Show the log on the screen, each line marked with ``label`` where several jobs share one screen."""
    mark = f"[{label}] " if label else ""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {mark}%(message)s", datefmt="%H:%M:%S", force=True)


def run_command(main: Callable[[], Any]) -> int:
    """Run a ``hydra.main`` function and return the exit status: 0, 1 for a failure, 2 for a command that can't run.

    An error of ours, or of the configuration, is one sentence without a traceback; HYDRA_FULL_ERROR=1 shows the traceback.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra would print and exit by itself
    status = 0
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: the same command goes on where this one stopped\n")
        status = 130
    except Exception as error:
        sentence = readable(error, [a for a in sys.argv[1:] if "=" in a])
        if sentence is None or wants_traceback:
            raise
        sys.stderr.write(sentence + "\n")
        status = 2 if isinstance(error, _OF_THE_USER) or not isinstance(error, LabError) else 1
    finally:
        failed = sweep.finish()
    return status or (1 if failed else 0)
