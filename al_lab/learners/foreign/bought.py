"""What a model that is trained elsewhere learns from: what was bought so far, in its trainer's format."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from al_lab.core.files import write_text
from al_lab.core.record.labels import read_labels, read_pixel_labels
from al_lab.data.convert import BOX_FORMATS, Images, convert
from al_lab.data.formats.yolo import write_data_yaml
from al_lab.learners.base import FitTask

FORMATS = (*BOX_FORMATS, "masks")
_DONE = ".written"
#: Where each format has its labels, below the folder; the others have them in train/.
_LABELS = {
    "coco": "train/annotations/instances.json",
    "yolo": "data.yaml",
    "voc": "train/Annotations",
    "cvat": "train/annotations.xml",
    "label_studio": "train/tasks.json",
    "masks": "train/labels",
}


class _Bought:
    """The images of a training as a dataset that can be converted; see `al_lab.data.convert.Labeled`."""

    def __init__(self, dataset: Any, task: FitTask) -> None:
        self.task: Literal["detection", "segmentation"] = dataset.task
        self.classes = tuple(dataset.classes)
        self._dataset, self._task = dataset, task
        self._labels = read_labels(task.labels_dir, task.labeled) if dataset.task == "detection" else {}

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        return {"pool": self._task.labeled}

    def has_truth(self, sample_id: str) -> bool:
        return True

    def truth(self, sample_id: str) -> Any:
        if self.task == "segmentation":
            return read_pixel_labels(self._task.labels_dir, sample_id, self._task.cycle)
        return self._labels[sample_id]

    def image_path(self, sample_id: str) -> Path:
        return Path(self._dataset.image_path(sample_id)).absolute()

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        found: tuple[int, int] = self._dataset.size_hw(sample_id)
        return found


def write_bought(folder: Path, dataset: Any, task: FitTask, to: str, images: Images = "link") -> Path:
    """Write images and labels of a training, once: what is there already stays.

    For YOLO ``data.yaml`` names the training images as those of validation, too: its trainers want some, and no label
    outside of what was bought may be used. So their "best" checkpoint means nothing, and the last one counts.

    Args:
        folder: below which ``train/`` comes.
        dataset: of the images.
        task: the training.
        to: of `FORMATS`.
        images: see `al_lab.data.convert.convert`.

    Returns:
        Where the labels are: a file or a folder.
    """
    where = labels_in(folder, to)
    if (folder / _DONE).is_file():
        return where
    shutil.rmtree(folder, ignore_errors=True)  # a kill may have left a part
    convert(_Bought(dataset, task), to, folder, images)
    if to == "yolo":
        # an absolute path: "." is the folder of whoever reads the file
        splits = {"path": str(folder.absolute()), "train": "train/images", "val": "train/images"}
        write_data_yaml(folder, dataset.classes, splits)
    write_text(folder / _DONE, "")
    return where


def labels_in(folder: Path, to: str) -> Path:
    """Return where `write_bought` puts the labels."""
    return folder / _LABELS.get(to, "train")
