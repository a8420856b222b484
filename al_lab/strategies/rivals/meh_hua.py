"""MEH + HUA: buy the images whose objects rest on little evidence, and some in which no object is seen at all."""

from typing import Any, ClassVar, Literal

import numpy as np

from al_lab.core.budget import Allowance
from al_lab.core.fields import at_least, below_one, check_fields, flag, fraction, one_of
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView, Query


class MehHua(Strategy):
    """Epistemic uncertainty of evidential class probabilities, gathered from boxes to levels, objects and the image.

    Park et al., "Active Learning for Object Detection with Evidential Deep Learning and Hierarchical Uncertainty
    Aggregation", ICLR 2023. With p_i the class distribution of box i and Lhat_i the class loss that the detector's
    evidence head (``detector.branches=[evidence]``, trained by ``objective=evidential``) expects of it:

        lambda_i = 25 mean_level(Lhat) / (Lhat_i + 1e-7),   alpha_i = lambda_i p_i             evidence (MEH)
        T_i = H(alpha_i / alpha_0),   A_i = -sum_c (alpha_c / alpha_0) [psi(alpha_c + 1) - psi(alpha_0 + 1)]
        u_i = T_i - A_i                                                                        epistemic
        U(I) = sum_objects max_levels sum_classes mean_boxes u_i                               HUA

    An object is a detection; its boxes are those around it, of any class, before suppression, by level and likeliest
    class. An image without objects has U = 0. Of a budget of B images int(share B) are drawn among those of U = 0, the
    others are those of largest U.

    | symbol | argument | default | where |
    |---|---|---|---|
    | share | zero_share | 0.15 | released code |
    | an object's confidence | object_conf | 0.3 | released code |
    | a box's largest probability | member_conf | 0.3 | released code |
    | its overlap with the object | member_iou | 0.5 | released code |
    | boxes a level | per_level | 1000, the surest | released code |

    Deviations: A in closed form, where the released code draws 500 distributions; images are looked at as they are, not
    through the training's augmentation. Where the released code errs, ``as_released`` follows it: a box around two
    objects counts twice in the mean of its level; SSD's background is a class a box can be likeliest of; images of
    U = 0 are drawn with replacement, and what is drawn twice, or is not there, is not made up for.

    Args:
        zero_share: part of the budget for images without objects.
        object_conf: detections above it are objects.
        member_conf: boxes above it count.
        member_iou: by more than this they overlap the object.
        per_level: at most so many of a level.
        as_released: see above; then fewer images than the budget are bought.
        ties: hash | id, of equal U.
    """

    needs: ClassVar[tuple[str, ...]] = ("box_evidence",)
    units: ClassVar[tuple[str, ...]] = ("image",)
    detector_changed: ClassVar[bool] = True

    def __init__(
        self,
        zero_share: float = 0.15,
        object_conf: float = 0.3,
        member_conf: float = 0.3,
        member_iou: float = 0.5,
        per_level: int = 1000,
        as_released: bool = False,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        check_fields(
            locals(),
            {
                "zero_share": fraction,
                **dict.fromkeys(("object_conf", "member_conf", "member_iou"), below_one),
                "per_level": at_least(1),
                "as_released": flag,
                "ties": one_of("hash", "id"),
            },
            "strategy",
        )
        self.zero_share, self.as_released, self.ties = float(zero_share), bool(as_released), ties
        self._rule = {
            "object_conf": float(object_conf),
            "member_conf": float(member_conf),
            "member_iou": float(member_iou),
            "per_level": int(per_level),
            "as_released": bool(as_released),
        }

    def view_options(self) -> dict[str, Any]:
        """Tell the learner which boxes count."""
        return {"evidence": self._rule}

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with U."""
        return Candidates.images([view.sample_id], [float(view.extras["box_evidence"])])

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the images of largest U, then those drawn among U = 0."""
        ids, utility = candidates.sample_ids, candidates.utility
        unlabeled = set(pool.unlabeled())
        rows = np.array([n for n, i in enumerate(ids) if i in unlabeled], np.int64)
        keys = rng.tie_keys(ids, self.ties)
        ranked = rows[np.lexsort((keys[rows], -utility[rows]))]
        zeros = _drawn(rows[utility[rows] == 0], ids, rng)
        quota = int(self.zero_share * budget.amount)
        if self.as_released:
            again = rng.generator("released").integers(max(len(zeros), 1), size=quota if len(zeros) else 0)
            order = np.concatenate([ranked[: budget.amount - quota], zeros[again]])
        else:
            top = ranked[utility[ranked] != 0]
            quota = min(quota, len(zeros))
            cut = budget.amount - quota
            order = np.concatenate([top[:cut], zeros[:quota], top[cut:], zeros[quota:]])
        order = np.array(list(dict.fromkeys(order.tolist())), np.int64)
        chosen = order[: budget.amount] if pool.apart is None else pool.apart.rows(ids).first(order, budget.amount)
        return [Query(ids[n], None, float(utility[n])) for n in chosen]


def _drawn(rows: np.ndarray, ids: tuple[str, ...], rng: Rng) -> np.ndarray:
    """Return rows in an order drawn at random, which does not depend on theirs."""
    sorted_rows = np.array(sorted(rows.tolist(), key=lambda n: ids[n]), np.int64)
    return sorted_rows[rng.generator("zeros").permutation(len(sorted_rows))]
