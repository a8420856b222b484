"""What every strategy that buys regions shares.

Windows one after the other, none touching another, nor one of an earlier cycle.
"""

import numpy as np
from torch import Tensor

from al_lab.acquisition.regions import closed_by, pick_windows, window_size, within_pixels
from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.fields import at_least
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, mix
from al_lab.core.types import Candidates, DenseView


def check_radius(value: int, where: str, least: int = 0) -> int:
    """Return a window's radius.

    Raises:
        ConfigError: if it is no whole number of pixels, or too small.
    """
    return at_least(least, "a whole number of pixels")(value, where, do="1 is a square of 3 x 3 pixels")


def check_quota(quota_px: int, region_px: int, where: str) -> None:
    """Refuse a budget in pixels that can't pay a single region.

    Raises:
        ConfigError: naming both.
    """
    if quota_px < region_px:
        raise ConfigError(
            explain(
                expected=f"a budget of at least one region ({region_px} pixels) an image and cycle",
                got=f"{quota_px} pixels",
                where=where,
                do="raise budget.per_cycle, or buy pixels: strategy.mode=pixel",
            )
        )


def propose_windows(
    view: DenseView,
    utility_HW: Tensor | np.ndarray,
    ctx: ProposeContext,
    radius_px: int,
    suppress_px: int,
    tie_rng: Rng | None,
) -> Candidates:
    """Return the image's best windows of radius ``radius_px``, best first.

    There are as many as ``ctx.quota`` counts or, in pixels, pays.

    Args:
        view: what was bought in it is closed, with as much around it as ``suppress_px`` leaves.
        utility_HW: of the window around each pixel, in the image's own resolution.
        ctx: quota and unit.
        radius_px: of what is bought.
        suppress_px: Chebyshev distance up to which no other center may be.
        tie_rng: orders windows of equal utility; None takes the leftmost, then the topmost.

    Raises:
        DataError: for a utility that is not a number.
        ConfigError: for a budget in pixels that can't pay a single region.
    """
    utility = utility_HW.cpu().numpy() if isinstance(utility_HW, Tensor) else utility_HW
    if np.isnan(utility).any():
        raise DataError(
            explain(
                expected="finite utilities",
                got=f"{int(np.isnan(utility).sum())} that are not, in sample {view.sample_id!r}",
                where="propose",
                do="the segmenter diverged: look at its loss",
            )
        )
    assert ctx.quota is not None
    count, pays_pixels = ctx.quota, ctx.unit == "pixel" and radius_px > 0
    if pays_pixels:
        sizes = window_size(view.size_hw, radius_px)
        check_quota(ctx.quota, int(sizes.max()), f"budget in sample {view.sample_id!r}")
        count //= int(sizes.min())
    closed = None if view.bought is None else closed_by(view.bought, suppress_px - radius_px)
    key = (
        None
        if tie_rng is None
        else mix(np.full(1, tie_rng.seed("tie"), np.uint64), np.arange(utility.size)).reshape(utility.shape)
    )
    picks = pick_windows(utility, count, suppress_px, closed, tie_key_HW=key)
    num = within_pixels(picks.center, view.size_hw, radius_px, ctx.quota) if pays_pixels else len(picks.center)
    return Candidates.pixels(view.sample_id, view.size_hw, picks.center[:num], picks.utility[:num], radius_px)
