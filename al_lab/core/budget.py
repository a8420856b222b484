"""How much may be bought, in which unit, and how often."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.fields import (
    Kind,
    WrongValueError,
    anything,
    at_least,
    between,
    fraction,
    list_of,
    mapping_of,
    not_negative,
    one_of,
    optional,
    share,
    text,
)
from al_lab.core.types import Query

Unit = Literal["image", "pixel", "region", "segment", "box"]
UNITS = ("image", "pixel", "region", "segment", "box")
PARTS = ("pixel", "region", "segment")  # of an image: what is bought of it is a mask
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


_LEAVE_OUT = ("unreadable", "tiny", "dark", "blurred", "near_copies")


@dataclass(frozen=True)
class ColdStart:
    """How an initial set is chosen before there is any label.

    Attributes:
        by: ``centroids``: as many clusters as images are wanted, the image nearest the center of each; ``k_center``:
            again and again the image farthest from those chosen.
        backbone: a classifier of torchvision, whose last features describe an image.
        weights: of it: a file, ``torchvision://name`` or a URL; None: torchvision's for this backbone.
        input_px: side of the square input.
    """

    by: Literal["centroids", "k_center"] = "centroids"
    backbone: str = "squeezenet1_1"
    weights: str | None = None
    input_px: int = 224

    def __post_init__(self) -> None:
        one_of("centroids", "k_center")(self.by, "budget.cold_start.by")
        text(self.backbone, "budget.cold_start.backbone", "e.g. squeezenet1_1 or resnet50")
        optional(text)(self.weights, "budget.cold_start.weights", "a file, torchvision://name or null")
        at_least(32)(self.input_px, "budget.cold_start.input_px", do="224 is what most were trained at")


@dataclass(frozen=True)
class Limits:
    """From where on an image is left out, for each reason of ``budget.leave_out`` that has a limit.

    Attributes:
        tiny_px: of the shorter side.
        dark: gray level (0..255) that 95 % of the pixels stay below.
        blurred: sharpness (see `al_lab.data.quality`) as a share of the pool's median, since it depends on the subject.
        near_copies_bits: of 256 bits of two images' fingerprints that differ.
        near_copies_cosine: of two images' embeddings, where ``embedding`` gives some before the first training: a
            number, ``auto`` (see `al_lab.data.near_vectors.near_cosine`), or None: fingerprints alone.
    """

    tiny_px: int = 32
    dark: float = 40.0
    blurred: float = 0.02
    near_copies_bits: int = 31
    near_copies_cosine: float | str | None = "auto"

    def __post_init__(self) -> None:
        at_least(1)(self.tiny_px, "budget.limits.tiny_px")
        not_negative(self.dark, "budget.limits.dark")
        not_negative(self.blurred, "budget.limits.blurred")
        between(0, 31)(self.near_copies_bits, "budget.limits.near_copies_bits")
        if self.near_copies_cosine not in ("auto", None):
            do = "e.g. 0.98, auto, or null for fingerprints alone"
            share(self.near_copies_cosine, "budget.limits.near_copies_cosine", do=do)


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
        if self.unit == "segment" and query.region is not None and query.region.segments is not None:
            return len(np.unique(query.region.segments))
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
        unit: image | pixel | region (squares) | segment (of the dataset's maps; one click each) | box.
        initial: the initial set in images: a count, a fraction of the pool (a float up to 1.0), or ``annotated``
            for the samples that have labels already.
        per_cycle: what each query may cost, in ``unit``: a count; or a fraction, of the pool's images, or with
            ``scope=image`` of each image's pixels; or one of these for each query.
        cycles: number of queries; there is one training more than that.
        scope: ``pool``: the amount is for the whole pool; ``image``: for each image (parts of images only).
        initial_by: who chooses the initial set: ``random``, or ``cold_start``, see `ColdStart`; the same for every
            strategy.
        cold_start: arguments of `ColdStart`.
        test: so many random images are labeled first, as the test set of a dataset that has none.
        leave_out: images that are never bought: unreadable, tiny, dark, blurred, near_copies (all but the first).
        limits: arguments of `Limits`.
    """

    unit: Unit = "image"
    initial: int | float | str = 0
    per_cycle: int | float | list[int | float] = 0
    cycles: int = 0
    scope: Literal["pool", "image"] = "pool"
    initial_by: Literal["random", "cold_start"] = "random"
    cold_start: Mapping[str, Any] = field(default_factory=dict)
    test: int = 0
    leave_out: Sequence[str] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("random", "cold_start")(self.initial_by, "budget.initial_by")
        list_of(one_of(*_LEAVE_OUT))(self.leave_out, "budget.leave_out", do="e.g. '[near_copies,blurred]', or []")
        at_least(0)(self.test, "budget.test", do="e.g. budget.test=100")
        _built(ColdStart, self.cold_start, "budget.cold_start")
        _built(Limits, self.limits, "budget.limits")
        one_of(*UNITS)(self.unit, "budget.unit")
        scopes = ("pool", "image") if self.unit in PARTS else ("pool",)
        one_of(*scopes)(
            self.scope, "budget.scope", do="budgets are counted image by image with pixels, regions and segments only"
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
        if self.unit == "segment":
            do = "segments are counted: one click each"
            _refuse_share("a number of segments", self.per_cycle, do)
        if self.unit in PARTS and self.scope == "pool":
            do = "a share is one of each image's pixels: set budget.scope=image"
            _refuse_share(f"a number of {self.unit}s", self.per_cycle, do)

    @property
    def start(self) -> ColdStart:
        """How an initial set is chosen by ``initial_by=cold_start``."""
        return ColdStart(**self.cold_start)

    def limits_of(self) -> Limits:
        """Return from where on images are left out."""
        return Limits(**self.limits)

    @property
    def looks_first(self) -> bool:
        """Whether every image of the pool is looked at before anything is bought."""
        return self.initial_by == "cold_start" or bool(self.leave_out)

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
        if pool_size < 1:
            where, do = "budget.test", "lower it: the rest of the images is what can be bought"
            raise ConfigError(explain(expected="images that are left to buy", got="none", where=where, do=do))
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


def alpha_for(share: float) -> int:
    """Return Density Matters' alpha, candidates a pixel bought: 20 up to 2.2 % of all pixels in all cycles, else 10.

    The paper names "below 2.2 %" and "5 %"; 2.2 % itself is read as the former.
    """
    return 20 if share <= 0.022 else 10  # noqa: PLR2004


def _built(kind: Any, arguments: Any, where: str) -> None:
    """Refuse arguments that an object can't be built with.

    Raises:
        ConfigError: naming the key.
    """
    known = tuple(f.name for f in fields(kind))
    for key in mapping_of(anything)(arguments, where, do=f"keys are {', '.join(known)}"):
        if key not in known:
            raise ConfigError(
                explain(expected=f"a key of {where}", got=repr(key), where=where, do=did_you_mean(str(key), known))
            )
    kind(**arguments)


def _listed(amounts: int | float | list[int | float]) -> list[int | float]:
    return amounts if isinstance(amounts, list) else [amounts]


def _refuse_share(expected: str, got: object, do: str) -> None:
    raise ConfigError(explain(expected=expected, got=repr(got), where="budget.per_cycle", do=do))


def _count(amount: int | float, pool_size: int) -> int:
    return round(amount * pool_size) if isinstance(amount, float) else int(amount)
