"""Scoring a pool as a rival does, with the head it needs, against scoring it with the plain detector."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from al_lab.benchmarks.measure import Row
from al_lab.benchmarks.scoring import CANDIDATES
from al_lab.config.build import build
from al_lab.config.load import compose
from al_lab.config.options import option
from al_lab.core.strategy import Strategy
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.settings import TrainSettings
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector

log = logging.getLogger(__name__)
_CLASSES = tuple("abcdefghijklmnopqrst")
_SIZE_HW = (375, 500)
# detector, rival, its head, the most its scoring may cost
_CASES = (
    ("ssd300_voc", "ll4al", "learning_loss", "<= 1.15"),
    ("ssd300_voc", "meh_hua", "evidence", "<= 1.15"),
    ("ssd300_voc", "pm", "mixture", "<= 1.45"),
    ("retinanet_r50_voc", "meh_hua", "evidence", ""),
)


def run(full: bool = False, images: int = 4, retinanet_hw: tuple[int, int] = (320, 448)) -> Iterator[Row]:
    """Yield a row for each rival and detector, in CPU seconds of one thread; ratio is rival's / plain detector's."""
    if not importlib.util.find_spec("mmdet"):
        log.warning("mmdet is not installed: no scoring by rivals")
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    repeats = 7 if full else 3
    try:
        for detector, rival, branch, target in _CASES:
            hw = (300, 300) if detector.startswith("ssd") else (600, 1000) if full else retinanet_hw
            few = images if detector.startswith("ssd") else max(1, images // 4)
            yield _row(detector, rival, branch, target, hw, few, repeats)
    finally:
        torch.set_num_threads(threads)


def _row(detector: str, rival: str, branch: str, target: str, hw: tuple[int, int], images: int, repeats: int) -> Row:
    plain = _scoring(detector, (), hw, images, build(option("strategy", "entropy")))
    ours = _scoring(detector, (branch,), hw, images, build(option("strategy", rival)))
    found: dict[Any, float] = {}
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):  # in turn, so that both meet the same machine
        for scoring, taken in zip((ours, plain), times, strict=True):
            start = time.process_time()
            views = scoring()
            taken.append((time.process_time() - start) / images)
            found[scoring] = sum(len(v.detections) for v in views if v.detections is not None) / images
    ours_s, plain_s = map(min, times)
    name = "SSD300" if detector.startswith("ssd") else f"RetinaNet at {hw[0]} x {hw[1]}"
    note = f"ratio ours / peer's; {found[ours]:.0f} boxes an image, the plain detector's {found[plain]:.0f}"
    return Row(f"{name}, scoring by {rival}, an image", "scoring by the plain detector", ours_s, plain_s,
               ours_s / plain_s, target, None, note)  # fmt: skip


def _scoring(
    detector: str, branches: Sequence[str], hw: tuple[int, int], images: int, strategy: Strategy
) -> Callable[[], Any]:
    """Return what looks at some images once for a strategy."""
    torch.manual_seed(0)
    node = compose([f"detector={detector}", "dataset=voc"])["detector"]
    node |= {"weights": None, "input_hw": hw, "branches": branches, "resize": "fixed"}
    network: AnchorDetector = build(node, num_classes=len(_CLASSES)).eval()
    noise = np.random.default_rng(0).integers(0, 256, (images, *_SIZE_HW, 3)).astype(np.uint8)
    ids = tuple(map(str, range(images)))
    dataset = SimpleNamespace(
        name="noise", classes=_CLASSES, load_image=lambda i: noise[int(i)], image_path=Path, size_hw=lambda i: _SIZE_HW
    )
    settings = TrainSettings(batch_size=1, max_iters=1)  # nothing is trained
    learner = DetectionLearner(dataset, lambda: network, torch.nn.Identity, settings, predict_batch=images)
    needs, options = frozenset(strategy.needs_for("image")), strategy.view_options()
    _calibrate(network, torch.randn(1, 3, *hw, generator=torch.Generator().manual_seed(0)))
    return lambda: list(learner._views(network, ids, needs, options))


def _calibrate(network: AnchorDetector, image: Tensor) -> None:
    """Let a fresh network have as many candidates an image as a trained one: its logits are stretched and shifted."""
    look, first = network.look, int(network.activation == "softmax")

    def stretched(images: Tensor, valid_hw: Tensor) -> HeadOutput:
        seen = look(images, valid_hw)
        return seen._replace(logits=(seen.logits - middle) * spread + shift)

    with torch.no_grad():
        logits = look(image, torch.tensor([image.shape[2:]])).logits
    middle, spread = float(logits[..., first:].mean()), 2.0 / float(logits[..., first:].std())
    logits = (logits - middle) * spread
    shift = torch.zeros(logits.shape[-1])
    low, high = 0.0, 40.0
    for _ in range(40):  # by bisection: of the background's column, or down with all of a sigmoid's
        half = (low + high) / 2
        shift[:first] = half
        shift[first:] = 0.0 if first else -half
        above = int((network.probs(logits + shift)[..., first:] > network.postprocess.conf_min).sum())
        low, high = (half, high) if above > CANDIDATES else (low, half)
    network.look = stretched  # type: ignore[method-assign]
