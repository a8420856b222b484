"""Random: the line every other strategy has to beat."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from al_lab.acquisition.segments.means import open_segments
from al_lab.core.strategy import ProposeContext, Reason, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView
from al_lab.strategies.general._segments import segments_of
from al_lab.strategies.general._windows import check_radius, propose_windows


def random_utility(ctx: ProposeContext) -> float:
    """Return an image's u, in [0, 1)."""
    return float(ctx.rng.generator().random())


class Random(Strategy):
    """Uniform without replacement, by seed.

    Every image (or pixel, region, segment) draws u ~ U[0, 1) from (seed, cycle, id) and the largest are bought: no
    order of the pool and no number of workers can matter, and no network runs. Regions never overlap, not even with
    those of earlier cycles.

    Args:
        radius_px: r of a region, a square of side 2 r + 1.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("detection", "segmentation")
    units: ClassVar[tuple[str, ...]] = ("image", "box", "pixel", "region", "segment")

    def __init__(self, radius_px: int = 1) -> None:
        self.radius_px = check_radius(radius_px, "strategy.radius_px")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image, ``ctx.quota`` of its open pixels or regions, or its segments, with random utilities."""
        if ctx.quota is None:
            return Candidates.images([view.sample_id], [random_utility(ctx)])
        draw = ctx.rng.generator()
        assert isinstance(view, DenseView)
        if ctx.unit == "segment":
            number_N = open_segments(segments_of(view), view.bought)
            return Candidates.segments(view.sample_id, segments_of(view), number_N, draw.random(len(number_N)))
        height, width = view.size_hw
        u = draw.random(height * width)
        if ctx.unit == "region":
            return propose_windows(view, u.reshape(height, width), ctx, self.radius_px, 2 * self.radius_px, None)
        open_pixels = np.arange(height * width) if view.bought is None else np.flatnonzero(~view.bought.reshape(-1))
        count = min(ctx.quota, len(open_pixels))
        best = open_pixels[np.argpartition(-u[open_pixels], count - 1)[:count]] if count else open_pixels[:0]
        best = best[np.argsort(-u[best])]
        return Candidates.pixels(view.sample_id, view.size_hw, best, u[best])

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        return Reason({}, "drawn at random")
