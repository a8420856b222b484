"""The LightningModule every training runs: a network, what is minimized, and an optimizer."""

import math
from dataclasses import asdict
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, nn

from al_lab.core.errors import DivergedError, explain
from al_lab.core.rng import Rng
from al_lab.data.transforms.dense_view import DenseAugmentation
from al_lab.learners.device.speed import adam_of, optimizer_of, restore
from al_lab.learners.device.together import Together
from al_lab.learners.reading import Reading
from al_lab.learners.settings import Schedule, TrainSettings

_SMOOTHING = 0.02  # weight of a new loss in the running mean that is reported


class FitModule(pl.LightningModule):
    """Network + objective + optimizer.

    Every step is a function of (seed, step): the batch, its augmentation, the learning rate and torch's own generator
    (dropout) are derived from it, so going on from step k needs the weights, the optimizer and the number k.

    Args:
        network: what is trained. If it has ``lr_multipliers()``, that names groups of parameters and the factor on the
            learning rate of each; every other parameter has factor 1. If it has ``steady_parameters()``, the rate of
            those is the schedule's first, whatever the step.
        objective: ``objective(network, batch, step, total_steps)`` returns a dict of scalars with ``loss``. If it has
            ``lr_factor(step, total_steps)``, every rate of a step is multiplied by that; if it has ``starts_anew`` of
            the same, which is true, the optimizer forgets its moments before the step; if it has ``adversary()``, the
            parameters that this names have an optimizer of their own.
        settings: the recipe.
        schedule: the learning rate of every step.
        seed: of this training.
        resumed: a checkpoint of `fit_state` whose optimizer, step and running loss this fit goes on with.
        is_fused: the optimizer updates all weights in one kernel.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: nn.Module,
        settings: TrainSettings,
        schedule: Schedule,
        *,
        seed: int,
        resumed: dict[str, Any] | None = None,
        is_fused: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.objective = network, objective
        self.settings, self.schedule = settings, schedule
        self.rng = Rng(seed, "step")
        self.first_step = self.next_step = int(resumed["step"]) if resumed else 0
        self.mean_loss = float(resumed["meta"]["loss"]) if resumed else 0.0
        self.parts: dict[str, float] = {}
        self.lr_groups = _lr_groups(network, objective)
        self._resumed, self.is_fused = resumed, is_fused
        self._unread: tuple[int, list[str], Reading] | None = None
        self._broken: tuple[int, list[str]] | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer over every trainable parameter, in the groups a network asks for.

        Its state is restored.
        """
        lr = self.schedule.lr_at(self.first_step)
        groups = [{"params": group.params} for group in self.lr_groups if group.betas is None]
        optimizer = optimizer_of(groups, self.settings, lr, self.is_fused)
        rivals = [{"params": group.params, "betas": group.betas} for group in self.lr_groups if group.betas is not None]
        if rivals:
            optimizer = Together([optimizer, adam_of(rivals, lr, self.is_fused)])
        if self._resumed is not None:
            restore(optimizer, self._resumed["optimizer"])
        return optimizer

    def on_fit_start(self) -> None:
        """Restore the loss scale of 16-bit training."""
        if self._resumed is not None and self._resumed["precision"]:
            self.trainer.precision_plugin.load_state_dict(self._resumed["precision"])
        self._resumed = None

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Let the device fetch a batch from page-locked memory while the host goes on."""
        return batch.to(device, non_blocking=True)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set this step's learning rate and torch's generator."""
        torch.manual_seed(self.rng.seed(self.next_step, self.global_rank))
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        where = self.next_step, self.schedule.total_steps
        if hasattr(self.objective, "starts_anew") and self.objective.starts_anew(*where):  # type: ignore[operator]
            optimizer.state.clear()
        rate = self.schedule.lr_at(self.next_step)
        if hasattr(self.objective, "lr_factor"):
            rate *= self.objective.lr_factor(*where)  # type: ignore[operator]
        for group, own in zip(optimizer.param_groups, self.lr_groups, strict=True):
            group["lr"] = (self.schedule.lr if own.is_steady else rate) * own.factor

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Bound the gradients; what learns beside the others (at a steady rate, as their rival) has its own bound."""
        sets: dict[str, list[nn.Parameter]] = {}
        for group in self.lr_groups:
            kind = "steady" if group.is_steady else "others" if group.betas is None else "rival"
            sets.setdefault(kind, []).extend(group.params)
        if len(sets) == 1 or gradient_clip_val is None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        for params in sets.values():
            nn.utils.clip_grad_norm_(params, gradient_clip_val)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        # Looking at the last step's loss, not at this one's, keeps a GPU busy: by now it is there.
        self.check_loss()
        if isinstance(self.settings.augmentation, DenseAugmentation):
            network: Any = self.network
            rng = self.rng.child("augmentation", self.next_step)
            batch = self.settings.augmentation(batch, rng, network.mean, network.std)
        parts = self.objective(self.network, batch, self.next_step, self.schedule.total_steps)
        self._unread = (self.next_step, list(batch.sample_ids), Reading(_agreed(parts)))
        self.next_step += 1
        return parts["loss"]

    def read_loss(self) -> bool:
        """Read the last step's loss, once, and say whether it is one to go on from.

        No device waits for another here.
        """
        if self._unread is not None:
            step, ids, reading = self._unread
            self._unread = None
            self.parts = reading.read()
            limit = self.settings.on_divergence.max_loss
            if math.isfinite(self.parts["loss"]) and (limit is None or self.parts["loss"] <= limit):
                weight = max(_SMOOTHING, 1 / (step + 1))
                self.mean_loss += weight * (self.parts["loss"] - self.mean_loss)
            else:
                self._broken = (step, ids)
        return self._broken is None

    def check_loss(self) -> None:
        """Stop if the last step's loss was no number, or too large.

        All devices that share a training call this at the same point.

        They know the same loss (`_agreed`), so either none of them stops here or all do, and tell each other their
        images.

        Raises:
            DivergedError: naming the step and its images.
        """
        if self.read_loss() or self._broken is None:
            return
        step, ids = self._broken
        limit, shown = self.settings.on_divergence.max_loss, _ids_of_all_devices(ids)
        raise DivergedError(_diverged(step, self.schedule.total_steps, self.parts["loss"], limit, shown), step)

    def fit_state(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Return everything a later process needs to go on, in plain containers.

        Raises:
            DivergedError: rather than saving weights that a broken loss has touched.
        """
        self.check_loss()
        optimizer = self.optimizers(use_pl_optimizer=False)
        return {
            "state_dict": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": optimizer.state_dict(),  # type: ignore[union-attr]
            "schedule": asdict(self.schedule),
            "step": self.next_step,
            "precision": self.trainer.precision_plugin.state_dict(),
            "meta": {**meta, "loss": self.mean_loss},
        }


class LrGroup(NamedTuple):
    """Parameters whose learning rate is ``factor`` times the schedule's, or (steady) times its first one.

    Those with ``betas`` are an objective's second network: an optimizer of its own, Adam, trains it.
    """

    params: list[nn.Parameter]
    factor: float = 1.0
    is_steady: bool = False
    betas: tuple[float, float] | None = None


def _lr_groups(network: nn.Module, objective: nn.Module) -> list[LrGroup]:
    """Return every trainable parameter once, in groups with a factor on the learning rate; groups are never empty."""
    steady: list[nn.Parameter] = getattr(network, "steady_parameters", list)()
    known = {id(p) for p in steady}
    groups = []
    for params, factor in getattr(network, "lr_multipliers", list)():
        groups.append(LrGroup([p for p in params if p.requires_grad and id(p) not in known], float(factor)))
        known |= {id(p) for p in groups[-1].params}
    rival = objective.adversary() if hasattr(objective, "adversary") else None  # type: ignore[operator]
    known |= {id(p) for p in rival.params} if rival else set()
    both = nn.ModuleList([network, objective])  # which names a parameter they share once
    rest = [p for p in both.parameters() if p.requires_grad and id(p) not in known]
    last = LrGroup([p for p in steady if p.requires_grad], is_steady=True)
    found = [group for group in (*groups, LrGroup(rest), last) if group.params]
    return found if rival is None else [*found, LrGroup(rival.params, rival.lr_factor, betas=rival.betas)]


def _agreed(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return detached values; ``loss`` is the mean over devices, whose losses are shares of one global sum.

    Every device then sees the same number and stops at the same step. The other parts stay this device's own:
    objectives may report different ones for different images.
    """
    values = {name: value.detach().float() for name, value in parts.items()}
    if distributed.is_available() and distributed.is_initialized():
        loss = values["loss"].clone()
        distributed.all_reduce(loss)
        values["loss"] = loss / distributed.get_world_size()
    return values


def _ids_of_all_devices(ids: list[str]) -> list[str]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return ids
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, ids)
    return [i for part in gathered for i in part]


def _diverged(step: int, total: int, loss: float, limit: float | None, ids: list[str]) -> str:
    shown = ", ".join(ids[:64]) + (", …" if len(ids) > 64 else "")
    return explain(
        expected="a finite loss" if limit is None else f"a loss of at most trainer.on_divergence.max_loss={limit:g}",
        got=f"{loss:.6g} on the images {shown}",
        where=f"training step {step} of {total}",
        do="look at these images and their boxes",
    )
