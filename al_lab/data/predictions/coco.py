"""COCO: results files ([{image_id, category_id, bbox, score}]) and instances files whose annotations have a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import LabError
from al_lab.core.fields import class_name, coordinate, identifier, list_of, number, optional, text
from al_lab.data.predictions.rows import Rows, all_wrong, coded, whole_number

WHAT = "COCO results: a list of objects with image_id, category_id, bbox and score"
_DO = "write the detector's results again, or correct the entry"
_BOX = list_of(coordinate, length=4)
_NUMBERS = {int, float}
_SHOWN = 5


def read(path: Path, content: Any, images_json: Mapping[str, Any] | None = None) -> Rows:
    """Read detections.

    Args:
        path: the file.
        content: what is in it: a list of results, or a document with ``images``, ``annotations`` and ``categories``.
        images_json: another document that explains image and category ids.

    Raises:
        DataError: naming the entry and the field that makes no sense.
    """
    source = Source(path, WHAT, _DO)
    is_document = isinstance(content, Mapping)
    entries = Entry(content, source).values("annotations") if is_document else content
    prefix = "annotations" if is_document else ""
    if not isinstance(entries, list):
        raise source.wrong(WHAT, type(entries).__name__)
    name_of, class_of = _explained(content if is_document else {}, source)
    if images_json is not None:
        more = Source(path, "a COCO document with images and categories", _DO)
        names, classes = _explained(images_json, more)
        name_of, class_of = names | name_of, classes | class_of
    try:
        images, categories, boxes, confidence = _columns(entries)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _named(entries, source, prefix) from error
    boxes[:, 2:] += boxes[:, :2]
    found, image = coded(images)
    kinds, category = coded(categories)
    silent = [name for key, name in name_of.items() if key not in set(found)] if is_document else []
    return Rows(
        source,
        [*(name_of.get(i, i) for i in found), *silent],
        image,
        [class_of.get(k, k) for k in kinds],
        category,
        boxes,
        confidence,
        False,
        lambda row: f"{prefix}[{row}]",
    )


def _columns(entries: Sequence[Any]) -> tuple[list[str | int], list[str | int], np.ndarray, np.ndarray]:
    """Return image, category, (D, 4) xywh and (D,) confidence of each entry; raises for whatever has another type."""
    boxes = [e["bbox"] for e in entries]
    confidence = [e["score"] for e in entries]
    if (
        not {len(b) for b in boxes} <= {4}
        or not {type(v) for v in chain(chain.from_iterable(boxes), confidence)} <= _NUMBERS
    ):
        raise ValueError("not four numbers and a confidence")
    flat = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)
    images = [e["file_name"] if e.get("file_name") else whole_number(e["image_id"]) for e in entries]
    if not all(isinstance(i, str | int) for i in images):
        raise ValueError("a file_name that is no text")
    return images, [whole_number(e["category_id"]) for e in entries], flat, np.array(confidence, np.float64)


def _named(entries: Sequence[Any], source: Source, prefix: str) -> LabError:
    """Return the error that names the first entries that are not what they have to be."""
    errors: list[LabError] = []
    for n, value in enumerate(entries):
        try:
            entry = Entry(value, source, f"{prefix}[{n}]")
            if not entry.read("file_name", optional(text), None):
                entry.read("image_id", identifier)
            entry.read("category_id", identifier)
            entry.read("bbox", _BOX)
            if "score" not in entry:
                raise entry.wrong("score", "a confidence in [0, 1]", "no such field: these are labels, no predictions")
            entry.read("score", number)
            whole_number(value.get("image_id", 0))
            whole_number(value["category_id"])
        except LabError as error:
            errors.append(error)
        except ValueError as error:
            errors.append(source.wrong("ids that are whole numbers or text", str(error), f"{prefix}[{n}]"))
        if len(errors) >= _SHOWN:
            break
    return all_wrong(source, errors)


def _explained(document: Mapping[str, Any], source: Source) -> tuple[dict[str | int, str], dict[str | int, str]]:
    """Return the file name of each image id and the name of each category id that a document tells."""
    entry = Entry(document, source)
    try:
        names = {
            whole_number(i.read("id", identifier)): i.read("file_name", text)
            for i in entry.entries("images", required=False)
        }
        classes = {
            whole_number(c.read("id", identifier)): c.read("name", class_name)
            for c in entry.entries("categories", required=False)
        }
    except ValueError as error:
        if isinstance(error, LabError):
            raise
        raise source.wrong("ids that are whole numbers or text", str(error)) from error
    return names, classes
