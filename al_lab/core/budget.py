"""How much may be bought, in which unit, and how often."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import Kind, WrongValueError, at_least, between, fraction, list_of, one_of
from al_lab.core.types import Query

Unit = Literal["image", "pixel", "region", "box"]
UNITS = ("image", "pixel", "region", "box")
_OF_PIXELS = ("pixel", "region")
_MOST_CYCLES = 10_000  # each one is a training


def _read_amount(value: Any) -> int | float:
    try:
        return fraction.read(value) if isinstance(value, float) else at_least(0).read(value)
    except WrongValueError:
        raise WrongValueError("a count, or a fraction between 0 and 1", value) from None


_amount: Kind[int | float] = Kind("a count, or a fraction between 0 and 1", _read_amount)


def _read_initial(value: Any) -> int | float | str:
    if value == "annotated":
        return "annotated"
    try:
        return _read_amount(value)
    except WrongValueError:
        raise WrongValueError("a count, a fraction between 0 and 1, or annotated", value) from None


_initial: Kind[int | float | str] = Kind("a count, a fraction between 0 and 1, or annotated", _read_initial)


@dataclass(frozen=True)
class Allowance:
    """What one purchase may cost.

    Attributes:
        unit: what is counted.
        amount: how many of them; 0 where ``share`` says it.
        per_image: the amount is for each image by itself, not for the pool.
        share: of an image's pixels that may be bought in it.
    """

    unit: Unit
    amount: int
    per_image: bool = False
    share: float | None = None

    def in_image(self, size_hw: tuple[int, int], radius_px: int = 0) -> int:
        """Return how many pixels, or regions of side 2 r + 1, may be bought in one image.

        A share is rounded up, and regions that the border clips count as whole ones, as RIPU's released code counts:
        ceil(H W share / (2 r + 1)^2).
        """
        if self.share is None:
            return self.amount
        area = (2 * radius_px + 1) ** 2 if self.unit == "region" else 1
        # 0.07 x 100 is 7, not 7.000000000000001
        return math.ceil(round(self.share * size_hw[0] * size_hw[1] / area, 6))

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
        bills = [(sum(costs), self.amount)]
        if self.per_image:
            bills = [
                (c, self.amount if q.region is None else self.in_image(q.region.size_hw))
                for q, c in zip(queries, costs, strict=True)
            ]
        for cost, amount in bills:
            if cost > amount:
                raise ConfigError(
                    explain(
                        expected=f"queries of at most {amount} {self.unit}s{' an image' if self.per_image else ''}",
                        got=f"{len(queries)} queries{', one' if self.per_image else ''} that cost {cost}",
                        where=where,
                        do="fix the strategy's select()",
                    )
                )


@dataclass(frozen=True)
class Budget:
    """The plan of all purchases.

    Attributes:
        unit: image | pixel | region | box.
        initial: the initial set in images: a count, a fraction of the pool (a float up to 1.0), or ``annotated``
            for the samples that have labels already.
        per_cycle: what each query may cost, in ``unit``: a count; or a fraction, of the pool's images, or with
            ``scope=image`` of each image's pixels; or one of these for each query.
        cycles: number of queries; there is one training more than that.
        scope: ``pool``: the amount is for the whole pool; ``image``: for each image (pixels and regions only).
    """

    unit: Unit = "image"
    initial: int | float | str = 0
    per_cycle: int | float | list[int | float] = 0
    cycles: int = 0
    scope: Literal["pool", "image"] = "pool"

    def __post_init__(self) -> None:
        one_of(*UNITS)(self.unit, "budget.unit")
        scopes = ("pool", "image") if self.unit in _OF_PIXELS else ("pool",)
        one_of(*scopes)(
            self.scope, "budget.scope", do="budgets are counted image by image with pixels and regions only"
        )
        between(0, _MOST_CYCLES)(self.cycles, "budget.cycles", do="e.g. budget.cycles=5")
        _initial(self.initial, "budget.initial", do="e.g. budget.initial=1000, or 0.02 for 2 %")
        amounts = list_of(_amount, least=self.cycles) if isinstance(self.per_cycle, list) else _amount
        amounts(self.per_cycle, "budget.per_cycle", do="2 % is 0.02; a list has one amount for each query")
        if not any(isinstance(step, float) for step in _listed(self.per_cycle)):
            return
        if self.unit == "box":
            do = "how many boxes the pool holds is hidden, so a fraction of them means nothing"
            _refuse_share("a number of boxes", self.per_cycle, do)
        if self.unit in _OF_PIXELS and self.scope == "pool":
            do = "a share is one of each image's pixels: set budget.scope=image"
            _refuse_share(f"a number of {self.unit}s", self.per_cycle, do)

    def allowance(self, cycle: int, pool_size: int) -> Allowance:
        """Return what may be bought at the end of ``cycle``."""
        amount = self._step(cycle)
        if self.scope == "image" and isinstance(amount, float):
            return Allowance(self.unit, 0, per_image=True, share=amount)
        return Allowance(self.unit, _count(amount, pool_size), self.scope == "image")

    def share_of(self, size_hw: tuple[int, int]) -> float:
        """Return the share of an image's pixels that all purchases together may buy.

        Needs ``unit=pixel`` and ``scope=image``.
        """
        steps = self.steps()
        return round(sum(s if isinstance(s, float) else s / (size_hw[0] * size_hw[1]) for s in steps), 6)

    def steps(self) -> list[int | float]:
        """Return the amount of each query, a count or a fraction."""
        return [self._step(c) for c in range(self.cycles)]

    def _step(self, cycle: int) -> int | float:
        return self.per_cycle[cycle] if isinstance(self.per_cycle, list) else self.per_cycle

    def initial_images(self, pool_size: int) -> int | None:
        """Return the size of the initial set; None when it is what is annotated already."""
        return None if isinstance(self.initial, str) else _count(self.initial, pool_size)

    def check_against(self, pool_size: int) -> None:
        """Refuse a plan that buys more images than there are.

        Raises:
            ConfigError: with the sum.
        """
        initial = self.initial_images(pool_size) or 0
        total = initial + (
            sum(self.allowance(c, pool_size).amount for c in range(self.cycles)) if self.unit == "image" else 0
        )
        if total > pool_size:
            got = f"{initial} + {self.cycles} cycles = {total}"
            raise ConfigError(
                explain(
                    expected=f"a budget of at most the pool's {pool_size} images",
                    got=got,
                    where="budget",
                    do="lower budget.cycles, budget.per_cycle or budget.initial",
                )
            )


def _listed(amounts: int | float | list[int | float]) -> list[int | float]:
    return amounts if isinstance(amounts, list) else [amounts]


def _refuse_share(expected: str, got: object, do: str) -> None:
    raise ConfigError(explain(expected=expected, got=repr(got), where="budget.per_cycle", do=do))


def _count(amount: int | float, pool_size: int) -> int:
    return round(amount * pool_size) if isinstance(amount, float) else int(amount)
