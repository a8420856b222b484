"""The learner of every detector: fits a network to the labeled images, then says what it sees in others."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.record.labels import read_labels
from al_lab.core.types import Annotation, ImageView
from al_lab.data.loading.batch import Batch, PackedBatch
from al_lab.data.loading.datamodule import labeled_batches, predict_batches, train_batches
from al_lab.learners.base import FitTask, read_pseudo
from al_lab.learners.class_gradient import Direction, class_gradient, expected_changes
from al_lab.learners.device.precision import as_trained
from al_lab.learners.module import FitModule
from al_lab.learners.network import NetworkLearner
from al_lab.learners.readouts.look import Look
from al_lab.learners.readouts.registry import READ_OUTS, option_names
from al_lab.learners.trainer import Ranks, this_device, worker_errors
from al_lab.models.detectors.detector import Detector
from al_lab.models.detectors.flip import FlipRule
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.looks.average import Members, Passes
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.postprocess import at_least
from al_lab.models.detectors.settings import Postprocess
from al_lab.objectives.supervised import Supervised


class DetectionLearner(NetworkLearner[Mapping[str, Annotation]]):
    """A detector; see `NetworkLearner`.

    Detections come with their whole class distribution; ``flip_probs`` costs one more forward, of the flipped images,
    in the same pass; ``box_embedding`` (D, E) comes among the extras, as what the words of `READ_OUTS` say. Options of
    `views`: ``flip``, the arguments of `FlipRule`; ``min_confidence``, below which detections are left out;
    ``detections``, other numbers of `Postprocess` for this pass: ``conf_min``, ``nms_iou``, ``max_per_image`` and
    ``nms_pre`` (its ``max_per_level``); those of the read-outs. With ``passes``, or members that joined (`join`),
    detections are those of an average.
    """

    provides = AnchorDetector.provides
    _members: tuple[AnchorDetector, ...] = ()

    def load(self, checkpoint: Path) -> None:
        """See `Learner.load`; members that joined an earlier one leave."""
        super().load(checkpoint)
        self._members = ()

    def join(self, checkpoints: Sequence[Path]) -> None:
        """Let further members of an ensemble look beside the network that was loaded.

        Raises:
            ConfigError: if `load` was not called.
            WeightsError: if one can't be read or was trained with another network or other classes.
        """
        first = self._trained()
        self._members = (first, *(cast(AnchorDetector, self._of(path)) for path in checkpoints))
        self.provides = tuple(dict.fromkeys((*first.provides, *_OF_SEVERAL)))

    def _labels(self, task: FitTask) -> Mapping[str, Annotation]:
        if not task.labeled:
            raise DataError(
                explain(
                    expected="at least one labeled image",
                    got="none",
                    where=f"training on {self.dataset.name!r}",
                    do="set budget.initial above 0, or label some images first",
                )
            )
        return read_labels(task.labels_dir, task.labeled)

    def _labels_hash(self, labels: Mapping[str, Annotation]) -> str:
        digest = hashlib.sha256()
        for annotation in labels.values():
            for array in (annotation.boxes_xyxy, annotation.labels, annotation.difficult, annotation.crowd):
                digest.update(array.tobytes())
        return digest.hexdigest()

    def _batches(
        self, task: FitTask, labels: Mapping[str, Annotation], module: FitModule, first: int, stop: int, ranks: Ranks
    ) -> Any:
        return train_batches(
            self.dataset,
            labels,
            network=module.network,
            labeled=task.labeled,
            unlabeled=task.unlabeled,
            settings=self.settings,
            objective=module.objective,
            seed=task.seed,
            first_step=first,
            stop_step=stop,
            total_steps=module.schedule.total_steps,
            rank=ranks.rank,
            world=ranks.world,
            num_workers=self.num_workers,
            pseudo=read_pseudo(task),
        )

    def _has_one_size(self, network: Detector) -> bool:
        return network.resize == "fixed"

    def class_gradient(self, labels: Mapping[str, Annotation]) -> Direction:
        """Return the gradient of the class loss of some labeled images, see `al_lab.learners.class_gradient`."""
        batches = labeled_batches(
            self.dataset,
            labels,
            network=self._trained(),
            batch_size=_GRADIENT_BATCH,
            num_workers=self.num_workers,
            drop_difficult=bool(getattr(self.settings, "drop_difficult", True)),
        )
        with worker_errors():
            return class_gradient(self._trained(), batches, self._supervised(), this_device())

    def expected_changes(self, ids: Sequence[str], direction: Direction) -> Iterator[tuple[str, float]]:
        """Yield what each image's labels are expected to change along a direction of the class layers' weights."""
        network = self._trained()
        batches = self._plain_batches(network, ids)
        with worker_errors():
            yield from expected_changes(network, batches, direction, self._supervised(), this_device())

    def _supervised(self) -> Supervised:
        """Return the objective whose class loss counts; a semi-supervised one's labeled part is the ordinary one."""
        objective = self._make_objective()
        return objective if isinstance(objective, Supervised) else Supervised()

    def _views(
        self, network: Detector, ids: Sequence[str], needs: frozenset[str], options: Mapping[str, Any]
    ) -> Iterator[ImageView]:
        # a wrong option is refused now, not at the first image
        return self._all_views(network, ids, _Rules.of(network, needs, options))

    def _plain_batches(self, network: Detector, ids: Sequence[str]) -> DataLoader:
        return predict_batches(
            self.dataset,
            ids,
            network=network,
            batch_size=self.predict_batch,
            num_workers=self.num_workers,
            cache=self.image_cache,
        )

    def _all_views(self, network: Detector, ids: Sequence[str], rules: "_Rules") -> Iterator[ImageView]:
        batches = self._plain_batches(network, ids)
        with worker_errors():
            for batch in batches:
                yield from self._look(network, batch, rules)

    def _look(self, network: Detector, loaded: Batch | PackedBatch, rules: "_Rules") -> Iterator[ImageView]:
        device = this_device()
        with torch.inference_mode():
            batch = loaded.to(device, non_blocking=True)
        valid_hw = batch.valid_hw
        sizes = [(int(h), int(w)) for h, w in batch.sizes_hw.tolist()]
        nothing: Sequence[Any] = [None] * len(batch)
        detections: Sequence[Any] = nothing
        embeddings: Any = nothing
        pairs: Sequence[Any] = nothing
        extras: list[dict[str, Any]] = [{} for _ in batch.sample_ids]
        # Not around the yield: what the caller does with tensors is its own affair.
        with torch.inference_mode():
            with as_trained(self.settings, device):
                images = batch.images
                looked = (
                    list(network.look_flipped(images, valid_hw)) if rules.flip else [network.look(images, valid_hw)]
                )
                if "image_embedding" in rules.needs:
                    embeddings = network.embedding(looked[0].features).float().cpu().numpy()
                seen = self._averaged(network, looked[0], batch, sizes, rules) if rules.several else looked[0]
            if rules.finds_boxes:
                detections = network.detections(seen, sizes, valid_hw, rules.detections)
            if "box_embedding" in rules.needs:
                valid = valid_hw / torch.tensor(images.shape[2:])
                means = network.box_embeddings(seen, detections, sizes, valid)
                extras = [{"box_embedding": rows.float().cpu().numpy()} for rows in means]
            for word in rules.read_outs:
                assert isinstance(network, AnchorDetector)  # no other provides such a word
                look = Look(network, images, seen, detections, sizes, valid_hw)
                found = READ_OUTS[word].read(look, rules.options.get(READ_OUTS[word].option or word, {}))
                extras = [{**before, **more} for before, more in zip(extras, found, strict=True)]
            if rules.flip:
                pairs = rules.flip.compare(network, looked[0], looked[1], sizes, valid_hw)
        for row, sample_id in enumerate(batch.sample_ids):
            yield ImageView(
                sample_id, sizes[row], detections[row], embeddings[row], extras[row], flip_detections=pairs[row]
            )

    def _averaged(
        self, network: Detector, plain: Any, batch: Any, sizes: Sequence[tuple[int, int]], rules: "_Rules"
    ) -> HeadOutput:
        """Return what the members, or the passes with dropout, say together of a batch."""
        if self._members:
            members = Members(**rules.options.get("members", {}))
            return members.look(self._members, plain, batch.images, batch.valid_hw, sizes)
        if "passes" not in rules.options:
            raise ConfigError(
                explain(
                    expected="the option passes, or members that joined",
                    got="neither",
                    where=f"learner.views, {', '.join(sorted(rules.several))}",
                    do="correct the strategy's view_options()",
                )
            )
        assert isinstance(network, AnchorDetector)  # no other provides such a word
        return Passes(**rules.options["passes"]).look(network, plain, batch.images)


#: what only several looks can say
_OF_SEVERAL = ("box_mutual_information", "member_entropy")
#: images whose gradients are summed at once: fixed, so that the sum is the same whatever `predict_batch` is
_GRADIENT_BATCH = 16
#: numbers of the option ``detections``, and what `Postprocess` calls them
_POSTPROCESS = {
    "conf_min": "conf_min",
    "nms_iou": "nms_iou",
    "max_per_image": "max_per_image",
    "nms_pre": "max_per_level",
}


@dataclass(frozen=True)
class _Rules:
    """What a pass over images is to find out."""

    needs: frozenset[str]
    detections: Postprocess
    flip: FlipRule | None
    options: Mapping[str, Mapping[str, Any]]

    @property
    def read_outs(self) -> list[str]:
        """Words of ``needs`` that a read-out answers."""
        return sorted(self.needs & set(READ_OUTS))

    @property
    def several(self) -> frozenset[str]:
        """Words of ``needs`` for which an image is looked at more than once."""
        return self.needs & set(_OF_SEVERAL)

    @property
    def finds_boxes(self) -> bool:
        """Whether detections are made, for the strategy or for a read-out."""
        of_boxes = {word for word, read_out in READ_OUTS.items() if read_out.of_boxes}
        return bool(self.needs & {"detections", "class_probs", "box_embedding", *of_boxes})

    @classmethod
    def of(cls, network: Detector, needs: frozenset[str], options: Mapping[str, Any]) -> "_Rules":
        known = {"flip": None, "min_confidence": None, "detections": tuple(_POSTPROCESS)} | option_names()
        _check_options(options, known)
        changes = {_POSTPROCESS[key]: value for key, value in options.get("detections", {}).items()}
        settings = replace(network.postprocess, **changes)
        if "pre_suppression_count" in needs:
            settings = replace(settings, count_suppressed=True)
        if (floor := options.get("min_confidence")) is not None:
            settings = at_least(settings, floor)
        flip = FlipRule(**options.get("flip", {})) if "flip_probs" in needs else None
        return cls(needs, settings, flip, {key: value for key, value in options.items() if key in option_names()})


def _check_options(options: Mapping[str, Any], known: Mapping[str, tuple[str, ...] | None]) -> None:
    """Refuse an option that nobody reads, and a number in one that nobody reads (None: its own reader does)."""
    for key, value in options.items():
        inner = known.get(key)
        strange = [key] if key not in known else [] if inner is None else [k for k in value if k not in inner]
        if strange:
            raise ConfigError(
                explain(
                    expected=f"options among {', '.join(known if key not in known else inner or ())}",
                    got=repr(strange[0]),
                    where="learner.views" if key not in known else f"learner.views, {key}",
                    do="correct the strategy's view_options()",
                )
            )
