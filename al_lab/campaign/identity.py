"""Which run a folder holds: a new one, one that goes on, or one that ``restart`` sets aside."""

import logging
import os
import platform
import shlex
import subprocess
import sys
import uuid
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from al_lab import __version__
from al_lab.config.load import config_difference, fingerprint, load_config
from al_lab.core.errors import ResumeError
from al_lab.core.files import folder_lock, write_json
from al_lab.core.record.identity import ENVIRONMENT, RunIdentity, read_identity
from al_lab.execution.cancel import cancel_submitted

log = logging.getLogger(__name__)

# What a run that was killed before its first stage may leave; nothing of it is worth keeping.
_BOOKKEEPING = frozenset({".lock", "run.log", "config.yaml", "report.html", ENVIRONMENT})


def begins_anew(config: Mapping[str, Any], run_dir: Path) -> bool:
    """Say whether what is in the folder has to make way.

    ``restart=again`` always asks for it; ``restart=true`` acts once: a run that was begun by a restart, and that this
    configuration can go on with, goes on.
    """
    asked = config.get("restart")
    if not asked or not run_dir.is_dir():
        return False
    begun = read_identity(run_dir)
    if asked == "again" or begun is None or not begun.get("restart"):
        return True
    try:
        is_another = bool(config_difference(load_config(run_dir), config))
    except ResumeError:  # it is written anew for a run of the same settings
        is_another = begun["fingerprint"] != fingerprint(config)
    if is_another:
        return True
    log.info("restart=true: the run here was begun by it and goes on (restart=again would set it aside, too)")
    return False


def set_aside(run_dir: Path) -> None:
    """End what the old run left in a queue and move its folder out of the way; nothing that was bought is deleted."""
    with folder_lock(run_dir):
        cancel_submitted(run_dir)
        if all(path.name in _BOOKKEEPING for path in run_dir.iterdir()):
            (run_dir / ENVIRONMENT).unlink(missing_ok=True)
            return
        number = 1
        while (target := run_dir.with_name(f"{run_dir.name}.before-restart-{number}")).exists():
            number += 1
        run_dir.rename(target)
    log.info("restart: the old run is now %s", target)


def identify(config: Mapping[str, Any], run_dir: Path) -> RunIdentity:
    """Return which run the folder holds; one that has no id yet, or was begun with other settings, gets one.

    Jobs that were submitted under other settings are ended; what they wrote does not count.
    """
    begun, now = read_identity(run_dir), fingerprint(config)
    if begun is None or begun["fingerprint"] != now:
        if begun is not None:
            cancel_submitted(run_dir)
        restart = bool(config.get("restart") or (begun and begun.get("restart")))
        begun = {"id": uuid.uuid4().hex[:16], "fingerprint": now, "restart": restart}
        write_json(run_dir / ENVIRONMENT, {"run": begun, **_environment()})
    return RunIdentity(str(run_dir), begun["id"], begun["fingerprint"])


def _environment() -> dict[str, Any]:
    """Describe the machine and the code, for whoever asks later where a number came from."""
    root = Path(__file__).resolve().parents[2]
    try:
        if not (root / ".git").exists():  # installed: the repository around it, if there is one, is somebody else's
            raise FileNotFoundError
        git = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(git, cwd=root, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = f"unknown, al_lab {__version__}"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "commit": commit,
        "command": shlex.join(sys.argv),
        "overrides": sys.argv[1:],
        "packages": _packages(),
    }


@cache
def _packages() -> dict[str, str]:
    """Return name and version of all that is installed; to read them takes longer than a small campaign's stage."""
    read = [d.metadata for d in metadata.distributions()]
    return dict(sorted({m["Name"]: m["Version"] for m in read if m["Name"]}.items()))
