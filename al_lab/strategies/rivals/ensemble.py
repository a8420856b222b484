"""Ensemble: buy the images about which detectors that were trained alike, from other seeds, disagree."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, one_of
from al_lab.core.stage import Stage
from al_lab.core.strategy import ProposeContext, Reason
from al_lab.core.types import Candidates, DenseView, ImageView
from al_lab.strategies.rivals._disagreement import Disagreement
from al_lab.strategies.rivals._members import ScoreMembers, TrainMembers


class Ensemble(Disagreement):
    """Disagreement of several detectors.

    Beluch et al., "The Power of Ensembles for Active Learning in Image Classification", CVPR 2018; for detectors as in
    AL-SSL's comparison (Elezi et al., CVPR 2022, Fig. 3 and 4): three networks.

    1. Stage ``train_members``: N - 1 further trainings on the same labels, from other seeds, side by side. Each cycle
       but the last costs N trainings.
    2. All members look at each image; they have the same priors, so the class distributions of each prior are averaged
       (box offsets, too), then suppression as always.
    3. `Disagreement` gives U(I), with members for passes. Or, ``score=member_entropy`` (BLAD, code 76e7bd6): of each
       member the mean of Hb(s) over its own detections, then the mean over members.

    | symbol | argument | default | where |
    |---|---|---|---|
    | N | members | 3 | AL-SSL |
    | MI | score | mutual_information | AL-SSL does not say; ``member_entropy``: BLAD |
    | U | aggregate | max | AL-SSL's other scores; ``mean``: AOD_MEH_HUA |
    | H | as_released | false | see `McDropout` |

    The curve is member 0's, the campaign's own model: AL-SSL does not say whose it shows (own choice).

    Args:
        members: N, >= 2.
        score: mutual_information | member_entropy.
        aggregate: of mutual information: max | mean.
        min_confidence: of mutual information: detections below it don't count; None: those that the detector drops.
        as_released: of mutual information, sigmoid detectors: half of the entropy.
        ties: hash | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("class_probs", "anchors")
    only_views: ClassVar[bool] = False
    detector_changed: ClassVar[bool] = False

    def __init__(
        self,
        members: int = 3,
        score: Literal["mutual_information", "member_entropy"] = "mutual_information",
        aggregate: Literal["max", "mean"] = "max",
        min_confidence: float | None = None,
        as_released: bool = False,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        super().__init__(aggregate, min_confidence, as_released, ties)
        self.members = at_least(2)(members, "strategy.members", do="AL-SSL has 3")
        self.score = one_of("mutual_information", "member_entropy")(score, "strategy.score", do="see its page")
        if self.score == "member_entropy" and (min_confidence is not None or as_released):
            raise ConfigError(
                explain(
                    expected="min_confidence=null as_released=false",
                    got=f"min_confidence={min_confidence} as_released={as_released}",
                    where="strategy with score=member_entropy",
                    do="leave them out: they belong to score=mutual_information",
                )
            )

    def stages(self) -> list[str | Stage]:
        """Return the standard stages with the members' training, and a score stage that asks all of them."""
        return ["train", "evaluate", TrainMembers(self.members), ScoreMembers(self.members), "select", "annotate"]

    def needs_for(self, unit: str) -> tuple[str, ...]:
        """Return what is asked of the members together; one alone only has to have anchors."""
        return ("class_probs", "box_mutual_information" if self.score == "mutual_information" else "member_entropy")

    def view_options(self) -> dict[str, Any]:
        """Tell the learner which entropy counts."""
        return {"members": {"as_released": self.as_released}}

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its utility."""
        if self.score == "mutual_information":
            return super().propose(view, ctx)
        return Candidates.images([view.sample_id], [self._mean(view)])

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        if self.score == "mutual_information":
            return super().explain(view, ctx, classes, utility)
        mean = self._mean(view)
        return Reason({"mean": mean}, f"its {self.members} detectors are unsure of what they find: {mean:.3f} nats")

    def _mean(self, view: ImageView | DenseView) -> float:
        if "member_entropy" not in view.extras:
            raise TypeError("Ensemble: expected member_entropy, got a view without; the learner must provide it")
        return float(np.asarray(view.extras["member_entropy"], np.float64).mean())
