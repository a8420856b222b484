"""MC-dropout: buy the images about which a network disagrees with itself when some of it is left out."""

from typing import Any, ClassVar, Literal

from al_lab.core.fields import at_least
from al_lab.strategies.rivals._disagreement import Disagreement


class McDropout(Disagreement):
    """Mutual information of a detector's passes with dropout.

    Gal & Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016 (arXiv 1506.02142); for detectors as in AL-SSL's
    comparison (Elezi et al., CVPR 2022, Fig. 3 and 4) and AOD_MEH_HUA's (ICLR 2023, code 380df3d).

    1. T passes over each image with dropout on and norms as in evaluation. A pass has one draw of what is dropped, from
       (seed, cycle, pass), for all images: it is one network, whatever the batches and the number of devices.
    2. The class distributions of each prior are averaged over the passes (box offsets, too), and then suppressed.
    3. `Disagreement` gives U(I).

    | symbol | argument | default | where |
    |---|---|---|---|
    | T | passes | 25 | AOD_MEH_HUA's code |
    | U | aggregate | max | AL-SSL; ``mean``: AOD_MEH_HUA |
    | H | as_released | false | sigmoid detectors: the sum of Hb over classes, own choice; true: -sum p ln p, released |
    | p of dropout | detector.dropout.p | 0.1 | UNSPECIFIED: recalled, to be verified |
    | where | detector.dropout.where | fc6 and fc7 of an SSD | UNSPECIFIED: recalled |
    | | | each convolution of a RetinaNet's class tower | UNSPECIFIED: own choice |

    Deviations: whole channels are dropped, the same at all places of a map, where plain dropout draws each number.
    Evaluation has no dropout. The plain detectors of this project have none either: the network is another one, and its
    random control is ``strategy=random`` with the same dropout.

    Args:
        passes: T, >= 2.
        aggregate: max | mean.
        min_confidence: detections below it don't count; None: those that the detector drops.
        as_released: sigmoid detectors: half of the entropy.
        ties: hash | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("class_probs", "box_mutual_information")
    detector_changed: ClassVar[bool] = True

    def __init__(
        self,
        passes: int = 25,
        aggregate: Literal["max", "mean"] = "max",
        min_confidence: float | None = None,
        as_released: bool = False,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        super().__init__(aggregate, min_confidence, as_released, ties)
        self.passes = at_least(2)(passes, "strategy.passes", do="25 is what AOD_MEH_HUA's code has")

    def view_options(self) -> dict[str, Any]:
        """Tell the learner how often to look; the score stage adds the draw's seed."""
        return {"passes": {"count": self.passes, "as_released": self.as_released}}
