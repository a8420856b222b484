"""GPUs of this machine are lent: campaigns of a sweep, and of other terminals, do not meet on a card by chance."""

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

from al_lab.core.disk import disk_error
from al_lab.core.errors import ConfigError, explain
from al_lab.execution.machine import card_ids

_CARD = -1  # the place that is the card as a whole


class Cards:
    """The GPUs of one pool of workers, of which it holds those that work.

    A card that works is locked (``flock``) in a file of the user's runtime folder. Workers inherit the open file, so
    that the lock of a process that was killed lasts exactly as long as something of it is still on the card; nothing
    stale has to be looked for. A pool takes a card for itself (an exclusive lock), or as one of ``share`` pools (a
    shared lock, and an exclusive one on one of so many places).

    Args:
        names: as CUDA_VISIBLE_DEVICES knows them; empty: there are none, and nobody waits.
        workers: at a time in the pool; more than cards share them evenly.
        share: pools of this user that may be on a card at once; None: whoever gave the cards (a cluster) sees to it.
        folder: of the lock files; the user's runtime folder by default.
    """

    def __init__(
        self, names: Sequence[str], workers: int = 1, share: int | None = 1, folder: Path | None = None
    ) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.per_card = -(-workers // len(self.names)) if names else workers
        self.share = share
        self.purpose = ""  # what other pools read when they wait
        self._folder = folder
        self._files: dict[tuple[str, int], int] = {}  # card and place -> descriptor, kept open: workers hold it, too
        self._users = dict.fromkeys(self.names, 0)
        self._alone: set[str] = set()  # cards that one job has for itself
        self._place: dict[str, int] = {}  # card -> which of its places is ours

    def take(
        self, count: int, first: Sequence[str] = (), alone: bool = False, closed: Collection[str] = ()
    ) -> list[str] | None:
        """Take cards for one group of workers: those of ``first`` if they are free, else the emptiest.

        Args:
            count: different cards.
            first: where the group's processes are warm.
            alone: nobody else is to be on them, of this pool either.
            closed: cards that are being cleared.

        Returns:
            The cards, an empty list where there are none at all, None if not so many are free now.
        """
        if not self.names:
            return []
        limit, closed = (1 if alone else self.per_card), {*closed, *self._alone}
        order = [*first, *sorted((n for n in self.names if n not in first), key=self._users.__getitem__)]
        taken: list[str] = []
        for name in order:
            if len(taken) < count and self._users[name] < limit and name not in closed and self._lock(name, alone):
                self._users[name] += 1
                taken.append(name)
        if len(taken) < count:  # kept, they might be what another pool waits for, which keeps what this one needs
            self.give_back(taken)
            return None
        if alone:
            self._alone |= set(taken)
        return taken

    def give_back(self, names: Sequence[str]) -> None:
        """Let go of cards that `take` gave."""
        for name in names:
            self._users[name] -= 1
            if not self._users[name]:
                self._unlock(name)
                self._alone.discard(name)

    def descriptors(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the open lock files of these cards, for workers to hold as well."""
        return tuple(d for (name, _), d in self._files.items() if name in names)

    def holders(self) -> str:
        """Say who is on the cards that this pool does not have."""
        return ", ".join(f"GPU {name}: {self._holder(name)}" for name in self.names if not self._users[name])

    def close(self) -> None:
        """Let go of everything."""
        for name in self._users:
            if self._users[name]:
                self._unlock(name)
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files, self._place, self._alone = {}, {}, set()
        self._users = dict.fromkeys(self.names, 0)

    def _lock(self, name: str, alone: bool) -> bool:
        if self.share is None or self._users[name]:
            return True
        if self.share == 1 or alone:
            is_ours = self._flock(name, _CARD, fcntl.LOCK_EX)
        elif is_ours := self._flock(name, _CARD, fcntl.LOCK_SH):
            places = (k for k in range(self.share) if self._flock(name, k, fcntl.LOCK_EX))
            self._place[name] = next(places, _CARD)
            is_ours = self._place[name] != _CARD
            if not is_ours:
                self._unlock(name)
        if is_ours:
            self._sign(name, json.dumps({"pid": os.getpid(), "what": self.purpose}))
        return is_ours

    def _unlock(self, name: str) -> None:
        if self.share is None:
            return
        for place in {self._place.pop(name, _CARD), _CARD}:
            self._flock(name, place, fcntl.LOCK_UN)

    def _flock(self, name: str, place: int, how: int) -> bool:
        if (name, place) not in self._files:
            self._files[name, place] = self._open(name, place)
        try:
            fcntl.flock(self._files[name, place], how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _sign(self, name: str, text: str) -> None:
        os.truncate(self._files[name, _CARD], 0)
        os.pwrite(self._files[name, _CARD], text.encode(), 0)

    def _holder(self, name: str) -> str:
        try:
            said = json.loads(os.pread(self._files[name, _CARD], 4096, 0))
            return f"process {said['pid']}" + (f" ({said['what']})" if said["what"] else "")
        except (KeyError, ValueError, TypeError):
            return "another process"

    @cached_property
    def _ids(self) -> dict[str, str]:
        return card_ids(self.names)

    def _open(self, name: str, place: int) -> int:
        folder = self._folder or runtime_folder()
        # by its UUID, so that two ways of naming a card are one
        word = self._ids[name].replace("/", "-") + (f".{place}" if place != _CARD else "")
        file = folder / f"{word}.lock"
        try:
            return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise disk_error(error, file) from error


def runtime_folder() -> Path:
    """Return the folder of this user's locks on this machine; it is made if need be.

    ``$XDG_RUNTIME_DIR``, or where it usually is, so that a shell without the variable comes to the same folder, else
    one of the user's in the folder for temporary files.

    Raises:
        ConfigError: if somebody else owns it.
        LabError: if it can't be made.
    """
    user = os.getuid()
    usual = [os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{user}"]
    base = next((Path(p) for p in usual if p and Path(p).is_dir() and os.access(p, os.W_OK)), None)
    folder = base / "al_lab" if base else Path(tempfile.gettempdir()) / f"al_lab-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != user:
            raise ConfigError(
                explain(
                    expected="a folder of this user for the locks of its GPUs",
                    got=f"one of user {status.st_uid}" if stat.S_ISDIR(status.st_mode) else "no folder",
                    where=str(folder),
                    do="set XDG_RUNTIME_DIR to a folder of your own, the same one in every terminal",
                )
            )
        locks = folder / "gpus"
        locks.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
    return locks
