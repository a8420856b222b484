"""The bed's table for people: mean and 95 % interval over seeds, by link and pool."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from scipy.special import stdtrit

from al_lab.benchmarks.mgral_bed.links import LINKS

_ENOUGH = 2  # values that have a deviation


def tell(rows: Iterable[tuple[str, int, str, str, float]]) -> list[str]:
    """Return markdown: a table a link, a column a pool."""
    values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    pools: dict[str, None] = {}
    for pool, _, link, name, value in rows:
        pools[pool] = None
        values[link][name][pool].append(value)
    lines = []
    for link, question in LINKS.items():
        if link not in values:
            continue
        lines += [f"**{link}. {question}**", "", f"| | {' | '.join(pools)} |", "|---" * (len(pools) + 1) + "|"]
        lines += [
            f"| {name} | {' | '.join(interval(by_pool[pool]) for pool in pools)} |"
            for name, by_pool in values[link].items()
        ]
        lines.append("")
    return lines


def interval(values: list[float]) -> str:
    """Return mean ± half the 95 % interval by Student's t, and over how many."""
    if not values:
        return ""
    mean, n = float(np.mean(values)), len(values)
    if n < _ENOUGH:
        return f"{mean:+.2f} (1)"
    half = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / np.sqrt(n)
    return f"{mean:+.2f} ± {half:.2f} ({n})"
