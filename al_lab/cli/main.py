"""The command ``al-lab``: run a campaign or go on with one; ``al-lab report``, ``data``, ``select`` … stand beside it.

Nothing heavy is imported here: the first line is on the screen before anything that takes seconds.
"""

import importlib
import os
import sys

from al_lab.cli.waiting import first_line

# The first word of a command that runs no campaign -> where its ``main(arguments)`` is.
_BESIDE = {word: f"al_lab.cli.{word}" for word in ("data", "doctor", "labels", "estimate", "select")}
_BESIDE |= {word: f"al_lab.cli.pages.{word}" for word in ("report", "leaderboard", "lint")}
_BESIDE["tune-density"] = "al_lab.cli.tuning.density"


_PIPE_CLOSED = 128 + 13  # as of a program that SIGPIPE ended


def main() -> int:
    """Run what the command line says and return its exit status.

    Classes in the folder where the command is given are found by the ``_target_`` of a configuration; what is installed
    comes first, so that a file named as a library does not hide it.
    """
    if os.getcwd() not in map(os.path.abspath, sys.path):
        sys.path.append(os.getcwd())
    # Figures are files. A notebook hands its own backend on to every command, which need not be installed here.
    os.environ["MPLBACKEND"] = "agg"
    try:
        status = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # al-lab … | head: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        return _PIPE_CLOSED
    return status


def _run() -> int:
    if "--estimate" in sys.argv[1:]:  # of this very campaign
        sys.argv[1:] = ["estimate", *(word for word in sys.argv[1:] if word != "--estimate")]
    if sys.argv[1:] and sys.argv[1] in _BESIDE:
        return int(importlib.import_module(_BESIDE[sys.argv[1]]).main(sys.argv[2:]))
    first_line(sys.argv[1:])
    from al_lab.cli.campaign import campaign  # noqa: PLC0415 - Hydra takes a second, ten on a busy machine
    from al_lab.cli.command import run_command  # noqa: PLC0415

    return run_command(campaign)


if __name__ == "__main__":
    sys.exit(main())
