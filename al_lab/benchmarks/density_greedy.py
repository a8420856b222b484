"""Density-aware greedy of one image against the loops everyone writes."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.source_filter import candidates, coverage_density, informativeness, sample_bilinear
from al_lab.acquisition.tiles import spatial_order
from al_lab.benchmarks.measure import Row, best_of

DIM = 64
Size = tuple[tuple[int, int], tuple[int, int], int, int]  # of the image, of its features, budget, alpha
TRAINED: Size = ((640, 1280), (80, 160), 3605, 20)    # 2.2 % in five cycles: 72,100 candidates
NATIVE: Size = ((1024, 2048), (80, 160), 9228, 20)    # 184,560
FIRST_STEPS = 100  # of a peer whose every step costs the same
_CLASSES = 19

Problem = tuple[np.ndarray, np.ndarray]  # features (N, D) and densities (N,)


def scene(coarse_hw: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return smooth class logits (C, h, w), and features (D, h, w) that cluster by class with smooth and with white deviations."""
    g = torch.Generator().manual_seed(seed)

    def smooth(channels: int, cells: tuple[int, int]) -> Tensor:
        return functional.interpolate(torch.randn(1, channels, *cells, generator=g), coarse_hw, mode="bicubic", align_corners=True)[0]

    logits = 6 * smooth(_CLASSES, (6, 12)) + 3 * smooth(_CLASSES, (20, 40))
    of_class = torch.einsum("dc,chw->dhw", torch.randn(DIM, _CLASSES, generator=g), logits.softmax(0))
    return logits, of_class + 0.3 * smooth(DIM, (10, 20)) + 0.15 * torch.randn(DIM, *coarse_hw, generator=g)


def smooth_pixels(size: Size) -> Problem:
    """Return what the strategy selects from: the least sure pixels, features sampled at them, densities from the error of the mean neighbor."""
    size_hw, coarse_hw, budget, alpha = size
    logits, features = scene(coarse_hw)
    probs = functional.interpolate(logits[None], size_hw, mode="bilinear", align_corners=True)[0].softmax(0)
    pixels, _ = candidates(informativeness(probs), budget, alpha)
    pixels = pixels[spatial_order(pixels, size_hw[1])]
    around = (functional.avg_pool2d(features[None], 5, 1, 2, count_include_pad=False)[0] * 25 - features) / 24
    density_HW = coverage_density((around - features).square().sum(0))
    unit = functional.normalize(sample_bilinear(features, pixels, size_hw), dim=1)
    return unit.numpy(), sample_bilinear(density_HW[None], pixels, size_hw)[:, 0].numpy()


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
    # In float64 on the same numbers: after thousands of picks radii are so much alike that a loop in float32 loses its way.
    reference = tensor_loop(x_ND.double(), 1 / torch.from_numpy(density).double(), steps)
    peers: list[tuple[str, Callable[[Tensor, Tensor, int], list[int]]]] = [
        ("tensor (x - c).square().sum(1)", tensor_loop), ("tensor matrix-vector loop", matrix_vector_loop)]
    for name, peer in peers:
        part, picks = best_of(lambda peer=peer: peer(x_ND, inverse_N, steps), 1 if full else 2, time.process_time)  # type: ignore[misc]
        different, lost = (_first_difference(reference, order) for order in (ours.order.tolist(), picks))
        note = f"same {steps:,} picks as in float64" if different is None else f"picks differ from pick {different}"
        note += "" if lost is None else f", the peer's from pick {lost}"
        if steps < budget:
            note += f"; peer extrapolated from its first {steps} picks"
        whole = part * budget / steps
        yield Row(task, name, seconds, whole, whole / seconds, "" if peer is tensor_loop else ">= 5", different is None, f"CPU seconds; {note}")


def _first_difference(reference: list[int], picks: list[int]) -> int | None:
    return next((n for n, (a, b) in enumerate(zip(reference, picks, strict=False)) if a != b), None)
