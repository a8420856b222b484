"""What every strategy that buys segments shares: those that are open, and the mean of something over each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from al_lab.acquisition.segments.means import open_segments, segment_means
from al_lab.core.types import Candidates, DenseView
from al_lab.strategies.general._filtered import diverged


def propose_segments(view: DenseView, utility_HW: Tensor, columns: Mapping[str, Tensor] | None = None) -> Candidates:
    """Return every segment of an image of which nothing is bought, with the mean of a value over it.

    Args:
        view: with its segments, and what was bought.
        utility_HW: a value of each pixel.
        columns: arrays to keep of every segment, (R, …).

    Raises:
        DataError: for values that are not numbers.
    """
    segments_HW = segments_of(view)
    number_N = open_segments(segments_HW, view.bought)
    utility_R = segment_means(utility_HW[None], segments_HW)[:, 0]
    return candidates(view, number_N, {"utility": utility_R, **(columns or {})})


def candidates(view: DenseView, number_N: np.ndarray, of_segments: Mapping[str, Tensor]) -> Candidates:
    """Return some segments of an image; ``of_segments``: utility, and arrays to keep, (R, …)."""
    at_N = torch.as_tensor(number_N)
    kept: dict[str, np.ndarray] = {}
    for name, values_R in of_segments.items():
        values_N = values_R[at_N.to(values_R.device)]
        if not bool(values_N.isfinite().all()):
            raise diverged(view, "utilities" if name == "utility" else name)
        kept[name] = (values_N if name == "utility" else values_N.float()).cpu().numpy()
    return Candidates.segments(view.sample_id, segments_of(view), number_N, kept.pop("utility"), kept)


def segments_of(view: DenseView) -> np.ndarray:
    """Return the map of a view that has to have one.

    Raises:
        TypeError: if it has none.
    """
    if view.segments is None:
        raise TypeError(
            f"expected the segments of {view.sample_id!r}, got a view without; the strategy must name segments in "
            "data_needs, or budget.unit be segment"
        )
    return view.segments


def dense_of(view: Any, who: str) -> DenseView:
    """Return a view of pixels.

    Raises:
        TypeError: if it is one of a whole image.
    """
    if not isinstance(view, DenseView):
        raise TypeError(f"{who}.propose: expected a dense view, got {type(view).__name__}")
    return view
