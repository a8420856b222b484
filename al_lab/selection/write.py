"""What a choice leaves on the disk: a table, a page, and the folder in which people label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.errors import ConfigError, explain
from al_lab.core.files import write_text
from al_lab.core.record.csv_file import csv_text
from al_lab.core.strategy import Reason, Strategy
from al_lab.core.types import Detections, Query
from al_lab.data.predictions.table import Predictions
from al_lab.data.predictions.views import Views
from al_lab.labeling.request import make_items, write_request
from al_lab.selection.choose import RANDOM, Choice, Pick

REQUEST = "to_label"
_CONTROL = "drawn at random from all unlabeled images, to compare with"


@dataclass(frozen=True)
class Row:
    """One image of the choice, as table and page show it.

    Attributes:
        pick: the image and how it was chosen.
        path: its file.
        detections: inside the image.
        expected: number of boxes, the sum of their confidences.
        reason: why this one.
    """

    pick: Pick
    path: Path
    detections: Detections
    expected: float
    reason: Reason


def check_new(folder: Path) -> None:
    """Refuse a folder that holds something: people may have worked in it.

    Raises:
        ConfigError: naming it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        do = "choose another one with --out, or move this one away"
        raise ConfigError(explain(expected="a new folder", got="one that holds something", where=str(folder), do=do))


def rows_of(choice: Choice, strategy: Strategy, views: Views, predictions: Predictions, dataset: Any, told: Any,
            notes: list[str]) -> list[Row]:  # fmt: skip
    """Look at each chosen image: its boxes in pixels and inside the image, and why it was chosen.

    Args:
        choice: what was chosen.
        strategy: that chose.
        views: as the strategy saw them.
        predictions: of the detector.
        dataset: of the images.
        told: see `contexts`.
        notes: takes a sentence about boxes that leave their images.

    Raises:
        DataError: if a chosen image can't be opened.
    """
    rows, outside, boxes = [], 0, 0
    for pick in choice.picks:
        i = pick.sample_id
        size_hw = dataset.size_hw(i)
        found, left = _inside(predictions.detections(i, size_hw), size_hw)
        outside, boxes = outside + left, boxes + len(found)
        reason = _reason(pick, strategy, views, told, dataset.classes)
        rows.append(Row(pick, dataset.image_path(i), found, float(found.confidence.sum()), reason))
    if outside:
        notes.append(
            f"{outside} of {boxes} boxes of the chosen images leave their image by more than a tenth of its size and "
            "are cut at its border: were they predicted on these very images, in their own pixels?"
        )
    return rows


def _reason(pick: Pick, strategy: Strategy, views: Views, told: Any, classes: Sequence[str]) -> Reason:
    if pick.arm == RANDOM:
        return Reason({}, _CONTROL)
    if pick.utility is None:
        reason = Reason({}, "beyond what the strategy ranked, at random")
    else:
        reason = strategy.explain(views(pick.sample_id), told(pick.sample_id), classes, pick.utility)
    if pick.quota is not None:
        return Reason(reason.parts, f"for the quota of {classes[pick.quota]}; {reason.words}")
    return reason


def _inside(found: Detections, size_hw: tuple[int, int]) -> tuple[Detections, int]:
    """Return detections cut at the image's border, and how many left it by more than a tenth of its size."""
    limit = np.array([size_hw[1], size_hw[0]] * 2, np.float32)
    over = np.maximum(-found.boxes_xyxy, found.boxes_xyxy - limit) / limit
    boxes = found.boxes_xyxy.clip(0, limit)
    cut = Detections(boxes, found.confidence, found.labels, found.probs, found.activation)
    return cut, int((over > 0.1).any(1).sum())  # noqa: PLR2004 - detectors leave the image by rounding, not by this


def table(rows: Sequence[Row], classes: Sequence[str]) -> str:
    """Return ``selected.csv``: a line an image, in the order in which to label."""
    parts = list(dict.fromkeys(name for row in rows for name in row.reason.parts))
    head = ["rank", "file", "sample_id", "arm", "utility", *(f"utility_{p}" for p in parts), "num_boxes",
            "expected_boxes", "quota", "why"]  # fmt: skip
    lines = (
        [
            rank,
            str(row.path),
            row.pick.sample_id,
            row.pick.arm,
            row.pick.utility,
            *(row.reason.parts.get(p) for p in parts),
            len(row.detections),
            round(row.expected, 3),
            None if row.pick.quota is None else classes[row.pick.quota],
            row.reason.words,
        ]
        for rank, row in enumerate(rows, 1)
    )
    return csv_text(head, lines)


def write_selection(
    folder: Path, rows: Sequence[Row], dataset: Any, min_confidence: float, boxes: int | None, tool: str | None
) -> None:
    """Write ``selected.csv`` and ``to_label/``, the folder of ``oracle=folder``, in the tool's format.

    Args:
        folder: a new one.
        rows: in rank order.
        dataset: of the images.
        min_confidence: of detections that are offered as pre-labels.
        boxes: with a budget of boxes: how many are enough.
        tool: of `al_lab.labeling.request.TOOLS`.
    """
    write_text(folder / "selected.csv", table(rows, dataset.classes))
    items = make_items(dataset, [Query(row.pick.sample_id, None, row.pick.utility or 0.0) for row in rows])
    predictions: Mapping[str, Detections] = {row.pick.sample_id: row.detections for row in rows}
    write_request(folder / REQUEST, dataset, items, {}, predictions, True, min_confidence, boxes, tool)
