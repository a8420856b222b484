"""The weight of an unsupervised loss over a training."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import one_of

Kind = Literal["up_down", "up_only", "none"]


@dataclass(frozen=True)
class Ramp:
    """CSD's ramp: w(0) = 0, up as exp(-5 (1 - t/up)^2), 1 in between, down as exp(-12.5 (1 - (T - t)/(T - down))^2).

    Jeong et al., NeurIPS 2019; the released code has T = 120,000, up = 32,000 and down = 100,000 hard-coded. Here they
    are fractions of the training's length, so a short training has the same shape.

    Attributes:
        kind: ``up_down``, ``up_only`` (stays at 1) or ``none`` (1 from the first step).
        up: fraction of the training at which 1 is reached.
        down: fraction at which the way down begins.
        up_rate, down_rate: the factors in the exponents.
    """

    kind: Kind = "up_down"
    up: float = 4 / 15
    down: float = 5 / 6
    up_rate: float = 5.0
    down_rate: float = 12.5

    def __post_init__(self) -> None:
        one_of(*get_args(Kind))(self.kind, "objective.ramp.kind")
        if not 0 < self.up <= self.down <= 1:
            raise ConfigError(
                explain(
                    expected="0 < up <= down <= 1",
                    got=f"up={self.up}, down={self.down}",
                    where="objective.ramp",
                    do="they are fractions of the training's length",
                )
            )

    def __call__(self, step: int, total_steps: int) -> float:
        """Return w in [0, 1] for a 0-based step."""
        up, down = round(self.up * total_steps), round(self.down * total_steps)
        if self.kind == "none":
            return 1.0
        if step <= 0:
            return 0.0
        if step < up:
            return math.exp(-self.up_rate * (1 - step / up) ** 2)
        if self.kind == "up_down" and step > down:
            return math.exp(-self.down_rate * (1 - (total_steps - step) / (total_steps - down)) ** 2)
        return 1.0
