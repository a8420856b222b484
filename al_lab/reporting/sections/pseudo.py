"""Pseudo-labels: how many each training used, how they weigh against the human ones, how many are right."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from al_lab.core.pool import INITIAL
from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.methods import CycleLine, cycle_lines, gain_by_ratio
from al_lab.reporting.figures.theme import color_of, marker_of
from al_lab.reporting.judge.curves import mean_and_error
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read.line_names import differing, is_supervised
from al_lab.reporting.read.run_folder import Run

_MAX_CLASS_ROWS = 30
_TEXT = (
    "Boxes that the model of one cycle is surest of, in images that nobody has labeled; the next training learns from "
    "them, and every cycle "
    "makes them anew. Correct is a box with the right class and an IoU above 0.5 with an object of that class: the "
    "oracle counted that for "
    "this page, the strategy never sees it."
)
_PANELS = (
    ("share of all labels, % of boxes", "share_of_boxes", 100),
    ("share of all labels, % of images", "share_of_images", 100),
    # title, property, factor
    ("boxes per unlabeled image", "per_unlabeled", 1),
    ("correct boxes, %", "precision", 100),
)
_COLUMNS = (
    "τ",
    "images",
    "boxes",
    "of the unlabeled images, %",
    "boxes per unlabeled image",
    "share of labeled images, %",
    "share of labeled boxes, %",
    "correct boxes, %",
)
_DIGITS = (3, 0, 0, 1, 2, 1, 1, 1)
_NOTE = (
    "A share is pseudo / (pseudo + human) of what one training saw. A dash: the truth is not known, or nobody counted."
)


@dataclass(frozen=True)
class PseudoLabels:
    """The pseudo-labels of one training.

    Attributes:
        cycle: whose training used them (the cycle before made them).
        images: with at least one such box.
        unlabeled: images that could have had some.
        human_images: labeled by people, for the same training.
        human_boxes: in those images; NaN if nobody counted.
        precision: share of the boxes that are correct; NaN if nobody knows.
        tau: the confidence from which a box counted; NaN if it was not written.
        per_class: class -> (boxes, correct ones or NaN).
    """

    cycle: int
    images: int
    boxes: int
    unlabeled: int
    human_images: int
    human_boxes: float = math.nan
    precision: float = math.nan
    tau: float = math.nan
    per_class: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def share_of_images(self) -> float:
        """Pseudo-labeled among all labeled images."""
        return _ratio(self.images, self.images + self.human_images)

    @property
    def share_of_boxes(self) -> float:
        """Pseudo-labels among all labels: AL-SSL's Fig. 8b, where about half in the first cycle are."""
        return _ratio(self.boxes, self.boxes + self.human_boxes)

    @property
    def per_unlabeled(self) -> float:
        """Boxes per unlabeled image (AL-SSL: .58 growing to .81)."""
        return _ratio(self.boxes, self.unlabeled)


def pseudo_labels(run: Run) -> list[PseudoLabels]:
    """Return what each training used, ascending; empty for a run without pseudo-labels."""
    found = (_of_cycle(run, cycle) for cycle in run.cycle_dirs)
    return [labels for labels in found if labels is not None]


def pseudo_section(lines: Sequence[Series], metric: str | None = None) -> Section:
    """Show numbers, ratios and precision by cycle, one line a method; empty if no run has pseudo-labels."""
    section = Section("pseudo", "Pseudo-labels")
    of_run = {str(run.path): pseudo_labels(run) for series in lines for run in series.runs}
    having = [s for s in lines if any(of_run[str(run.path)] for run in s.runs)]
    if not having:
        return section
    labels = [s.label for s in lines]
    panels: dict[str, list[CycleLine]] = {}
    for title, name, scale in _PANELS:
        drawn = [_line(s, of_run, name, scale, labels) for s in having]
        if any(np.isfinite(line.mean).any() for line in drawn):
            panels[title] = drawn
    caption = "By the cycle whose training used them" + (
        "; means over seeds, bars are one standard error." if any(len(s.runs) > 1 for s in having) else "."
    )
    section.text = _TEXT
    alt = f"pseudo-labels by cycle: {', '.join(panels)}"
    section.pictures.append(
        Picture("pseudo_labels", cycle_lines(panels, {"correct boxes, %"}), alt, caption, is_wide=True)
    )
    gains = _gains(lines, having, of_run, metric) if metric else {}
    if gains:
        others = "; ".join(f"{label} against {twin}" for label, (twin, _) in gains.items())
        against = {
            s.label: (color_of(s.strategy, s.label, labels), marker_of(s.strategy, s.label, labels), gains[s.label][1])
            for s in having
            if s.label in gains
        }
        caption = (
            f"Relative gain over the line without pseudo-labels ({others}), one point a cycle, mean over paired seeds."
        )
        section.pictures.append(
            Picture("pseudo_gain", gain_by_ratio(against), "gain by share of pseudo-labels", caption, is_wide=True)
        )
    if any(len(s.runs) > 1 for s in having):
        section.tables.append(_mean_table(having, of_run))
        section.files.append(_table(having, of_run))
    else:
        section.tables.append(_table(having, of_run))
    if len(lines) == 1 and len(lines[0].runs) == 1:
        _add_classes(section, of_run[str(lines[0].runs[0].path)][-1])
    return section


def _of_cycle(run: Run, cycle: int) -> PseudoLabels | None:
    """Return what the training of the next cycle uses: the oracle's count, else our own without what was bought."""
    stats = run.pseudo_stats(cycle)
    boxes = None if stats is not None else run.pseudo_boxes(cycle)
    if stats is None and (boxes is None or cycle not in run.purchases):
        return None
    bought = {c.sample_id for c in run.bought(cycle)}
    human = len(run.labeled_ids(cycle) | bought)
    costs = [run.cost(c) for c in run.purchases if INITIAL <= c <= cycle]
    human_boxes = sum(c.get("boxes", math.nan) for c in costs) if costs else math.nan
    if stats is None:
        kept = [len(d) for i, d in (boxes or {}).items() if i not in bought and len(d)]
        return PseudoLabels(cycle + 1, len(kept), sum(kept), (run.pool_size or human) - human, human, human_boxes)
    classes = stats.get("per_class")
    return PseudoLabels(
        cycle + 1,
        stats["images"],
        stats["boxes"],
        stats["unlabeled"],
        human,
        human_boxes,
        _number(stats.get("precision")),
        _number(stats.get("tau")),
        {
            str(k): (int(_number(v.get("boxes"))), _number(v.get("correct")))
            for k, v in (classes if isinstance(classes, dict) else {}).items()
            if isinstance(v, dict) and math.isfinite(_number(v.get("boxes")))
        },
    )


def _line(
    series: Series, of_run: Mapping[str, Sequence[PseudoLabels]], name: str, scale: float, labels: Sequence[str]
) -> CycleLine:
    rows = [row for run in series.runs for row in of_run[str(run.path)]]
    cycles = sorted({row.cycle for row in rows})
    values = [mean_and_error([scale * getattr(row, name) for row in rows if row.cycle == c]) for c in cycles]
    return CycleLine(
        series.label,
        color_of(series.strategy, series.label, labels),
        marker_of(series.strategy, series.label, labels),
        np.asarray(cycles, float),
        np.asarray([v for v, _ in values], float),
        np.asarray([e for _, e in values], float),
    )


def _table(having: Sequence[Series], of_run: Mapping[str, Sequence[PseudoLabels]]) -> Table:
    rows = [
        [series.label, run.seed, p.cycle, *_cells(p)]
        for series in having
        for run in series.runs
        for p in of_run[str(run.path)]
    ]
    return Table(
        "pseudo_labels",
        "Pseudo-labels of each training",
        ["strategy", "seed", "used in cycle", *_COLUMNS],
        rows,
        digits=[0, 0, 0, *_DIGITS],
        note=_NOTE,
    )


def _mean_table(having: Sequence[Series], of_run: Mapping[str, Sequence[PseudoLabels]]) -> Table:
    rows = []
    for series in having:
        found = [p for run in series.runs for p in of_run[str(run.path)]]
        for cycle in sorted({p.cycle for p in found}):
            cells = [_cells(p) for p in found if p.cycle == cycle]
            rows.append(
                [series.label, cycle, len(cells), *(mean_and_error(values)[0] for values in zip(*cells, strict=True))]
            )
    return Table(
        "pseudo_labels_mean",
        "Pseudo-labels of each training, means over seeds",
        ["strategy", "used in cycle", "seeds", *_COLUMNS],
        rows,
        digits=[0, 0, 0, *_DIGITS],
        note=_NOTE,
    )


def _cells(p: PseudoLabels) -> list[float]:
    return [
        p.tau,
        p.images,
        p.boxes,
        100 * _ratio(p.images, p.unlabeled),
        p.per_unlabeled,
        100 * p.share_of_images,
        100 * p.share_of_boxes,
        100 * p.precision,
    ]


def _add_classes(section: Section, labels: PseudoLabels) -> None:
    rows = [
        [name, boxes, correct if math.isnan(correct) else int(correct), 100 * _ratio(correct, boxes)]
        for name, (boxes, correct) in sorted(labels.per_class.items(), key=lambda item: (-item[1][0], item[0]))
    ]
    if rows:
        caption = f"Pseudo-labels of each class, used in cycle {labels.cycle}"
        table = Table("pseudo_per_class", caption, ["class", "boxes", "correct", "correct, %"], rows)
        (section.tables if len(rows) <= _MAX_CLASS_ROWS else section.files).append(table)


def _gains(
    lines: Sequence[Series], having: Sequence[Series], of_run: Mapping[str, Sequence[PseudoLabels]], metric: str
) -> dict[str, tuple[str, np.ndarray]]:
    """Return label -> (the line without pseudo-labels, (T, 2) share of labels and relative gain in percent)."""
    out = {}
    for series in having:
        twin = _twin(series, [s for s in lines if s not in having])
        if twin is None:
            continue
        ours, theirs = (_by_cycle(s, metric) for s in (series, twin))
        rows = [row for run in series.runs for row in of_run[str(run.path)]]
        points = []
        for cycle in sorted({row.cycle for row in rows}):
            pairs = [(ours[s, c], theirs[s, c]) for s, c in sorted(set(ours) & set(theirs)) if c == cycle]
            base = np.mean([b for _, b in pairs]) if pairs else 0.0
            share = mean_and_error(
                [
                    row.share_of_boxes if math.isfinite(row.share_of_boxes) else row.share_of_images
                    for row in rows
                    if row.cycle == cycle
                ]
            )[0]
            if base > 0:
                points.append((100 * share, 100 * (np.mean([a for a, _ in pairs]) / base - 1)))
        if points:
            out[series.label] = (twin.label, np.asarray(points, float))
    return out


def _twin(series: Series, others: Sequence[Series]) -> Series | None:
    """Return the line that chooses alike and trains most alike, on unlabeled images too; None if there is none."""
    distance: list[tuple[int, Series]] = []
    for other in others:
        if other.strategy != series.strategy or is_supervised(other.runs[0]):
            continue  # against a supervised line, the gain would be the consistency loss's as well
        keys = differing([(s.strategy, s.runs[0]) for s in (series, other)], ("objective",))
        if not any(key.startswith("strategy.") for key in keys):
            distance.append((len(keys), other))
    return min(distance, key=lambda item: item[0])[1] if distance else None


def _by_cycle(series: Series, metric: str) -> dict[tuple[int, int], float]:
    values = {(run.seed, int(row["cycle"])): _number(row.get(metric)) for run in series.runs for row in run.metrics}
    return {k: v for k, v in values.items() if math.isfinite(v)}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole and math.isfinite(whole) else math.nan


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
