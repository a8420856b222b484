"""A whole training step of ours against a bare PyTorch loop over the same batches, network, loss and optimizer."""

from __future__ import annotations

import copy
import functools
import importlib.util
import logging
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from al_lab.benchmarks.measure import Row
from al_lab.benchmarks.scoring import ssd300
from al_lab.data.loading.batch import Batch, Kind, pad_boxes
from al_lab.learners.module import FitModule
from al_lab.learners.settings import TrainSettings
from al_lab.learners.trainer import Ranks, run_steps
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.objectives.supervised import Supervised

log = logging.getLogger(__name__)


def run(full: bool = False, steps: int = 4, repeats: int = 2) -> Iterator[Row]:
    """Yield a row for each network, in CPU seconds of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    squeeze = functools.partial(SqueezeDetector, 20, input_px=160, weights=None)
    cases: list[tuple[str, Callable[[], nn.Module], int, int]] = [("squeeze", squeeze, 8, 160)]
    if importlib.util.find_spec("mmdet"):
        cases.append(("SSD300", lambda: ssd300(torch.randn(1, 3, 300, 300)), 4 if full else 2, 300))
    else:
        log.warning("mmdet is not installed: no step of SSD300")
    try:
        for name, make, batch_size, px in cases:
            yield _row(name, make, batch_size, px, steps, repeats)
    finally:
        torch.set_num_threads(threads)


def _row(name: str, make: Callable[[], nn.Module], batch_size: int, px: int, steps: int, repeats: int) -> Row:
    torch.manual_seed(0)
    first, batches = make(), [_batch(batch_size, px, n) for n in range(steps + 1)]
    settings = TrainSettings(batch_size=batch_size, max_iters=steps + 1, lr=1e-3, grad_clip=10.0)
    ours_s = peer_s = float("inf")
    ours, peer = first, first
    for _ in range(repeats):  # in turn, so that both meet the same machine
        start, ours = _ours(first, batches, settings)
        ours_s = min(ours_s, start)
        start, peer = _bare(first, batches, settings)
        peer_s = min(peer_s, start)
    pairs = zip(ours.state_dict().values(), peer.state_dict().values(), strict=True)
    same = all(torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-6) for a, b in pairs)
    note = "ratio ours / peer's; weights compared at the end"
    return Row(f"a training step of {name}, batch {batch_size}", "a bare PyTorch loop", ours_s, peer_s, ours_s / peer_s,
               "<= 1.10", same, note)  # fmt: skip


class _Clock(list[Batch]):
    """Batches, and when the second one was asked for: the first step warms up."""

    def __iter__(self) -> Iterator[Batch]:
        for n in range(len(self)):
            if n == 1:
                self.start = time.process_time()
            yield self[n]


def _ours(first: nn.Module, batches: list[Batch], settings: TrainSettings) -> tuple[float, nn.Module]:
    network, clock = copy.deepcopy(first).train(), _Clock(batches)
    module = FitModule(network, Supervised(), settings, settings.schedule(1), seed=0)
    run_steps(module, clock, len(batches), settings, [], Ranks())
    return (time.process_time() - clock.start) / (len(batches) - 1), network


def _bare(first: nn.Module, batches: list[Batch], settings: TrainSettings) -> tuple[float, nn.Module]:
    network, objective = copy.deepcopy(first).train(), Supervised()
    weights = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, settings.lr, settings.momentum, weight_decay=settings.weight_decay)
    start = 0.0
    for step, batch in enumerate(batches):
        if step == 1:
            start = time.process_time()
        optimizer.zero_grad()
        loss = objective(network, batch, step, len(batches))["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(weights, settings.grad_clip or 0.0)
        optimizer.step()
    return (time.process_time() - start) / (len(batches) - 1), network


def _batch(size: int, px: int, seed: int) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    corners = [torch.rand(3, 2, generator=rng) * px / 2 for _ in range(size)]
    boxes = [torch.cat([c, c + px * (0.1 + 0.3 * torch.rand(3, 2, generator=rng))], 1) for c in corners]
    images, sizes = 50 * torch.randn(size, 3, px, px, generator=rng), torch.full((size, 2), px)
    padded = pad_boxes(boxes, [torch.randint(0, 20, (3,), generator=rng) for _ in range(size)])
    return Batch(images, [str(n) for n in range(size)], *padded, torch.full((size,), int(Kind.LABELED)), sizes, sizes)
