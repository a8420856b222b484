"""How often verdicts are wrong, and how often they see what is there: simulated pages of ten lines."""

from collections.abc import Sequence

import numpy as np

from al_lab.core.statistics.spread import block_of
from al_lab.core.statistics.verdict import Contrast, Spread, contrasts

PAGES = 4000  # simulated a row
_LINES = 10  # random and nine others
_SEEDS = (2, 3, 5, 8)
_SEED_EFFECT = 2.0  # what a seed does to all lines alike, against a line's own luck of one
_FEW = 4


def _cases(lines: int) -> dict[str, np.ndarray]:
    """Return case -> standard deviation of each line's own luck, random first."""
    ones = np.ones(lines - 1)
    return {
        "all lines vary alike": np.ones(lines),
        "deviations from 0.5 to 2": np.geomspace(0.5, 2, lines),
        "one line varies three times as much": np.asarray([*ones, 3.0]),
        "random varies three times as much": np.asarray([3.0, *ones]),
        "random varies ten times as much": np.asarray([10.0, *ones]),
    }


def judged(values_LS: np.ndarray, way: str = "page") -> list[Contrast]:
    """Judge all lines against the first.

    Args:
        values_LS: (lines, seeds).
        way: ``page``: as reports do; ``pairs``: each by its own seeds; ``alike``: by one error for all lines, random
            included, as analysis of variance has it; ``explored``: all pairs without the first, as reports do.
    """
    differences = [dict(enumerate(row - values_LS[0])) for row in values_LS[1:]]
    block = block_of(differences)
    lines = range(len(differences))
    if way == "explored":
        pairs = [(a, b) for a in lines for b in lines if a < b]
        values = [dict(enumerate(values_LS[1 + a] - values_LS[1 + b])) for a, b in pairs]
        return contrasts(values, [block.explored(a, b) if block else None for a, b in pairs])
    spreads: list[Spread | None] = [None] * len(differences)
    if way == "alike" and len(values_LS) > 2:  # noqa: PLR2004 - two lines are a pair
        residuals = values_LS - values_LS.mean(0) - values_LS.mean(1, keepdims=True) + values_LS.mean()
        freedom = (values_LS.shape[0] - 1) * (values_LS.shape[1] - 1)
        spreads = [Spread(float(np.sqrt(2 * (residuals**2).sum() / freedom)), freedom)] * len(differences)
    elif way == "page" and block is not None:
        spreads = [block.planned(k) for k in lines]
    return contrasts(differences, spreads)


def pages(rng: np.random.Generator, count: int, seeds: int, deviation_L: np.ndarray) -> np.ndarray:
    """Return (pages, lines, seeds) values without any difference between lines."""
    own = rng.normal(size=(count, len(deviation_L), seeds)) * deviation_L[:, None]
    return own + _SEED_EFFECT * rng.normal(size=(count, 1, seeds))


def alarms(count: int, seeds: int, deviation_L: np.ndarray, way: str = "page") -> float:
    """Return the share of pages, nothing differing, on which any line is called clearly better or worse."""
    made = pages(np.random.default_rng([seeds, 1]), count, seeds, deviation_L)
    return float(np.mean([any(c.is_clear for c in judged(values, way)) for values in made]))


def two_standard_errors(count: int, seeds: int) -> float:
    """Return the same share by the rule of thumb: a mean difference beyond two of its standard errors."""
    made = pages(np.random.default_rng([seeds, 1]), count, seeds, np.ones(_LINES))
    differences = made[:, 1:] - made[:, :1]
    error = differences.std(axis=2, ddof=1) / np.sqrt(seeds)
    return float((np.abs(differences.mean(axis=2)) > 2 * error).any(axis=1).mean())


def seen(count: int, seeds: int, lines: int, difference: float, way: str = "page") -> float:
    """Return the share of pages on which the one line that is better by ``difference`` is called so."""
    made = pages(np.random.default_rng([seeds, lines]), count, seeds, np.ones(lines))
    made[:, -1] += difference
    return float(np.mean([c.is_clear and c.difference > 0 for c in (judged(values, way)[-1] for values in made)]))


def false_alarms(count: int) -> list[str]:
    """Return the table of false alarms in markdown: one row a number of lines, of seeds, and a case."""
    rows = [
        "| lines | seeds | case | as reports judge | explored | one error for all | by its own | two standard errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for lines, seeds in ((lines, seeds) for lines in (_LINES, _FEW) for seeds in _SEEDS):
        for name, deviation in _cases(lines).items():
            found = [alarms(count, seeds, deviation, way) for way in ("page", "explored", "alike", "pairs")]
            is_first = lines == _LINES and (deviation == 1).all()
            thumb = _percent(two_standard_errors(count, seeds)) if is_first else ""
            rows.append(f"| {lines} | {seeds} | {name} | {' | '.join(map(_percent, found))} | {thumb} |")
    return rows


def power(count: int, sizes: Sequence[float] = (1.0, 2.0)) -> list[str]:
    """Return the table of power in markdown: a true difference in units of one seed's own luck."""
    heads = [f"{lines} lines, {d:g} deviation{'s' if d > 1 else ''}" for lines in (2, 4, _LINES) for d in sizes]
    rows = [f"| seeds | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for seeds in _SEEDS:
        found = [seen(count, seeds, lines, d) for lines in (2, 4, _LINES) for d in sizes]
        rows.append(f"| {seeds} | {' | '.join(map(_percent, found))} |")
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
