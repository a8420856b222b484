"""The whole bed: pools x seeds, each fact kept as soon as it is known, so that a command that was cut goes on."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from al_lab.benchmarks.mgral_bed.arms import ARMS, Bought, Mgral
from al_lab.benchmarks.mgral_bed.links import Fact, links
from al_lab.benchmarks.mgral_bed.pools import load_bed
from al_lab.benchmarks.mgral_bed.unit import Size, Unit
from al_lab.core.files import read_json, write_json, write_text
from al_lab.core.record.csv_file import csv_text
from al_lab.strategies.detection._mgral.predictor.leave_one_out import rank_correlation

COLUMNS = ("pool", "seed", "link", "name", "value")
SMOKE = Size(initial=40, budget=20, rows=8, num_clusters=8, iterations=40, random=4, trainings=2)


class Results:
    """What is known so far, in a folder: one file a pool and seed; the sizes are part of its name."""

    def __init__(self, folder: Path, size: Size) -> None:
        digest = hashlib.sha256(json.dumps(asdict(size), sort_keys=True).encode()).hexdigest()[:8]
        self.folder = folder / digest

    def path(self, pool: str, seed: int) -> Path:
        """Return the file of a pool and a seed."""
        return self.folder / f"{pool}_seed{seed}.json"

    def read(self, pool: str, seed: int) -> dict[str, list[Fact]]:
        """Return part -> its facts: ``links``, and each arm."""
        path = self.path(pool, seed)
        return {k: [(a, b, c) for a, b, c in v] for k, v in read_json(path).items()} if path.is_file() else {}

    def write(self, pool: str, seed: int, known: dict[str, list[Fact]]) -> None:
        """Keep it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path(pool, seed), known)

    def table(self, is_whole: Callable[[dict[str, list[Fact]]], bool]) -> list[tuple[str, int, str, str, float]]:
        """Return the rows of `COLUMNS` of every pool and seed that is whole."""
        rows = []
        for path in sorted(self.folder.glob("*_seed*.json")):
            pool, seed = path.stem.rsplit("_seed", 1)
            known = self.read(pool, int(seed))
            if is_whole(known):
                rows += [(pool, int(seed), *fact) for facts in known.values() for fact in facts]
        return sorted(rows, key=lambda row: (row[0], row[1]))


def run(
    pools: Sequence[str],
    seeds: Sequence[int],
    data_dir: Path,
    results: Results,
    size: Size,
    csv_path: Path | None = None,
    arms: Sequence[str] = tuple(ARMS),
) -> Iterator[str]:
    """Fill in what is missing, seed by seed; yield a line for each part that is done.

    Args:
        pools: of `pools.POOLS`.
        seeds: of initial sets, rows, agents and heads.
        data_dir: see `load_bed`.
        results: where facts are kept; copies and embeddings lie beside them.
        size: of everything.
        csv_path: written anew after each pool and seed that is whole.
        arms: of `ARMS`.
    """
    parts = ("links", *arms)
    for seed in seeds:
        for pool in pools:
            known = results.read(pool, seed)
            missing = [part for part in parts if part not in known]
            if not missing:
                continue
            unit = Unit(load_bed(pool, data_dir, results.folder.parent), seed, size)
            for part in missing:
                known[part] = list(links(unit)) if part == "links" else _arm(unit, part)
                results.write(pool, seed, known)
                yield f"{pool} seed {seed} | {part} | {_told(part, known[part])}"
            if csv_path is not None:
                table = results.table(lambda found: set(parts) <= set(found))
                write_text(csv_path, csv_text(COLUMNS, ([*row[:4], f"{row[4]:.4f}"] for row in table)))


def _arm(unit: Unit, name: str) -> list[Fact]:
    bought = ARMS[name](unit)
    # nobody believed: a random batch, whose own luck says nothing
    gain = 0.0 if bought.is_random else unit.worth(bought.batch) - unit.chance
    facts: list[Fact] = [("e", name, gain)]
    if np.isfinite(bought.reach):
        facts.append(("d", name, bought.reach))
    if bought.free is not None:
        facts.append(("e", f"{name}: by free search", unit.worth(bought.free) - unit.chance))
    facts += _ranks(unit, name, bought)
    copies = float((unit.kind_N[bought.batch] >= 0).mean())
    facts.append(("e", f"{name}: share of near copies", copies))
    if isinstance(ARMS[name], Mgral):
        facts.append(("e", f"{name}: random, as nobody is believed", float(bought.is_random)))
        facts.append(("e", f"{name}: held back", float(bought.is_refused)))
    return facts


def _ranks(unit: Unit, name: str, bought: Bought) -> Iterator[Fact]:
    """Yield how an arm that values batches by itself ranks those whose truth is known."""
    if bought.value is None:
        return
    for rows in ("uniform", "clusters"):
        true = unit.records(rows, "true")
        told = np.array([bought.value(batch) for batch in true.batches])
        yield "b", f"{name}, {rows} rows", rank_correlation(told, true.rewards_M)


def _told(part: str, facts: Sequence[Fact]) -> str:
    return f"{len(facts)} facts" if part == "links" else f"{facts[0][2]:+.2f} points"


def read_table(path: Path) -> list[tuple[str, int, str, str, float]]:
    """Read what `run` wrote."""
    with path.open(newline="") as stream:
        return [(r["pool"], int(r["seed"]), r["link"], r["name"], float(r["value"])) for r in csv.DictReader(stream)]
