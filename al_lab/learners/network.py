"""What every learner with a network of ours shares.

Trainings that go on bit for bit, and weights that are loaded whole.
"""

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from al_lab import __version__
from al_lab.core.errors import ConfigError, DivergedError, did_you_mean, explain
from al_lab.core.files import sha256
from al_lab.core.rng import Rng
from al_lab.core.types import DenseView, ImageView
from al_lab.data.loading.byte_cache import ByteCache
from al_lab.learners.base import FitTask, Learner
from al_lab.learners.callbacks import CsvLog, KeepLast, Progress
from al_lab.learners.checkpoint import load_checkpoint, load_weights, read_last, save_checkpoint
from al_lab.learners.device.precision import best_precision, products
from al_lab.learners.device.speed import Speed
from al_lab.learners.divergence import Attempt, Attempts
from al_lab.learners.interrupt import SaveWhenAsked
from al_lab.learners.module import FitModule
from al_lab.learners.settings import Schedule, TrainSettings
from al_lab.learners.trainer import Ranks, keep_freed_memory, limit_threads, repeatable, run_steps, this_device

log = logging.getLogger(__name__)

LabelsT = TypeVar("LabelsT")


class NetworkLearner(Learner, Generic[LabelsT]):
    """Network + objective + recipe. A subclass says what labels and batches are, and what is seen in an image.

    Args:
        dataset: images, never labels: those come from the run folder.
        make_network: builds a fresh network; called after torch is seeded.
        make_objective: builds what is minimized, afresh for each training: an objective may keep a state of its own.
            Its method ``attach``, if it has one, is called with the fresh network before any weights are read.
        settings: the recipe.
        provides: what `views` can answer, until `load` asks the network itself; None: all a network of this kind may
            provide.
        identity: whatever else decides the result (detector, objective, … as plain JSON); a training that was cut off
            is only gone on with under the same one.
        predict_batch: images a forward in `views`.
        num_workers: loader processes.
        image_cache: keeps images that never change, resized.
        checkpoint_minutes: how much training a kill may cost.
        checkpoint_steps: save every so many steps too.
        deterministic: a GPU's training gives the same numbers every time (`repeatable`).
        speed: options of `Speed`; None: its own.
    """

    def __init__(
        self,
        dataset: Any,
        make_network: Callable[[], nn.Module],
        make_objective: Callable[[], nn.Module],
        settings: TrainSettings,
        *,
        provides: tuple[str, ...] | None = None,
        identity: Mapping[str, Any] | None = None,
        predict_batch: int = 16,
        num_workers: int = 0,
        image_cache: ByteCache | None = None,
        checkpoint_minutes: float = 10,
        checkpoint_steps: int | None = None,
        deterministic: bool = False,
        speed: Mapping[str, bool] | None = None,
    ) -> None:
        limit_threads()
        keep_freed_memory()
        self.provides = type(self).provides if provides is None else tuple(provides)
        self.dataset, self.settings = dataset, settings
        self.predict_batch, self.num_workers = predict_batch, num_workers
        self.image_cache = image_cache
        self.checkpoint_minutes, self.checkpoint_steps = checkpoint_minutes, checkpoint_steps
        self._deterministic, self._speed = deterministic, Speed(**(speed or {}))
        self._make_network, self._make_objective = make_network, make_objective
        self._identity = dict(identity or {})
        self._network: nn.Module | None = None

    # --- what a task is about ---

    @abstractmethod
    def _labels(self, task: FitTask) -> LabelsT:
        """Return the labels of a training, or refuse it."""

    @abstractmethod
    def _labels_hash(self, labels: LabelsT) -> str:
        """Return what tells these labels from others."""

    @abstractmethod
    def _batches(self, task: FitTask, labels: LabelsT, module: FitModule, first: int, stop: int, ranks: Ranks) -> Any:
        """Return a loader of one batch a step; a batch has ``sample_ids``, ``to`` and a length."""

    def _counts(self, labels: LabelsT) -> dict[str, float]:
        """Return what else the ledger should say of the labels."""
        return {}

    def _begin(self, task: FitTask, module: FitModule) -> None:  # noqa: B027 - most have nothing to do
        """Do what an objective wants done with the first weights before its first step."""

    def _has_one_size(self, network: Any) -> bool:
        """Whether all images of a training have one size."""
        return False

    @abstractmethod
    def _views(
        self, network: Any, ids: Sequence[str], needs: frozenset[str], options: Mapping[str, Any]
    ) -> Iterator[ImageView | DenseView]:
        """Look at images with a trained network; ``needs`` are all provided."""

    # --- fit ---

    def fit(self, task: FitTask) -> dict[str, float]:
        """See `Learner.fit`.

        Scalars are ``train_loss`` (running mean at the end), ``steps``, ``num_labeled`` and counts of labels.

        Raises:
            DataError: without images to train on, or naming one that can't be read.
            DivergedError: if no attempt of `OnDivergence` ended with finite losses, naming step and images.
            WeightsError: if ``init_checkpoint`` can't be read or doesn't fit.
            ConfigError: if nothing is left to train.
        """
        ranks = Ranks.of_this_process(task.devices)
        labels = self._labels(task)
        finished = self._attempts(task, labels, ranks)
        self._network = None  # the next `views` wants `load` first: what was trained is what was written
        return {
            "train_loss": finished["meta"]["loss"],
            "steps": finished["step"],
            "num_labeled": len(task.labeled),
            **finished["meta"].get("counts", {}),
            **finished["meta"].get("diverged", {}),
        }

    def _attempts(self, task: FitTask, labels: LabelsT, ranks: Ranks) -> dict[str, Any]:
        """Return the result of the first attempt that does not diverge; those known to diverge are not made again."""
        rule, known = self.settings.on_divergence, Attempts(task.scratch_dir / "diverged.json")
        failed: Attempt | None = None
        for number in range(rule.retries + 1):
            tried, factor = replace(task, seed=rule.seed(task.seed, number)), rule.lr_factor(number)
            fingerprint = self._fingerprint(tried, labels, factor)
            if (before := known.find(fingerprint, rule.max_loss)) is not None:
                failed = before
                continue
            finished = self._finished(task, fingerprint)
            if finished is not None:
                return finished
            if failed is not None:
                log.warning("%s. Attempt %d of %d begins.", failed.reason, number + 1, rule.retries + 1)
            try:
                return self._train(tried, labels, self._meta(tried, labels, fingerprint, number, factor, failed), ranks)
            except DivergedError as error:
                failed = Attempt(fingerprint, rule.max_loss, tried.seed, factor, error.step, str(error))
                known.add(failed, write=ranks.rank == 0)
                if ranks.rank == 0:
                    (task.scratch_dir / "last.ckpt").unlink(missing_ok=True)
        assert failed is not None
        raise rule.given_up(failed.reason)

    def _meta(
        self, task: FitTask, labels: LabelsT, fingerprint: str, number: int, factor: float, failed: Attempt | None
    ) -> dict[str, Any]:
        """Return what a checkpoint says of its training; ``diverged`` are the attempts before this one."""
        diverged = {"diverged": number, "diverged_step": failed.step, "lr_factor": factor} if failed else {}
        return {
            "fingerprint": fingerprint,
            "lr_factor": factor,
            "seed": task.seed,
            "num_labeled": len(task.labeled),
            "classes": list(self.dataset.classes),
            "al_lab": __version__,
            "counts": self._counts(labels),
            "diverged": diverged,
        }

    def _train(self, task: FitTask, labels: LabelsT, meta: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
        last_path = task.scratch_dir / "last.ckpt"
        last = read_last(last_path, meta["fingerprint"])
        resumed = last
        if last is None and task.start == "continue":
            resumed = load_checkpoint(task.init_checkpoint)  # type: ignore[arg-type]
        schedule = Schedule(**resumed["schedule"]) if resumed else self.settings.schedule(len(task.labeled))
        if last is None:
            schedule = replace(schedule, lr=schedule.lr * meta["lr_factor"])
        first, stop = resumed["step"] if resumed else 0, schedule.total_steps if task.stop_at is None else task.stop_at
        if last is not None and first == stop:
            return self._commit(task, last, ranks)
        # Stopping at 0 is how a method queries before its first step: the checkpoint holds the weights a training would
        # begin with.
        is_empty = task.stop_at == first == 0
        if not (is_empty or first < stop <= schedule.total_steps):
            raise ConfigError(
                explain(
                    expected=f"a step to stop at after {first} and up to the horizon, {schedule.total_steps}",
                    got=str(stop),
                    where=f"training with start={task.start}",
                    do="correct trainer.stop_at, or lengthen trainer.max_iters or max_epochs",
                )
            )
        module = self._module(task, schedule, resumed, last_path if last else task.init_checkpoint)
        if not is_empty:
            self._begin(task, module)
        # Nothing is drawn for no step; an empty loader would make Lightning warn.
        batches = range(1) if is_empty else self._batches(task, labels, module, first, stop, ranks)
        callbacks = [
            CsvLog(task.scratch_dir / "train_log.csv", stop),
            KeepLast(last_path, meta, self.checkpoint_minutes, self.checkpoint_steps),
            SaveWhenAsked(last_path, meta),
        ]
        if task.progress is not None:
            callbacks.append(Progress(task.progress, stop))
        log.info("training on %d images, steps %d to %d of %d", len(task.labeled), first, stop, schedule.total_steps)
        device, has_one_size = this_device(ranks), self._has_one_size(module.network)
        log.info("computing on %s", self._speed.sentence(self.settings, device, has_one_size))
        with (
            products(self.settings.tf32, device),
            self._speed.algorithms(device, has_one_size),
            repeatable(self._deterministic),
        ):
            run_steps(module, batches, stop - first, self.settings, callbacks, ranks)
        return self._commit(task, module.fit_state(meta), ranks)

    @staticmethod
    def _commit(task: FitTask, state: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
        if ranks.rank == 0:
            save_checkpoint(task.checkpoint, state)
            (task.scratch_dir / "last.ckpt").unlink(missing_ok=True)
        return state

    def _module(
        self, task: FitTask, schedule: Schedule, resumed: dict[str, Any] | None, source: Path | None
    ) -> FitModule:
        """Build network and objective with the weights this training begins with."""
        torch.manual_seed(Rng(task.seed, "init").seed())
        network, objective = self._make_network(), self._make_objective()
        attach = getattr(objective, "attach", None)
        if attach is not None:
            attach(network)
        state = resumed or (load_checkpoint(task.init_checkpoint) if task.start == "weights" else None)  # type: ignore[arg-type]
        if state is not None:
            load_weights(network, state["state_dict"], source)  # type: ignore[arg-type]
        if resumed is not None:
            load_weights(objective, resumed["objective"], source)  # type: ignore[arg-type]
        device = this_device()
        return FitModule(
            self._speed.prepare(network, device).train(),
            objective,
            self.settings,
            schedule,
            seed=task.seed,
            resumed=resumed,
            is_fused=self._speed.fuses(device),
        )

    def _finished(self, task: FitTask, fingerprint: str) -> dict[str, Any] | None:
        """Return the result of this very task if a process died between writing it and saying so."""
        state = read_last(task.checkpoint, fingerprint)
        if state is None or state["step"] != (
            state["schedule"]["total_steps"] if task.stop_at is None else task.stop_at
        ):
            return None
        return state

    def _fingerprint(self, task: FitTask, labels: LabelsT, lr_factor: float = 1.0) -> str:
        """Identify what this training computes; machine, paths and number of devices are no part of it."""
        digest = hashlib.sha256(
            json.dumps(
                [
                    self._identity,
                    list(self.dataset.classes),
                    task.labeled,
                    task.unlabeled,
                    task.seed,
                    task.start,
                    task.stop_at,
                    lr_factor,
                ],
                sort_keys=True,
                default=str,
            ).encode()
        )
        if self.settings.precision == "auto":  # another one on another device
            digest.update(str(best_precision(this_device())).encode())
        digest.update(self._labels_hash(labels).encode())
        for path in (task.pseudo, task.init_checkpoint):
            if path is not None and path.is_file():
                digest.update(sha256(path).encode())
        return digest.hexdigest()

    # --- look ---

    def load(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint.

        Raises:
            WeightsError: if it can't be read or was trained with another network or other classes.
        """
        self._network = self._of(checkpoint)
        # perhaps less than its class names: a branch may be off
        self.provides = tuple(getattr(self._network, "provides", self.provides))

    def _of(self, checkpoint: Path) -> nn.Module:
        """Return a network with the weights of a checkpoint, ready to look."""
        state = load_checkpoint(checkpoint)
        network = self._make_network()
        load_weights(network, state["state_dict"], checkpoint)
        device = this_device()
        return self._speed.prepare(network.eval(), device).to(device)

    def views(
        self, ids: Sequence[str], needs: Sequence[str], options: Mapping[str, Any] | None = None
    ) -> Iterator[Any]:
        """See `Learner.views`.

        Raises:
            ConfigError: if ``needs`` has a word this learner doesn't provide, an option is unknown, or `load` was not
                called.
            DataError: naming an image that can't be read.
        """
        strange = [word for word in needs if word not in self.provides]
        if strange:
            raise ConfigError(
                explain(
                    expected=f"needs among {', '.join(self.provides)}",
                    got=repr(strange[0]),
                    where="learner.views",
                    do=did_you_mean(strange[0], self.provides),
                )
            )
        return self._views(self._trained(), ids, frozenset(needs), options or {})

    def _trained(self) -> Any:
        """Return the network, once `load` was called."""
        if self._network is None:
            raise ConfigError(
                explain(
                    expected="a trained network", got="none", where="learner.views", do="call load(checkpoint) first"
                )
            )
        return self._network
