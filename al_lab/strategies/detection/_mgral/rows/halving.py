"""Rows that stop early where that is seen to do no harm (MGRAL's future work: "early stopping techniques").

All rows train to a rung, ``early_stop`` of their schedule, and are measured. The first n of them, which are random
ones, go on to the end (``calibrate``). Their rank correlation between rung and end says whether the rung ranks rows: if
it does (``agreement``), only the better half of the others goes on, as in one step of successive halving (Jamieson and
Talwalkar, AISTATS 2016, arXiv 1502.07943); if not, all of them do.

A row that stopped has the reward that the line through those trained whole expects of it,

    reward at the end = a + b reward at the rung        (least squares; b >= 0)

so that all rewards are of one length. DEVIATION: the others' rewards are measured, these are estimated.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from al_lab.execution.job import Job
from al_lab.strategies.detection._mgral.predictor.leave_one_out import rank_correlation
from al_lab.strategies.detection._mgral.rows.settings import LutSettings

Part = Literal["whole", "rung", "rest"]
Result = dict[str, Any]


def better_half(values: Mapping[int, float]) -> list[int]:
    """Return the rows of the larger half of rewards, rounded up; of equals the first."""
    order = sorted(values, key=lambda m: (-values[m], m))
    return sorted(order[: -(-len(order) // 2)])


def agreement(rung: Sequence[float], end: Sequence[float]) -> float:
    """Return Spearman's correlation of rewards at the rung with those at the end; 0 if either are all equal."""
    return rank_correlation(np.asarray(rung), np.asarray(end))


def expected_at_end(rung: Mapping[int, float], end: Mapping[int, float]) -> dict[int, float]:
    """Return what each row that stopped would have reached, by the line of the module's text.

    Args:
        rung: of all rows.
        end: of those that were trained whole, two at least.
    """
    x, y = np.array([rung[m] for m in end]), np.array(list(end.values()))
    spread = float(((x - x.mean()) ** 2).sum())
    slope = max(float(((x - x.mean()) * (y - y.mean())).sum()) / spread, 0.0) if spread else 0.0
    return {m: float(y.mean() + slope * (value - x.mean())) for m, value in rung.items() if m not in end}


def facts_of(fraction: float, calibrated: int, rank: float, least: float, stopped: int) -> dict[str, Any]:
    """Say how well the rung ranked, and what was made of it."""
    words = (
        f"so {stopped} of the others stopped there, and their rewards are what a line expects of them"
        if stopped
        else "so all rows were trained to the end"
    )
    return {
        "fraction": fraction,
        "calibrated": calibrated,
        "rank_correlation": rank,
        "stopped": stopped,
        "sentence": f"of {calibrated} rows trained to the end, the rewards after {100 * fraction:.0f} % of the "
        f"schedule and at its end have a rank correlation of {rank:+.2f} (asked for: {least:+.2f} or more), {words}",
    }


def train_by_halves(
    settings: LutSettings,
    numbers: Sequence[tuple[int, int]],
    run: Callable[[list[Job]], list[Result]],
    job: Callable[[int, int, Part], Job],
    reward: Callable[[int, Result], float],
    metric: str,
) -> tuple[list[Result], dict[str, Any]]:
    """Train rows as the module's text says.

    Args:
        settings: of the table.
        numbers: (row, seed); all rows with seed 0 first. Those that have other seeds, too, are trained whole.
        run: does jobs, those that are done already not again.
        job: describes the training of a row: ``whole``, to the ``rung``, or from there the ``rest``.
        reward: of a row's result, in the metric's units (0..1), comparable between rows.
        metric: of which stopped rows get the value that is expected.

    Returns:
        The results in the order of ``numbers``, and the facts for the table.
    """
    assert settings.early_stop is not None and settings.calibrate is not None
    rows = [m for m, seed in numbers if seed == 0]
    again = [number for number in numbers if number[1] != 0]
    found = run([*(job(m, 0, "rung") for m in rows), *(job(m, s, "whole") for m, s in again)])
    rung, repeated = dict(zip(rows, found, strict=False)), found[len(rows) :]
    first = rows[: max(settings.calibrate, *(m + 1 for m, _ in again), 0)]
    end = dict(zip(first, run([job(m, 0, "rest") for m in first]), strict=True))
    at_rung = {m: reward(m, rung[m]) for m in rows}
    rank = agreement([at_rung[m] for m in first], [reward(m, end[m]) for m in first])
    others = {m: at_rung[m] for m in rows if m not in end}
    go_on = better_half(others) if rank >= settings.agreement else sorted(others)
    end |= dict(zip(go_on, run([job(m, 0, "rest") for m in go_on]), strict=True))
    expected = expected_at_end(at_rung, {m: reward(m, result) for m, result in end.items()})
    results = []
    for m in rows:
        seconds = rung[m]["seconds"]
        if m in end:
            results.append(end[m] | {"seconds": seconds + end[m]["seconds"], "rung": at_rung[m]})
            continue
        value = rung[m]["metrics"][metric] + expected[m] - at_rung[m]
        results.append(rung[m] | {"metrics": {metric: value}, "rung": at_rung[m], "stopped": settings.early_stop})
    facts = facts_of(settings.early_stop, len(first), rank, settings.agreement, len(expected))
    return [*results, *repeated], facts
