"""A sample of mutants, judged one after the other; what is judged stays judged."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.mutants.catalog import PACKAGES, ROOT, Mutant, catalog
from tests.mutants.report import table
from tests.mutants.room import Baseline, baseline, killed_by, warm_up

_BASELINE_SECONDS = 1800.0


@dataclass(frozen=True)
class Sample:
    """Mutants to judge, in an order in which every part is a sample too.

    Attributes:
        mutants: the sample.
        totals: package to the number of all its mutants.
    """

    mutants: tuple[Mutant, ...]
    totals: dict[str, int]

    @classmethod
    def draw(cls, size: int, seed: int, packages: Sequence[str] = PACKAGES) -> "Sample":
        """Draw from each package and kind in proportion; a mutant's luck hangs on its key alone, not on its neighbors."""
        strata = defaultdict[tuple[str, str], list[Mutant]](list)
        totals = {}
        for package in packages:
            mutants = catalog(package)
            totals[package] = len(mutants)
            for mutant in mutants:
                strata[package, mutant.kind].append(mutant)
        total = sum(totals.values())
        shares = {stratum: size * len(found) / total for stratum, found in strata.items()}
        counts = {stratum: int(share) for stratum, share in shares.items()}
        for stratum in sorted(shares, key=lambda s: (counts[s] - shares[s], s))[: size - sum(counts.values())]:
            counts[stratum] += 1

        def luck(mutant: Mutant) -> str:
            return hashlib.sha256(f"{seed}\0{mutant.key}".encode()).hexdigest()

        drawn = [m for stratum, found in strata.items() for m in sorted(found, key=luck)[: counts[stratum]]]
        return cls(tuple(sorted(drawn, key=luck)), totals)


def judge(sample: Sample, folder: Path, *, again: bool = False) -> None:
    """Judge what has no verdict yet; with ``again``, also what survived earlier tests."""
    folder.mkdir(parents=True, exist_ok=True)
    known = results(folder)
    left = [m for m in sample.mutants if m.key not in known or (again and known[m.key]["verdict"] == "survived")]
    rooms = {package: _baseline(package, folder) for package in sorted({m.package for m in left})}
    warm_up(list(dict.fromkeys(name for room in rooms.values() for name in room.modules)))
    with (folder / "results.jsonl").open("a") as stream:
        for mutant in left:
            tests = rooms[mutant.package].tests_for(mutant)
            start = time.monotonic()
            # A mutant that loops for ever is noticed, too; the slack is for a machine that others use.
            limit = 60 + 6 * sum(rooms[mutant.package].seconds[t] for t in tests)
            verdict, by = killed_by(mutant, tests, limit)
            row = asdict(mutant) | {"verdict": verdict, "by": by, "tests": len(tests)}
            stream.write(json.dumps(row | {"seconds": round(time.monotonic() - start, 2)}) + "\n")
            stream.flush()


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the last verdict of each mutant."""
    path = folder / "results.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:  # cut short by a kill
            continue
    return {row["key"]: row for row in rows}


def show(sample: Sample, folder: Path) -> str:
    """Return what is known as Markdown."""
    return table(sample.mutants, results(folder), sample.totals)


def _baseline(package: str, folder: Path) -> Baseline:
    """Return what a room's tests execute, remembered as long as neither they nor the package change."""
    digest = hashlib.sha256()
    for top in (ROOT / "al_lab" / package, ROOT / "tests" / package):
        for path in sorted(top.rglob("*.py")):
            digest.update(path.read_bytes())
    kept = folder / f"baseline_{package.replace('/', '_')}_{digest.hexdigest()[:12]}.json"
    if not kept.is_file():
        found = baseline(package, folder, _BASELINE_SECONDS)
        kept.write_text(json.dumps(asdict(found)))
    return Baseline(**json.loads(kept.read_text()))
