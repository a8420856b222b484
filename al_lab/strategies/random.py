"""Random: the line every other strategy has to beat."""

from typing import ClassVar

import numpy as np

from al_lab.core.strategy import ProposeContext, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView


class Random(Strategy):
    """Uniform without replacement, by seed.

    Every image (or pixel) draws u ~ U[0, 1) from (seed, cycle, id) and the largest are bought: no order of the pool and no number of
    workers can matter, and no network runs.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("detection", "segmentation")
    units: ClassVar[tuple[str, ...]] = ("image", "box", "pixel")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image, or ``ctx.quota`` of its open pixels, with random utilities."""
        draw = ctx.rng.generator()
        if ctx.quota is None:
            return Candidates.images([view.sample_id], [draw.random()])
        height, width = view.size_hw
        u = draw.random(height * width)
        open_pixels = np.arange(height * width)
        if isinstance(view, DenseView) and view.bought is not None:
            open_pixels = np.flatnonzero(~view.bought.reshape(-1))
        count = min(ctx.quota, len(open_pixels))
        best = open_pixels[np.argpartition(-u[open_pixels], count - 1)[:count]] if count else open_pixels[:0]
        best = best[np.argsort(-u[best])]
        return Candidates.pixels(view.sample_id, view.size_hw, best, u[best])
