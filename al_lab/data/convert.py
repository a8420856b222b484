"""Write a dataset in another format: annotations by the format's own writer, images beside them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from al_lab.core.errors import ConfigError, DataError, did_you_mean, explain
from al_lab.core.files import atomic_path, write_text
from al_lab.data.formats import coco, cvat, label_studio, labelme, voc, yolo
from al_lab.data.formats.record import Record

BOX_FORMATS: Mapping[str, ModuleType] = {
    "voc": voc, "coco": coco, "yolo": yolo, "cvat": cvat, "label_studio": label_studio, "labelme": labelme,
}  # fmt: skip
MAP_FORMATS = ("masks",)
#: Our roles as folders that every tool, and `dataset=folder`, takes for splits.
_FOLDER_OF = {"pool": "train", "val": "val", "test": "test"}
_IMAGES_IN = {"voc": "JPEGImages"}
Images = Literal["link", "copy", "none"]


class Labeled(Protocol):
    """What is asked of whatever has images and labels; a `Dataset` has it."""

    task: Literal["detection", "segmentation"]
    classes: tuple[str, ...]

    def splits(self) -> Mapping[str, tuple[str, ...]]: ...  # noqa: D102
    def has_truth(self, sample_id: str) -> bool: ...  # noqa: D102
    def truth(self, sample_id: str) -> Any: ...  # noqa: D102
    def image_path(self, sample_id: str) -> Path: ...  # noqa: D102
    def size_hw(self, sample_id: str) -> tuple[int, int]: ...  # noqa: D102


def convert(
    dataset: Labeled,
    to: str,
    out: Path,
    images: Images = "link",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, int], list[str]]:
    """Write every labeled image of a dataset, each split into a folder of its own.

    Args:
        dataset: to be read; its owner may see the labels.
        to: a format for boxes, or "masks" for label maps.
        out: a folder that doesn't exist yet, or is empty.
        images: "link" links to the image files, "copy" copies them, "none" writes annotations only.
        progress: called with (done, total) after each image.

    Returns:
        Images written per split, and a sentence for each thing that the format can't hold or that was worked around.

    Raises:
        ConfigError: for a format that doesn't fit the task.
        DataError: if the folder holds something, or an annotation makes no sense.
    """
    formats = tuple(BOX_FORMATS) if dataset.task == "detection" else MAP_FORMATS
    if to not in formats:
        raise ConfigError(
            explain(
                expected=f"one of {', '.join(formats)} for {dataset.task}", got=repr(to), where="--to",
                do=did_you_mean(to, formats),
            )
        )  # fmt: skip
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(explain(expected="a new folder", got="one that holds files", where=str(out), do="name another"))
    splits = {s: [i for i in ids if dataset.has_truth(i)] for s, ids in dataset.splits().items() if s in _FOLDER_OF}
    splits = {split: ids for split, ids in splits.items() if ids}
    total = sum(map(len, splits.values()))
    notes: list[str] = []
    done = 0
    for split, ids in splits.items():
        folder = out / _FOLDER_OF[split]
        records = []
        for sample_id in ids:
            name = f"{sample_id}{dataset.image_path(sample_id).suffix}"
            records.append(_write_one(dataset, sample_id, folder, name))
            if images != "none":
                _place(dataset.image_path(sample_id), folder / _IMAGES_IN.get(to, "images") / name, images)
            done += 1
            if progress:
                progress(done, total)
        lost = BOX_FORMATS[to].write(folder, records, dataset.classes) if to in BOX_FORMATS else []
        notes += [f"{_FOLDER_OF[split]}: {sentence}" for sentence in lost]
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in dataset.classes))
    written = {_FOLDER_OF[split]: len(ids) for split, ids in splits.items()}
    if to == "yolo":
        yolo.write_data_yaml(out, dataset.classes, {split: f"{split}/images" for split in written})
    return written, notes


def _write_one(dataset: Labeled, sample_id: str, folder: Path, name: str) -> Any:
    truth = dataset.truth(sample_id)
    if dataset.task == "detection":
        return Record.of(name, truth, dataset.classes, dataset.size_hw(sample_id), key=sample_id)
    with atomic_path((folder / "labels" / name).with_suffix(".png")) as temporary:
        Image.fromarray(np.asarray(truth, np.uint8)).save(temporary)
    return None


def _place(source: Path, target: Path, how: Images) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "copy":
        shutil.copyfile(source, target)
    else:
        os.symlink(source.resolve(), target)


def sentences(written: Mapping[str, int], notes: Sequence[str], to: str, out: Path) -> list[str]:
    """Return what was written as lines for a person."""
    counts = ", ".join(f"{split} {count}" for split, count in written.items()) or "no labeled image"
    return [f"{out}: {to}: {counts}", *(f"lost: {note}" for note in notes)]
