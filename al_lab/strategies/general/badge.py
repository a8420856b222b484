"""BADGE: buy pixels whose gradients are long and unlike each other."""

from typing import ClassVar, Literal

import numpy as np
import torch

from al_lab.acquisition.gradient_embedding import GradientEmbeddings, k_means_pp
from al_lab.acquisition.source_filter import sample_bilinear
from al_lab.acquisition.tiles import spatial_order
from al_lab.core.strategy import ProposeContext, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView
from al_lab.strategies.general._filtered import Filter, FilteredGreedy, diverged


class Badge(Strategy):
    """Diverse gradient embeddings, of pixels.

    Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020 (arXiv 1906.03671),
    Alg. 1. In every image:

        g_t = (onehot(argmax_c p_tc) - p_t) outer phi_t                       Eq. (1)
        the first pick is the longest g; each next one is drawn with a probability proportional to its squared distance
        to the nearest pick (k-means++ seeding); b times

    BADGE chooses images for a classifier. Density Matters (Table 5) compares with it by pixels and does not say how, so
    this is ours (UNSPECIFIED): phi is the network's feature map at the pixel, candidates are the alpha b least sure
    pixels, as for the other strategies that look at features, and each image is chosen from by itself, on the device
    of its features. On a CPU, 2.2 % of a Cityscapes image take ten seconds where neighbors look alike, minutes where
    nothing does.

    Args:
        filter: entropy | margin | least_confidence | none.
        alpha: candidates a pixel bought; null: 20 for total budgets up to 2.2 % of the pixels, 10 above.
        ties: equally informative pixels: hash (of seed, cycle and id) | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features")
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    units: ClassVar[tuple[str, ...]] = ("pixel",)
    pixel_scopes: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self, filter: Filter = "entropy", alpha: float | None = None, ties: Literal["hash", "id"] = "hash"
    ) -> None:  # noqa: A002
        self.filtered = FilteredGreedy(filter, alpha, "informative", ties)

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image's picks; the utility of each is its distance to the nearest earlier one."""
        if not isinstance(view, DenseView) or ctx.quota is None or view.features is None:
            raise TypeError(
                "Badge.propose: expected a dense view with features and a quota of pixels; the learner must provide "
                "pixel_features"
            )
        pixel_N = self.filtered.candidates(view, ctx)
        phi_ND = sample_bilinear(view.features.float(), pixel_N, view.size_hw)
        if not bool(phi_ND.isfinite().all()):
            raise diverged(view, "features")
        points = GradientEmbeddings(
            view.probs.flatten(1)[:, torch.as_tensor(pixel_N, device=view.probs.device)].T, phi_ND
        )
        near_N = spatial_order(pixel_N, view.size_hw[1])
        seeds = k_means_pp(points, ctx.quota, ctx.rng.generator("badge"), near_N)
        return Candidates.pixels(view.sample_id, view.size_hw, pixel_N[seeds.order], np.sqrt(seeds.squared))
