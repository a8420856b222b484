"""Rows of a benchmark, and how times and memory are taken."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        task: what is computed, with its size.
        peer: what ours is compared with.
        ours_s: seconds.
        peer_s: seconds; None for a row that is no comparison of times.
        ratio: peer / ours, or what ``note`` says.
        target: what the ratio should be, such as ``>= 15``; empty if nothing is promised.
        same: whether the results agree; None if that is not compared.
        note: how it was measured.
    """

    task: str
    peer: str
    ours_s: float
    peer_s: float | None
    ratio: float
    target: str = ""
    same: bool | None = None
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Say whether the ratio reaches the target and the results agree."""
        sign, _, bound = self.target.partition(" ")
        reaches = {"": True, ">=": bound and self.ratio >= float(bound), "<=": bound and self.ratio <= float(bound)}[
            sign
        ]
        return bool(reaches) and self.same is not False


def best_of(
    function: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """Return the shortest of some wall times (or of another clock's), which other processes disturb least.

    The last result comes with it.
    """
    times: list[float] = []
    result = None
    for _ in range(repeats):
        gc.collect()
        start = clock()
        result = function()
        times.append(clock() - start)
    return min(times), result


def peak_bytes(function: Callable[[], Any]) -> int:
    """Return the most memory allocated at once while a function ran, beyond what was there.

    BLAS's fixed buffers are not counted.
    """
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


_COLUMNS = (("task", 47), ("peer", 33), ("ours", 9), ("peer's", 9), ("ratio", 7), ("target", 9), ("same", 5))


def header() -> str:
    """Return the table's first line."""
    return _join([name for name, _ in _COLUMNS]) + "  note"


def line(row: Row) -> str:
    """Return a row as text."""
    verdict = "" if not row.target else row.target.replace(" ", "") + (" ok" if row.is_met else " NO")
    same = "" if row.same is None else "yes" if row.same else "NO"
    peer_s = "" if row.peer_s is None else f"{row.peer_s:.3g} s"
    return (
        _join([row.task, row.peer, f"{row.ours_s:.3g} s", peer_s, f"{row.ratio:.2f}x", verdict, same]) + f"  {row.note}"
    )


def _join(cells: Sequence[str]) -> str:
    left = 2  # columns of words; the rest are numbers
    return "  ".join(
        f"{cell:<{w}}" if k < left else f"{cell:>{w}}"
        for k, (cell, (_, w)) in enumerate(zip(cells, _COLUMNS, strict=True))
    )


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as plain data."""
    return [asdict(row) | {"is_met": row.is_met} for row in rows]
