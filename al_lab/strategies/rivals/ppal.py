"""PPAL: entropies that weigh more where a class is hard to detect, then a set whose objects differ."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from scipy.special import entr

from al_lab.acquisition.diversity.class_matched import Objects, distances
from al_lab.acquisition.diversity.k_medoids import k_medoids
from al_lab.core.budget import Allowance
from al_lab.core.fields import at_least, flag, fraction, not_negative, number_from, positive
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Reason, take_best
from al_lab.core.types import Candidates, DenseView, Detections, ImageView, Query
from al_lab.strategies.rivals._two_pass import TwoPass, boxes_with_features

_FIRST_PASS = {"conf_min": 0.0, "nms_iou": 0.6, "max_per_image": 200, "nms_pre": 3000}  # released code
_SECOND_PASS = {"nms_iou": 0.5, "max_per_image": 100, "nms_pre": 1000}  # released code


def class_weights(difficulty_C: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Return w_c = 1 + alpha beta ln(1 + gamma d_c), gamma = e^(1 / alpha) - 1, in [1, 1 + beta]: Eq. (4).

    Args:
        difficulty_C: d = 1 - Q, in [0, 1].
        alpha: how fast weights rise.
        beta: how much the hardest class weighs more.
    """
    return np.asarray(1 + alpha * beta * np.log1p(math.expm1(1 / alpha) * difficulty_C))


class Ppal(TwoPass):
    """Plug and Play Active Learning: Yang et al., CVPR 2024 (arXiv 2211.11612); code ChenhongyiYang/PPAL at 15875ed.

    1. The training counts how well each class is detected, Q_c (``objective=class_quality``,
       ``detector.branches=[class_quality]``).
    2. *Difficulty-calibrated uncertainty* puts delta B images on a list:

        w_c = 1 + alpha beta ln(1 + gamma (1 - Q_c)), gamma = e^(1 / alpha) - 1                        Eq. (4)
        U(I) = sum over detections of w_c Hb(s)                                                        Eq. (5)

    3. *Category-conditioned matching similarity*: a second look gives each box its features; two images are as unlike
       as their boxes of the same class are (`al_lab.acquisition.diversity.class_matched.distances`)    Eq. (6), (7)
    4. k-medoids on these distances, from centers that are far apart; the B medoids are bought.

    | symbol | argument | default | where |
    |---|---|---|---|
    | alpha, beta | alpha, beta | 0.3, 0.2 | Sec. 4.1 |
    | delta | factor | 4 | Sec. 4.1 |
    | boxes of U | min_confidence, min_side_px, max_ratio | s >= .05, sqrt(area) > 16, sides < 5 : 1 | released code |
    | boxes of matching | matched_above | s > .05 | released code |
    | Lloyd's rounds | rounds | 100 | released code |

    Labeled images are not looked at in step 4, as in the code. Deviations: features are read at the center of a box
    (the code exchanges height and width, so that the right of a landscape image reads zeros), equal ranks are not taken
    for equal boxes, and the first center is drawn from the seed; ``as_released`` undoes the first two. The list is
    delta B long (the code adds up to one image a GPU). Where images of a group stay apart, those on the list do.

    Args:
        alpha, beta: of the weights.
        factor: delta.
        min_confidence: detections below it don't count in U.
        min_side_px: nor those whose root of area, in original pixels, is not above it.
        max_ratio: nor those of which one side is so many times the other, or more.
        matched_above: boxes that are matched are more confident than this.
        rounds: of k-medoids, at most.
        as_released: with the two mistakes of the released code.
    """

    needs: ClassVar[tuple[str, ...]] = ("detections", "class_difficulty")

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.2,
        factor: float = 4.0,
        min_confidence: float = 0.05,
        min_side_px: float = 16.0,
        max_ratio: float = 5.0,
        matched_above: float = 0.05,
        rounds: int = 100,
        as_released: bool = False,
    ) -> None:
        self.alpha = positive(alpha, "strategy.alpha", do="PPAL's is 0.3")
        self.beta = not_negative(beta, "strategy.beta", do="PPAL's is 0.2; 0: all classes alike")
        self.factor = number_from(1)(factor, "strategy.factor", do="PPAL's is 4")
        self.min_confidence = fraction(min_confidence, "strategy.min_confidence", do="PPAL's is 0.05")
        self.min_side_px = not_negative(min_side_px, "strategy.min_side_px", do="PPAL's is 16")
        self.max_ratio = number_from(1)(max_ratio, "strategy.max_ratio", do="PPAL's is 5")
        self.matched_above = fraction(matched_above, "strategy.matched_above", do="PPAL's is 0.05")
        self.rounds = at_least(0)(rounds, "strategy.rounds", do="PPAL's are 100")
        self.as_released = bool(flag(as_released, "strategy.as_released"))

    def view_options(self) -> dict[str, Any]:
        """See `Strategy.view_options`."""
        return {"detections": _FIRST_PASS, "min_confidence": self.min_confidence}

    def closer_options(self) -> dict[str, Any]:
        """See `TwoPass.closer_options`.

        The code lets every box into suppression and drops the unsure ones afterwards, which leaves the same.
        """
        sampling = "released" if self.as_released else "center"
        return {
            "detections": {"conf_min": self.matched_above, **_SECOND_PASS},
            "box_features": {"sampling": sampling},
        }

    def counted(self, found: Detections, size_hw: tuple[int, int]) -> Detections:
        """Return the detections that count in U, clipped to the image."""
        boxes = np.clip(found.boxes_xyxy.astype(np.float64), 0, [size_hw[1], size_hw[0]] * 2)
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        keep = found.confidence.astype(np.float64) >= np.float32(self.min_confidence)
        keep &= (np.sqrt(width * height) > self.min_side_px) & (width < self.max_ratio * height)
        return found.rows(keep & (height < self.max_ratio * width))

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with U."""
        entropy_D, weight_D, _ = self._terms(view)
        return Candidates.images([view.sample_id], [float(weight_D @ entropy_D)])

    def _terms(self, view: ImageView | DenseView) -> tuple[np.ndarray, np.ndarray, Detections]:
        if not isinstance(view, ImageView) or view.detections is None or view.size_hw is None:
            raise TypeError("Ppal.propose: expected detections; the learner must provide them")
        found = self.counted(view.detections, view.size_hw)
        weight_C = class_weights(np.asarray(view.extras["class_difficulty"], np.float64), self.alpha, self.beta)
        s_D = found.confidence.astype(np.float64)
        return np.asarray(entr(s_D) + entr(1 - s_D)), weight_C[found.labels], found

    def shortlist(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[str]:
        """Return the delta B images of largest U."""
        size = math.ceil(self.factor * budget.amount)
        return [query.sample_id for query in take_best(candidates, pool, Allowance("image", size), rng)]

    def rows_of(self, view: ImageView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all boxes that may be matched."""
        return boxes_with_features(view)

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the medoids of the list, those of largest U first."""
        key = rng.tie_keys(self.rows.ids)
        ids = [self.rows.ids[n] for n in np.argsort(key)]  # not the pool's order
        if not ids:
            return []
        rows = self.rows.of(ids)
        objects = Objects(rows.start, rows.label, rows.confidence, rows.feature).above(self.matched_above)
        unlike_NN = distances(objects, same_rank_is_same=self.as_released)
        first = int(rng.generator("first center").integers(len(ids)))
        medoids = k_medoids(unlike_NN, min(budget.amount, len(ids)), first, self.rounds)
        chosen = {ids[n] for n in medoids}
        rest = replace(pool, left_out=pool.left_out | (set(pool.unlabeled()) - chosen))
        return take_best(candidates, rest, budget, rng)

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        entropy_D, weight_D, found = self._terms(view)
        parts = {"boxes": float(len(found)), "entropy": float(entropy_D.sum())}
        if not len(found):
            return Reason(parts, "no detection that counts")
        most = int((entropy_D * weight_D).argmax())
        name = classes[int(found.labels[most])]
        words = f"{len(found)} detections; {name} {found.confidence[most]:.2f}, whose class weighs {weight_D[most]:.2f}"
        return Reason(parts, words)
