"""Checks that every reader applies to the boxes it found, so that bad ones are named the same way everywhere."""

from __future__ import annotations

from typing import Literal

import numpy as np

from al_lab.core.errors import DataError, explain

Outside = Literal["error", "clip"]

# Annotation tools disagree by one pixel about where an image ends; more than that is a mistake in the file.
_TOLERANCE_PX = 1.0


def clean_boxes(
    xyxy: np.ndarray, size_hw: tuple[int, int], where: str, outside: Outside = "error"
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Clip boxes to the image and find the ones of no area.

    Args:
        xyxy: (N, 4) float64 boxes, continuous 0-based pixels.
        size_hw: of the upright image.
        where: file and sample for messages.
        outside: "error" refuses boxes that leave the image by more than a pixel, "clip" cuts them and says so.

    Returns:
        boxes (M, 4) float32 inside the image, rows (M,) int64 of the input that were kept, and sentences about
        what was worked around.

    Raises:
        DataError: for NaN, corners in the wrong order, and (``outside="error"``) boxes that leave the image.
    """
    xyxy = np.asarray(xyxy, np.float64).reshape(-1, 4)
    height, width = size_hw
    _refuse(np.asarray(~np.isfinite(xyxy).all(1)), xyxy, where, "finite numbers", "correct the coordinates")
    _refuse(
        np.asarray((xyxy[:, 2:] < xyxy[:, :2]).any(1)),
        xyxy,
        where,
        "x1 <= x2 and y1 <= y2",
        "swap the corners in the annotation",
    )
    limit = np.array([width, height, width, height], np.float64)
    overshoot = np.maximum(-xyxy, xyxy - limit).max(1, initial=0.0)
    notes = []
    far = overshoot > _TOLERANCE_PX
    if outside == "error":
        _refuse(
            far,
            xyxy,
            where,
            f"a box inside the image of width {width} and height {height}",
            "correct the box, or set dataset.outside=clip to cut such boxes at the border",
        )
    elif far.any():
        notes.append(f"{int(far.sum())} box(es) leave the image and were cut at its border")
    boxes = np.clip(xyxy, 0.0, limit).astype(np.float32)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(1)
    for row in np.flatnonzero(~keep):
        notes.append(f"object {row + 1} has no area ({_show(xyxy[row])}) and is left out")
    return boxes[keep], np.flatnonzero(keep), tuple(notes)


def _refuse(bad: np.ndarray, xyxy: np.ndarray, where: str, expected: str, do: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
        raise DataError(
            explain(expected=expected, got=f"object {row + 1} with xyxy {_show(xyxy[row])}{more}", where=where, do=do)
        )


def _show(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:g}" for v in box) + "]"
