"""Adapted random: chance with a look at what the detector sees, a harder line to beat than plain random."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np

from al_lab.acquisition.ranking.quotas import fill
from al_lab.core.budget import Allowance
from al_lab.core.fields import fraction, one_of, positive
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Reason, Strategy, take_best
from al_lab.core.types import Candidates, DenseView, Detections, ImageView, Query


class AdaptedRandom(Strategy):
    """Random images, but of every class as many, or the more often the more boxes are expected.

    Benchmarks of segmentation found that plain random is a straw man: a random choice that knows where objects are
    beats most methods (nnActive, Lueth et al., arXiv 2511.19183, "foreground-aware random"). For detection this is
    ours:

        classes  each of C classes has B / C random images that show it (confidence >= theta), the class seen least
                 first; an image counts for every class it shows; what is left goes to random images
        boxes    images are drawn without replacement in proportion to n(I) = max(sum_i s_i, floor), the objects that
                 are expected: U(I) = ln n(I) + g, g ~ Gumbel(0, 1)

    | symbol | argument | default | where |
    |---|---|---|---|
    | theta | min_confidence | 0.3 | ours |
    | floor | floor | 0.1 | ours: an image in which nothing is found is still drawn, now and then |

    Args:
        by: classes | boxes.
        min_confidence: theta; boxes below it are not seen, with boxes, too.
        floor: of the number of expected boxes, > 0.
    """

    needs: ClassVar[tuple[str, ...]] = ("class_probs",)

    def __init__(
        self, by: Literal["classes", "boxes"] = "classes", min_confidence: float = 0.3, floor: float = 0.1
    ) -> None:
        self.by = one_of("classes", "boxes")(by, "strategy.by")
        self.min_confidence = fraction(min_confidence, "strategy.min_confidence", do="e.g. 0.3")
        self.floor = positive(floor, "strategy.floor", do="e.g. 0.1")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its draw, and which classes it shows."""
        kept = self._kept(view)
        draw = ctx.rng.generator("draw")
        if self.by == "boxes":
            expected = max(float(kept.confidence.sum(dtype=np.float64)), self.floor)
            return Candidates.images([view.sample_id], [np.log(expected) + draw.gumbel()])
        shows_C = np.zeros(kept.probs.shape[1] - (kept.activation == "softmax"), np.float32)
        shows_C[kept.labels] = 1
        return Candidates.images([view.sample_id], [draw.random()], shows=shows_C[None])

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the draw; with ``by=classes`` each class has its turn."""
        unlabeled = set(pool.unlabeled())
        open_rows = [n for n, i in enumerate(candidates.sample_ids) if i in unlabeled]
        if self.by == "boxes" or budget.amount >= len(open_rows):
            return take_best(candidates, pool, budget, rng)
        ids, utility = candidates.sample_ids, candidates.utility
        key = rng.tie_keys(ids)
        ranked = sorted(open_rows, key=lambda n: (-utility[n], key[n]))
        shows_NC = candidates.info["shows"].astype(np.float64)
        wanted_C = np.minimum(budget.amount // shows_NC.shape[1], shows_NC[open_rows].sum(0))
        filled = fill(ranked, np.ones(len(ids)), budget.amount, shows_NC, wanted_C, lambda: _gate(pool, ids))
        return [Query(ids[n], None, float(utility[n])) for n in filled.rows]

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        kept = self._kept(view)
        expected = float(kept.confidence.sum(dtype=np.float64))
        if self.by == "boxes":
            return Reason({"expected": expected}, f"drawn in proportion to the {expected:.1f} boxes expected in it")
        shown = ", ".join(classes[label] for label in sorted(set(kept.labels.tolist()))) or "nothing"
        return Reason({"expected": expected}, f"drawn at random, so that each class has its share; it shows {shown}")

    def _kept(self, view: ImageView | DenseView) -> Detections:
        if not isinstance(view, ImageView) or view.detections is None:
            raise TypeError("AdaptedRandom.propose: expected detections; the learner must provide class_probs")
        return view.detections.above(self.min_confidence)


def _gate(pool: Pool, ids: Sequence[str]) -> Callable[[int], bool]:
    """Return what lets a row pass once, and none near it afterwards."""
    rule = pool.apart.rows(ids) if pool.apart is not None else None
    closed = np.zeros(len(ids), bool)

    def gate(row: int) -> bool:
        if closed[row]:
            return False
        closed[row] = True
        if rule is not None:
            closed[rule.near(row)] = True
        return True

    return gate
