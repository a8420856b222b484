"""MI-AOD: buy the images whose most disputed anchors two classifiers judge most differently."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from al_lab.core.budget import Allowance
from al_lab.core.fields import at_least, check_fields, one_of, share
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Reason, Strategy, take_best
from al_lab.core.types import Candidates, DenseView, ImageView, Query


class MIAL(Strategy):
    """Multiple instance active learning.

    Yuan et al., "Multiple Instance Active Learning for Object Detection", CVPR 2021; code yuantn/MI-AOD at 320b5cd.
    With z1, z2 the logits of the detector's classifier and of its second one (``detector.branches=[two_heads]``,
    trained by ``objective=mial``):

        u_i  = mean_c (sigma(z1_ic) - sigma(z2_ic))^2
        U(I) = mean of the k largest u_i over the anchors of all levels                                Sec. 3.4

    The B images of largest U are bought; the image is looked at as it is, not flipped.

    | symbol | argument | default | where |
    |---|---|---|---|
    | k | top | 10,000; of 8,732 (SSD300) all | released code |
    | sigma | space | sigmoid of every column, SSD's background too | released code; trained is softmax there |
    | | pool_share | 1; COCO 0.2 | released code |

    Deviations: the released code scores labeled images, too, and draws the same fifth in each cycle; ours draws among
    the unlabeled ones, anew. Where images are kept apart, it draws none and ranks all.

    Args:
        top: k.
        space: sigmoid | softmax (with background, softmax heads).
        pool_share: of the unlabeled images; at least as many as are bought.
        ties: hash | id, of equal U.
    """

    needs: ClassVar[tuple[str, ...]] = ("head_disagreement",)
    units: ClassVar[tuple[str, ...]] = ("image",)
    detector_changed: ClassVar[bool] = True

    def __init__(
        self,
        top: int = 10_000,
        space: Literal["sigmoid", "softmax"] = "sigmoid",
        pool_share: float = 1.0,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        check_fields(
            locals(),
            {
                "top": at_least(1),
                "space": one_of("sigmoid", "softmax"),
                "pool_share": share,
                "ties": one_of("hash", "id"),
            },
            "strategy",
        )
        self.top, self.space, self.pool_share, self.ties = int(top), space, float(pool_share), ties

    def view_options(self) -> dict[str, Any]:
        """Tell the learner which anchors count, and what is compared."""
        return {"head_disagreement": {"top": self.top, "space": self.space}}

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with U."""
        return Candidates.images([view.sample_id], [float(view.extras["head_disagreement"])])

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return the best of the images drawn."""
        ids = sorted(pool.unlabeled())
        count = max(budget.amount, round(self.pool_share * len(ids)))
        if count < len(ids) and pool.apart is None:
            order = rng.child("pool").generator().permutation(len(ids))
            pool = replace(pool, left_out=pool.left_out | {ids[k] for k in order[count:]})
        return take_best(candidates, pool, budget, rng, ties=self.ties)

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        return Reason({"disagreement": utility}, f"its two classifiers differ by {utility:.3g} (mean square)")
