"""Which run a folder holds: it has an id of its own, and what was begun for another run may not write there."""

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

from al_lab.core.errors import JobError, explain

ENVIRONMENT = "environment.json"  # in a run's folder; its key "run" is the identity


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """One run in one folder.

    Attributes:
        folder: the run's folder.
        id: drawn when the run was begun; beginning anew draws another.
        fingerprint: of the settings it was begun with.
    """

    folder: str
    id: str
    fingerprint: str

    @property
    def mark(self) -> dict[str, str]:
        """What a result carries of it; not the folder, which may be moved as a whole."""
        return {"id": self.id, "fingerprint": self.fingerprint}

    def check(self) -> None:
        """Refuse to go on in a folder that holds another run by now.

        Raises:
            JobError: if it does.
        """
        found = read_identity(Path(self.folder))
        if found is not None and found["id"] == self.id and found["fingerprint"] == self.fingerprint:
            return
        where = Path(self.folder)
        if found is not None:
            got = f"that of run {found['id']}"
            do = "nothing is to be done: this job's run was set aside, and the one that is here is left alone"
        elif where.is_dir():
            got, do = f"no run named in {ENVIRONMENT}", "run the same command again"
        else:
            host = socket.gethostname()
            got = f"no such folder on machine {host}"
            do = (
                f"machines that run jobs have to see the run folder at this path: mount its disk on {host}, or take "
                "that machine out of the cluster; the same command then goes on"
            )
        raise JobError(explain(expected=f"the folder of run {self.id}", got=got, where=self.folder, do=do))


def read_identity(run_dir: Path) -> dict[str, Any] | None:
    """Return what `RunIdentity` is made of, and how the run was begun (``restart``); None if that can't be told."""
    try:
        run = json.loads((run_dir / ENVIRONMENT).read_text())["run"]
        is_whole = all(isinstance(run[key], str) and run[key] for key in ("id", "fingerprint"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return dict(run) if is_whole else None
