"""Going through a ranking with a budget, so that every class gets its share of what is bought."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_NONE = -1
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Filled:
    """What `fill` took.

    Attributes:
        rows: in rank order.
        quota_of: of each row, the class for whose sake it was taken out of turn; -1: it was its turn.
        got: (Q,) what each class has got of its quota.
    """

    rows: list[int]
    quota_of: list[int]
    got: np.ndarray


def fill(
    ranked: Sequence[int],
    cost_N: np.ndarray,
    budget: float,
    gain_NQ: np.ndarray,
    wanted_Q: np.ndarray,
    new_gate: Callable[[], Callable[[int], bool]],
) -> Filled:
    """Take rows by rank until the budget is spent, of each quota's class at least what is wanted.

    The first row that would cost more than is left ends the purchase. If the best rows fill the quotas by themselves,
    they are what is taken. Otherwise classes have their turn first, the one with least to choose from before the
    others: each takes the best rows that show it until it has what it wants; what is left of the budget goes by rank.

    Args:
        ranked: rows, the most wanted first.
        cost_N: what a row costs.
        budget: in the same unit.
        gain_NQ: how much of each quota's class a row brings.
        wanted_Q: how much of it is wanted.
        new_gate: returns a function that is asked before a row is taken, in the order of taking, and may refuse it; a
            new one knows of no row.
    """
    plain = _take(ranked, cost_N, budget, new_gate())
    got_Q = gain_NQ[plain].sum(0)
    if (got_Q >= wanted_Q - _ROUNDING).all():
        return Filled(plain, [_NONE] * len(plain), got_Q)
    gate, rank_of = new_gate(), {row: n for n, row in enumerate(ranked)}
    taken: dict[int, int] = {}
    left, got_Q = budget, np.zeros(len(wanted_Q))
    with np.errstate(divide="ignore", invalid="ignore"):
        plenty_Q = gain_NQ[list(ranked)].sum(0) / wanted_Q
    for q in np.argsort(np.nan_to_num(plenty_Q, nan=np.inf), kind="stable").tolist():
        for row in ranked:
            if got_Q[q] >= wanted_Q[q] - _ROUNDING:
                break
            if row in taken or gain_NQ[row, q] <= 0 or cost_N[row] > left + _ROUNDING or not gate(row):
                continue
            taken[row] = q
            left, got_Q = left - cost_N[row], got_Q + gain_NQ[row]
    in_turn = set(plain)
    rest = _take([row for row in ranked if row not in taken], cost_N, left, gate)
    quota_of = {row: _NONE if row in in_turn else q for row, q in taken.items()} | dict.fromkeys(rest, _NONE)
    rows = sorted(quota_of, key=rank_of.__getitem__)
    return Filled(rows, [quota_of[row] for row in rows], gain_NQ[rows].sum(0))


def _take(ranked: Sequence[int], cost_N: np.ndarray, budget: float, gate: Callable[[int], bool]) -> list[int]:
    taken: list[int] = []
    left = budget
    for row in ranked:
        if left <= _ROUNDING:
            break
        if not gate(row):
            continue
        if cost_N[row] > left + _ROUNDING:
            break
        taken.append(row)
        left -= float(cost_N[row])
    return taken
