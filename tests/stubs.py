"""A world small enough to run a campaign in milliseconds: data without pixels, learners without networks."""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from al_lab.core.files import atomic_path, write_json, write_text
from al_lab.core.record.labels import read_labels, read_pixel_labels
from al_lab.core.record.purchase import Purchase
from al_lab.core.rng import Rng
from al_lab.core.types import Annotation, DenseView, Detections, ImageView
from al_lab.data.segments.maps import SegmentSettings, grid
from al_lab.labeling.folder import FolderOracle
from al_lab.learners.base import FitTask, Learner, read_pseudo
from al_lab.metrics.resampling import resamples


class StubDetection:
    """Images are names; each has a few boxes that follow from its name."""

    grouping = apart = None

    task = "detection"

    def __init__(self, size: int = 40, num_test: int = 8, garbage_for: Sequence[str] = (), name: str = "stub") -> None:
        self.name = name
        self.classes = ("a", "b", "c")
        self.metrics = ("voc07_ap50",)
        self.pool_ids = tuple(f"img/{k:03d}" for k in range(size))
        self.test_ids = tuple(f"test/{k:03d}" for k in range(num_test))
        self.val_ids = ()
        self.garbage_for = frozenset(garbage_for)

    def image_path(self, sample_id: str) -> Path:
        return Path("images") / f"{sample_id}.jpg"

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        return (60, 80)

    def blockers(self) -> list:
        return []

    def has_truth(self, sample_id: str) -> bool:
        return True

    def truth(self, sample_id: str) -> Annotation:
        rng = Rng(99 if sample_id in self.garbage_for else 7, "truth", sample_id).generator()
        n = int(rng.integers(1, 5))
        corner = rng.uniform(0, 40, (n, 2))
        return Annotation.make(np.concatenate([corner, corner + rng.uniform(5, 20, (n, 2))], 1), rng.integers(0, 3, n))


class StubLearner(Learner):
    """ "Trains" by hashing what it was given; what it says of an image depends on every label it has seen."""

    provides = (
        "detections",
        "class_probs",
        "flip_probs",
        "image_embedding",
        "predicted_loss",
        "head_disagreement",
        "box_evidence",
        "box_mixture",
    )

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.state = ""

    def fit(self, task: FitTask) -> dict[str, float]:
        labels = read_labels(task.labels_dir, task.labeled)
        before = json.loads(task.init_checkpoint.read_text()) if task.init_checkpoint else None
        content = [
            sorted((i, json.dumps(a.to_json())) for i, a in labels.items()),
            task.seed,
            task.stop_at,
            before if task.start != "scratch" else None,
            {i: a.to_json() for i, a in read_pseudo(task).items()},
            sorted(task.unlabeled),
        ]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        write_json(task.checkpoint, {"state": digest, "step": task.stop_at or 100})
        return {"loss": int(digest[:6], 16) / 2**24}

    def load(self, checkpoint: Path) -> None:
        self.state = json.loads(checkpoint.read_text())["state"]

    def join(self, checkpoints: Sequence[Path]) -> None:
        others = [json.loads(path.read_text())["state"] for path in checkpoints]
        assert len({self.state, *others}) == 1 + len(others)  # trained from other seeds
        self.state = "+".join([self.state, *others])

    def views(
        self, ids: Sequence[str], needs: Sequence[str], options: Mapping[str, Any] | None = None
    ) -> Iterator[ImageView]:
        for i in ids:
            rng = Rng(0, self.state, i).generator()
            n = int(rng.integers(0, 6))
            corner = rng.uniform(0, 40, (n, 2))
            probs = rng.dirichlet(np.ones(self.num_classes + 1), n).astype(np.float32).reshape(n, self.num_classes + 1)
            labels = probs[:, 1:].argmax(1) if n else np.zeros(0, np.int64)
            confidence = probs[np.arange(n), labels + 1]
            order = np.argsort(-confidence)
            boxes = np.concatenate([corner, corner + rng.uniform(5, 20, (n, 2))], 1).astype(np.float32)
            detections = Detections(boxes[order], confidence[order], labels[order].astype(np.int64), probs[order])
            embedding = rng.normal(size=8).astype(np.float32)
            flipped = (
                rng.dirichlet(np.ones(self.num_classes + 1), n).astype(np.float32).reshape(n, self.num_classes + 1)
            )
            flip_detections = dataclasses.replace(detections, flip_probs=flipped)
            extras = stub_extras(detections, Rng(0, self.state, i, "extras").generator())
            yield ImageView(i, (60, 80), detections, embedding, extras, flip_detections)


def stub_extras(found: Detections, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the read-outs of `Strategy.needs` say of an image with these detections."""
    return {
        "predicted_loss": np.asarray(rng.normal(), np.float32),
        "box_evidence": np.asarray(rng.uniform(0, 5) * bool(len(found))),
        "box_mixture": rng.uniform(0, 0.3, (len(found), 4)).astype(np.float32),
        "head_disagreement": np.asarray(rng.uniform(), np.float32),
        "box_mutual_information": rng.uniform(0, 0.2, len(found)).astype(np.float32),
        "box_level": rng.integers(0, 3, len(found)),
        "member_entropy": rng.uniform(0, 0.6, 3).astype(np.float32),
        "prior_mixture": rng.dirichlet(np.ones(3)).astype(np.float32),
        "class_difficulty": np.array([0.2, 0.5, 0.9], np.float32),
        "box_features": rng.normal(size=(len(found), 4)).astype(np.float32),
    }


def stub_blank(sample_id: str) -> ImageView:
    """An image in which nothing is found."""
    none = Detections.none(4)
    extras = stub_extras(none, np.random.default_rng(0))
    return ImageView(sample_id, (60, 80), none, np.zeros(8, np.float32), extras, none)


class StubGradients(StubLearner):
    """It can be asked for gradients, too."""

    def class_gradient(self, labels: Mapping[str, Annotation]) -> list[dict[str, Any]]:
        import torch

        rng = Rng(0, self.state, *sorted(labels)).generator()
        return [{"weight": torch.from_numpy(rng.normal(size=8).astype(np.float32))}]

    def expected_changes(self, ids: Sequence[str], direction: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
        for view in self.views(ids, ("image_embedding",)):
            yield view.sample_id, abs(float(view.embedding @ direction[0]["weight"].numpy()))


class StubDense:
    """Eight generated frames of 24x32 pixels with label maps."""

    grouping = apart = None

    task = "segmentation"

    def __init__(
        self, size: int = 8, garbage_outside: dict[str, list[int]] | None = None, name: str = "stub_dense"
    ) -> None:
        self.name = name
        self.classes = ("sky", "road", "car")
        self.metrics = ("miou",)
        self.flip_test = True
        self.pool_ids = tuple(f"frame/{k}" for k in range(size))
        self.test_ids = ("test/0", "test/1")
        self.source_ids = tuple(f"source/{k}" for k in range(5))
        self.val_ids = ()
        self.garbage_outside = garbage_outside or {}

    def image_path(self, sample_id: str) -> Path:
        return Path("frames") / f"{sample_id}.png"

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        return (24, 32)

    def blockers(self) -> list:
        return []

    def segment_map(self, sample_id: str) -> np.ndarray:
        """24 rectangles, and in every other image two of them joined."""
        found = grid((24, 32), 24)
        return np.where(found == 23, 0, found).astype(np.int16) if sample_id.endswith(tuple("13579")) else found

    segments = SegmentSettings("grid", 24)

    def load_image(self, sample_id: str) -> np.ndarray:
        image: np.ndarray = Rng(5, "image", sample_id).generator().integers(0, 256, (24, 32, 3)).astype(np.uint8)
        return image

    def has_truth(self, sample_id: str) -> bool:
        return True

    def truth(self, sample_id: str) -> np.ndarray:
        label_HW = Rng(7, "truth", sample_id).generator().integers(0, 3, (24, 32)).astype(np.uint8)
        if sample_id in self.garbage_outside:
            known = np.zeros(label_HW.size, bool)
            known[self.garbage_outside[sample_id]] = True
            label_HW[~known.reshape(label_HW.shape)] = 0
        return label_HW

    def source_label(self, sample_id: str) -> np.ndarray:
        assert sample_id in self.source_ids
        return Rng(7, "source", sample_id).generator().integers(0, 3, (24, 32)).astype(np.uint8)


class Frames(StubDense):
    """The same, with image files that people can look at."""

    def image_path(self, sample_id: str) -> Path:
        from PIL import Image

        path = Path(tempfile.gettempdir()) / "al_lab_frames" / f"{sample_id}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                Image.new("RGB", (32, 24), (9, 9, len(sample_id))).save(temporary, format="PNG")
        return path

    def splits(self) -> dict[str, tuple[str, ...]]:
        return {"pool": self.pool_ids, "val": (), "test": self.test_ids}


class Crowd(FolderOracle):
    """People who answer what they are asked for, half of it at a time, and forget nothing.

    They keep a list of what they were asked: nobody may be asked for the same point twice.
    """

    def __init__(self) -> None:
        super().__init__(wait=True, poll_seconds=0.001)

    def wait_for_news(self, purchase: Purchase) -> None:
        folder = self.exchange_folder(purchase)
        truth = {i: StubDense().truth(i) for i in StubDense().pool_ids}
        if (folder / "points.csv").is_file():
            lines = (folder / "points.csv").read_text().splitlines()[1:]
            half = lines[: (len(lines) + 1) // 2]
            rows = []
            for line in half:
                name, number, x, y, _, _ = line.split(",")
                sample_id = Path(name).stem.replace("__", "/")
                rows.append(f"{name},{number},{StubDense().classes[truth[sample_id][int(y), int(x)]]}")
            write_text(folder / "labels" / f"{len(lines)}.csv", "\n".join(["image,point,class", *rows]) + "\n")
            return
        from PIL import Image

        name = (folder / "list.txt").read_text().split()[0]
        with atomic_path(folder / "labels" / name) as temporary:
            Image.fromarray(truth[Path(name).stem.replace("__", "/")]).save(temporary, format="PNG")


class FakeSegmenter(Learner):
    """Dense probabilities, and features with reconstruction errors at a quarter of the size, that depend on every pixel
    label bought so far."""

    provides = ("dense_probs", "class_probs", "image_embedding", "pixel_features", "pixel_error")

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.state = ""

    def fit(self, task: FitTask) -> dict[str, float]:
        digest = hashlib.sha256(f"{task.seed} {task.stop_at}".encode())
        if task.start != "scratch":
            digest.update(task.init_checkpoint.read_bytes())
        for i in task.labeled:
            digest.update(read_pixel_labels(task.labels_dir, i, task.cycle).tobytes())
        digest.update("".join(sorted(task.unlabeled)).encode())
        write_json(task.checkpoint, {"state": digest.hexdigest()})
        return {"loss": 1.0}

    def load(self, checkpoint: Path) -> None:
        self.state = json.loads(checkpoint.read_text())["state"]

    def views(
        self, ids: Sequence[str], needs: Sequence[str], options: Mapping[str, Any] | None = None
    ) -> Iterator[DenseView]:
        import torch

        for i in ids:
            rng = Rng(0, self.state, i).generator()
            p = rng.dirichlet(np.ones(self.num_classes), (24, 32)).astype(np.float32)
            features, error = rng.normal(size=(5, 6, 8)).astype(np.float32), rng.random((6, 8)).astype(np.float32)
            yield DenseView(
                i,
                (24, 32),
                torch.from_numpy(np.ascontiguousarray(p.transpose(2, 0, 1))),
                torch.from_numpy(features),
                {"error": torch.from_numpy(error)},
                embedding=rng.normal(size=8).astype(np.float32),
            )


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Leave out of campaigns what is tested where it lives: figures, most draws of the test images, the list of
    installed packages, and waiting for a disk that nobody unplugs."""
    patch.setattr("al_lab.campaign.publish._write_report", lambda *_: None)
    patch.setattr("al_lab.stages.evaluate.resamples", lambda num_images: resamples(num_images, 4))
    patch.setattr("al_lab.campaign.identity._environment", dict)
    patch.setattr("os.fsync", lambda fd: None)


def stub_config(
    strategy: dict, *, dense: bool = False, cycles: int = 2, unit: str = "pixel", **changes: object
) -> dict:
    """A resolved configuration over the stubs; ``unit`` is the dense one's, and ``changes`` replace whole top-level
    keys."""
    model = {"_target_": "tests.stubs.FakeSegmenter" if dense else "tests.stubs.StubLearner"}
    budget = (
        {"unit": "image", "initial": 2, "per_cycle": 2}
        if dense and unit == "image"
        else {"unit": unit, "initial": 2, "per_cycle": 10, "scope": "image"}
        if dense and unit != "segment"
        else {"unit": unit, "initial": 2, "per_cycle": 30}
        if dense
        else {"unit": "image", "initial": 6, "per_cycle": 5}
    )
    config = {
        "protocol": "none",
        "choices": {"strategy": strategy["_target_"].rsplit(".", 2)[-2], "dataset": "stub"},
        "dataset": {"_target_": "tests.stubs.StubDense" if dense else "tests.stubs.StubDetection"},
        "detector": None if dense else model,
        "segmenter": model if dense else None,
        "objective": None,
        "strategy": strategy,
        "budget": {"_target_": "al_lab.core.budget.Budget", "cycles": cycles, **budget},
        "trainer": {"_target_": "al_lab.learners.settings.TrainSettings", "batch_size": 4, "max_iters": 100},
        "oracle": {"_target_": "al_lab.core.oracle.SimulatedOracle"},
        "executor": {"_target_": "al_lab.execution.inline.InlineExecutor"},
        "runtime": {"predict_batch": 4, "devices": 1, "cache_dir": None, "checkpoint_minutes": 5, "num_workers": 0},
        "tracker": None,
        "seed": 0,
        "split_seed": 0,
        "name": None,
        "restart": False,
    }
    return config | changes
