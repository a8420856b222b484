"""The folder in which people find what to label.

Images, lists, instructions, and the model's own guesses to start from.
"""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from al_lab.core.files import atomic_path, write_json, write_text
from al_lab.core.record.csv_file import csv_text
from al_lab.core.types import Annotation, Detections, Query
from al_lab.data.formats import coco, cvat, label_studio, labelme, voc, yolo
from al_lab.data.formats.images import _orientation, open_image
from al_lab.data.formats.layout import uploaded_name
from al_lab.data.formats.record import Record
from al_lab.labeling.guide import write_guide

ACCEPTED, OPEN = "accepted", "open"
_SURVIVES = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]*")  # what web frameworks leave as it is
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Item:
    """One image that people are asked to label.

    Attributes:
        query: what was bought.
        stem: the name, without suffix, under which people know the image.
        image: its file.
        size_hw: of the upright image.
        is_turned: the file relies on an EXIF orientation, which labeling tools honor or don't.
    """

    query: Query
    stem: str
    image: Path
    size_hw: tuple[int, int]
    is_turned: bool

    @property
    def sample_id(self) -> str:
        """The sample's id."""
        return self.query.sample_id

    @property
    def known_as(self) -> set[str]:
        """Names, without suffix, under which an answer may speak of the image: also those that tools made of them."""
        plain = self.sample_id.replace("/", "__").replace("\\", "__")
        return {name for stem in (self.stem, plain) for name in (stem, uploaded_name(stem)) if name}

    @property
    def file_name(self) -> str:
        """The name of the image in the folder; a turned image is written upright, without loss."""
        return f"{self.stem}.png" if self.is_turned else f"{self.stem}{self.image.suffix}"


def make_items(dataset: Any, queries: Sequence[Query]) -> list[Item]:
    """Give each queried image a name that is unique, close to its id, and that no tool changes on upload."""
    plain = {q.sample_id: q.sample_id.replace("/", "__").replace("\\", "__") for q in queries}
    times = Counter(name.lower() for name in plain.values())  # lower: some disks don't tell A.jpg from a.jpg
    items = []
    for query in queries:
        name = plain[query.sample_id]
        path = dataset.image_path(query.sample_id)
        size_hw = dataset.size_hw(query.sample_id)
        with open_image(path) as image:
            is_turned = _orientation(image) != 1
        survives = _SURVIVES.fullmatch(name) is not None and times[name.lower()] == 1
        items.append(Item(query, name if survives else _new_name(query.sample_id), path, size_hw, is_turned))
    return items


def _new_name(sample_id: str) -> str:
    """Return a name that no upload changes and no other image has."""
    plain = re.sub(r"[^-A-Za-z0-9_.]+", "_", sample_id.replace("/", "__")).strip("._-")[:_LONGEST_NAME]
    return f"{plain or 'image'}_{hashlib.sha256(sample_id.encode()).hexdigest()[:8]}"


def write_request(
    folder: Path,
    dataset: Any,
    items: Sequence[Item],
    accepted: Mapping[str, Any],
    predictions: Mapping[str, Detections] | None,
    one_based: bool,
    min_confidence: float,
    stop_at_boxes: int | None,
    tool: str | None = None,
) -> None:
    """Write (or bring up to date) everything people need; what they have put into ``labels/`` is never touched.

    Args:
        folder: of this purchase.
        dataset: for its classes and images.
        items: in rank order.
        accepted: sample ids whose labels are in already.
        predictions: what the current model finds in these images; None before the first training.
        one_based: whether VOC files count pixels from 1.
        min_confidence: weaker detections are no help to anybody.
        stop_at_boxes: with a budget of boxes: how many are enough.
        tool: of `TOOLS`: its own files are written, too.
    """
    open_items = write_images_and_lists(folder, dataset, items, accepted)
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in dataset.classes))
    if predictions is not None:
        write_prelabels(folder / "prelabels", dataset.classes, items, predictions, one_based, min_confidence, tool)
    if tool == "label_studio":
        bare = [Record.of(i.file_name, Annotation.make([], []), (), i.size_hw, key=i.sample_id) for i in open_items]
        write_json(folder / "label_studio_tasks.json", label_studio.tasks(bare, dataset.classes))
        write_text(folder / "label_studio_config.xml", label_studio.labeling_config(dataset.classes))
    write_guide(folder, dataset.classes, items, {i.sample_id for i in open_items}, predictions, min_confidence)
    write_text(
        folder / "README.txt", _instructions(dataset.classes, items, predictions is not None, one_based, stop_at_boxes)
    )


def write_images_and_lists(folder: Path, dataset: Any, items: Sequence[Item], done: Container[str]) -> list[Item]:
    """Write what every task begins with: the images, both lists, a place for answers. Returns what is open."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for item in items:
        write_image(folder / "images" / item.file_name, dataset, item, as_png=item.is_turned)
    open_items = [item for item in items if item.sample_id not in done]
    write_text(folder / "list.txt", "".join(f"{item.file_name}\n" for item in open_items))
    write_text(folder / "list.csv", list_table(items, done))
    return open_items


def write_prelabels(
    folder: Path,
    classes: Sequence[str],
    items: Sequence[Item],
    predictions: Mapping[str, Detections],
    one_based: bool,
    min_confidence: float,
    tool: str | None,
) -> None:
    """Write detections as one COCO file and as one VOC file an image, and in the tool's own format."""
    records, confidence = prelabels(classes, items, predictions, min_confidence)
    for item, record in zip(items, records, strict=True):
        voc.write_record(folder / "voc" / f"{item.stem}.xml", _whole_pixels(record), one_based)
    write_json(folder / "coco.json", coco.document(records, classes, confidence))
    if tool == "label_studio":
        write_json(folder / "label_studio.json", label_studio.tasks(records, classes, confidence))
    elif tool in _TOOLS:
        _TOOLS[tool].write(folder / tool, records, classes)


def prelabels(
    classes: Sequence[str], items: Sequence[Item], predictions: Mapping[str, Detections], min_confidence: float
) -> tuple[list[Record], list[list[float]]]:
    """Return what the current model finds in each image, for people to correct, and how sure it is of each box."""
    records, confidence = [], []
    for item in items:
        found = predictions.get(item.sample_id)
        found = found.above(min_confidence) if found is not None else Detections.none(1, "sigmoid")
        record = Record.of(
            item.file_name, Annotation.make(found.boxes_xyxy, found.labels), classes, item.size_hw, key=item.sample_id
        )
        records.append(replace(record, boxes_xyxy=record.boxes_xyxy.round(2)))
        confidence.append(found.confidence.tolist())
    return records, confidence


# Tools whose own format is neither COCO nor VOC, which are written anyway.
_TOOLS = {"cvat": cvat, "yolo": yolo, "labelme": labelme}
TOOLS = ("label_studio", "cvat", "yolo", "coco", "voc", "labelme")


def _whole_pixels(record: Record) -> Record:
    """Round a record's boxes: the common tools read VOC coordinates as integers."""
    assert record.size_hw is not None
    height, width = record.size_hw
    boxes = np.clip(np.rint(record.boxes_xyxy), 0, np.array([width, height, width, height]) - 1)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    names = tuple(name for name, is_kept in zip(record.names, kept.tolist(), strict=True) if is_kept)
    return replace(record, boxes_xyxy=boxes[kept], names=names, difficult=None, crowd=None)


def write_image(path: Path, dataset: Any, item: Item, as_png: bool) -> None:
    """Copy, never link: a tool that rotates or saves an image in place must not reach the dataset."""
    if path.is_file():
        return
    with atomic_path(path) as temporary:
        if as_png:
            Image.fromarray(dataset.load_image(item.sample_id)).save(temporary, format="PNG")
        else:
            shutil.copyfile(item.image, temporary)


def list_table(items: Sequence[Item], accepted: Container[str]) -> str:
    """Return ``list.csv``: the images in rank order; those of ``accepted`` wait for nothing."""
    rows = (
        [
            rank,
            item.file_name,
            item.sample_id,
            item.size_hw[1],
            item.size_hw[0],
            item.query.utility,
            ACCEPTED if item.sample_id in accepted else OPEN,
        ]
        for rank, item in enumerate(items, 1)
    )
    return csv_text(["rank", "file", "sample_id", "width", "height", "utility", "state"], rows)


def _instructions(
    classes: Sequence[str], items: Sequence[Item], has_prelabels: bool, one_based: bool, stop_at_boxes: int | None
) -> str:
    example = items[0]
    parts = [
        f"Please draw a box around every object of these classes: {', '.join(classes)}.",
        f"The images are in images/ ({len(items)} of them); list.txt names those still open, the most wanted first.",
        "guide.html shows them with what the model thinks it sees.",
        "Put the result into labels/, as your tool exports it: Pascal VOC, COCO, YOLO, CVAT for images, Label Studio's "
        "JSON or labelme. Two examples:\n"
        f"  - Pascal VOC: one XML file an image, named like the image ({example.stem}.xml for {example.file_name}), "
        f"pixels counted from {1 if one_based else 0};\n"
        "  - COCO: one JSON file with 'images', 'annotations' and 'categories'.",
        "Spell the classes as in classes.txt. Do not crop, rotate or resize the images.",
        "An image without any such object: an XML file without <object>, a finished task of Label Studio's JSON, or "
        "a line "
        "with its name in labels/no_objects.txt. In COCO, CVAT and YOLO exports an image without boxes may just be "
        "unfinished: it counts as open, unless no_objects.txt names it (or the run says oracle.empty_is_answer=true).",
        "You may hand in a part: what is correct is taken over, and problems.txt says what is wrong with the rest.",
    ]
    if has_prelabels:
        parts.insert(
            2,
            "prelabels/ holds what the current model finds, as COCO and as VOC: import it and correct it, "
            "and mind what it misses.",
        )
    if stop_at_boxes is not None:
        parts.insert(2, f"Label in the order of list.txt and stop when about {stop_at_boxes} boxes are drawn.")
    return "\n\n".join(parts) + "\n"
