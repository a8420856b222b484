"""Class-balanced random: chance with a look at the predicted classes, a harder line to beat than plain random."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from al_lab.acquisition.segments.means import open_segments, segment_means
from al_lab.core.budget import Allowance
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Strategy, take_best
from al_lab.core.types import Candidates, DenseView, ImageView, Query
from al_lab.strategies.general._segments import candidates as segment_candidates
from al_lab.strategies.general._segments import dense_of, segments_of
from al_lab.strategies.general._windows import check_radius, propose_windows


class ClassRandom(Strategy):
    """Random pixels, squares, segments or images, of every predicted class as many.

    A random choice that knows where the classes are beats most methods (nnActive, Lueth et al., arXiv 2511.19183,
    "foreground-aware random"). Here, which is ours: draw a class, then something of that class, without replacement.
    With weights w that are (Efraimidis & Spirakis, IPL 2006)

        U = ln(u) / w,   u ~ U[0, 1),   the largest are bought

    | unit | class | w |
    |---|---|---|
    | pixel, region | argmax of the pixel, of the square's center | 1 / pixels of its class in the image |
    | segment | argmax of the mean probabilities | 1 / open segments of its class in the pool |
    | image | all it shows, share s_c of its pixels | sum_c s_c / (sum of s_c over the pool) |

    Args:
        radius_px: r of a region, a square of side 2 r + 1.
    """

    needs: ClassVar[tuple[str, ...]] = ("dense_probs",)
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    units: ClassVar[tuple[str, ...]] = ("image", "pixel", "region", "segment")

    def __init__(self, radius_px: int = 1) -> None:
        self.radius_px = check_radius(radius_px, "strategy.radius_px")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return what may be bought with ln u, by pixel and square divided by w, and the classes in it."""
        view, draw = dense_of(view, "ClassRandom"), ctx.rng.generator()
        predicted_HW = view.probs.argmax(0).cpu().numpy()
        count_C = np.bincount(predicted_HW.reshape(-1), minlength=len(view.probs))
        if ctx.quota is None:
            shares_C = (count_C / predicted_HW.size).astype(np.float64)
            return Candidates.images([view.sample_id], [np.log1p(-draw.random())], class_shares=shares_C[None])
        if ctx.unit == "segment":
            number_N = open_segments(segments_of(view), view.bought)
            label_R = segment_means(view.probs, segments_of(view)).nan_to_num(0.0).argmax(1)
            log_u = torch.zeros(len(label_R), dtype=torch.float64)
            log_u[torch.as_tensor(number_N)] = torch.as_tensor(np.log1p(-draw.random(len(number_N))))
            return segment_candidates(view, number_N, {"utility": log_u, "label": label_R})
        utility_HW = np.log1p(-draw.random(predicted_HW.shape)) * count_C[predicted_HW]
        radius_px = self.radius_px if ctx.unit == "region" else 0
        return propose_windows(view, utility_HW, ctx, radius_px, 2 * radius_px, ctx.rng)

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Divide by the weights that only the whole pool gives."""
        is_open = np.isin(np.asarray(candidates.sample_ids), np.asarray(pool.unlabeled()))
        if candidates.segment is not None:
            label_N = candidates.columns["label"].astype(np.int64)
            count_C = np.bincount(label_N[is_open[candidates.sample]], minlength=int(label_N.max(initial=0)) + 1)
            candidates = replace(candidates, utility=candidates.utility * count_C[label_N])
        elif candidates.center is None:
            shares_MC = candidates.info["class_shares"]
            total_C = shares_MC[is_open].sum(0)
            weight_M = (shares_MC / np.maximum(total_C, np.finfo(np.float64).tiny)).sum(1)
            weight_N = np.maximum(weight_M[candidates.sample], np.finfo(np.float64).tiny)
            candidates = replace(candidates, utility=candidates.utility / weight_N)
        return take_best(candidates, pool, budget, rng)
