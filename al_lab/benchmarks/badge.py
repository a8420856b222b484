"""BADGE's draws in one image against a pass over all candidates a pick."""

import time
from collections.abc import Iterator

import numpy as np
import torch

from al_lab.acquisition.gradient_embedding import GradientEmbeddings, by_whole_passes, k_means_pp
from al_lab.acquisition.source_filter import sample_bilinear
from al_lab.acquisition.tiles import spatial_order
from al_lab.benchmarks.density_greedy import DIM, NATIVE, Size, trained_view
from al_lab.benchmarks.measure import Row, best_of
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext
from al_lab.strategies.general._filtered import FilteredGreedy

FIRST_PICKS = 60  # of what costs the same for every pick
_CLASSES = 19  # of Cityscapes


def unsure_pixels(size: Size) -> tuple[GradientEmbeddings, np.ndarray]:
    """Return the gradients that the strategy draws from in a trained segmenter's view, and an order of alike ones."""
    size_hw, input_hw, budget, alpha = size
    view = trained_view(size_hw, input_hw)
    greedy = FilteredGreedy("entropy", alpha, "informative", "hash")
    pixel_N = greedy.candidates(view, ProposeContext(budget, "pixel", Rng(0)))
    features = sample_bilinear(view.features.float(), pixel_N, size_hw)
    points = GradientEmbeddings(view.probs.flatten(1)[:, torch.as_tensor(pixel_N)].T, features)
    return points, spatial_order(pixel_N, size_hw[1])


def structureless(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return probabilities and features of points without any structure: nothing can be passed over."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(num, _CLASSES, generator=generator).softmax(1)
    return probs, torch.randn(num, DIM, generator=generator)


def run(full: bool = False, size: Size = NATIVE) -> Iterator[Row]:
    """Yield the rows; everything on one thread, in CPU seconds. ``full`` runs every one to its end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first = size[2] if full else min(size[2], FIRST_PICKS)
        points, near = unsure_pixels(size)
        yield _compare(points, near, size[2], "pixels", size[2], first)
        points = GradientEmbeddings(*structureless(size[2] * size[3]))
        yield _compare(points, np.arange(len(points)), size[2], "random", first, first)
    finally:
        torch.set_num_threads(threads)


def _compare(points: GradientEmbeddings, near: np.ndarray, budget: int, kind: str, picks: int, first: int) -> Row:
    seconds, ours = best_of(lambda: k_means_pp(points, picks, np.random.default_rng(0), near), 1, time.process_time)
    draws = np.random.default_rng(0).random(first - 1)
    peer_s, peer = best_of(lambda: by_whole_passes(points, draws), 1, time.process_time)
    note = f"CPU seconds; compared over {first:,} picks"
    for whose, number in (("ours", picks), ("the peer", first)):
        note += f"; {whose} extrapolated from its first {number:,}" if number < budget else ""
    seconds, peer_s = seconds * budget / picks, peer_s * budget / first
    return Row(
        f"BADGE {len(points):,} B={budget:,} {kind}",
        "a pass over all a pick",
        seconds,
        peer_s,
        peer_s / seconds,
        ">= 10" if kind == "pixels" else "",
        bool((ours.order[:first] == peer.order[:first]).all()),
        note,
    )
