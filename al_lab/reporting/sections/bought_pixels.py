"""Sections about purchases of pixels: of which classes they are, and where."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.budget import PARTS
from al_lab.core.errors import DataError
from al_lab.core.pool import INITIAL
from al_lab.core.rng import Rng
from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import segmentation as draw
from al_lab.reporting.figures.theme import INK, color_of, marker_of
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read.analysis import analysis_of
from al_lab.reporting.read.run_folder import Run

_IMAGES = 6  # overlays of one run
_ROWS = 4  # images that strategies are compared on
MAX_LINES = 4  # strategies side by side
_SPENT = {
    "strategy": 0,
    "seed": 0,
    "pixels bought": 0,
    "about, % of the pool": 2,
    "labels left at training size": 0,
    "without a class, %": 2,
    "entropy, nats": 3,
    "at most": 3,
}  # column -> digits
_SPENT_NOTE = (
    "Resizing by nearest neighbor drops bought pixels where training images are smaller than the labels; a pixel "
    "without a class (void) "
    "is paid for all the same. Entropy is that of the bought classes, at most the logarithm of their number."
)


_WRONG = {
    "strategy": 0,
    "seed": 0,
    "labeled pixels in bought segments": 0,
    "given another class, %": 2,
    "lost most": 0,
    "invented most": 0,
}  # column -> digits
_WRONG_NOTE = (
    "Each bought segment got the class most of its pixels have (oracle=dominant). Lost: the class of pixels that were "
    "given another, with its share of all of them; invented: the class they were given."
)


def shown(lines: Sequence[Series]) -> list[Series]:
    """Return the lines whose pictures are shown side by side.

    At most `MAX_LINES`, of each strategy one before another has its second.
    """
    firsts = {s.strategy: s for s in reversed(lines)}
    order = sorted(lines, key=lambda s: s is not firsts[s.strategy])[:MAX_LINES]
    return [s for s in lines if any(s is o for o in order)]


def buys_pixels(run: Run) -> bool:
    """Whether a run buys parts of images."""
    return (run.config.get("budget") or {}).get("unit") in PARTS


def pixel_classes_section(lines: Sequence[Series]) -> Section:
    """Show the classes of bought pixels against the pool's on a log scale.

    It also says what of the purchases a training can use.
    """
    section = Section("bought", "What was bought")
    labels, groups, pool = [s.label for s in lines], [], None
    names: tuple[str, ...] = ()
    for series in lines:
        counts = [c for c in (run.class_counts() for run in series.runs) if c is not None]
        names = names or (counts[0].classes if counts else ())
        shares = [c.bought / c.bought.sum() for c in counts if c.bought.sum() > 0 and c.classes == names]
        pool = pool if pool is not None else next((c.pool for c in counts if c.pool is not None), None)
        if shares:
            color, marker = (of(series.strategy, series.label, labels) for of in (color_of, marker_of))
            groups.append(draw.Shares(f"bought by {series.label}", color, marker, np.mean(shares, axis=0)))
    if not groups:
        section.text = "No class counts were written (the oracle writes oracle_stats.json with each purchase)."
        return section
    section.text = "Share of each class among the bought pixels"
    if pool is not None and pool.sum() > 0:
        groups.insert(0, draw.Shares("all pixels of the pool", INK, "|", pool / pool.sum()))
        section.text += (
            ", against all pixels of the pool: those are hidden from the strategy, the oracle counted "
            "them for this page"
        )
    section.text += ". A hollow mark: none."
    section.pictures.append(
        Picture(
            "class_distribution",
            draw.log_shares(names, groups),
            "share of each class among bought pixels and in the pool",
        )
    )
    rows = [row for s in lines for row in (_spent_row(s, run, len(names)) for run in s.runs) if row]
    if rows:
        section.tables.append(
            Table(
                "bought_pixels", "What of it a training can use", list(_SPENT), rows, list(_SPENT.values()), _SPENT_NOTE
            )
        )
    wrong = [row for s in lines for row in (_wrong_row(s, run) for run in s.runs) if row]
    if wrong:
        section.tables.append(
            Table(
                "dominant", "How wrong one class a segment is", list(_WRONG), wrong, list(_WRONG.values()), _WRONG_NOTE
            )
        )
    return section


def _wrong_row(series: Series, run: Run) -> list[Any] | None:
    counts = run.class_counts()
    if counts is None or counts.wrong is None or not counts.judged:
        return None
    (lost_C, invented_C), names = counts.wrong, counts.classes
    most = [
        "none" if not w.any() else f"{names[int(w.argmax())]} ({100 * w.max() / w.sum():.0f} %)"
        for w in (lost_C, invented_C)
    ]
    return [series.label, run.seed, int(counts.judged), 100 * float(lost_C.sum()) / counts.judged, *most]


def _spent_row(series: Series, run: Run, num_classes: int) -> list[Any] | None:
    bought = sum(run.cost(c).get("pixels", 0.0) for c in run.purchases)
    if not bought:
        return None
    fits = [e.get("scalars") or {} for e in run.ledger if e.get("stage") == "train"]
    trained: dict[str, Any] = next((s for s in reversed(fits) if s.get("bought_pixels")), {})
    # the last purchase is trained on in the next cycle
    usable = trained.get("effective_labels") if trained.get("bought_pixels") == bought else None
    found = analysis_of(run)
    classes = (found.facts.get("classes") if found else None) or {}
    share = bought_share(run, bought)
    return [
        series.label,
        run.seed,
        int(bought),
        math.nan if share is None else 100 * share,
        usable,
        100 * classes.get("wasted", math.nan),
        float(classes.get("entropy", math.nan)),
        math.log(max(num_classes, 1)),
    ]


def bought_share(run: Run, pixels: float) -> float | None:
    """Return the share of the pool's pixels, as if all images had the size of the first bought one.

    None if it is unknown.
    """
    for cycle in run.purchases:
        mask = next((m for c in run.bought(cycle) if c.mask is not None and (m := run.mask(c.mask)) is not None), None)
        if mask is not None and run.pool_size:
            return pixels / (mask.size * run.pool_size)
    return None


def overlays_section(lines: Sequence[Series], limit: int = _IMAGES) -> Section:
    """Show bought pixels on their images, in the color of their purchase.

    Several strategies have the same images side by side.
    """
    section = Section("images", "Bought pixels")
    runs = [(s.label, s.runs[0]) for s in shown([s for s in lines if s.runs[0].purchases])]
    bought = {label: {c: {q.sample_id: q for q in run.bought(c)} for c in run.purchases} for label, run in runs}
    common = [set().union(*of.values()) for of in bought.values()]
    ids = sorted(set.intersection(*common) or set.union(*common)) if common and any(common) else []
    if not ids:
        section.text = "Nothing has been bought yet."
        return section
    seed = runs[0][1].config.get("split_seed")
    # the images of the analysis
    order = np.argsort(Rng(seed if isinstance(seed, int) else 0, "analyze").tie_keys(ids), kind="stable")
    chosen = [ids[k] for k in order[: limit if len(runs) == 1 else _ROWS]]
    cycles = sorted({c for of in bought.values() for c, found in of.items() if found})
    colors = dict(zip(cycles, draw.round_colors(len(cycles)), strict=True))
    panels = [
        [
            (f"{i}" if len(runs) == 1 else f"{label}\n{i}", _overlay(run, bought[label], i, colors))
            for label, run in runs
        ]
        for i in chosen
    ]
    if len(runs) == 1:  # fill a row with images
        flat = [row[0] for row in panels]
        panels = [flat[k : k + 3] for k in range(0, len(flat), 3)]
    section.text = (
        f"{len(chosen)} images, drawn by split_seed alone; each bought pixel has the color of its purchase. Where "
        f"there are few, they "
        "are drawn larger than they are." + (" First seed of each strategy." if len(runs) > 1 else "")
    )
    legend = {("initial set" if c == INITIAL else f"cycle {c}"): color for c, color in colors.items()}
    section.pictures.append(
        Picture("bought_overlays", draw.image_grid(panels, legend), "bought pixels on their images", is_wide=True)
    )
    return section


def _overlay(
    run: Run, bought: Mapping[int, Mapping[str, Any]], sample_id: str, colors: Mapping[int, str]
) -> np.ndarray | None:
    choices = {c: found[sample_id] for c, found in bought.items() if sample_id in found}
    image = next((q.image for q in choices.values() if q.image is not None), None)
    picture = opened(run, image)
    masks = {c: _drawn(run, q.mask) for c, q in choices.items() if q.mask is not None}
    kept = {c: m for c, m in masks.items() if m is not None}
    return None if picture is None else draw.overlay(picture, list(kept.values()), [colors[c] for c in kept])


def _drawn(run: Run, path: Path) -> np.ndarray | None:
    """Return bought pixels; between segments a line stays open."""
    mask = run.mask(path)
    lines = None if mask is None else run.outlines(path)
    return mask if mask is None or lines is None else mask & ~lines


def opened(run: Run, path: Path | None) -> np.ndarray | None:
    """Return a picture, or None and a note."""
    try:
        return None if path is None else draw.open_picture(path)
    except DataError as error:
        run.note(f"an image to show could not be opened: {error}")
        return None
