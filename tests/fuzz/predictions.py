"""What to feed the readers of predictions, and what must hold of what they accept."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.data.predictions.names import ImageNames
from al_lab.data.predictions.read import PredictionFiles
from al_lab.data.predictions.table import Predictions
from tests.fuzz.mutations import damaged, json_files, texts

CLASSES = ("cat", "dog")
NAMES = ImageNames({i: Path(f"{i}.jpg") for i in ("a", "b", "sub/c", "000007")})
RESULTS = [
    {"image_id": "a", "category_id": 0, "bbox": [1, 2, 3.5, 4], "score": 0.5},
    {"image_id": 7, "file_name": "sub/c.jpg", "category_id": 1, "bbox": [0, 0, 10, 10], "score": 1},
]
DOCUMENT = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [{"image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.25}],
}
_VALUE = {"x": 10.0, "y": 10.0, "width": 5.0, "height": 5.0, "rotation": 0, "rectanglelabels": ["cat"]}
_REGION = {"type": "rectanglelabels", "score": 0.5, "value": _VALUE}
TASKS = [
    {"id": 1, "data": {"image": "/data/upload/a.jpg"}, "predictions": [{"score": 0.3, "result": [_REGION]}]},
    {"id": 2, "data": {"image": "b.jpg"}, "predictions": []},
]
_TABLE = "file,class,x1,y1,x2,y2,confidence\n{},{},{},{},{},{},{}\nb.jpg,dog,1,1,2,2,.5\n"
_TABLE_VALUES = ("a.jpg", "cat", "0", "0", "5", "5", "0.5")
_LINE = "{} {} {} {} {} {}\n1 .5 .5 .1 .1 .9\n"


def _saved(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _arrays() -> bytes:
    probs = np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]], np.float32)
    boxes = np.array([[0, 0, 5, 5], [1, 1, 4, 4]], np.float32)
    images, vectors = np.array(["a", "b"]), np.ones((2, 3), np.float32)
    return _saved(images=images, image=np.array([0, 1]), boxes_xyxy=boxes, probs=probs, embedding=vectors)


def _read(path: Path) -> Predictions:
    return PredictionFiles([path]).join(NAMES, CLASSES)


def _hold(found: Predictions) -> None:
    assert (np.diff(found.start) >= 0).all()
    assert found.start[-1] == len(found.labels) == len(found.boxes) == len(found.confidence)
    assert np.isfinite(found.boxes).all()
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert ((found.labels >= 0) & (found.labels < len(CLASSES))).all()
    assert set(found.ids) <= set(NAMES.paths)
    for sample_id in found.ids:
        probs = found.detections(sample_id, (60, 80)).probs
        assert np.isfinite(probs).all()
        assert ((probs >= 0) & (probs <= 1)).all()


#: name -> file, inputs, reader, what holds
PREDICTIONS = {
    "predictions (COCO results)": ("a.json", json_files(RESULTS), _read, _hold),
    "predictions (COCO document)": ("a.json", json_files(DOCUMENT), _read, _hold),
    "predictions (Label Studio)": ("a.json", json_files(TASKS), _read, _hold),
    "predictions (table)": ("a.csv", texts(_TABLE, _TABLE_VALUES), _read, _hold),
    "predictions (YOLO)": (
        "a.txt",
        texts(_LINE, ("0", "0.5", "0.5", "0.1", "0.2", "0.7")),
        lambda path: _read(path.parent),
        _hold,
    ),
    "predictions (arrays)": ("a.npz", damaged(_arrays()), _read, _hold),
}
