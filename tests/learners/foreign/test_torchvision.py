"""Our program for torchvision, for real: a few steps, and a table that is read as any other."""

import argparse

import pytest
from PIL import Image

from al_lab.learners.foreign.asked import write_asked
from al_lab.learners.foreign.bought import write_bought
from al_lab.learners.foreign.boxes import BoxReader
from scripts import torchvision_detector


@pytest.fixture
def files(dataset, tmp_path):
    """The blocks as images on the disk."""
    (tmp_path / "images").mkdir()
    for i in (*dataset.pool_ids, *dataset.test_ids):
        Image.fromarray(dataset.load_image(i)).save(tmp_path / "images" / f"{i}.png")
    dataset.image_path = lambda i: tmp_path / "images" / f"{i}.png"
    return dataset


def test_it_trains_and_answers(files, make_task, tmp_path):
    labels = write_bought(tmp_path / "data", files, make_task(), "coco")
    asked = write_asked(tmp_path / "asked", files, files.test_ids)
    said = {"data": tmp_path / "data", "labels": labels, "images": asked.list_path, "device": "cpu", "side": 48}
    tables = []
    for n in range(2):
        paths = {"checkpoint": tmp_path / f"{n}.pt", "out": tmp_path / f"boxes{n}.csv"}
        args = argparse.Namespace(**said, **paths, seed=3, steps=3, batch=2)
        torchvision_detector.train(args)
        torchvision_detector.predict(args)
        tables.append(paths["out"].read_text())
    assert tables[0] == tables[1]
    found = BoxReader(files, False, False, None).read(tmp_path / "boxes0.csv", asked, False)
    views = list(found.views(files.test_ids, ("detections",)))
    assert sum(len(v.detections) for v in views) == len(tables[0].splitlines()) - 1
