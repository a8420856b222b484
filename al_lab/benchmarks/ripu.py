"""RIPU's regions of one Cityscapes image.

One walk through the largest utilities against an argmax over the image for every region.
"""

import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from al_lab.acquisition.regions import pick_windows, region_utility
from al_lab.benchmarks.density_greedy import trained_view
from al_lab.benchmarks.measure import Row, best_of

SIZE_HW = (1024, 2048)
INPUT_HW = (320, 640)  # of the segmenter whose probabilities they are
REGIONS = {1: 1026, 9: 26}  # radius -> regions an image and cycle: 2.2 %, with a source and without


def argmax_loop(utility_HW: Tensor, regions: int, radius_px: int) -> list[int]:
    """Pick as one would write it: the best row of every column, the best column, then two windows are written."""
    utility_HW = utility_HW.clone()
    selected = torch.zeros(utility_HW.shape, dtype=torch.bool)
    width, picks = utility_HW.shape[1], []
    for _ in range(regions):
        values_W, row_W = utility_HW.max(0)
        column = int(values_W.argmax())
        row = int(row_W[column])
        for what, reach, value in ((selected, radius_px, True), (utility_HW, 2 * radius_px, -torch.inf)):
            what[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = value
        picks.append(row * width + column)
    return picks


def run(full: bool = False, size_hw: tuple[int, int] = SIZE_HW, regions: dict[int, int] = REGIONS) -> Iterator[Row]:
    """Yield the rows; everything on one thread, in CPU seconds, every peer to its end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        probs = trained_view(size_hw, INPUT_HW).probs
        for radius_px, count in regions.items():
            utility_HW = region_utility(probs, radius_px)
            array_HW = utility_HW.numpy()
            pick_windows(array_HW, 1, 1)  # compiles
            seconds, ours = best_of(partial(pick_windows, array_HW, count, 2 * radius_px), 5, time.process_time)
            peer_s, picks = best_of(
                partial(argmax_loop, utility_HW, count, radius_px),
                3 if full else 1,
                time.process_time,
            )
            side = 2 * radius_px + 1
            yield Row(
                f"RIPU {count:,} regions {side}x{side} of {size_hw[1]}x{size_hw[0]}",
                "argmax and two windows a region",
                seconds,
                peer_s,
                peer_s / seconds,
                ">= 10" if radius_px == 1 else "",
                ours.center.tolist() == picks,
                "CPU seconds; all picks compared",
            )
    finally:
        torch.set_num_threads(threads)
