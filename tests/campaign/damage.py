"""Every file of a run folder, harmed in every way: does the same command heal it, name it, or change a result silently?

``python -m tests.campaign.damage`` writes the table ``docs/reliability_damage.md``.
"""

import collections
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import LabError
from al_lab.core.record.ledger import Ledger
from tests.campaign.kills import facts
from tests.campaign.runs import CONFIGS
from tests.campaign.test_resume import Killed

TASKS = {"detection": "pseudo", "pixels": "pixels"}
STATES = {"under way": "01/score", "finished": None}
_NO_RESULTS = {".lock", "run.log", "report.html"}  # the page has a test of its own
TABLE = Path(__file__).parents[2] / "docs" / "reliability_damage.md"


def flip(data: bytes) -> bytes:
    """Return the bytes with one bit of the middle one changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else b"\1"


HARMS: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "deleted": lambda own, other: None,
    "emptied": lambda own, other: b"",
    "cut": lambda own, other: own[: len(own) // 2],
    "a byte flipped": lambda own, other: flip(own),
    "replaced": lambda own, other: other,
}


class Matrix:
    """Runs of one task, whole and stopped on the way, and what becomes of them when a file is harmed."""

    def __init__(self, task: str, folder: Path) -> None:
        self.make, self.folder = CONFIGS[TASKS[task]], folder
        run_campaign(self.make(), folder / "finished" / "run")
        self.whole = facts(folder / "finished" / "run")
        run_campaign(self.make() | {"seed": 1, "split_seed": 1}, folder / "other" / "run")
        real = Ledger.commit

        def commit(ledger: Ledger, cycle: int, stage: str, **entry: Any) -> None:
            real(ledger, cycle, stage, **entry)
            if Ledger.key(cycle, stage) == STATES["under way"]:
                raise Killed

        with mock.patch.object(Ledger, "commit", commit), contextlib.suppress(Killed):
            run_campaign(self.make(), folder / "under way" / "run")

    def cases(self, state: str) -> Iterator[tuple[str, str]]:
        """Yield every (file, harm)."""
        run_dir = self.folder / state / "run"
        for path in sorted(p for p in run_dir.rglob("*") if p.is_file() and p.name not in _NO_RESULTS):
            for harm in HARMS:
                yield str(path.relative_to(run_dir)), harm

    def verdict(self, state: str, name: str, harm: str) -> str:
        """Harm one file, give the same command again, and say what came of it: same, named, or what went wrong."""
        run_dir = self.folder / "harmed" / "run"
        shutil.rmtree(run_dir, ignore_errors=True)
        shutil.copytree(self.folder / state / "run", run_dir)
        path = run_dir / name
        data = HARMS[harm](path.read_bytes(), self._another(name))
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        heard = _Heard()
        logging.getLogger().addHandler(heard)
        try:
            heard.lines.append(run_campaign(self.make(), run_dir)["message"])
        except LabError as error:
            return "named" if path.name in str(error) else f"an error that does not name it: {error}"
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            return f"raw {type(error).__name__}: {error}"
        finally:
            logging.getLogger().removeHandler(heard)
        now = facts(run_dir)
        different = {n for n in {*now, *self.whole} if now.get(n) != self.whole.get(n)}
        if different - {name}:
            return f"silently different: {sorted(different)[:3]}"
        if name in different:
            return "named" if any(path.name in line for line in heard.lines) else "silently different itself"
        return "same"

    def _another(self, name: str) -> bytes:
        """Return the content of a valid file of the same kind: of a run with other seeds, or of another cycle."""
        own = self.folder / "finished" / "run" / name
        places = [self.folder / "other" / "run" / name, *sorted(own.parent.glob(f"*{own.suffix}"))]
        places += sorted(own.parents[1].glob(f"*/{own.name}"))
        mine = (own if own.is_file() else self.folder / "under way" / "run" / name).read_bytes()
        return next((p.read_bytes() for p in places if p.is_file() and p.read_bytes() != mine), b"{}\n")


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def quiet() -> "mock._patch_dict":
    """Leave out what takes time and is not looked at."""
    return mock.patch.multiple("al_lab.campaign.publish", _write_report=lambda run_dir, folders: None)


def write_table(step: int = 1) -> str:
    """Try all cases (or every ``step``-th), write the table and return it."""
    lines = [
        "# What a damaged run folder does",
        "",
        "Every file of a run that is under way (before the second query) and of a finished one is harmed in "
        "five ways, one "
        "at a time, and the same command is given again. *Same*: the run ends in the files of an undisturbed one. "
        "*Named*: a sentence or a line of the log names the file, and nothing else differs. `report.html` is "
        "looked at in "
        "tests of its own; `run.log` and `.lock` say nothing; of `environment.json` and `train*` (a job's own "
        "record and "
        "log) only is asked that harm to them changes nothing else. Written by `python -m tests.campaign.damage`.",
        "",
        "| task | run | harm | files | same | named | silent or raw |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    bad = []
    with tempfile.TemporaryDirectory() as folder, quiet(), mock.patch("os.fsync"):
        for task in TASKS:
            matrix = Matrix(task, Path(folder) / task)
            for state in STATES:
                counts: dict[str, collections.Counter[str]] = {harm: collections.Counter() for harm in HARMS}
                for name, harm in list(matrix.cases(state))[::step]:
                    verdict = matrix.verdict(state, name, harm)
                    counts[harm][verdict if verdict in ("same", "named") else "bad"] += 1
                    if verdict not in ("same", "named"):
                        bad.append(f"- {task}, {state}: {name} {harm}: {verdict}")
                lines += [
                    f"| {task} | {state} | {harm} | {c.total()} | {c['same']} | {c['named']} | {c['bad']} |"
                    for harm, c in counts.items()
                ]
    return "\n".join([*lines, *(["", "Silent or raw:", "", *bad] if bad else [])]) + "\n"


if __name__ == "__main__":
    logging.disable(logging.INFO)
    logging.getLogger().addHandler(logging.NullHandler())
    text = write_table(int(os.environ.get("AL_LAB_DAMAGE_STEP", "1")))
    Path(os.environ.get("OUT", TABLE)).write_text(text, encoding="utf-8")
