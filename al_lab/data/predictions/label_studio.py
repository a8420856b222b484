"""Label Studio's tasks with predictions, as its machine-learning backends and its import write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import LabError
from al_lab.core.fields import anything, class_name, list_of, number, text
from al_lab.data.formats.label_studio import file_name_of
from al_lab.data.predictions.rows import Rows, all_wrong, coded

WHAT = "Label Studio's tasks with predictions"
_DO = "export the tasks with their predictions again"
_IMAGE_KEYS = ("image", "img", "photo", "picture", "url")
_RECTANGLES = ("rectanglelabels", "rectangle")


def read(path: Path, content: list[Any]) -> Rows:
    """Read the newest prediction of each task: its rectangles, in percent of the image.

    A rectangle's own ``score`` is its confidence, else the prediction's.

    Raises:
        DataError: naming the task and the region.
    """
    source = Source(path, WHAT, _DO)
    images: list[str | int] = []
    boxes: list[list[float]] = []
    of: list[int] = []
    names: list[str | int] = []
    places: list[str] = []
    wrong: list[LabError] = []
    for n, value in enumerate(content):
        try:
            task = Entry(value, source, f"[{n}]")
            images.append(_image(task))
            for region, confidence in _regions(task):
                value_of = region.entry("value")
                x, y, w, h = (value_of.read(key, number) / 100 for key in ("x", "y", "width", "height"))
                names.append(value_of.read("rectanglelabels", list_of(class_name, length=1))[0])
                boxes.append([x, y, x + w, y + h, confidence])
                of.append(n)
                places.append(region.place)
        except LabError as error:
            wrong.append(error)
    if wrong:
        raise all_wrong(source, wrong)
    found, at = coded(images)
    categories, category = coded(names)
    table = np.array(boxes, np.float64).reshape(-1, 5)
    return Rows(
        source,
        found,
        at[np.array(of, np.int64)],
        categories,
        category,
        table[:, :4],
        table[:, 4],
        True,
        lambda row: places[row],
    )


def _image(task: Entry) -> str:
    data = task.entry("data")
    for key in _IMAGE_KEYS:
        if key in data:
            return file_name_of(data.read(key, text))
    raise data.wrong("", f"an image under one of {', '.join(_IMAGE_KEYS)}", "none of these keys")


def _regions(task: Entry) -> list[tuple[Entry, float]]:
    predictions = list(task.entries("predictions", required=False))
    if not predictions:
        return []
    newest = predictions[-1]
    whole = newest.read("score", anything, None)
    found = []
    for region in newest.entries("result"):
        if region.read("type", text, "") not in _RECTANGLES:
            continue
        confidence = (
            region.read("score", number) if "score" in region or whole is None else newest.read("score", number)
        )
        if region.entry("value").read("rotation", number, 0):
            raise region.wrong("value.rotation", "upright rectangles", "a turned one", "predict upright boxes")
        found.append((region, confidence))
    return found
