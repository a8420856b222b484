"""How a training goes: length, optimizer and schedule, as the papers state them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import Kind, at_least, fraction, list_of, not_negative, one_of, optional, positive
from al_lab.learners.divergence import OnDivergence

OptimizerName = Literal["sgd", "adamw"]
DecayName = Literal["multistep", "poly", "cosine"]
_MANY = 10**6  # images: an epoch's part is then never less than a step
PRECISIONS = ("auto", "32", "16-mixed", "bf16-mixed")
_KINDS: dict[str, Kind[Any]] = {
    "batch_size": at_least(1),
    "max_iters": optional(at_least(1)),
    "max_epochs": optional(positive),
    "optimizer": one_of(*get_args(OptimizerName)),
    "lr": positive,
    "momentum": fraction,
    "weight_decay": not_negative,
    "decay": one_of(*get_args(DecayName)),
    "milestones": list_of(positive),
    "gamma": positive,
    "poly_power": positive,
    "warmup_iters": at_least(0),
    "warmup_ratio": fraction,
    "warmup_power": optional(positive),
    "start": one_of("scratch", "weights", "continue"),
    "grad_clip": optional(positive),
}


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training recipe; field for field what conf/trainer/*.yaml says.

    Lengths are in images seen, whatever the batch: an epoch is one pass over the labeled images, turned into
    ceil(epochs * images / batch) steps of an endless stream. An objective that fills part of the batch with unlabeled
    images gets as many steps as one that doesn't. ``milestones`` and ``stop_at`` are in the unit of the length (epochs
    or iterations); a configuration may give milestones as fractions of the length, which are counted when it is
    composed.

    Attributes:
        batch_size: images a step, labeled and unlabeled (the objective's ``labeled_ratio``), over all devices together.
        max_epochs: length in epochs, or
        max_iters: length in steps; exactly one of the two.
        decay: ``multistep`` multiplies the rate by ``gamma`` at each milestone; ``poly`` is lr * (1 -
            step/total)^poly_power; ``cosine`` is lr / 2 * (1 + cos(pi step/total)) (Loshchilov and Hutter, 2017).
        warmup_iters: steps over which the rate rises linearly from ``warmup_ratio`` * lr, or
        warmup_power: as ((step + 1) / warmup_iters)^power * lr; None: linearly.
        weight_decay: on every parameter, in one group (biases and norms included), as the SSD recipe has it.
        start: how a cycle begins: ``scratch`` | ``weights`` | ``continue``.
        init: checkpoint of another training, whose weights the first cycle begins with; None: the network's own
            (pretrained) ones.
        stop_at: where a cycle's training ends before the horizon; a list has one entry a cycle, and the only training
            of a campaign without queries goes to its last one. 0 queries before the first step.
        precision: 32 | 16-mixed | bf16-mixed | auto: bf16-mixed on a GPU that has it, else 32; a campaign asks a device
            once, when it begins.
        tf32: on a GPU that can, products of float32 numbers see ten bits of each mantissa (TF32); False: all of them.
        grad_clip: largest 2-norm of all gradients together (those with a steady rate by themselves); None: no clipping.
        augmentation: a transform of al_lab.data.transforms.detection, of segmenters
            al_lab.data.transforms.dense_view.DenseAugmentation; None: the plain resize.
        on_divergence: arguments of `OnDivergence`: how a training that diverged is begun again.
    """

    batch_size: int
    max_epochs: float | None = None
    max_iters: int | None = None
    optimizer: OptimizerName = "sgd"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay: DecayName = "multistep"
    milestones: Sequence[float] = ()
    gamma: float = 0.1
    poly_power: float = 0.9
    warmup_iters: int = 0
    warmup_ratio: float = 0.001
    warmup_power: float | None = None
    start: Literal["scratch", "weights", "continue"] = "scratch"
    init: str | None = None
    stop_at: float | Sequence[float] | None = None
    precision: int | str = 32
    tf32: bool = True
    grad_clip: float | None = None
    augmentation: Any = None
    on_divergence: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "on_divergence", OnDivergence.read(self.on_divergence))
        if (self.max_epochs is None) == (self.max_iters is None):
            got = "both" if self.max_epochs is not None else "neither"
            raise ConfigError(
                explain(
                    expected="exactly one of max_epochs and max_iters",
                    got=got,
                    where="trainer",
                    do="set one and the other to null",
                )
            )
        for name, kind in _KINDS.items():
            kind(getattr(self, name), f"trainer.{name}")
        one_of(*PRECISIONS)(str(self.precision), "trainer.precision")
        one_of(True, False)(self.tf32, "trainer.tf32")
        positive(self.length, f"trainer.{self.unit}")
        marks = list(self.milestones)
        if not all(a < b for a, b in zip([0, *marks], [*marks, self.length], strict=True)):
            raise ConfigError(
                explain(
                    expected=f"rising numbers below {self.unit}={self.length:g}",
                    got=str(marks),
                    where="trainer.milestones",
                    do=f"change them together with {self.unit}, e.g. to fractions of it: trainer.milestones=[0.7,0.9]; "
                    "[] keeps the rate constant",
                )
            )

    @property
    def unit(self) -> str:
        """Name of the field that holds the length."""
        return "max_iters" if self.max_epochs is None else "max_epochs"

    @property
    def length(self) -> float:
        """Length of the training, in `unit`."""
        return self.max_iters if self.max_epochs is None else self.max_epochs  # type: ignore[return-value]

    def steps(self, amount: float, num_images: int) -> int:
        """Turn an amount in this recipe's unit into optimizer steps."""
        if self.max_epochs is None:
            return int(amount)
        # The tolerance keeps 0.1 * 30 images at 3, not at 4, after binary rounding.
        return math.ceil(amount * num_images / self.batch_size - 1e-9)

    def stop_step(self, cycle: int, num_images: int, cycles: int) -> int | None:
        """Return the step at which the training of ``cycle`` stops, or None for the horizon."""
        if self.stop_at is None:
            return None
        if isinstance(self.stop_at, int | float):
            return self.steps(self.stop_at, num_images)
        if cycles == 0:
            return self.steps(self.stop_at[-1], num_images)
        if cycle >= len(self.stop_at):
            raise ConfigError(
                explain(
                    expected=f"an entry for cycle {cycle}",
                    got=f"{len(self.stop_at)} entries",
                    where="trainer.stop_at",
                    do="give one entry a cycle, cycle 0 included",
                )
            )
        return self.steps(self.stop_at[cycle], num_images)

    def check_stops(self, cycles: int) -> None:
        """Refuse stops at which a training could not end; a list of stops has one entry a cycle.

        Raises:
            ConfigError: with the stops.
        """
        horizon = self.schedule(_MANY).total_steps
        stops = [
            horizon if stop is None else stop
            for stop in (self.stop_step(cycle, _MANY, cycles) for cycle in range(cycles + 1))
        ]
        goes_on = self.start == "continue"
        pairs = itertools.pairwise(stops) if goes_on else ()
        if not all(a < b for a, b in pairs) or not all(0 <= stop <= horizon for stop in stops):
            raise ConfigError(
                explain(
                    expected=f"{'rising ' if goes_on else ''}numbers up to {self.unit}={self.length:g}, one for "
                    f"each of "
                    f"{cycles + 1} trainings",
                    got=str(self.stop_at),
                    where=f"trainer.stop_at with start={self.start}",
                    do="correct trainer.stop_at or lower budget.cycles",
                )
            )

    def schedule(self, num_images: int) -> "Schedule":
        """Return the learning rate of every step of a training on ``num_images`` labeled images."""
        return Schedule(
            total_steps=self.steps(self.length, num_images),
            lr=float(self.lr),
            decay=self.decay,
            milestones=tuple(self.steps(m, num_images) for m in self.milestones),
            gamma=float(self.gamma),
            poly_power=float(self.poly_power),
            warmup_steps=int(self.warmup_iters),
            warmup_ratio=float(self.warmup_ratio),
            warmup_power=self.warmup_power,
        )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate as a pure function of the step, so that resuming needs no state but the step.

    Attributes:
        total_steps: the horizon.
        milestones: steps from which one more factor ``gamma`` applies.
    """

    total_steps: int
    lr: float
    decay: DecayName = "multistep"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    poly_power: float = 0.9
    warmup_steps: int = 0
    warmup_ratio: float = 0.001
    warmup_power: float | None = None

    def lr_at(self, step: int) -> float:
        """Return the rate the optimizer uses in ``step`` (0-based)."""
        if self.decay == "poly":
            rate = self.lr * max(0.0, 1 - step / self.total_steps) ** self.poly_power
        elif self.decay == "cosine":
            rate = self.lr / 2 * (1 + math.cos(math.pi * min(1.0, step / self.total_steps)))
        else:
            rate = self.lr * self.gamma ** sum(step >= m for m in self.milestones)
        if step < self.warmup_steps:
            if self.warmup_power is None:
                rate *= self.warmup_ratio + (1 - self.warmup_ratio) * step / self.warmup_steps
            else:
                rate *= ((step + 1) / self.warmup_steps) ** self.warmup_power
        return rate
