"""MADA: buy the target images that are least like anything in the source."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch

from al_lab.acquisition.domains.anchors import anchors, class_centroids, distance_to_anchors
from al_lab.core.arrays import Column
from al_lab.core.budget import Allowance
from al_lab.core.fields import at_least, one_of
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, take_best
from al_lab.core.types import Candidates, DenseView, ImageView, Query
from al_lab.strategies.segmentation._source import LooksAtSource, classes_at, labels_at


class Mada(LooksAtSource):
    """Multi-anchor active domain adaptation: its selection.

    Ning et al., "Multi-Anchor Active Domain Adaptation for Semantic Segmentation", ICCV 2021; facts from the released
    code (github.com/munanning/MADA).

        g(x) in R^{C D}: per class the mean feature over pixels whose prediction is their label (source; target: over
        all that are predicted so); of fewer than ``min_pixels`` pixels: 0
        A_1..A_K = k-means of g over the source's images
        Delta(x) = min_k |g(x) - A_k|^2 / (C D);   the B target images of largest Delta are bought, once

    | symbol | here | default | where |
    |---|---|---|---|
    | K | ``anchors`` | 10 | released code |
    | iterations of k-means | ``iterations`` | 20 | released code |
    | least pixels of a class | ``min_pixels`` | 10 | released code |
    | B | the budget | 148 images, 5 % of 2,975 | released code |

    Deviations: features are the network's branch F (a 1x1 layer on the backbone, taught by a classifier of its own:
    ``objective.aux``), not a decoder's 256 channels; pixels are those of F's resolution. k-means is Lloyd's with one
    k-means++ start, not faiss's. Of equal distances the released code buys one image, since it looks images up by their
    distance; here each counts. After the purchase training goes on with both domains' labels; the second stage is
    `al_lab.objectives.domains.multi_anchor.MultiAnchor`.

    Args:
        anchors: see above.
        min_pixels: likewise.
        iterations: likewise, at most.
        ties: equal distances: hash (of seed, cycle and id) | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features")
    source_needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features")
    units: ClassVar[tuple[str, ...]] = ("image",)
    from_source: ClassVar[Mapping[str, Column]] = {"anchors": Column("f", ("K", "G"))}

    def __init__(
        self, anchors: int = 10, min_pixels: int = 10, iterations: int = 20, ties: Literal["hash", "id"] = "hash"
    ) -> None:
        at_least(1)(anchors, "strategy.anchors", do="10 is the released code's")
        at_least(1)(min_pixels, "strategy.min_pixels", do="10 is the released code's")
        at_least(1)(iterations, "strategy.iterations", do="20 is the released code's")
        one_of("hash", "id")(ties, "strategy.ties")
        self.num_anchors, self.min_pixels, self.iterations, self.ties = anchors, min_pixels, iterations, ties

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its g; how far it is from the source is known when all are seen."""
        if not isinstance(view, DenseView) or view.features is None:
            raise TypeError(
                "Mada.propose: expected a dense view with features; the learner must provide pixel_features"
            )
        return Candidates.images([view.sample_id], [0.0], centroids=self._vector(view, None)[None])

    def _vector(self, view: DenseView, label_HW: np.ndarray | None) -> np.ndarray:
        """Return g, (C D,) float32."""
        size_hw = view.features.shape[1:]
        class_hw = classes_at(view, size_hw)
        if label_HW is not None:
            true_hw = torch.as_tensor(labels_at(label_HW, size_hw).astype(np.int64), device=class_hw.device)
            class_hw = torch.where(class_hw == true_hw, class_hw, -1)
        f_DP = view.features.flatten(1)
        return class_centroids(f_DP, class_hw.flatten(), len(view.probs), self.min_pixels).cpu().numpy()

    def of_source(self, view: DenseView, label_HW: np.ndarray) -> dict[str, np.ndarray]:
        """Return g of a source image."""
        return {"centroids": self._vector(view, label_HW)[None]}

    def summary(self, rows: Mapping[str, np.ndarray], rng: Rng) -> dict[str, np.ndarray]:
        """Return the anchors."""
        return {"anchors": anchors(rows["centroids"], self.num_anchors, self.iterations, rng)}

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the images of largest Delta."""
        far = distance_to_anchors(candidates.info["centroids"], self.source["anchors"])
        return take_best(Candidates.images(candidates.sample_ids, far), pool, budget, rng, ties=self.ties)
