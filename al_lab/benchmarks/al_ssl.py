"""AL-SSL with SSD300: acquisition against the released code's way of doing it.

A training step is measured against two separate forwards.
"""

import importlib.util
import logging
from collections.abc import Iterator
from typing import Any

import torch
import torchvision
from torch import Tensor

from al_lab.acquisition.pseudo import pseudo_labels
from al_lab.benchmarks.measure import Row, best_of
from al_lab.benchmarks.scoring import ssd300

log = logging.getLogger(__name__)

_SIZE_HW = (375, 500)
_TAU = 0.99
_COUNT, _NMS, _FLOOR, _TOP = 0.5, 0.5, 0.01, 200
# anchors of an image with some class above one half: what a trained head finds in a photograph before suppression
_SURE = 60


def run(full: bool = False, batch: int = 2) -> Iterator[Row]:
    """Yield the rows."""
    if not importlib.util.find_spec("mmdet"):
        log.warning("mmdet is not installed: no SSD300")
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = 60 * torch.randn(batch, 3, 300, 300, generator=torch.Generator().manual_seed(0))
        network = ssd300(images)
        _sharpen(network, images)
        yield from _acquisition(network, images, 3 if full else 1)
        yield _training_step(network.train(), images[:1], 3 if full else 1)
    finally:
        torch.set_num_threads(threads)


def _sharpen(network: Any, images: Tensor) -> None:
    """Scale the class logits until as many anchors are sure of themselves as in a trained network."""
    with torch.no_grad():
        logits, factor = network(images).logits, 1.0
        while float((logits * factor).softmax(-1)[..., 1:].amax(-1).ge(_COUNT).sum()) < _SURE * len(images):
            factor *= 1.05
        for branch in network.detector.bbox_head.cls_convs:
            conv = [m for m in branch.modules() if isinstance(m, torch.nn.Conv2d)][-1]
            conv.weight.mul_(factor)
            assert conv.bias is not None
            conv.bias.mul_(factor)


def _acquisition(network: Any, images: Tensor, repeats: int) -> Iterator[Row]:
    n = len(images)
    with torch.no_grad():
        ours_s, heads = best_of(lambda: _forward(network, images), repeats)
        rest_s, ours = best_of(lambda: _ours(network, heads, n), max(repeats, 3))
        peer_s, peer_heads = best_of(lambda: [_single(network, image) for _ in range(2) for image in images], repeats)
        slow_s, theirs = best_of(lambda: _peer(network, peer_heads, n), repeats)
    same = all(torch.allclose(torch.tensor(a), torch.tensor(b), atol=1e-4) for a, b in zip(ours, theirs, strict=True))
    counted = sum(h > 0 for h, _ in ours)
    task = f"AL-SSL acquisition, SSD300, an image (batch {n})"
    yield Row(
        task,
        "4 single forwards, loops a class+box",
        (ours_s + rest_s) / n,
        (peer_s + slow_s) / n,
        (peer_s + slow_s) / (ours_s + rest_s),
        ">= 1.9",
        same,
        f"H and I; {counted} of {n} images have boxes that count; ours has the pseudo-labels, too",
    )
    yield Row(
        "AL-SSL acquisition after the forwards, an image",
        "loops over classes and boxes",
        rest_s / n,
        slow_s / n,
        slow_s / rest_s,
        ">= 5",
        same,
        f"about {_SURE} anchors an image above one half",
    )


def _forward(network: Any, images: Tensor) -> Any:
    from al_lab.models.detectors.network import together

    return together(network, images, images.flip(-1))


def _ours(network: Any, heads: Any, num: int) -> list[tuple[float, float]]:
    from al_lab.models.detectors.flip import FlipRule
    from al_lab.models.detectors.postprocess import at_least, decode_batch
    from al_lab.strategies.detection.al_ssl import image_facts

    sizes = [_SIZE_HW] * num
    pairs = FlipRule(_COUNT, _NMS).compare(network, heads[0], heads[1], sizes, torch.full((num, 2), 300))
    for found in decode_batch(heads[0], network, sizes, at_least(network.postprocess, _TAU)):
        pseudo_labels(found, _SIZE_HW, _TAU)
    facts = [image_facts(found) for found in pairs]
    return [(f["entropy"], f["inconsistency"]) for f in facts]


def _single(network: Any, image: Tensor) -> tuple[Any, Any]:
    return network(image[None]), network(image.flip(-1)[None])


def _peer(network: Any, heads: list[tuple[Any, Any]], num: int) -> list[tuple[float, float]]:
    """Two scorers, each with both forwards of every image: one uses the entropy, one the inconsistency."""
    entropies = [_one_scorer(network, *pair)[0] for pair in heads[:num]]
    return [(h, _one_scorer(network, *pair)[1]) for h, pair in zip(entropies, heads[num:], strict=True)]


def _one_scorer(network: Any, head: Any, flipped: Any) -> tuple[float, float]:
    p = head.logits[0].softmax(-1)
    q = flipped.logits[0].softmax(-1)[network.flip_anchors(head).anchor]
    h_all = -(p * p.log()).sum(-1) / torch.log(torch.tensor(float(p.shape[1])))
    j_all = 0.5 * (p * (p / q).log()).sum(-1) + 0.5 * (q * (q / p).log()).sum(-1)
    boxes = network.code.decode(head.deltas[0], head.priors)
    h, j = 0.0, 0.0
    for label in range(1, p.shape[1]):
        candidates = (p[:, label] > _FLOOR).nonzero().flatten()
        for anchor in _suppress_one_by_one(boxes[candidates], p[candidates, label], candidates):
            if float(p[anchor, label]) >= _COUNT:
                h, j = max(h, float(h_all[anchor])), max(j, float(j_all[anchor]))
    return h, j


def _suppress_one_by_one(boxes: Tensor, confidence: Tensor, names: Tensor) -> list[int]:
    """Greedy suppression as code without a compiled operator does it: one kept box a turn."""
    left = confidence.argsort(descending=True)[:_TOP]
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(names[best]))
        if len(left):
            overlap = torchvision.ops.box_iou(boxes[best][None], boxes[left])[0]
            left = left[overlap <= _NMS]
    return kept


def _training_step(network: Any, images: Tensor, repeats: int) -> Row:
    """Consistency of one batch, forward and backward.

    One pass over both views and selected rows only, or two passes and whole tensors.
    """
    from al_lab.models.detectors.network import together
    from al_lab.objectives.csd import CSD

    objective = CSD()

    def ours() -> float:
        classes, boxes, _ = objective.consistency(network, *together(network, images, images.flip(-1)))
        (classes + boxes).backward()
        return float((classes + boxes).detach())

    def peer() -> float:
        head, flipped = network(images), network(images.flip(-1))
        order = network.flip_anchors(head).anchor
        p, q = head.logits.softmax(-1).clone(), flipped.logits.softmax(-1)[:, order].clone()
        mask = p[..., 1:].amax(-1) > p[..., 0]
        deltas, other = head.deltas.clone(), flipped.deltas[:, order].clone()
        p, q = p + 1e-7, q + 1e-7
        kl = (p.detach() * (p.detach().log() - q.log())).sum(-1) + (q.detach() * (q.detach().log() - p.log())).sum(-1)
        sign = torch.tensor([1.0, -1.0, -1.0, -1.0])
        loss = (kl / 2)[mask].mean() + (deltas + other * sign).square().mean(-1)[mask].mean()
        loss.backward()
        return float(loss.detach())

    ours_s, value = best_of(ours, repeats)
    peer_s, expected = best_of(peer, repeats)
    same = abs(value - expected) < 1e-4 * max(1.0, abs(expected))
    return Row(
        f"CSD step, SSD300, batch {len(images)} + flipped",
        "two forwards, whole tensors",
        ours_s,
        peer_s,
        peer_s / ours_s,
        "",
        same,
        "forward and backward of the consistency loss",
    )
