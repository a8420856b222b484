"""A person with a detector of their own: trains it on what is in the exchange folder, and writes predictions."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np

from tests.stubs import StubDetection, StubLearner


def exchange(run_dir: Path, cycle: int) -> Path:
    return run_dir / "to_train" / f"cycle_{cycle:02d}"


def answer(folder: Path, form: str) -> list[Path]:
    """Train on ``train/``, predict ``predict/images.txt``, put the predictions into ``predictions/``."""
    learner = StubLearner(3)
    digest = hashlib.sha256()
    for path in sorted(p for p in (folder / "train").rglob("*.json")):
        digest.update(path.read_bytes())
    learner.state = digest.hexdigest()
    names = {Path(line).name: Path(line).stem.replace("__", "/")
             for line in (folder / "predict" / "images.txt").read_text().splitlines()}  # fmt: skip
    views = {name: next(learner.views([i], ())) for name, i in names.items()}
    return write(folder / "predictions", folder / "predict" / "images.json", views, form)


def write(place: Path, document: Path, views: dict, form: str) -> list[Path]:
    """Write what a detector says of images in one of the formats."""
    if form == "coco":
        ids = {row["file_name"]: row["id"] for row in json.loads(document.read_text())["images"]}
        rows = [
            {"image_id": ids[name], "category_id": int(label) + 1, "score": float(s),
             "bbox": [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])]}
            for name, v in views.items()
            for b, s, label in zip(v.detections.boxes_xyxy, v.detections.confidence, v.detections.labels, strict=True)
        ]  # fmt: skip
        (place / "results.json").write_text(json.dumps(rows))
    elif form == "csv":
        with (place / "table.csv").open("w") as stream:
            table = csv.writer(stream)
            table.writerow(["file", "class", "x1", "y1", "x2", "y2", "confidence"])
            for name, v in views.items():
                d = v.detections
                for box, s, label in zip(d.boxes_xyxy.tolist(), d.confidence.tolist(), d.labels, strict=True):
                    table.writerow([name, StubDetection().classes[label], *box, s])
    elif form == "yolo":
        for name, v in views.items():
            lines = [
                f"{label} {(x1 + x2) / 160} {(y1 + y2) / 120} {(x2 - x1) / 80} {(y2 - y1) / 60} {s}\n"
                for (x1, y1, x2, y2), s, label in zip(
                    v.detections.boxes_xyxy.tolist(), v.detections.confidence.tolist(), v.detections.labels, strict=True
                )
            ]
            (place / Path(name).with_suffix(".txt").name).write_text("".join(lines))
    else:
        found = list(views.values())
        np.savez(
            place / "arrays.npz",
            images=np.array(list(views)),
            embedding=np.stack([v.embedding for v in found]),
            image=np.repeat(np.arange(len(found)), [len(v.detections) for v in found]),
            boxes_xyxy=np.concatenate([v.detections.boxes_xyxy for v in found]),
            probs=np.concatenate([v.detections.probs for v in found]),
            labels=np.concatenate([v.detections.labels for v in found]),
            confidence=np.concatenate([v.detections.confidence for v in found]),
        )
    return sorted(place.iterdir())
