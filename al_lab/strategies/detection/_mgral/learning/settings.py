"""How the agent learns; the numbers of ``strategy.learning``."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, check_fields, fraction, one_of, positive
from al_lab.strategies.detection._mgral.learning.policy import Policy

Reference = Literal["ema", "literal"]
FallBacks = Literal["first", "spread"]
RewardOf = Literal["draw", "top"]


@dataclass(frozen=True, kw_only=True)
class ReinforceSettings:
    """How the agent learns.

    | paper | here | default | where stated |
    |---|---|---|---|
    | iterations | ``iterations`` | 2200 VOC, 800 COCO | Sec. 4.1 |
    | Adam | ``lr`` | 3.5e-4 | Sec. 4.1 |
    | lambda, "baseline decay" | ``decay`` | 0.5 | Sec. 4.1, Eq. (2) |
    | mAP_ref | ``reference`` | ema | DEVIATION from the letters of Eq. (2), see `update_reference` |
    | "top-B" | ``policy`` | pl | UNSPECIFIED |
    | the reward is of the top-B | ``reward_of`` | draw | DEVIATION from Sec. 3.2, whose way is ``top``; see `policy` |
    | - | ``num_samples`` | 1 | draws an iteration; from 2 on each is judged against the mean of the others |
    | - | ``clip`` | 1.0 | UNSPECIFIED; largest norm of the gradient |
    | "direct retraining" | ``max_fall_backs`` | 5 | UNSPECIFIED; trainings a cycle where no record is near; then the
    nearest record counts |
    | - | ``fall_backs`` | first | when they may happen, see `ReinforceSettings.allowed` |
    | - | ``reshuffle`` | False | a new order of the pool every iteration |
    """

    iterations: int = 2200
    lr: float = 3.5e-4
    decay: float = 0.5
    reference: Reference = "ema"
    policy: Policy = "pl"
    reward_of: RewardOf = "draw"
    num_samples: int = 1
    clip: float = 1.0
    max_fall_backs: int = 5
    fall_backs: FallBacks = "first"
    reshuffle: bool = False

    def __post_init__(self) -> None:
        check_fields(
            vars(self),
            {
                "iterations": at_least(0),
                "lr": positive,
                "decay": fraction,
                "reference": one_of(*get_args(Reference)),
                "policy": one_of(*get_args(Policy)),
                "reward_of": one_of(*get_args(RewardOf)),
                "num_samples": at_least(1),
                "clip": positive,
                "max_fall_backs": at_least(0),
                "fall_backs": one_of(*get_args(FallBacks)),
            },
            "strategy.learning",
        )
        if self.is_of_top and self.num_samples > 1:
            raise ConfigError(
                explain(
                    expected="one batch an iteration",
                    got=f"{self.num_samples}: all would be the same one, and none better than the others",
                    where="strategy.learning.num_samples with "
                    + ("reward_of=top" if self.reward_of == "top" else f"policy={self.policy}"),
                    do="set strategy.learning.num_samples=1",
                )
            )

    @property
    def is_of_top(self) -> bool:
        """Whether the reward is that of the B largest scores, and nothing is drawn."""
        return self.reward_of == "top" or self.policy == "topb_surrogate"

    def allowed(self, iteration: int) -> int:
        """Return how many batches may have been trained by the end of an iteration.

        ``first``: all at once, the first that meet no record. ``spread``: in equal steps over the training, because
        one random batch in ten is without a record, too, and would take what the batches of an agent that has moved
        need more.
        """
        if self.fall_backs == "first":
            return self.max_fall_backs
        return min(self.max_fall_backs, math.ceil(self.max_fall_backs * (iteration + 1) / max(self.iterations, 1)))
