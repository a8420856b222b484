"""How much may be bought, in which unit, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from al_lab.core.errors import ConfigError, explain
from al_lab.core.types import Query

Unit = Literal["image", "pixel", "region", "box"]
UNITS = ("image", "pixel", "region", "box")


@dataclass(frozen=True)
class Allowance:
    """What one purchase may cost.

    Attributes:
        unit: what is counted.
        amount: how many of them.
        per_image: the amount is for each image by itself, not for the pool.
    """

    unit: Unit
    amount: int
    per_image: bool = False

    def cost(self, query: Query) -> int | None:
        """Return what a query costs in this unit; None for boxes, whose number is known after the purchase only."""
        if self.unit == "image":
            return 1
        if self.unit == "pixel" and query.region is not None:
            return len(query.region)
        return None

    def check(self, queries: Sequence[Query], where: str) -> None:
        """Refuse a selection that costs more than allowed.

        Raises:
            ConfigError: naming cost and allowance.
        """
        costs = [c for q in queries if (c := self.cost(q)) is not None]
        if len(costs) < len(queries):
            return
        worst = max(costs, default=0) if self.per_image else sum(costs)
        if worst > self.amount:
            raise ConfigError(explain(expected=f"queries of at most {self.amount} {self.unit}s{' an image' if self.per_image else ''}",
                                      got=f"{len(queries)} queries that cost {worst}", where=where, do="fix the strategy's select()"))


@dataclass(frozen=True)
class Budget:
    """The plan of all purchases.

    Attributes:
        unit: image | pixel | region | box.
        initial: the initial set in images: a count, a fraction of the pool (a float up to 1.0), or ``annotated``
            for the samples that have labels already.
        per_cycle: what each query may cost, in ``unit``: a count, a fraction of the pool, or one of these for each query.
        cycles: number of queries; there is one training more than that.
        scope: ``pool``: the amount is for the whole pool; ``image``: for each image (pixels and regions only).
    """

    unit: Unit = "image"
    initial: int | float | str = 0
    per_cycle: int | float | list[int | float] = 0
    cycles: int = 0
    scope: Literal["pool", "image"] = "pool"

    def __post_init__(self) -> None:
        def refuse(key: str, expected: str, got: object, do: str) -> None:
            raise ConfigError(explain(expected=expected, got=repr(got), where=f"budget.{key}", do=do))

        if self.unit not in UNITS:
            refuse("unit", f"one of {', '.join(UNITS)}", self.unit, "images are budget.unit=image")
        if self.scope not in ("pool", "image") or (self.scope == "image" and self.unit in ("image", "box")):
            refuse("scope", "pool, or image with pixels and regions", self.scope, "use budget.scope=pool")
        if isinstance(self.initial, str) and self.initial != "annotated":
            refuse("initial", "a count, a fraction or 'annotated'", self.initial, "e.g. budget.initial=1000 or 0.02")
        steps = self.per_cycle if isinstance(self.per_cycle, list) else [self.per_cycle]
        for key, values in (("initial", [self.initial]), ("per_cycle", steps), ("cycles", [self.cycles])):
            for value in values:
                if not isinstance(value, str) and (isinstance(value, bool) or value < 0 or (isinstance(value, float) and value > 1)):
                    refuse(key, "a count, or a fraction between 0 and 1", value, "2 % is 0.02")
        if self.unit == "box" and any(isinstance(step, float) for step in steps):
            refuse("per_cycle", "a number of boxes", self.per_cycle, "how many boxes the pool holds is hidden, so a fraction of them means nothing")
        if isinstance(self.per_cycle, list) and len(self.per_cycle) < self.cycles:
            refuse("per_cycle", f"{self.cycles} amounts, one for each query", self.per_cycle, "add amounts or lower budget.cycles")

    def allowance(self, cycle: int, pool_size: int) -> Allowance:
        """Return what may be bought at the end of ``cycle``."""
        amount = self.per_cycle[cycle] if isinstance(self.per_cycle, list) else self.per_cycle
        return Allowance(self.unit, _count(amount, pool_size), self.scope == "image")

    def initial_images(self, pool_size: int) -> int | None:
        """Return the size of the initial set; None when it is what is annotated already."""
        return None if isinstance(self.initial, str) else _count(self.initial, pool_size)

    def check_against(self, pool_size: int) -> None:
        """Refuse a plan that buys more images than there are.

        Raises:
            ConfigError: with the sum.
        """
        initial = self.initial_images(pool_size) or 0
        total = initial + (sum(self.allowance(c, pool_size).amount for c in range(self.cycles)) if self.unit == "image" else 0)
        if total > pool_size:
            got = f"{initial} + {self.cycles} cycles = {total}"
            raise ConfigError(explain(expected=f"a budget of at most the pool's {pool_size} images", got=got, where="budget",
                                       do="lower budget.cycles, budget.per_cycle or budget.initial"))


def _count(amount: int | float, pool_size: int) -> int:
    return round(amount * pool_size) if isinstance(amount, float) else int(amount)
