"""ReDAL: buy unsure segments with edges in them, few of each kind."""

import math
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch

from al_lab.acquisition.k_means import k_means
from al_lab.acquisition.segments.decay import decayed, decayed_as_released
from al_lab.acquisition.segments.edges import edge_map
from al_lab.acquisition.segments.means import feature_means
from al_lab.core.budget import Allowance
from al_lab.core.fields import at_least, flag, not_negative, one_of, share
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Strategy, mix, take_best
from al_lab.core.types import Candidates, DenseView, ImageView, Query
from al_lab.strategies.general._segments import dense_of, propose_segments, segments_of

_EPS = 1e-12  # released code
_PER_CLUSTER = 10  # segments; ours, so that small pools have fewer clusters than 500


class Redal(Strategy):
    """Region-based and diversity-aware.

    Wu et al., "ReDAL: Region-based and Diversity-aware Active Learning for Point Cloud Semantic Segmentation", ICCV
    2021, as D2ADA's released code brings it to images (ReDAL itself is for point clouds). Over the whole pool:

        h_p = mean_c -P_c log2(P_c + 1e-12),   s_r = mean over the segment of h_p + beta edge_p
        k-means of the segments' mean features; along falling s, the n-th of a cluster has s' = s eta^(n - 1)
        the largest s' are bought until the budget is spent

    | symbol | argument | default | where |
    |---|---|---|---|
    | beta | edge_weight | 0.05 | D2ADA's code |
    | eta | decay | 0.95 | D2ADA's code |
    | clusters | clusters | 500, at most a tenth of the segments | D2ADA's code; the tenth is ours |
    | edge | | 0 or 1: Canny(50, 150) after a 5 x 5 Gaussian | UNSPECIFIED: 255 would swamp the entropy |
    | features | | the network's branch, upsampled | DEVIATION: D2ADA's are 256 channels of a decoder |

    Deviations: clusters belong to the segments they were found for, where D2ADA's code discounts most by another
    segment's (``released``); the budget is never exceeded, where it is by up to a segment; k-means in mini-batches. The
    features are the branch's, which objective=density (or objective.aux) trains; without it they are a random
    projection of the backbone's.

    Args:
        edge_weight: see above.
        decay: see above; 1 is the plain value of segments.
        clusters: see above.
        released: discount as D2ADA's code does.
        ties: hash | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features")
    data_needs: ClassVar[tuple[str, ...]] = ("segments", "image")
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    units: ClassVar[tuple[str, ...]] = ("segment", "pixel")

    def __init__(
        self,
        edge_weight: float = 0.05,
        decay: float = 0.95,
        clusters: int = 500,
        released: bool = False,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        self.edge_weight = not_negative(edge_weight, "strategy.edge_weight", do="0.05 is the released code's")
        self.decay = share(decay, "strategy.decay", do="0.95 is the released code's")
        self.clusters = at_least(1)(clusters, "strategy.clusters", do="500 is the released code's")
        self.released = bool(flag(released, "strategy.released"))
        self.ties = one_of("hash", "id")(ties, "strategy.ties")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the open segments with s and their features."""
        view = dense_of(view, "Redal")
        if view.features is None or (view.image is None and self.edge_weight):
            raise TypeError("Redal.propose: expected features and the image; the learner must provide pixel_features")
        p_CHW = view.probs.double()
        s_HW = -(p_CHW * (p_CHW + _EPS).log2()).mean(0)
        if self.edge_weight and view.image is not None:
            s_HW = s_HW + self.edge_weight * torch.as_tensor(edge_map(view.image), device=s_HW.device)
        return propose_segments(view, s_HW, {"features": feature_means(view.features, segments_of(view))})

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Discount, then take the best."""
        is_open = np.isin(np.asarray(candidates.sample_ids), np.asarray(pool.unlabeled()))[candidates.sample]
        rows = np.flatnonzero(is_open)
        if not len(rows):
            return []
        # by id and number: the pool's order decides nothing
        place_M = rng.tie_keys(candidates.sample_ids, "id")
        assert candidates.segment is not None
        rows = rows[np.lexsort((candidates.segment[rows], place_M[candidates.sample[rows]]))]
        num = max(1, min(self.clusters, math.ceil(len(rows) / _PER_CLUSTER)))
        cluster_N, _ = k_means(candidates.columns["features"][rows], num, rng.child("clusters"))
        utility = candidates.utility.copy()
        if self.released:
            utility[rows] = decayed_as_released(utility[rows], cluster_N, self.decay)
        else:
            key_M = rng.tie_keys(candidates.sample_ids)[candidates.sample[rows]]
            key_N = mix(key_M, candidates.segment[rows]) if self.ties == "hash" else np.arange(len(rows))
            utility[rows] = decayed(utility[rows], cluster_N, self.decay, key_N)
        return take_best(replace(candidates, utility=utility), pool, budget, rng, ties=self.ties)
