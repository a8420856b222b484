"""Which runs may share a figure, and which of them the others are measured against."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from al_lab.core.errors import DataError, explain
from al_lab.core.record.fingerprint import frozen
from al_lab.reporting.judge.curves import Band, Curve, band
from al_lab.reporting.read.line_names import FULL_DATA, GROUPS, LEVELS, NO_LABELS, is_below, is_supervised, line_labels
from al_lab.reporting.read.run_folder import Run

# What a report compares instead of holding it fixed: a semi-supervised method is a way to choose and a way to train;
# some strategies learn from heads, or from dropout, that they bring into the detector.
COMPARED = ("objective", "detector.branches", "detector.dropout")


@dataclass(frozen=True)
class Series:
    """The runs of one method, one per seed.

    Attributes:
        training: a hash of what its training may differ in from the other lines'.
    """

    label: str
    strategy: str
    runs: tuple[Run, ...]
    training: str = ""

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


def protocol_of(run: Run, with_budget: bool = True, across: Sequence[str] = ()) -> dict[str, Any]:
    """Return what has to be equal, flat: ``{"trainer.lr": 0.001, …}``.

    What lies below a key of ``across`` is left out.
    """
    groups = GROUPS if with_budget else tuple(g for g in GROUPS if g != "budget")
    flat = frozen({g: run.config.get(g) for g in groups})
    # more cycles continue a run
    return {k: v for k, v in flat.items() if k != "budget.cycles" and not is_below(k, across)}


def fingerprint(run: Run, with_budget: bool = True, across: Sequence[str] = ()) -> str:
    """Return a short hash of `protocol_of`."""
    return _hash(protocol_of(run, with_budget, across))


def differences(a: Run, b: Run, with_budget: bool = True, across: Sequence[str] = ()) -> list[str]:
    """Say where two protocols differ: ``trainer.lr: 0.001 against 0.01``."""
    first, second = protocol_of(a, with_budget, across), protocol_of(b, with_budget, across)
    missing = "(absent)"
    return [
        f"{key}: {first.get(key, missing)} against {second.get(key, missing)}"
        for key in sorted(set(first) | set(second))
        if first.get(key, missing) != second.get(key, missing)
    ]


def check_one_protocol(runs: Sequence[Run], across: Sequence[str] = ()) -> None:
    """Refuse to mix protocols; what is `COMPARED` may differ, and the budget of a run on all labels or none.

    Args:
        runs: the runs of a page.
        across: further settings that are compared on purpose, dotted keys or whole groups.

    Raises:
        DataError: naming two runs and the settings in which they differ, or a key of ``across`` that is none.
    """
    unknown = [key for key in across if key.split(".", 1)[0] not in GROUPS]
    if unknown:
        raise DataError(
            explain(
                expected=f"a setting below {', '.join(GROUPS)}",
                got=unknown[0],
                where="--across",
                do="name it as in the Settings of a report, e.g. trainer.batch_size",
            )
        )
    if not runs:
        return
    compared = (*COMPARED, *across)
    reference = next((r for r in runs if not r.is_level), runs[0])
    for run in runs:
        if same_protocol(reference, run, compared):
            continue
        different = differences(reference, run, not (run.is_level or reference.is_level), compared)
        shown = "; ".join(different[:5]) + (f"; and {len(different) - 5} more" if len(different) > 5 else "")
        key = different[0].split(":", 1)[0]
        raise DataError(
            explain(
                expected="runs of one protocol (only strategy, objective, the detector's branches and dropout, seed "
                "and machine may differ)",
                got=shown,
                where=f"{reference.path} and {run.path}",
                do="make one report per protocol, or rerun one of them with the "
                "other's settings (protocol=… pins them for every strategy); al-lab report --across "
                f"{key} compares them on purpose",
            )
        )


def same_protocol(run: Run, other: Run, across: Sequence[str] = ()) -> bool:
    """Whether two runs may share a figure."""
    with_budget = not (run.is_level or other.is_level)
    return fingerprint(run, with_budget, across) == fingerprint(other, with_budget, across)


def training_of(run: Run, across: Sequence[str] = ()) -> str:
    """Return a hash of the part of the training that may differ on a page."""
    return _hash({k: v for k, v in protocol_of(run).items() if is_below(k, (*COMPARED, *across))})


def group_runs(runs: Sequence[Run], across: Sequence[str] = ()) -> list[Series]:
    """Group runs by strategy, name and training.

    Random, full data and no label last, within a strategy the supervised ones first.

    Raises:
        DataError: if two runs of a group have the same seed.
    """
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        key = (FULL_DATA, "") if run.is_full else (NO_LABELS, "") if run.is_bare else (run.strategy, run.name)
        # the budget sets no level apart
        training = training_of(run, [key for key in across if not (run.is_level and is_below(key, ("budget",)))])
        groups.setdefault((*key, training), []).append(run)
    labels = line_labels([(strategy, members[0]) for (strategy, _, _), members in groups.items()], (*COMPARED, *across))
    series = []
    for label, ((strategy, _, training), members) in zip(labels, groups.items(), strict=True):
        members.sort(key=lambda r: (r.seed, str(r.path)))
        _check_seeds(strategy, members)
        series.append(Series(label, strategy, tuple(members), training))
    place = {"random": 1, FULL_DATA: 2, NO_LABELS: 3}
    return sorted(series, key=lambda s: (place.get(s.strategy, 0), s.strategy, not is_supervised(s.runs[0]), s.label))


def baseline(lines: Sequence[Series]) -> Series | None:
    """Return the random line the others are measured against.

    Of several it is the supervised one, then the one with most seeds.
    """
    randoms = [s for s in lines if s.strategy == "random"]
    return min(randoms, key=lambda s: (not is_supervised(s.runs[0]), -len(s.runs), s.label), default=None)


def reference(series: Series, lines: Sequence[Series]) -> Series | None:
    """Return the random line one line is measured against.

    It is the baseline, or that of its own budget if the baseline's is another.
    """
    random = baseline(lines)
    if random is None or _budget(series) == _budget(random):
        return random
    return next((s for s in lines if s.strategy == "random" and s.training == series.training), random)


def full_data(groups: Sequence[Series]) -> Series | None:
    """Return the full-data line to draw: the one trained as the baseline is, if there are several."""
    return _level(groups, FULL_DATA)


def no_labels(groups: Sequence[Series]) -> Series | None:
    """Return the line without a label of the pool, likewise."""
    return _level(groups, NO_LABELS)


def _level(groups: Sequence[Series], name: str) -> Series | None:
    found, random = [s for s in groups if s.strategy == name], baseline(groups)
    return min(
        found,
        key=lambda s: (random is not None and s.training != random.training, not is_supervised(s.runs[0])),
        default=None,
    )


def _budget(series: Series) -> dict[str, Any]:
    return {k: v for k, v in protocol_of(series.runs[0]).items() if is_below(k, ("budget",))}


def _hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:10]


def _check_seeds(label: str, runs: Sequence[Run]) -> None:
    for a, b in zip(runs, runs[1:], strict=False):
        if a.seed == b.seed and label not in LEVELS:
            raise DataError(
                explain(
                    expected=f"one run of {label!r} per seed",
                    got=f"two with seed {a.seed}",
                    where=f"{a.path} and {b.path}",
                    do="leave one of them out",
                )
            )
