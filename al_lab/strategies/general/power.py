"""Power: a utility with noise, so that a batch is not full of the same thing."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.fields import number_from, positive
from al_lab.core.strategy import ProposeContext, Reason, Strategy
from al_lab.core.types import Annotation, Candidates, DenseView, ImageView

_LARGEST_LOG = 30.0  # of beta: beyond it the noise is nothing beside a utility


class Power(Strategy):
    """Sampling without replacement in proportion to a power of another strategy's utility.

    Kirsch et al., "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning", TMLR 2023 (arXiv
    2106.12059), "power acquisition": with u(I) >= 0 the utility of ``of``,

        U(I) = ln u(I) + g / beta_t,    g ~ Gumbel(0, 1) from (seed, cycle, id)

    and the B largest are bought: an exact draw without replacement with probabilities proportional to u^beta_t. Small
    beta is near random, large beta takes the best. The noise falls over the cycles, an idea of ClaSP PE (Lueth et al.,
    "Finally Outshining the Random Baseline", TMLR 2026, arXiv 2601.13677): early models are not to be believed to the
    letter.

        beta_t = beta growth^t

    | symbol | argument | default | where |
    |---|---|---|---|
    | beta | beta | 1 | Kirsch et al. |
    | growth | growth | 2 | UNSPECIFIED: ClaSP PE's schedule was not at hand, ours halves the noise each cycle |

    Deviations: ClaSP PE's stratification by class is not in it (`adapted_random` and quotas are ours for classes). An
    image of utility 0 has weight 0 in the paper; here such images follow after all others, in random order.

    Args:
        of: a strategy that buys what it values most.
        beta: in the first cycle; > 0.
        growth: of beta from cycle to cycle; 1: the noise stays.
    """

    made_of: ClassVar[tuple[str, ...]] = ("of",)

    def __init__(self, of: Strategy, beta: float = 1.0, growth: float = 2.0) -> None:
        if type(of).select is not Strategy.select or not of.only_views:
            raise ConfigError(
                explain(
                    expected="a strategy that buys what it values most, such as entropy",
                    got=f"{type(of).__name__}, whose utilities are known after its choice only",
                    where="strategy.of",
                    do="choose another one: strategy@strategy.of=entropy",
                )
            )
        self.of = of
        self.beta = positive(beta, "strategy.beta", do="1 is the paper's")
        self.growth = number_from(1)(growth, "strategy.growth", do="1: the noise stays as it is")
        self.scores_labeled, self.needs_labels, self.ties = of.scores_labeled, of.needs_labels, of.ties

    def needs_for(self, unit: str) -> tuple[str, ...]:
        """Return the other strategy's needs."""
        return self.of.needs_for(unit)

    def view_options(self) -> dict[str, Any]:
        """Return the other strategy's options."""
        return self.of.view_options()

    def restore(self, cycle_dir: Path) -> None:
        """See `Strategy.restore`."""
        self.of.restore(cycle_dir)

    def beta_in(self, cycle: int) -> float:
        """Return beta_t."""
        log_beta = math.log(self.beta) + cycle * math.log(self.growth)
        return math.exp(min(log_beta, _LARGEST_LOG))

    def learn(self, labels: Mapping[str, Annotation]) -> None:
        """See `Strategy.learn`."""
        self.of.learn(labels)

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with its noisy utility; ``info`` keeps the plain one."""
        inner = self.of.propose(view, ctx)
        plain = inner.utility
        if (plain < 0).any():
            raise DataError(
                explain(
                    expected="utilities >= 0, to draw in proportion to them",
                    got=f"{plain.min():g} of sample {view.sample_id!r}",
                    where=f"strategy power of {type(self.of).__name__}",
                    do="choose another strategy with strategy@strategy.of=…",
                )
            )
        noise = ctx.rng.generator("gumbel").gumbel(size=len(plain)) / self.beta_in(ctx.cycle)
        utility = np.log(np.maximum(plain, np.finfo(np.float64).tiny)) + noise
        return Candidates.images([view.sample_id], utility, **{**inner.info, "plain_utility": plain})

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        plain = float(self.of.propose(view, ctx).utility[0])
        inner = self.of.explain(view, ctx, classes, plain)
        drawn = f"drawn in proportion to its utility {plain:.3g} to the power of {self.beta_in(ctx.cycle):g}"
        return Reason({**inner.parts, "plain": plain}, f"{drawn}: {inner.words}")
