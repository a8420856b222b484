"""BADGE over all segments of the pool: gradients that are long and unlike each other."""

import math
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch

from al_lab.acquisition.gradient_embedding import GradientEmbeddings, k_means_pp
from al_lab.acquisition.segments.means import feature_means, open_segments, segment_means
from al_lab.core.budget import Allowance
from al_lab.core.fields import one_of
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Strategy, take_best
from al_lab.core.types import Candidates, DenseView, ImageView, Query
from al_lab.strategies.general._segments import candidates as segment_candidates
from al_lab.strategies.general._segments import dense_of, segments_of


class BadgeSegments(Strategy):
    """Diverse gradient embeddings, of segments.

    Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020 (arXiv 1906.03671),
    Alg. 1, over all open segments of the pool as D2ADA's released code has it: with p_r and phi_r the means over
    segment r of probabilities and features,

        g_r = (onehot(argmax_c p_rc) - p_r) outer phi_r                        Eq. (1)
        the first pick is the longest g; each next one is drawn with a probability proportional to its squared distance
        to the nearest pick (k-means++ seeding), until the budget is spent

    Deviations from D2ADA's code: its first pick is the longest onehot - p alone, and of 2 + ln k trials it keeps the
    best; phi is the network's branch (see `Redal`), not 256 channels of a decoder; the budget is never exceeded.

    Args:
        ties: hash | id, for segments that are alike.
    """

    needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features")
    data_needs: ClassVar[tuple[str, ...]] = ("segments",)
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    units: ClassVar[tuple[str, ...]] = ("segment", "pixel")
    pixel_scopes: ClassVar[tuple[str, ...]] = ("pool",)

    def __init__(self, ties: Literal["hash", "id"] = "hash") -> None:
        self.ties = one_of("hash", "id")(ties, "strategy.ties")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the open segments, with the lengths of their gradients and what these are made of."""
        view = dense_of(view, "BadgeSegments")
        if view.features is None:
            raise TypeError("BadgeSegments.propose: expected features; the learner must provide pixel_features")
        segments_HW = segments_of(view)
        probs_RC, phi_RD = segment_means(view.probs, segments_HW), feature_means(view.features, segments_HW)
        probs_RC, phi_RD = probs_RC.cpu(), phi_RD.cpu()
        length_R = GradientEmbeddings(probs_RC.nan_to_num(), phi_RD.nan_to_num()).squared_norm_N.sqrt()
        columns = {"utility": length_R, "probs": probs_RC, "features": phi_RD}
        return segment_candidates(view, open_segments(segments_HW, view.bought), columns)

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Pick segments over the pool; their utilities are their places, as a draw's distances don't fall."""
        assert candidates.segment is not None and candidates.cost is not None
        open_M = np.isin(np.asarray(candidates.sample_ids), np.asarray(pool.unlabeled()))
        rows = np.flatnonzero(open_M[candidates.sample])
        if not len(rows):
            return []
        key_M = rng.tie_keys(candidates.sample_ids, self.ties)
        rows = rows[np.lexsort((candidates.segment[rows], key_M[candidates.sample[rows]]))]
        points = GradientEmbeddings(
            torch.from_numpy(candidates.columns["probs"][rows]), torch.from_numpy(candidates.columns["features"][rows])
        )
        cost_N = candidates.cost[rows] if budget.unit == "pixel" else np.ones(len(rows), np.int64)
        picked = rows[_within(points, cost_N, budget.amount, rng)]
        ranked = replace(
            candidates,
            sample=candidates.sample[picked],
            utility=np.arange(len(picked), 0, -1).astype(np.float64),
            center=None if candidates.center is None else candidates.center[picked],
            segment=candidates.segment[picked],
            cost=candidates.cost[picked],
            columns={},
        )
        return take_best(ranked, pool, budget, rng)


def _within(points: GradientEmbeddings, cost_N: np.ndarray, amount: int, rng: Rng) -> np.ndarray:
    """Return picks that together cost at least the amount, if there are as many."""
    count = max(1, math.ceil(amount / float(cost_N.mean())))
    while True:
        seeds = k_means_pp(points, count, rng.generator("badge"))
        if int(cost_N[seeds.order].sum()) >= amount or count >= len(points):
            return seeds.order
        count *= 2  # the same picks first: draws are the same numbers
