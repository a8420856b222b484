"""Density-aware greedy of one image against the loops everyone writes."""

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.source_filter import coverage_density, sample_bilinear
from al_lab.acquisition.tiles import spatial_order
from al_lab.benchmarks.measure import Row, best_of
from al_lab.campaign.loop import run_campaign
from al_lab.config.load import compose
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext
from al_lab.core.types import DenseView
from al_lab.data.generated.streets import Streets
from al_lab.learners.build import build_learner
from al_lab.stages.jobs import dense
from al_lab.strategies.general._filtered import FilteredGreedy
from al_lab.strategies.segmentation.density import Density

DIM = 64
# Of the image, of the network's input (features at stride 4 of it have the size of DeepLab's at stride 8 of 640 x
# 1280), budget, alpha.
Size = tuple[tuple[int, int], tuple[int, int], int, int]
TRAINED: Size = ((640, 1280), (320, 640), 3605, 20)  # 2.2 % in five cycles: 72,100 candidates
NATIVE: Size = ((1024, 2048), (320, 640), 9228, 20)  # 184,560
FIRST_STEPS = 100  # of a peer whose every step costs the same
_STEPS = 200  # of the training whose features are selected from

Problem = tuple[np.ndarray, np.ndarray]  # features (N, D) and densities (N,)


@functools.cache
def trained_view(size_hw: tuple[int, int], input_hw: tuple[int, int]) -> DenseView:
    """Train a small segmenter on generated streets for half a minute.

    Returned is what it sees in a street of another size.

    Args:
        size_hw: of the street, whose pixels are bought.
        input_hw: of the network's input; its features have a quarter of that.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = compose(
            [
                "strategy=density",
                "dataset=streets",
                "executor=inline",
                f"runtime.data_dir={folder}",
                "runtime.analyze_images=0",
                f"segmenter.branch.dim={DIM}",
                "dataset.num_source=60",
                "dataset.num_pool=60",
                "dataset.num_test=2",
                "budget.cycles=0",
                f"trainer.stop_at=[{_STEPS}]",
                "name=bench",
            ]
        )
        run_campaign(config, Path(folder, "run"))
        street = Streets(folder, None, 0, 1, 1, size_hw)
        street.target_hw = input_hw
        learner = build_learner(config, street)
        learner.load(Path(folder, "run", "cycle_00", "model.ckpt"))
        return dense(next(iter(learner.views(street.pool_ids, Density.needs))))


def smooth_pixels(size: Size) -> Problem:
    """Return what the strategy selects from in a trained segmenter's view.

    Its candidates, their features and densities.
    """
    size_hw, input_hw, budget, alpha = size
    view, greedy = trained_view(size_hw, input_hw), FilteredGreedy("margin", alpha, "informative", "hash")
    pixels = greedy.candidates(view, ProposeContext(budget, "pixel", Rng(0)))
    pixels = pixels[spatial_order(pixels, size_hw[1])]
    density_HW = coverage_density(view.extras["error"])
    return greedy.features(view, pixels).numpy(), sample_bilinear(density_HW[None], pixels, size_hw)[
        :, 0
    ].double().numpy()


def random_vectors(size: Size) -> Problem:
    """Return unit vectors without any structure, and densities over the same range: nothing can be passed over."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((size[2] * size[3], DIM), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), np.exp(2.4 - 4 * rng.random(len(x)))


def tensor_loop(x_ND: Tensor, inverse_N: Tensor, steps: int) -> list[int]:
    """Algorithm 1 by exact differences, starting with row 0."""
    radius, order = torch.full((len(x_ND),), torch.inf), [0]
    while len(order) < steps:
        u = order[-1]
        radius = torch.minimum(radius, (x_ND - x_ND[u]).square().sum(1) * inverse_N[u])
        order.append(int(radius.argmax()))
    return order


def matrix_vector_loop(x_ND: Tensor, inverse_N: Tensor, steps: int) -> list[int]:
    """The same by |x|^2 + |c|^2 - 2 x.c: faster, but what is near loses its digits."""
    sq_N = x_ND.square().sum(1)
    radius, order = torch.full((len(x_ND),), torch.inf), [0]
    while len(order) < steps:
        u = order[-1]
        radius = torch.minimum(radius, (sq_N + sq_N[u] - 2 * (x_ND @ x_ND[u])) * inverse_N[u])
        order.append(int(radius.argmax()))
    return order


def run(full: bool = False, sizes: tuple[Size, ...] | None = None) -> Iterator[Row]:
    """Yield the rows; everything on one thread, in CPU seconds. ``full`` adds the image's own size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        density_greedy(*random_vectors((TRAINED[0], TRAINED[1], 20, 20)), 20)  # compiles
        for size in sizes or ((TRAINED, NATIVE) if full else (TRAINED,)):
            for kind, make in (("pixels", smooth_pixels), ("random", random_vectors)):
                x, density = make(size)
                yield from _compare(x, density, size[2], f"density greedy {len(x):,}x{DIM} B={size[2]:,} {kind}", full)
    finally:
        torch.set_num_threads(threads)


def _compare(x: np.ndarray, density: np.ndarray, budget: int, task: str, full: bool) -> Iterator[Row]:
    seconds, ours = best_of(lambda: density_greedy(x, density, budget, first=0), 2, time.process_time)
    x_ND, inverse_N = torch.from_numpy(x), torch.from_numpy((1 / density).astype(np.float32))
    steps = budget if full else min(budget, FIRST_STEPS)
    # In float64 on the same numbers: after thousands of picks radii are so much alike that a loop in float32 loses its
    # way.
    reference = tensor_loop(x_ND.double(), 1 / torch.from_numpy(density).double(), steps)
    peers: list[tuple[str, Callable[[Tensor, Tensor, int], list[int]]]] = [
        ("tensor (x - c).square().sum(1)", tensor_loop),
        ("tensor matrix-vector loop", matrix_vector_loop),
    ]
    for name, peer in peers:
        part, picks = best_of(lambda peer=peer: peer(x_ND, inverse_N, steps), 1 if full else 2, time.process_time)  # type: ignore[misc]
        different, lost = (_first_difference(reference, order) for order in (ours.order.tolist(), picks))
        note = f"same {steps:,} picks as in float64" if different is None else f"picks differ from pick {different}"
        note += "" if lost is None else f", the peer's from pick {lost}"
        if steps < budget:
            note += f"; peer extrapolated from its first {steps} picks"
        whole = part * budget / steps
        yield Row(
            task,
            name,
            seconds,
            whole,
            whole / seconds,
            "" if peer is tensor_loop else ">= 5",
            different is None,
            f"CPU seconds; {note}",
        )


def _first_difference(reference: list[int], picks: list[int]) -> int | None:
    return next((n for n, (a, b) in enumerate(zip(reference, picks, strict=False)) if a != b), None)
