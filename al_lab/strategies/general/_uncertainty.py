"""What entropy, least confidence and margin share.

A value a box, or a value a pixel, becomes candidates: images, pixels or regions.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from al_lab.acquisition.aggregate import HOWS, aggregate, best_pixels, check_how
from al_lab.acquisition.regions import prediction_uncertainty
from al_lab.core.fields import below_one, one_of
from al_lab.core.strategy import ProposeContext, Reason, Strategy
from al_lab.core.types import Candidates, DenseView, Detections, ImageView
from al_lab.strategies.general._segments import propose_segments
from al_lab.strategies.general._windows import check_radius, propose_windows


class Uncertainty(Strategy):
    """Utility = how unsure the model is; subclasses say how that is measured.

    By pixel, the least sure ones, wherever they are (they clump on edges). By region, the least sure squares by the
    mean of their pixels, chosen as RIPU chooses its own: no two ever overlap. By segment, those of the largest mean.

    Args:
        aggregate: from the boxes of an image to the image: max | mean | sum. An image without boxes has utility 0.
        min_confidence: boxes below it don't count.
        radius_px: r of a region, a square of side 2 r + 1.
        ties: hash (of seed, cycle and id), or id.
    """

    needs: ClassVar[tuple[str, ...]] = ("class_probs",)
    tasks: ClassVar[tuple[str, ...]] = ("detection", "segmentation")
    units: ClassVar[tuple[str, ...]] = ("image", "box", "pixel", "region", "segment")

    def __init__(
        self,
        aggregate: str = "max",
        min_confidence: float = 0.5,
        radius_px: int = 1,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        self.how = check_how(aggregate)
        self.radius_px = check_radius(radius_px, "strategy.radius_px")
        self.min_confidence = below_one(min_confidence, "strategy.min_confidence", do="e.g. 0.5")
        one_of("hash", "id")(ties, "strategy.ties", do="use hash; id is for published examples")
        self.ties = ties

    @abstractmethod
    def of_boxes(self, probs_DK: Tensor, confidence_D: Tensor, activation: str) -> Tensor:
        """Return one value a box, (D,), higher is less sure.

        ``activation`` says what ``probs_DK`` are (see `Detections`).
        """

    @abstractmethod
    def of_pixels(self, probs_CHW: Tensor) -> Tensor:
        """Return one value a pixel, (H, W), higher is less sure."""

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its utility, or its least sure pixels or regions.

        Of the latter there are ``ctx.quota`` that are not bought yet.
        """
        if isinstance(view, ImageView):
            return Candidates.images([view.sample_id], [self._of_image(view.detections)])
        value_HW = self.of_pixels(view.probs)
        if ctx.quota is None:
            return Candidates.images([view.sample_id], [float(value_HW.double().mean())])
        if ctx.unit == "segment":
            return propose_segments(view, value_HW)
        tie_rng = ctx.rng if self.ties == "hash" else None
        if ctx.unit == "region":
            return propose_windows(
                view, prediction_uncertainty(value_HW, self.radius_px), ctx, self.radius_px, 2 * self.radius_px, tie_rng
            )
        center, utility = best_pixels(value_HW, ctx.quota, view.bought, tie_rng)
        return Candidates.pixels(view.sample_id, view.size_hw, center, utility)

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`: the least sure box decides, or all add up."""
        kept, value_D = self._of_boxes(view.detections)
        if not len(kept):
            return Reason({"boxes": 0}, f"no box of confidence {self.min_confidence:g} or more")
        least = int(value_D.argmax())
        box = f"{classes[int(kept.labels[least])]} {kept.confidence[least]:.2f}"
        parts = {"boxes": float(len(kept))} | {how: aggregate(value_D, how) for how in HOWS}
        if len(kept) == 1:
            return Reason(parts, f"its only box: {box}")
        if self.how == "max":
            return Reason(parts, f"the least sure of {len(kept)} boxes: {box}")
        return Reason(parts, f"the {self.how} over {len(kept)} boxes, the least sure of which is {box}")

    def _of_image(self, detections: Detections | None) -> float:
        return aggregate(self._of_boxes(detections)[1], self.how)

    def _of_boxes(self, detections: Detections | None) -> tuple[Detections, Tensor]:
        """Return the boxes that count and the value of each."""
        if detections is None:
            raise TypeError(
                f"{type(self).__name__}.propose: expected detections, got a view without; the learner must "
                f"provide class_probs"
            )
        kept = detections.above(self.min_confidence)
        probs_DK, confidence_D = torch.from_numpy(kept.probs), torch.from_numpy(kept.confidence)
        return kept, self.of_boxes(probs_DK, confidence_D, kept.activation)
