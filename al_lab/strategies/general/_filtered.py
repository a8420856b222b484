"""What density and core_set do with pixels.

Keep the least sure ones, then cover those in feature space, image by image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.source_filter import candidates, informativeness, sample_bilinear
from al_lab.acquisition.tiles import spatial_order
from al_lab.acquisition.uncertainty import entropy, least_confidence
from al_lab.core.budget import alpha_for
from al_lab.core.errors import DataError, explain
from al_lab.core.fields import number_from, one_of, optional
from al_lab.core.strategy import ProposeContext
from al_lab.core.types import Candidates, DenseView

Filter = Literal["margin", "entropy", "least_confidence", "none"]
SeedRule = Literal["informative", "dense", "random"]
_EPS = 1e-12  # of the norm
_VALUE_OF: dict[str, Callable[[Tensor], Tensor]] = {
    "margin": informativeness,
    "entropy": lambda probs: entropy(probs, dim=0),
    "least_confidence": lambda probs: least_confidence(probs, dim=0),
}


@dataclass(frozen=True)
class FilteredGreedy:
    """Algorithm 1 of Density Matters on the candidates of one image.

    Attributes:
        filter: margin: I = 1 - P_1* + P_2*, the paper's; entropy; least_confidence; none: every open pixel is a
            candidate.
        alpha: candidates a pixel bought; None: 20 for total budgets up to 2.2 % of the pixels, else 10.
        seed_rule: the first pick of an image without bought pixels, which Alg. 1 leaves open (UNSPECIFIED): the most
            informative candidate (without a filter they are all alike, and ``ties`` decides), the one of highest
            density, or a random one.
        ties: order of equally informative pixels: hash | id (row by row).
    """

    filter: Filter
    alpha: float | None
    seed_rule: SeedRule
    ties: Literal["hash", "id"]

    def __post_init__(self) -> None:
        one_of(*get_args(Filter))(self.filter, "strategy.filter")
        one_of(*get_args(SeedRule))(self.seed_rule, "strategy.seed_rule")
        one_of("hash", "id")(self.ties, "strategy.ties")
        do = "the paper's are 20 and 10; null chooses by budget"
        optional(number_from(1))(self.alpha, "strategy.alpha", do=do)

    def __call__(self, view: DenseView, ctx: ProposeContext, density_HW: Tensor | None) -> Candidates:
        """Pick ``ctx.quota`` pixels, in Alg. 1's order.

        Args:
            view: with ``probs``, ``features`` and what was bought.
            ctx: quota and share of the budget.
            density_HW: at the features' resolution; None: 1 everywhere, which is greedy k-center.
        """
        assert ctx.quota is not None
        pixel_N = self.candidates(view, ctx)
        rank_N = spatial_order(pixel_N, view.size_hw[1])  # only for speed; a candidate's rank still settles ties
        pixel_N = pixel_N[rank_N]
        bought_M = np.flatnonzero(view.bought) if view.bought is not None else np.zeros(0, np.int64)
        bought_M = bought_M[spatial_order(bought_M, view.size_hw[1])]
        # s_0: what was bought in this image, with what the model says of it now
        row_R = np.concatenate([pixel_N, bought_M])
        f_RD = self.features(view, row_R)
        d_R = (
            np.ones(len(row_R))
            if density_HW is None
            else sample_bilinear(density_HW[None], row_R, view.size_hw)[:, 0].double().cpu().numpy()
        )
        first = self._first(rank_N, d_R[: len(rank_N)], ctx) if len(rank_N) and not len(bought_M) else None
        key_R = np.concatenate([rank_N, np.arange(len(rank_N), len(row_R))])
        picked = density_greedy(f_RD, d_R, ctx.quota, np.arange(len(pixel_N), len(row_R)), tie_key=key_R, first=first)
        # Nothing can be farther than 2 on the sphere: the utility of a first pick, whose r is infinite.
        utility = np.minimum(picked.radius, 4 / d_R.min()) if len(d_R) else picked.radius
        return Candidates.pixels(view.sample_id, view.size_hw, row_R[picked.order], utility)

    def candidates(self, view: DenseView, ctx: ProposeContext) -> np.ndarray:
        """Return the alpha b most informative pixels that are not bought, the most informative first."""
        assert ctx.quota is not None
        if self.filter == "none":
            value_HW, alpha = torch.zeros(view.size_hw), float(np.prod(view.size_hw))
        else:
            value_HW, alpha = (
                _VALUE_OF[self.filter](view.probs),
                self.alpha if self.alpha is not None else alpha_for(ctx.share),
            )
        pixels, values = candidates(value_HW, ctx.quota, alpha, view.bought, ctx.rng if self.ties == "hash" else None)
        if len(values) and not np.isfinite(values).all():
            raise diverged(view, "probabilities")
        return pixels

    @staticmethod
    def features(view: DenseView, pixels: np.ndarray) -> Tensor:
        """Return f: the feature map upsampled to the image, at some pixels, then divided by its length.

        It stays on the view's device.
        """
        f_ND = functional.normalize(sample_bilinear(view.features.float(), pixels, view.size_hw), dim=1, eps=_EPS)
        if not bool(f_ND.isfinite().all()):
            raise diverged(view, "features")
        return f_ND

    def _first(self, rank_N: np.ndarray, density_N: np.ndarray, ctx: ProposeContext) -> int:
        if self.seed_rule == "dense":
            return int(np.lexsort((rank_N, -density_N))[0])
        rank = 0 if self.seed_rule == "informative" else int(ctx.rng.generator("first").integers(len(rank_N)))
        return int(np.flatnonzero(rank_N == rank)[0])


def diverged(view: DenseView, what: str) -> DataError:
    """Return the error for a network whose outputs are not numbers."""
    return DataError(
        explain(
            expected=f"finite {what}",
            got=f"others in sample {view.sample_id!r}",
            where="propose",
            do="the segmenter diverged: look at its loss",
        )
    )
