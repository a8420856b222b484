"""Density Matters: cover the unsure pixels of an image in feature space, more densely where features vary."""

import logging
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from al_lab.acquisition.source_filter import BETA, SCALES, TAU, Scale, coverage_density
from al_lab.core.budget import Budget, alpha_for
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, one_of, positive
from al_lab.core.strategy import ProposeContext, Strategy
from al_lab.core.types import Candidates, DenseView, ImageView
from al_lab.stages.estimator import judge_purchase
from al_lab.strategies.general._filtered import Filter, FilteredGreedy, SeedRule, diverged
from al_lab.strategies.general.random import Random

log = logging.getLogger(__name__)

_PAPERS = (10, 20)  # alpha's two values


class Density(Strategy):
    """Density-aware core-set.

    Liu et al., "Density Matters: Improved Core-set for Active Domain Adaptive Segmentation", AAAI 2024 (arXiv
    2312.09595). There is no public code; what the paper leaves open is marked. The loss on all pixels exceeds that on
    bought ones by at most max_k delta_s(k) (Theorem 2), the mean distance of a bought pixel to those it is nearest to;
    so where estimated distances are large, buy more. In every image:

        I_ij = 1 - P_1*,ij + P_2*,ij;   candidates: the alpha b pixels of largest I               text below Eq. (6)
        D_ij = beta exp(-e_ij / tau),   e_ij = |Fhat_ij - F_ij|^2 scaled to 0..1 in the image     text between Eq. (7)
        and (8) f_t, d_t = F, D upsampled to the image's size, at candidate t; |f_t| = 1
        "Implementation Details" r_t = min_{k in s} |f_t - f_k|^2 / d_k,  s = s_0 + what was picked
          Algorithm 1 u = argmax_t r_t is picked; b times

    Fhat is F reconstructed from its surroundings by the network's density branch (Eq. 7), trained by Eq. (8); the
    filter is "source-aided" because the objective trains I's margin on the source, Eq. (6).

    | symbol | here | default | where |
    |---|---|---|---|
    | b | the budget's quota for the image and cycle | | Alg. 1 is one cycle |
    | s_0 | pixels of the image bought before, with today's f and d | | Alg. 1; pixels of the same image UNSPECIFIED |
    | alpha | alpha | 20 up to 2.2 % in all cycles, 10 above | implementation details ("below 2.2 %", "5 %") |
    | beta | beta | e^2.4 | implementation details; changes no order |
    | tau | tau | 0.25 | implementation details; 0.15 to 0.3 are all fine |
    | e scaled to 0..1 | scale | minmax | UNSPECIFIED how; over the image |
    | first pick of an image | seed_rule | informative | UNSPECIFIED; Alg. 1 begins with s_0 |
    | norm of f | Euclidean, after upsampling | | UNSPECIFIED |

    Budgets are an image's: over the whole pool (Cityscapes at 2.2 %: 2e8 candidates, 2e15 distances) the selection
    would take days, and densities, scaled within an image, aren't comparable between images. So ``budget.scope=pool``
    is refused.

    Beyond the paper, for everything but its own numbers: ``scale=relative``. f has length 1, F has not, so where F is
    long the error is large whatever the surroundings foretell; e / |F|^2 orders locations nearly as their real density
    does. Quantiles spread it over all of 0..1, so a milder tau (0.5 to 2) then keeps the greedy selection from buying
    the sparse places alone; `al-lab tune-density` says which, on a model.

    Args:
        filter: margin (the paper's) | entropy | least_confidence | none.
        alpha: candidates a pixel bought; null: by budget.
        weighted: divide by densities; off is greedy k-center on the same candidates, and the network needs no
            estimator.
        beta: see above.
        tau: see above.
        scale: minmax | robust | relative | none, see `coverage_density`.
        seed_rule: informative | dense | random.
        random_cycles: so many cycles, from the first, buy pixels at random: for campaigns whose first query comes
            before any training (without a source; UNSPECIFIED in the paper).
        ties: equally informative pixels: hash (of seed, cycle and id) | id.
    """

    needs: ClassVar[tuple[str, ...]] = ("dense_probs", "pixel_features", "pixel_error")
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    units: ClassVar[tuple[str, ...]] = ("pixel",)
    pixel_scopes: ClassVar[tuple[str, ...]] = ("image",)
    judges: ClassVar[tuple[str, ...]] = (
        "density_rank",
        "density_ratio",
        "radial",
        "radial_k_center",
        "mean_distance",
        "mean_distance_k_center",
    )

    def __init__(
        self,
        filter: Filter = "margin",
        alpha: float | None = None,
        weighted: bool = True,
        beta: float = BETA,  # noqa: A002
        tau: float = TAU,
        scale: Scale = "minmax",
        seed_rule: SeedRule = "informative",
        random_cycles: int = 0,
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        self.greedy = FilteredGreedy(filter, alpha, seed_rule, ties)
        positive(beta, "strategy.beta", do="the paper's is e^2.4")
        positive(tau, "strategy.tau", do="the paper's is 0.25")
        one_of(*SCALES)(scale, "strategy.scale")
        at_least(0)(random_cycles, "strategy.random_cycles", do="0 is the paper's")
        if seed_rule == "dense" and not weighted:
            raise ConfigError(
                explain(
                    expected="weighted=true with seed_rule=dense",
                    got="weighted=false",
                    where="strategy.seed_rule",
                    do="without densities none is highest: use informative or random",
                )
            )
        self.random, self.random_cycles = Random(), random_cycles
        self.weighted, self.beta, self.tau, self.scale = bool(weighted), float(beta), float(tau), scale

    def check_budget(self, budget: Budget) -> None:
        """Warn of the paper's alpha for another budget than this one: a recipe's number doesn't follow the command."""
        steps, alpha = budget.steps(), self.greedy.alpha
        if not steps or not all(isinstance(step, float) for step in steps):
            return
        share = sum(steps)
        if alpha in _PAPERS and alpha != alpha_for(round(share, 6)):
            log.warning(
                "strategy.alpha=%g is the paper's for another budget than %.3g %% of all pixels; strategy.alpha=null "
                "follows the budget", alpha, 100 * share,
            )  # fmt: skip

    def needs_for(self, unit: str) -> tuple[str, ...]:
        """Return the needs; without densities nobody has to estimate them."""
        return self.needs if self.weighted else self.needs[:2]

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image's picks in Alg. 1's order; the utility of each is its r when it was picked."""
        if not isinstance(view, DenseView) or ctx.quota is None or view.features is None:
            raise TypeError(
                "Density.propose: expected a dense view with features and a quota of pixels; the learner must provide "
                "pixel_features"
            )
        if ctx.cycle < self.random_cycles:
            return self.random.propose(view, ctx)
        return self.greedy(view, ctx, self._density(view) if self.weighted else None)

    def judge(self, view: ImageView | DenseView, ctx: ProposeContext) -> Mapping[str, float]:
        """Return what `judge_purchase` measures of this image; nothing where densities don't choose."""
        if not (self.weighted and isinstance(view, DenseView) and ctx.quota) or ctx.cycle < self.random_cycles:
            return {}
        pixel_N = self.greedy.candidates(view, ctx)
        return judge_purchase(view, pixel_N, ctx.quota, self._density(view), ctx.rng) if len(pixel_N) else {}

    def _density(self, view: DenseView) -> Tensor:
        """Return D at the features' resolution; it is upsampled after the exponential."""
        if "error" not in view.extras:
            raise TypeError(
                "Density.propose: expected reconstruction errors; the learner must provide pixel_error, or set "
                "strategy.weighted=false"
            )
        if not view.extras["error"].isfinite().all():
            raise diverged(view, "reconstruction errors")
        return coverage_density(view.extras["error"], self.beta, self.tau, self.scale, view.features)
