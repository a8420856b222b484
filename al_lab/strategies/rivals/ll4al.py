"""LL4AL: buy the images whose training loss the detector itself predicts to be largest."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from al_lab.core.fields import one_of
from al_lab.core.strategy import ProposeContext, Reason, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView


class LL4AL(Strategy):
    """Learning loss.

    Yoo & Kweon, "Learning Loss for Active Learning", CVPR 2019: U(I) = lhat(I), what the detector's loss prediction
    module (``detector.branches=[learning_loss]``, trained by ``objective=learning_loss``) says of the image in
    evaluation mode. The B images of largest U are bought.

    Only the order means something: values of two cycles, or of two models, can't be compared.

    | symbol | argument | default | where |
    |---|---|---|---|
    | | ties | hash | ours |

    Deviations: the whole pool is scored; the paper's sub-pool of 10,000 drawn images is that of its classification
    experiments. No code of the authors is public; of two re-implementations for detection one ranks by one loss for a
    whole batch, never steps the module and scores a shuffled pool: built from the equations instead.

    Args:
        ties: hash | id, of equal U.
    """

    needs: ClassVar[tuple[str, ...]] = ("predicted_loss",)
    units: ClassVar[tuple[str, ...]] = ("image", "box")
    detector_changed: ClassVar[bool] = True

    def __init__(self, ties: Literal["hash", "id"] = "hash") -> None:
        self.ties = one_of("hash", "id")(ties, "strategy.ties")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with the loss predicted for it."""
        return Candidates.images([view.sample_id], [float(view.extras["predicted_loss"])])

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        return Reason({"predicted_loss": utility}, f"a predicted loss of {utility:.3g}, which only ranks")
