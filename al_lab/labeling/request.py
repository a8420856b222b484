"""The folder in which people find what to label: images, lists, instructions, and the model's own guesses to start from."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from al_lab.core.files import atomic_path, write_json, write_text
from al_lab.core.pool import file_stem
from al_lab.core.record.csv_file import csv_text
from al_lab.core.types import Detections, Query
from al_lab.data.formats.images import _orientation, open_image

ACCEPTED, OPEN = "accepted", "open"


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
    def file_name(self) -> str:
        """The name of the image in the folder; a turned image is written upright, without loss."""
        return f"{self.stem}.png" if self.is_turned else f"{self.stem}{self.image.suffix}"


def make_items(dataset: Any, queries: Sequence[Query]) -> list[Item]:
    """Give each queried image a name that is unique within the folder and close to its id."""
    plain = {q.sample_id: q.sample_id.replace("/", "__").replace("\\", "__") for q in queries}
    times = Counter(name.lower() for name in plain.values())  # lower: some disks don't tell A.jpg from a.jpg
    items = []
    for query in queries:
        name = plain[query.sample_id]
        path = dataset.image_path(query.sample_id)
        size_hw = dataset.size_hw(query.sample_id)
        with open_image(path) as image:
            is_turned = _orientation(image) != 1
        items.append(
            Item(query, name if times[name.lower()] == 1 else file_stem(query.sample_id), path, size_hw, is_turned)
        )
    return items


def write_request(
    folder: Path,
    dataset: Any,
    items: Sequence[Item],
    accepted: Mapping[str, Any],
    predictions: Mapping[str, Detections] | None,
    one_based: bool,
    min_confidence: float,
    stop_at_boxes: int | None,
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
    """
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for item in items:
        _write_image(folder / "images" / item.file_name, dataset, item)
    open_items = [item for item in items if item.sample_id not in accepted]
    write_text(folder / "list.txt", "".join(f"{item.file_name}\n" for item in open_items))
    write_text(folder / "list.csv", _table(items, accepted))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in dataset.classes))
    if predictions is not None:
        write_prelabels(folder / "prelabels", dataset.classes, items, predictions, one_based, min_confidence)
    write_text(
        folder / "README.txt", _instructions(dataset.classes, items, predictions is not None, one_based, stop_at_boxes)
    )


def write_prelabels(
    folder: Path,
    classes: Sequence[str],
    items: Sequence[Item],
    predictions: Mapping[str, Detections],
    one_based: bool,
    min_confidence: float,
) -> None:
    """Write detections as one COCO file and as one VOC file an image."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(items, 1):
        height, width = item.size_hw
        images.append({"id": number, "file_name": item.file_name, "height": height, "width": width})
        found = predictions.get(item.sample_id)
        found = found.above(min_confidence) if found is not None else Detections.none(1, "sigmoid")
        for box, label, confidence in zip(
            found.boxes_xyxy.tolist(), found.labels.tolist(), found.confidence.tolist(), strict=True
        ):
            x1, y1, x2, y2 = (round(v, 2) for v in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "iscrowd": 0,
                    "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                    "area": round((x2 - x1) * (y2 - y1), 2),
                    "score": round(confidence, 4),
                }
            )
        write_text(folder / "voc" / f"{item.stem}.xml", _voc(item, classes, found, one_based))
    categories = [{"id": n, "name": name} for n, name in enumerate(classes, 1)]
    write_json(folder / "coco.json", {"images": images, "annotations": annotations, "categories": categories})


def _voc(item: Item, classes: Sequence[str], found: Detections, one_based: bool) -> str:
    height, width = item.size_hw
    shift = 1 if one_based else 0
    # Whole pixels: the common tools read VOC coordinates as integers.
    limits = np.array([width, height, width, height]) - 1
    boxes = np.clip(np.rint(found.boxes_xyxy), 0, limits).astype(int) + shift
    objects = "".join(
        f"  <object>\n    <name>{escape(classes[label])}</name>\n    <difficult>0</difficult>\n    <bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n  </object>\n"
        for label, (x1, y1, x2, y2) in zip(found.labels.tolist(), boxes.tolist(), strict=True)
        if x2 > x1 and y2 > y1
    )
    return (
        f"<annotation>\n  <folder>images</folder>\n  <filename>{escape(item.file_name)}</filename>\n"
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )


def _write_image(path: Path, dataset: Any, item: Item) -> None:
    """Copy, never link: a tool that rotates or saves an image in place must not reach the dataset."""
    if path.is_file():
        return
    with atomic_path(path) as temporary:
        if item.is_turned:
            Image.fromarray(dataset.load_image(item.sample_id)).save(temporary, format="PNG")
        else:
            shutil.copyfile(item.image, temporary)


def _table(items: Sequence[Item], accepted: Mapping[str, Any]) -> str:
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
        "Put the result into labels/ as one of these (Label Studio, CVAT, LabelImg and others export both):\n"
        f"  - Pascal VOC: one XML file an image, named like the image ({example.stem}.xml for {example.file_name}), "
        f"pixels counted from {1 if one_based else 0};\n"
        "  - COCO: one JSON file with 'images', 'annotations' and 'categories'.",
        "Spell the classes as in classes.txt. Do not crop, rotate or resize the images.",
        "An image without any such object: an XML file without <object>, an entry among the COCO 'images' without annotations, "
        "or a line with its name in labels/no_objects.txt.",
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
