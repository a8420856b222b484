"""Every objective with every network: what it trains on, and one training with a look at other images after it."""

import collections
import copy
import csv
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from al_lab.config.build import build
from al_lab.config.options import option
from al_lab.core.pool import INITIAL, purchase_dir
from al_lab.core.record.predictions import save_predictions
from al_lab.core.record.purchase import write_labels
from al_lab.core.types import Detections
from al_lab.data.transforms.detection import SSDAugmentation
from al_lab.learners.base import FitTask, Learner
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.segmentation import SegmentationLearner
from al_lab.learners.settings import TrainSettings
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.models.segmenters.deeplab import DeepLab
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives.adapt import Adaptation
from al_lab.objectives.csd import CSD
from al_lab.objectives.domains.adversarial import Adversarial
from al_lab.objectives.domains.fda import FDA
from al_lab.objectives.domains.multi_anchor import MultiAnchor
from al_lab.objectives.isd import ISD
from al_lab.objectives.sed import SED
from al_lab.objectives.supervised import Supervised
from tests.device import pretend
from tests.learners.conftest import Blocks
from tests.patches import Patches, buy

FLAT: dict[str, Any] = {"kind": "none"}  # the consistency counts from the first step
OBJECTIVES: dict[str, Callable[[], nn.Module]] = {
    "supervised": Supervised,
    "csd": functools.partial(CSD, ramp=FLAT, be_mask="none"),
    "csd_pl": functools.partial(CSD, ramp=FLAT, be_mask="both", tau=0.9),
    "isd": functools.partial(ISD, ramp=FLAT),
    "sed": functools.partial(SED, ramp=FLAT, burn_in=0.0),
    "density": functools.partial(Adaptation, stop_gradient_step=2),
    "ripu": functools.partial(Adaptation, margin=0.0, aux=0.0, density=0.0),
    "segment": functools.partial(Adaptation, consistency=0.0, negative=0.0, margin=0.0, aux=0.0, density=0.0),
    "fda": functools.partial(FDA, beta=0.2),
    "mada": functools.partial(MultiAnchor, min_pixels=1),
    "adversarial": functools.partial(Adversarial, channels=4),
}
DETECTION, SEGMENTATION = ("supervised", "csd", "csd_pl", "isd", "sed"), (
    "density", "ripu", "segment", "fda", "mada", "adversarial"
)  # fmt: skip


class Net(NamedTuple):
    """A network of the rehearsal, with a batch it can be trained on in seconds."""

    make: Callable[[], nn.Module]
    batch_size: int
    lr: float = 0.01
    is_cropped: bool = True  # crops are of all shapes: a network of any input size would meet a new one in every step


def _mmdet(name: str, **options: Any) -> nn.Module:
    config = copy.deepcopy(option("detector", name)) | {"weights": None} | options
    if name.startswith("retinanet"):
        config["model"]["backbone"]["depth"] = 18
        config["model"]["neck"]["in_channels"] = [64, 128, 256, 512]
    return build(config, num_classes=2)


DETECTORS = {
    "tiny": Net(functools.partial(TinyDetector, 2, input_px=32, widths=(8, 8, 16, 16, 16)), 8),
    "squeeze": Net(functools.partial(SqueezeDetector, 2, input_px=64, weights=None, width=16), 8),
    "ssd300": Net(functools.partial(_mmdet, "ssd300_voc"), 2, 1e-4),
    "retinanet": Net(functools.partial(_mmdet, "retinanet_r50", input_hw=(64, 96)), 4, 1e-3, False),
}
_BRANCH = {"dim": 8}
SEGMENTERS = {
    "tiny_segmenter": Net(functools.partial(TinySegmenter, 3, widths=(8, 8, 16), branch=_BRANCH), 4),
    "deeplab_v2": Net(
        functools.partial(DeepLab, 3, head="v2", backbone="resnet50", weights=None, branch=_BRANCH), 4, 1e-4
    ),
    "deeplab_v3plus": Net(
        functools.partial(DeepLab, 3, head="v3plus", backbone="resnet50", weights=None, branch=_BRANCH), 4, 1e-4
    ),
}
NETS = DETECTORS | SEGMENTERS


class Unordered(NamedTuple):
    """Rows whose order means nothing: of boxes with nearly the same confidence either may come first."""

    rows: np.ndarray


class Rehearsal(NamedTuple):
    """What one training and one look gave.

    Attributes:
        losses: of each step.
        found: arrays and `Unordered` rows of each view, in order.
        events: what a step costs once caches are filled, by (kind, operator, place): the mean from the beginning of the
            second step to that of the last.
    """

    losses: list[float]
    found: list[Any]
    events: dict[tuple[str, str, str], float]


def rehearse(net: str, objective: str, precision: int | str, folder: Path, steps: int = 4) -> Rehearsal:
    """Train and look."""
    (detect_data if net in DETECTORS else dense_data)(folder)
    learner, task = (_detector if net in DETECTORS else _segmenter)(NETS[net], objective, precision, folder, steps)
    learner.fit(task)
    first, *_, last = pretend.STEPS[1:] or [collections.Counter(), collections.Counter()]
    events = {key: n / max(1, len(pretend.STEPS) - 2) for key, n in (last - first).items()}
    learner.load(task.checkpoint)
    return Rehearsal(_losses(folder), (_look_at_boxes if net in DETECTORS else _look_at_pixels)(learner), events)


def detect_data(folder: Path) -> Blocks:
    """Put labels and pseudo-labels into a run folder."""
    data = Blocks()
    write_labels(purchase_dir(folder, INITIAL), {i: data.annotation(i) for i in data.pool_ids})
    boxes = Detections(
        np.array([[5, 5, 25, 25]], np.float32),
        np.array([0.99], np.float32),
        np.array([0]),
        np.array([[0.005, 0.99, 0.005]], np.float32),
    )
    save_predictions(folder / "pseudo.npz", dict.fromkeys(data.pool_ids[6:10], boxes))
    return data


def dense_data(folder: Path) -> Patches:
    """Put bought pixels into a run folder."""
    data = Patches()
    buy(folder, data, INITIAL, {f"p/{k}": range(0, 60 * k + 1) for k in range(6)})
    return data


def _settings(net: Net, precision: int | str, steps: int, **options: Any) -> TrainSettings:
    return TrainSettings(
        batch_size=net.batch_size, max_iters=steps, lr=net.lr, grad_clip=1.0, precision=precision, **options
    )


def _detector(net: Net, objective: str, precision: int | str, folder: Path, steps: int) -> tuple[Learner, FitTask]:
    data = Blocks()
    settings = _settings(net, precision, steps, augmentation=SSDAugmentation() if net.is_cropped else None)
    learner = DetectionLearner(data, net.make, OBJECTIVES[objective], settings)
    task = FitTask(
        labeled=data.pool_ids[:6],
        unlabeled=() if objective == "supervised" else data.pool_ids[6:],
        pseudo=folder / "pseudo.npz" if objective == "csd_pl" else None,
        labels_dir=folder,
        checkpoint=folder / "model.ckpt",
        scratch_dir=folder,
        seed=0,
    )
    return learner, task


def _segmenter(net: Net, objective: str, precision: int | str, folder: Path, steps: int) -> tuple[Learner, FitTask]:
    # a discriminator sees nothing in less than 32 pixels
    data = Patches(source_hw=(32, 40), target_hw=(32, 48)) if objective == "adversarial" else Patches()
    learner = SegmentationLearner(data, net.make, OBJECTIVES[objective], _settings(net, precision, steps))
    task = FitTask(
        labeled=data.pool_ids, labels_dir=folder, checkpoint=folder / "model.ckpt", scratch_dir=folder, seed=0
    )
    return learner, task


def _losses(folder: Path) -> list[float]:
    with (folder / "train_log.csv").open() as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def _look_at_boxes(learner: Any) -> list[Any]:
    ids, needs = Blocks().test_ids[:4], ("detections", "class_probs", "flip_probs", "image_embedding")
    by_iou = {"flip": {"count_thresh": 0.01, "matching": "iou"}, "min_confidence": 0.3}
    found: list[Any] = []
    for view in [*learner.views(ids, needs), *learner.views(ids, ("detections", "flip_probs"), by_iou)]:
        boxes, flipped = view.detections, view.flip_detections
        found.append(Unordered(np.concatenate([boxes.boxes_xyxy, boxes.probs], 1)))
        found.append(Unordered(np.concatenate([flipped.boxes_xyxy, np.nan_to_num(flipped.flip_probs)], 1)))
        found += [] if view.embedding is None else [view.embedding]
    return found


def _look_at_pixels(learner: Any) -> list[Any]:
    needs = [n for n in ("dense_probs", "image_embedding", "pixel_features", "pixel_error") if n in learner.provides]
    found: list[Any] = []
    for view in [
        *learner.views(Patches().pool_ids[:3], needs),
        *learner.views(Patches().test_ids[:2], ("dense_probs",), {"flip": True}),
    ]:
        found += [view.probs, view.features, view.extras.get("error"), view.embedding]
    return [np.asarray(x.cpu() if hasattr(x, "cpu") else x) for x in found if x is not None]
