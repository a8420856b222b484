"""Which runs may share a figure: those that differ in strategy, seed and machine only."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from al_lab.core.errors import DataError, explain
from al_lab.core.fingerprint import frozen
from al_lab.reporting.run_folder import Run
from al_lab.reporting.stats import Band, Curve, band

# The groups that change results. The word `protocol` itself is left out: what it picked is in these groups.
_GROUPS = ("dataset", "detector", "segmenter", "objective", "budget", "trainer")


@dataclass(frozen=True)
class Series:
    """The runs of one strategy, one per seed."""

    label: str
    strategy: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, ascending."""
        return tuple(run.seed for run in self.runs)

    def curves(self, metric: str, spent: str = "spent_images") -> dict[int, Curve]:
        """Seed -> learning curve; runs without any point are left out."""
        curves = {run.seed: Curve.make(run.column(spent), run.column(metric)) for run in self.runs}
        return {seed: curve for seed, curve in curves.items() if len(curve)}

    def band(self, metric: str, spent: str = "spent_images") -> Band:
        """Mean curve over the seeds."""
        return band(list(self.curves(metric, spent).values()))


def protocol_of(run: Run, with_budget: bool = True) -> dict[str, Any]:
    """Return what has to be equal, flat: ``{"trainer.lr": 0.001, …}``."""
    groups = _GROUPS if with_budget else tuple(g for g in _GROUPS if g != "budget")
    return {k: v for k, v in frozen({g: run.config.get(g) for g in groups}).items() if k != "budget.cycles"}  # more cycles continue a run


def fingerprint(run: Run, with_budget: bool = True) -> str:
    """Return a short hash of `protocol_of`."""
    text = json.dumps(protocol_of(run, with_budget), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def differences(a: Run, b: Run, with_budget: bool = True) -> list[str]:
    """Say where two protocols differ: ``trainer.lr: 0.001 against 0.01``."""
    first, second = protocol_of(a, with_budget), protocol_of(b, with_budget)
    missing = "(absent)"
    return [f"{key}: {first.get(key, missing)} against {second.get(key, missing)}"
            for key in sorted(set(first) | set(second)) if first.get(key, missing) != second.get(key, missing)]


def check_one_protocol(runs: Sequence[Run]) -> None:
    """Refuse to mix protocols; a full-data run may differ in its budget.

    Raises:
        DataError: naming two runs and the settings in which they differ.
    """
    if not runs:
        return
    reference = next((r for r in runs if not r.is_full), runs[0])
    for run in runs:
        with_budget = not (run.is_full or reference.is_full)
        if fingerprint(run, with_budget) == fingerprint(reference, with_budget):
            continue
        different = differences(reference, run, with_budget)
        shown = "; ".join(different[:5]) + (f"; and {len(different) - 5} more" if len(different) > 5 else "")
        raise DataError(explain(expected="runs of one protocol (only strategy, seed and machine may differ)", got=shown,
                                where=f"{reference.path} and {run.path}", do="make one report per protocol, or rerun one of them with the "
                                "other's settings (protocol=… pins them for every strategy)"))


def same_protocol(run: Run, other: Run) -> bool:
    """Whether two runs may share a figure."""
    with_budget = not (run.is_full or other.is_full)
    return fingerprint(run, with_budget) == fingerprint(other, with_budget)


def group_runs(runs: Sequence[Run]) -> list[Series]:
    """Group runs by strategy (and by name where one strategy has several), random and full data last.

    Raises:
        DataError: if two runs of a group have the same seed.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault(("full data", "") if run.is_full else (run.strategy, run.name), []).append(run)
    names_of: dict[str, int] = {}
    for strategy, _ in groups:
        names_of[strategy] = names_of.get(strategy, 0) + 1
    series = []
    for (strategy, name), members in groups.items():
        members.sort(key=lambda r: (r.seed, str(r.path)))
        _check_seeds(strategy, members)
        label = strategy if names_of[strategy] == 1 else f"{strategy} ({name})"
        series.append(Series(label, strategy, tuple(members)))
    return sorted(series, key=lambda s: ({"random": 1, "full data": 2}.get(s.strategy, 0), s.label))


def _check_seeds(label: str, runs: Sequence[Run]) -> None:
    for a, b in zip(runs, runs[1:], strict=False):
        if a.seed == b.seed and label != "full data":
            raise DataError(explain(expected=f"one run of {label!r} per seed", got=f"two with seed {a.seed}", where=f"{a.path} and {b.path}",
                                    do="leave one of them out"))
