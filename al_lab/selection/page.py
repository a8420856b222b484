"""The page of a choice: its images with the boxes the detector sees, classes and quotas, what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from al_lab.core.types import Detections
from al_lab.data.lint.lint import Lint
from al_lab.data.predictions.table import Predictions
from al_lab.reporting.document.page import Headline, Page, Picture, Section, Sheet
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.mosaic import Tile, class_colors, tiles
from al_lab.reporting.figures.theme import MUTED, color_of, look
from al_lab.reporting.read.run_folder import Choice as Shown
from al_lab.reporting.sections.lint import lint_section
from al_lab.selection.choose import RANDOM, STRATEGY, Choice, Order
from al_lab.selection.write import Row

_TILE_PX = 280
_BINS = 40
_MOST_BOXES = 20  # drawn on a thumbnail, the strongest
_WEAK_BOXES = 3  # drawn where none is strong


@dataclass(frozen=True)
class Told:
    """What a page says besides the images.

    Attributes:
        dataset: its name.
        strategy: its name.
        classes: names in label order.
        num_labeled: images left out since they are labeled.
        files: that predictions were read from.
        notes: sentences about what was read.
        alarms: sentences about classes that starve.
        commands: what to do next: (words, command).
        lint: what can be said of the choice without a training.
    """

    dataset: str
    strategy: str
    classes: Sequence[str]
    num_labeled: int
    files: Sequence[str]
    notes: Sequence[str] = ()
    alarms: Sequence[str] = ()
    commands: Sequence[tuple[str, str]] = field(default=())
    lint: Lint | None = None


@dataclass(frozen=True)
class ClassRow:
    """What pool and choice show of one class, by the detector.

    Attributes:
        label: of the class.
        pool, chosen: images that show it.
        pool_boxes, chosen_boxes: boxes that are expected.
    """

    label: int
    pool: int
    chosen: int
    pool_boxes: float
    chosen_boxes: float


def class_rows(predictions: Predictions, choice: Choice, order: Order) -> list[ClassRow]:
    """Count what pool and choice show of each class."""
    pool = choice.candidates.sample_ids
    at = {i: n for n, i in enumerate(pool)}
    mine = [at[pick.sample_id] for pick in choice.picks]
    found = []
    for label in range(predictions.num_classes):
        shows = predictions.strongest(pool, label) >= order.shows
        boxes = predictions.expected(pool, label)
        found.append(
            ClassRow(label, int(shows.sum()), int(shows[mine].sum()), float(boxes.sum()), float(boxes[mine].sum()))
        )
    return found


def alarms(rows: Sequence[ClassRow], choice: Choice, order: Order, classes: Sequence[str]) -> list[str]:
    """Return a sentence for each class that gets less than its quota, none at all, or that the detector never sees."""
    unit, found = ("images", "boxes")[order.unit == "box"], []
    for row in rows:
        name, wanted = classes[row.label], choice.wanted.get(row.label)
        if wanted is not None and choice.got[row.label] < wanted - 0.5:
            found.append(
                f"{name} starves: {choice.got[row.label]:.0f} of the {wanted:.0f} {unit} of its quota; the detector "
                f"sees it in {row.pool:,} images of the pool (confidence {order.shows:g} or more)"
            )
        elif row.pool == 0:
            found.append(
                f"{name}: the detector sees none in the whole pool (confidence {order.shows:g} or more), so no "
                "strategy can look for it; a random share may find some"
            )
        elif row.chosen == 0:
            found.append(f"{name} starves: seen in {row.pool:,} images of the pool, in none of the chosen; "
                         f"--quota {name}=0.1 asks for some")  # fmt: skip
    return found


def make_page(
    told: Told, rows: Sequence[Row], choice: Choice, counts: Sequence[ClassRow], order: Order, most: int
) -> Page:
    """Return the page.

    Args:
        told: what it says.
        rows: the images, in rank order.
        choice: what was chosen.
        counts: see `class_rows`.
        order: what was asked for.
        most: thumbnails a part, evenly spread over the ranks.
    """
    num_random = sum(row.pick.arm == RANDOM for row in rows)
    expected = sum(row.expected for row in rows)
    numbers = [
        Headline(f"{len(rows):,}", "images chosen", f"of {len(choice.candidates):,} unlabeled"),
        Headline(f"{expected:,.0f}", "boxes expected", "sum of the confidences"),
        Headline(f"{num_random:,}", "of them at random", "to compare with" if num_random else "--random-share 0.1"),
        Headline(f"{told.num_labeled + choice.num_known:,}", "left out", "labeled already"),
    ]
    sections = [
        _next(told),
        _images(rows, told, most, order.shows),
        _classes(told, counts, choice, order),
        *([lint_section(told.lint, told.strategy)] if told.lint is not None else []),
        _utilities(rows, choice, told),
        _read(told, choice),
    ]
    verdict = "; ".join(told.alarms[:2]) + (f"; and {len(told.alarms) - 2} more" if len(told.alarms) > 2 else "")  # noqa: PLR2004
    status = "classes starve" if told.alarms else "to label"
    subtitle = f"{told.dataset} · strategy {told.strategy} · seed {order.seed}, cycle {order.cycle}"
    return Page(f"{len(rows):,} images to label", subtitle, status, not told.alarms, verdict, numbers, sections)


def _next(told: Told) -> Section:
    return Section("next", "Next", commands=list(told.commands))


def _images(rows: Sequence[Row], told: Told, most: int, shows: float) -> Section:
    section = Section(
        "images",
        "Images",
        f"In the order in which to label them, with the boxes the detector sees (confidence {shows:g} or more, at most "
        f"{_MOST_BOXES} an image; where there is none, the {_WEAK_BOXES} strongest). selected.csv has all images.",
    )
    colors = class_colors(told.classes)
    section.legend = dict(list(colors.items())[:20])
    for arm, title in ((STRATEGY, f"Chosen by {told.strategy}"), (RANDOM, "Drawn at random, to compare with")):
        mine = [(rank, row) for rank, row in enumerate(rows, 1) if row.pick.arm == arm]
        if mine:
            shown = _tiles(mine, told.classes, colors, most, shows)
            section.sheets.append(Sheet(f"images_{arm}", title, shown, len(mine), is_wide=True))
    return section


def worth_drawing(found: Detections, shows: float) -> Detections:
    """Return the boxes that a person wants to see: detectors are asked for hundreds of weak ones."""
    strongest = np.argsort(-found.confidence, kind="stable")
    num = int((found.confidence >= shows).sum())
    return found.rows(strongest[: min(num, _MOST_BOXES) or _WEAK_BOXES])


def _tiles(
    mine: Sequence[tuple[int, Row]], classes: Sequence[str], colors: Mapping[str, str], most: int, shows: float
) -> list[Tile]:
    some = np.unique(np.linspace(0, len(mine) - 1, min(len(mine), most)).round().astype(int))
    drawn = []
    for rank, row in (mine[k] for k in some):
        found = worth_drawing(row.detections, shows)
        labels = tuple(classes[label] for label in found.labels.tolist())
        shown = Shown(f"{rank}. {row.pick.sample_id}", row.pick.utility, row.path, found.boxes_xyxy, labels)
        (tile,) = tiles([shown], colors, size_px=_TILE_PX)
        drawn.append(Tile(shown, tile.picture, tile.problem, row.reason.words))
    return drawn


def _classes(told: Told, counts: Sequence[ClassRow], choice: Choice, order: Order) -> Section:
    section = Section("classes", "Classes", missing=[(sentence, "") for sentence in told.alarms])
    rows = [
        [
            told.classes[row.label],
            row.pool,
            row.chosen,
            row.pool_boxes,
            row.chosen_boxes,
            100 * row.chosen_boxes / row.pool_boxes if row.pool_boxes else None,
            choice.wanted.get(row.label),
        ]
        for row in counts
    ]
    columns = ["class", "images of the pool", "chosen", "boxes expected in the pool", "in the chosen",
               "% of the pool's", "quota"]  # fmt: skip
    note = f"An image shows a class from confidence {order.shows:g} on; expected boxes are sums of confidences."
    section.tables.append(
        Table("classes", "What the detector sees", columns, rows, digits=(0, 0, 0, 0, 0, 1, 0), note=note)
    )
    return section


def _utilities(rows: Sequence[Row], choice: Choice, told: Told) -> Section:
    """Draw how the utilities of the pool are spread, and where the chosen ones lie."""
    section = Section("utilities", "Utilities")
    at = {i: n for n, i in enumerate(choice.candidates.sample_ids)}
    utility = choice.candidates.utility
    chosen = utility[[at[row.pick.sample_id] for row in rows if row.pick.arm == STRATEGY]]
    if len(chosen) == 0 or utility.max() <= utility.min():
        return section  # alike before the choice, as with core_set
    with look():
        figure = Figure(figsize=(7.2, 2.8))
        axes = figure.add_subplot()
        bins = np.linspace(utility.min(), utility.max(), _BINS + 1).tolist()
        axes.hist(utility, bins, color=MUTED, alpha=0.45, label="unlabeled images")
        axes.hist(chosen, bins, color=color_of(told.strategy), label="chosen")
        axes.set(xlabel=f"utility ({told.strategy})", ylabel="images", yscale="symlog")
        axes.yaxis.set_major_formatter("{x:,.0f}")  # of powers it would write formulas
        axes.legend()
    alt = f"Histogram of the utilities of {len(utility)} images and of the {len(chosen)} chosen"
    caption = "The number of images on a logarithmic scale."
    if any(row.pick.quota is not None for row in rows):
        caption += " What was chosen from further left was a quota's."
    section.pictures.append(Picture("utilities", figure, alt, caption, is_wide=True))
    return section


def _read(told: Told, choice: Choice) -> Section:
    section = Section(
        "read", "What was read", "Predictions: " + ", ".join(told.files) if told.files else "No predictions."
    )
    section.missing = [(note[:1].upper() + note[1:], "") for note in told.notes]
    copies = "\n".join(f"{i}  is nearly {other}" for i, other in sorted(choice.copies.items()))
    if copies:
        seen = "" if choice.near_cosine is None else f", by fingerprint or a cosine of {choice.near_cosine:.4f} or more"
        section.blocks.append((f"{len(choice.copies)} near copies that were passed over{seen}", copies))
    return section


def write_page(page: Page, folder: Path) -> Path:
    """Write ``selected.html``."""
    path = folder / "selected.html"
    page.write(path)
    return path
