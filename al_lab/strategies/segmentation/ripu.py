"""RIPU: buy where predictions of neighboring pixels differ and are unsure."""

from typing import ClassVar, Literal

from al_lab.acquisition.regions import pixel_utility, region_utility
from al_lab.core.budget import Budget
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import one_of
from al_lab.core.strategy import ProposeContext, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView
from al_lab.strategies.general._windows import check_quota, check_radius, propose_windows

_K = {"region": 1, "pixel": 32}  # released configs


class Ripu(Strategy):
    """Region impurity and prediction uncertainty.

    Xie et al., "Towards Fewer Annotations: Active Learning via Region Impurity and Prediction Uncertainty for Domain
    Adaptive Semantic Segmentation", CVPR 2022; facts from the released code (github.com/BIT-DA/RIPU, 84328cf). With
    N_k(i, j) the square of side 2 k + 1 around a pixel, yhat the predicted classes and p their probabilities (numbers
    of equations are ours):

        P_ij = -sum_c q_c ln q_c,   q_c = share of class c among yhat in N_k(i, j)          Eq. (1), impurity
        U_ij = mean over N_k(i, j) of H_n = -sum_c p_nc ln p_nc                             Eq. (2), uncertainty
        A_ij = P_ij U_ij                                                                    Eq. (3)

    and then, in each image by itself, the largest A_ij again and again:

    | | RA: ``mode=region`` | PA: ``mode=pixel`` |
    |---|---|---|
    | what is bought | the square N_k | its center |
    | k | 1; source-free 9 | 32 |
    | no other center within (Chebyshev), in later cycles too | 2 k | k |
    | U | as above | the center's own H; ``window_mean``: as above |
    | published for | 2.2 %, 5 % | 40 pixels an image |

    Budgets: ``unit=region`` counts squares, the clipped ones as whole ones, as released (1,026 an image and cycle for
    2.2 %); ``unit=pixel`` pays every pixel of a square and stops before the first that it can't pay.

    Deviations: see `al_lab.acquisition.regions`; equal utilities go by hash, with ``ties=id`` to the leftmost, then
    topmost, as released. A is comparable between images, so ``budget.scope=pool`` is possible; the paper's budget is an
    image's.

    Args:
        mode: region | pixel.
        k: radius of N_k in pixels; null: 1 or 32.
        window_mean: with ``mode=pixel``, U over the window, as the paper describes it, instead of the released code's.
        ties: hash | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("dense_probs",)
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    units: ClassVar[tuple[str, ...]] = ("region", "pixel")

    def __init__(
        self,
        mode: Literal["region", "pixel"] = "region",
        k: int | None = None,
        window_mean: bool = False,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        one_of("region", "pixel")(mode, "strategy.mode")
        one_of("hash", "id")(ties, "strategy.ties")
        if window_mean and mode == "region":
            raise ConfigError(
                explain(
                    expected="window_mean with mode=pixel",
                    got="mode=region",
                    where="strategy.window_mean",
                    do="remove it: a region's uncertainty is its mean anyway",
                )
            )
        self.mode, self.window_mean, self.ties = mode, bool(window_mean), ties
        self.k = _K[mode] if k is None else check_radius(k, "strategy.k", least=1)
        self.radius_px = self.k if mode == "region" else 0

    def check_budget(self, budget: Budget) -> None:
        """Refuse a count of pixels that can't pay a single region.

        What a share pays is known for each image only, in `propose`.

        Raises:
            ConfigError: naming both.
        """
        counts = [step for step in budget.steps() if isinstance(step, int)]
        if self.mode == "region" and budget.unit == "pixel" and counts:
            check_quota(min(counts), (2 * self.k + 1) ** 2, "budget.per_cycle")

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image's best regions or pixels, best first."""
        if not isinstance(view, DenseView) or ctx.quota is None:
            raise TypeError(
                "Ripu.propose: expected a dense view and a quota of regions or pixels; whole images are other "
                "strategies' business"
            )
        if self.mode == "region":
            a_HW, suppress_px = region_utility(view.probs, self.k), 2 * self.k
        else:
            a_HW, suppress_px = pixel_utility(view.probs, self.k, window_mean=self.window_mean), self.k
        return propose_windows(view, a_HW, ctx, self.radius_px, suppress_px, ctx.rng if self.ties == "hash" else None)
