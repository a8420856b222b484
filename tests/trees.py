"""Small trees in VOC and COCO layout, written by the tests that need them."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _image(path: Path, size_hw=(40, 60), mode="RGB", **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **save)
    return path


def _xml(path: Path, objects=(), size_hw=(40, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "".join(
        f"<object><name>{name}</name><difficult>{int(bool(rest))}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2, *rest in objects
    )
    height, width = size_hw
    path.write_text(f"<annotation><size><width>{width}</width><height>{height}</height></size>{body}</annotation>")
    return path


@pytest.fixture
def write_image():
    return _image


@pytest.fixture
def write_xml():
    return _xml


@pytest.fixture
def voc_tree(tmp_path):
    """Write a VOC folder: annotations by id (None: no XML file), lists by name."""

    def write(annotations, lists=None, classes=("cat", "dog"), root=tmp_path / "photos"):
        for sample_id, objects in annotations.items():
            _image(root / "JPEGImages" / f"{sample_id}.jpg")
            if objects is not None:
                _xml(root / "Annotations" / f"{sample_id}.xml", objects)
        for name, ids in (lists or {}).items():
            (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
            (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))
        if classes:
            (root / "classes.txt").write_text("\n".join(classes) + "\n")
        return root

    return write


@pytest.fixture
def coco_content():
    """A valid instances file: ids with a gap, a crowd, an image without boxes."""

    def make(stems=("a", "b", "c")):
        return {
            "images": [{"id": 10 + n, "file_name": f"{s}.jpg", "height": 40, "width": 60} for n, s in enumerate(stems)],
            "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
            "annotations": [
                {"id": 1, "image_id": 11, "category_id": 7, "bbox": [5, 6, 10, 20], "iscrowd": 0},
                {"id": 2, "image_id": 10, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1},
                {"id": 3, "image_id": 10, "category_id": 7, "bbox": [1.5, 2.5, 3, 4]},
            ],
        }

    return make


@pytest.fixture
def coco_tree(tmp_path, coco_content):
    """Write a COCO folder: stems by annotation file, images in a folder of the split's name."""

    def write(files, root=tmp_path / "coco_photos"):
        (root / "annotations").mkdir(parents=True)
        for name, stems in files.items():
            (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(coco_content(stems)))
            for stem in stems:
                _image(root / name / f"{stem}.jpg")
        return root

    return write
