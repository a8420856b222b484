"""From many values of one image to one: over its boxes, or the best of its pixels."""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.rng import Rng
from al_lab.core.strategy import mix

How = Literal["max", "mean", "sum"]
HOWS: tuple[How, ...] = get_args(How)


def check_how(how: str) -> How:
    """Return ``how`` if it is one of max, mean, sum.

    Raises:
        ConfigError: naming the nearest one.
    """
    for word in HOWS:
        if how == word:
            return word
    raise ConfigError(
        explain(
            expected="max | mean | sum",
            got=repr(how),
            where="strategy.aggregate",
            do=did_you_mean(str(how), HOWS),
        )
    )


def aggregate(values: Tensor, how: How) -> float:
    """Return max, mean or sum of the values of an image's boxes (N,); 0 for an image without boxes."""
    if len(values) == 0:
        return 0.0
    doubles = values.double()
    return float(doubles.amax() if how == "max" else doubles.mean() if how == "mean" else doubles.sum())


def best_pixels(
    utility_HW: Tensor, count: int, bought: np.ndarray | None, tie_rng: Rng | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return flat indices and utilities of the best pixels that are not bought yet, best first.

    Args:
        utility_HW: on any device; only the result leaves it.
        count: at most this many.
        bought: (H, W) bool, or None.
        tie_rng: orders pixels of equal utility; None takes the lower index first.

    Returns:
        (N,) int64 and (N,) float64. A NaN comes first, so that whoever receives it can name it.
    """
    flat = utility_HW.reshape(-1)
    num_open = flat.numel()
    if bought is not None:
        closed = torch.as_tensor(bought, device=flat.device).reshape(-1)
        flat = flat.masked_fill(closed, -torch.inf)
        num_open -= int(closed.sum())
    count = min(count, num_open)
    if count <= 0:
        return np.zeros(0, np.int64), np.zeros(0)
    top = flat.topk(count)
    if torch.isnan(top.values[0]):
        return top.indices.cpu().numpy(), top.values.double().cpu().numpy()
    # topk leaves open which of the pixels that equal the last one it took: fetch them all and let the tie key decide.
    tied = (flat >= top.values[-1]).nonzero().reshape(-1)
    utility = flat[tied].double().cpu().numpy()
    index = tied.cpu().numpy()
    key = index if tie_rng is None else mix(np.full(1, tie_rng.seed("tie"), np.uint64), index)
    order = np.lexsort((key, -utility))[:count]
    return index[order], utility[order]
