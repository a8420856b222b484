"""The learner of every detector: fits a network to the labeled images, then says what it sees in others."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from al_lab import __version__
from al_lab.core.errors import ConfigError, DataError, did_you_mean, explain
from al_lab.core.files import sha256
from al_lab.core.labels import read_labels
from al_lab.core.rng import Rng
from al_lab.core.types import Annotation, ImageView
from al_lab.data.batch import Batch
from al_lab.data.datamodule import predict_batches, train_batches
from al_lab.learners.base import FitTask, Learner, read_pseudo
from al_lab.learners.callbacks import CsvLog, KeepLast, Progress
from al_lab.learners.checkpoint import load_checkpoint, load_weights, read_last, save_checkpoint
from al_lab.learners.module import FitModule
from al_lab.learners.settings import Schedule, TrainSettings
from al_lab.learners.trainer import Ranks, autocast, limit_threads, run_steps, this_device, worker_errors
from al_lab.models.flip import FlipRule, together
from al_lab.models.network import DetectorNetwork, Postprocess
from al_lab.models.postprocess import at_least, decode_batch

log = logging.getLogger(__name__)


class DetectionLearner(Learner):
    """Network + objective + recipe.

    Args:
        dataset: images, never labels: those come from the run folder.
        make_network: builds a fresh network; called after torch is seeded.
        make_objective: builds what is minimized, afresh for each training: an objective may keep a state of its own. Its method
            ``attach``, if it has one, is called with the fresh network before any weights are read.
        settings: the recipe.
        provides: what `views` can answer; the network class's own list.
        identity: whatever else decides the result (detector, objective, … as plain JSON); a training that was cut off is only
            gone on with under the same one.
        predict_batch: images a forward in `views`.
        num_workers: loader processes.
        checkpoint_minutes: how much training a kill may cost.
        checkpoint_steps: save every so many steps too.
    """

    def __init__(self, dataset: Any, make_network: Callable[[], DetectorNetwork], make_objective: Callable[[], nn.Module], settings: TrainSettings, *,
                 provides: tuple[str, ...] = DetectorNetwork.provides, identity: Mapping[str, Any] | None = None,
                 predict_batch: int = 16, num_workers: int = 0, checkpoint_minutes: float = 10, checkpoint_steps: int | None = None) -> None:
        limit_threads()
        self.provides = tuple(provides)
        self.dataset, self.settings = dataset, settings
        self.predict_batch, self.num_workers = predict_batch, num_workers
        self.checkpoint_minutes, self.checkpoint_steps = checkpoint_minutes, checkpoint_steps
        self._make_network, self._make_objective = make_network, make_objective
        self._identity = dict(identity or {})
        self._network: DetectorNetwork | None = None

    def fit(self, task: FitTask) -> dict[str, float]:
        """See `Learner.fit`; scalars are ``train_loss`` (running mean at the end), ``steps`` and ``num_labeled``.

        Raises:
            DataError: without labeled images, or naming an image that can't be read.
            DivergedError: at a loss that is not finite, naming step and images.
            WeightsError: if ``init_checkpoint`` can't be read or doesn't fit.
            ConfigError: if nothing is left to train.
        """
        if not task.labeled:
            raise DataError(explain(expected="at least one labeled image", got="none", where=f"training on {self.dataset.name!r}",
                                    do="set budget.initial above 0, or label some images first"))
        ranks = Ranks.of_this_process(task.devices)
        annotations = read_labels(task.labels_dir, task.labeled)
        meta = {"fingerprint": self._fingerprint(task, annotations), "seed": task.seed, "num_labeled": len(task.labeled),
                "classes": list(self.dataset.classes), "al_lab": __version__}
        finished = self._finished(task, meta["fingerprint"])
        if finished is None:
            finished = self._train(task, annotations, meta, ranks)
        self._network = None  # the next `views` wants `load` first: what was trained is what was written
        return {"train_loss": finished["meta"]["loss"], "steps": finished["step"], "num_labeled": len(task.labeled)}

    def _train(self, task: FitTask, annotations: Mapping[str, Annotation], meta: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
        last_path = task.scratch_dir / "last.ckpt"
        last = read_last(last_path, meta["fingerprint"])
        resumed = last
        if last is None and task.start == "continue":
            resumed = load_checkpoint(task.init_checkpoint)  # type: ignore[arg-type]
        schedule = Schedule(**resumed["schedule"]) if resumed else self.settings.schedule(len(task.labeled))
        first, stop = resumed["step"] if resumed else 0, task.stop_at or schedule.total_steps
        if last is not None and first == stop:
            return self._commit(task, last, ranks)
        if not first < stop <= schedule.total_steps:
            raise ConfigError(explain(expected=f"a step to stop at after {first} and up to the horizon, {schedule.total_steps}", got=str(stop),
                                      where=f"training with start={task.start}",
                                      do="correct trainer.stop_at, or lengthen trainer.max_iters or max_epochs"))
        module = self._module(task, schedule, resumed, last_path if last else task.init_checkpoint)
        batches = train_batches(
            self.dataset, annotations, network=module.network, labeled=task.labeled, unlabeled=task.unlabeled, settings=self.settings,
            objective=module.objective, seed=task.seed, first_step=first, stop_step=stop, rank=ranks.rank, world=ranks.world,
            num_workers=self.num_workers, pseudo=read_pseudo(task))
        callbacks = [CsvLog(task.scratch_dir / "train_log.csv", stop),
                     KeepLast(last_path, meta, self.checkpoint_minutes, self.checkpoint_steps)]
        if task.progress is not None:
            callbacks.append(Progress(task.progress, stop))
        log.info("training on %d images, steps %d to %d of %d", len(task.labeled), first, stop, schedule.total_steps)
        run_steps(module, batches, stop - first, self.settings, callbacks, ranks)
        return self._commit(task, module.fit_state(meta), ranks)

    @staticmethod
    def _commit(task: FitTask, state: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
        if ranks.rank == 0:
            save_checkpoint(task.checkpoint, state)
            (task.scratch_dir / "last.ckpt").unlink(missing_ok=True)
        return state

    def _module(self, task: FitTask, schedule: Schedule, resumed: dict[str, Any] | None, source: Path | None) -> FitModule:
        """Build network and objective with the weights this training begins with."""
        torch.manual_seed(Rng(task.seed, "init").seed())
        network, objective = self._make_network(), self._make_objective()
        if hasattr(objective, "attach"):
            objective.attach(network)
        state = resumed or (load_checkpoint(task.init_checkpoint) if task.start == "weights" else None)  # type: ignore[arg-type]
        if state is not None:
            load_weights(network, state["state_dict"], source)  # type: ignore[arg-type]
        if resumed is not None:
            load_weights(objective, resumed["objective"], source)  # type: ignore[arg-type]
        return FitModule(network.train(), objective, self.settings, schedule, seed=task.seed, resumed=resumed)

    def _finished(self, task: FitTask, fingerprint: str) -> dict[str, Any] | None:
        """Return the result of this very task if a process died between writing it and saying so."""
        state = read_last(task.checkpoint, fingerprint)
        if state is None or state["step"] != (task.stop_at or state["schedule"]["total_steps"]):
            return None
        return state

    def _fingerprint(self, task: FitTask, annotations: Mapping[str, Annotation]) -> str:
        """Identify what this training computes; machine, paths and number of devices are no part of it."""
        digest = hashlib.sha256(json.dumps(
            [self._identity, list(self.dataset.classes), task.labeled, task.unlabeled, task.seed, task.start, task.stop_at],
            sort_keys=True, default=str).encode())
        if task.pseudo is not None:
            digest.update(sha256(task.pseudo).encode())
        for annotation in annotations.values():
            for array in (annotation.boxes_xyxy, annotation.labels, annotation.difficult, annotation.crowd):
                digest.update(array.tobytes())
        if task.init_checkpoint is not None and task.init_checkpoint.is_file():
            digest.update(sha256(task.init_checkpoint).encode())
        return digest.hexdigest()

    def load(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint.

        Raises:
            WeightsError: if it can't be read or was trained with another network or other classes.
        """
        state = load_checkpoint(checkpoint)
        network = self._make_network()
        load_weights(network, state["state_dict"], checkpoint)
        self._network = network.eval().to(this_device())

    def views(self, ids: Sequence[str], needs: Sequence[str], options: Mapping[str, Any] | None = None) -> Iterator[ImageView]:
        """See `Learner.views`; detections come with their whole class distribution.

        Args:
            ids: images.
            needs: among `provides`. ``flip_probs`` costs one more forward, of the mirror images, in the same pass.
            options: ``flip``: the arguments of `FlipRule`; ``min_confidence``: detections below it are left out.

        Raises:
            ConfigError: if ``needs`` has a word this learner doesn't provide, an option is unknown, or `load` was not called.
            DataError: naming an image that can't be read.
        """
        strange = [word for word in needs if word not in self.provides]
        if strange:
            raise ConfigError(explain(expected=f"needs among {', '.join(self.provides)}", got=repr(strange[0]), where="learner.views",
                                      do=did_you_mean(strange[0], self.provides)))
        if self._network is None:
            raise ConfigError(explain(expected="a trained network", got="none", where="learner.views", do="call load(checkpoint) first"))
        rules = _Rules.of(self._network, frozenset(needs), options or {})
        return self._views(self._network, ids, rules)

    def _views(self, network: DetectorNetwork, ids: Sequence[str], rules: "_Rules") -> Iterator[ImageView]:
        batches = predict_batches(self.dataset, ids, network=network, batch_size=self.predict_batch, num_workers=self.num_workers)
        with worker_errors():
            for batch in batches:
                yield from self._look(network, batch, rules)

    def _look(self, network: DetectorNetwork, batch: Batch, rules: "_Rules") -> Iterator[ImageView]:
        device = this_device()
        sizes = [(int(h), int(w)) for h, w in batch.sizes_hw.tolist()]
        detections: Sequence[Any] = [None] * len(batch)
        embeddings: Sequence[Any] = [None] * len(batch)
        pairs: Sequence[Any] = [None] * len(batch)
        # Not around the yield: what the caller does with tensors is its own affair.
        with torch.inference_mode(), autocast(self.settings, device):
            images = batch.images.to(device, non_blocking=True)
            heads = together(network, images, images.flip(-1)) if rules.flip else [network(images)]
            if "image_embedding" in rules.needs:
                embeddings = network.embedding(heads[0].features).float().cpu().numpy()
        heads = [head._replace(logits=head.logits.float(), deltas=head.deltas.float()) for head in heads]
        if rules.needs & {"detections", "class_probs"}:
            detections = decode_batch(heads[0], network, sizes, rules.detections, valid_hw=batch.valid_hw)
        if rules.flip:
            pairs = rules.flip.compare(network, *heads, sizes, batch.valid_hw)
        for row, sample_id in enumerate(batch.sample_ids):
            yield ImageView(sample_id, sizes[row], detections[row], embeddings[row], flip_detections=pairs[row])


@dataclass(frozen=True)
class _Rules:
    """What a pass over images is to find out."""

    needs: frozenset[str]
    detections: Postprocess
    flip: FlipRule | None

    @classmethod
    def of(cls, network: DetectorNetwork, needs: frozenset[str], options: Mapping[str, Any]) -> "_Rules":
        strange = set(options) - {"flip", "min_confidence"}
        if strange:
            raise ConfigError(explain(expected="options among flip, min_confidence", got=repr(min(strange)), where="learner.views",
                                      do="correct the strategy's view_options()"))
        floor = options.get("min_confidence")
        settings = network.postprocess if floor is None else at_least(network.postprocess, floor)
        return cls(needs, settings, FlipRule(**options.get("flip", {})) if "flip_probs" in needs else None)
