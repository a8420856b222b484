"""A lint in sentences, the ones worth reading first."""

from __future__ import annotations

from al_lab.data.lint.lint import ClassLine, Lint
from al_lab.data.lint.reference import Measure

_OFTEN = 2.0  # times as often as in the target (or half as often), from which on a class is named
_MOST = 5  # classes of one kind that are named
_FEWEST = 5.0  # boxes that a class has, or would have as in the target: of fewer, a ratio is chance


def sentences(lint: Lint) -> list[str]:
    """Return what stands out, in plain sentences: cost, likeness, classes, copies."""
    found = [_cost(lint)] if lint.cost else []
    found += [_like(m, lint.target) for m in lint.measures if m.better == "low" and m.key != "copies"]
    found += _often(lint)
    found += _starving(lint)
    found += _copies(lint)
    return found


def alarms(lint: Lint) -> list[str]:
    """Return the sentences that ask for something to be done."""
    return [*_starving(lint), *(_copies(lint) if lint.copies.found else [])]


def number(value: float, unit: str = "") -> str:
    """Return a number with as many digits as it deserves, and its unit."""
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2  # noqa: PLR2004
    return f"{value:,.{digits}f}{f' {unit}' if unit else ''}"


def _beside(measure: Measure) -> str:
    low, high = measure.middle
    return f"random selections {number(measure.mean, measure.unit)}, {number(low)} to {number(high)}"


def _cost(lint: Lint) -> str:
    boxes, minutes = lint.cost
    expected = "" if lint.is_known else " expected"
    whence = "" if lint.is_sample else f" of {lint.num_pool:,}"
    return (
        f"{lint.num_chosen:,}{whence} images with {boxes.value:,.0f} boxes{expected}, about "
        f"{minutes.value:,.0f} minutes of labeling ({_beside(minutes)})"
    )


def _like(measure: Measure, target: str) -> str:
    percent = measure.percentile
    place = f"closer than {percent:.0f} of 100 of them"
    if percent < 50:  # noqa: PLR2004
        place = f"farther than {100 - percent:.0f} of 100 of them"
    value = f"{number(measure.value, measure.unit)} ({_beside(measure)})"
    return f"To {target or 'the pool'}: {measure.words} {value}, {place}"


def _often(lint: Lint) -> list[str]:
    """Name the classes that are shown far more, or far less, often than in the target."""
    total = sum(c.boxes for c in lint.classes)
    shown = [c for c in lint.classes if c.target_share and max(c.boxes, total * c.target_share) >= _FEWEST]
    most = sorted(shown, key=lambda c: -(c.times or 0))[:_MOST]
    least = sorted(shown, key=lambda c: c.times or 0)[:_MOST]
    lines = [c for c in most if (c.times or 0) >= _OFTEN] + [c for c in least if (c.times or 0) <= 1 / _OFTEN]
    return [
        f"The selection shows {c.name} {number(c.times or 0)} times as often as {lint.target} "
        f"(random selections {number(c.random_times or 0)} times)"
        for c in lines
    ]


def _starving(lint: Lint) -> list[str]:
    lines = [c for c in lint.classes if c.starves]
    found = [_starves(c, lint) for c in lines[:_MOST]]
    return [*found, f"{len(lines) - _MOST} more classes starve"] if len(lines) > _MOST else found


def _starves(line: ClassLine, lint: Lint) -> str:
    low, high = line.random_images.middle
    random = f"of a random selection {number(line.random_images.mean)} do ({low:,.0f} to {high:,.0f})"
    return f"{line.name} starves: {line.images:,.0f} of {lint.num_chosen:,} images show it; {random}"


def _copies(lint: Lint) -> list[str]:
    copies = lint.copies
    if not copies.num_opened and copies.min_cosine is None:
        return []
    old = sum(c.is_labeled for c in copies.found)
    ways = [f"fingerprints of {copies.num_opened:,} chosen and {copies.num_labeled_opened:,} of {copies.num_labeled:,} "
            "labeled images"] if copies.num_opened else []  # fmt: skip
    ways += [f"embeddings from a cosine of {copies.min_cosine:.4f} on"] if copies.min_cosine is not None else []
    random = f"; by embedding {number(copies.measure.value)} %, {_beside(copies.measure)}" if copies.measure else ""
    looked = f"looked at: {' and '.join(ways)}"
    if not copies.found:
        return [f"No near copies ({looked}{random})"]
    return [
        f"{len(copies.found):,} of {lint.num_chosen:,} images are near copies: {len(copies.found) - old:,} of a better "
        f"ranked one, {old:,} of a labeled one ({looked}{random})"
    ]
