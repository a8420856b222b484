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
from tests.mutants.room import Baseline, baseline, digests, killed_by, warm_up

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
        """Draw from each package and kind in proportion; a mutant's luck hangs on its key alone, not on its
        neighbors."""
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


def judge(sample: Sample, folder: Path) -> None:
    """Judge what has no verdict yet."""
    folder.mkdir(parents=True, exist_ok=True)
    known = results(folder)
    left = [m for m in sample.mutants if m.key not in known]
    rooms = {package: _baseline(package, folder) for package in sorted({m.package for m in left})}
    warm_up(list(dict.fromkeys(name for room in rooms.values() for name in room.modules)))
    for mutant in left:
        room = rooms[mutant.package]
        tests = room.tests_for(mutant)
        # A mutant that loops for ever is noticed, too; the slack is for a machine that others use.
        _judge_one(mutant, tests, 60 + 6 * sum(room.seconds[t] for t in tests), folder)


def judge_survivors(sample: Sample, folder: Path) -> None:
    """Judge the survivors again, by the test files that are new or changed since they survived."""
    known = results(folder)
    left = [m for m in sample.mutants if known.get(m.key, {}).get("verdict") == "survived"]
    rooms = {p: Baseline(**json.loads(_kept(p, folder).read_text())) for p in sorted({m.package for m in left})}
    warm_up(list(dict.fromkeys(name for room in rooms.values() for name in room.modules)))
    for mutant in left:
        tests = rooms[mutant.package].changed_files(mutant.package)
        if tests:
            _judge_one(mutant, tests, 60 + 6 * sum(rooms[mutant.package].seconds.values()), folder)


def _judge_one(mutant: Mutant, tests: list[str], limit: float, folder: Path) -> None:
    start = time.monotonic()
    verdict, by = killed_by(mutant, tests, limit)
    row = asdict(mutant) | {"verdict": verdict, "by": by, "tests": len(tests)}
    with (folder / "results.jsonl").open("a") as stream:
        stream.write(json.dumps(row | {"seconds": round(time.monotonic() - start, 2)}) + "\n")


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


def _kept(package: str, folder: Path) -> Path:
    return folder / f"baseline_{package.replace('/', '_')}.json"


def _baseline(package: str, folder: Path) -> Baseline:
    """Return what a room's tests execute, remembered as long as neither they nor the package change."""
    source = hashlib.sha256()
    for path in sorted((ROOT / "al_lab" / package).rglob("*.py")):
        source.update(path.read_bytes())
    kept = _kept(package, folder)
    if kept.is_file():
        found = Baseline(**json.loads(kept.read_text()))
        if (found.source, found.digests) == (source.hexdigest(), digests(package)):
            return found
    found = baseline(package, _BASELINE_SECONDS)
    found.source = source.hexdigest()
    fresh = kept.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(found)))
    fresh.replace(kept)
    return found
