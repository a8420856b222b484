"""The learner of every segmenter.

Fits a network to source labels and bought pixels, then says what it sees in other images.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.rng import Rng
from al_lab.core.types import DenseView
from al_lab.data.datasets.segmentation import SOURCE_PREFIX
from al_lab.data.loading.dense_batch import BoughtPixels, dense_predict_batches, dense_train_batches
from al_lab.data.loading.dense_join import DenseBatch, PackedDenseBatch
from al_lab.learners.base import FitTask
from al_lab.learners.device.precision import as_trained
from al_lab.learners.module import FitModule
from al_lab.learners.network import NetworkLearner
from al_lab.learners.trainer import Ranks, this_device, worker_errors
from al_lab.models.segmenters.segmenter import SegmenterNetwork, upsample
from al_lab.objectives.adaptation import reconstruction_error

log = logging.getLogger(__name__)

_OPTIONS = ("flip",)
# A GPU: four Cityscapes images as the papers resize them, a few GB with ResNet-101 at stride 8. A CPU: eight of 320 x
# 240, a quarter faster than 32.
_PIXELS_A_FORWARD = {"cuda": 4 * 640 * 1280, "cpu": 8 * 240 * 320}


class SegmentationLearner(NetworkLearner[BoughtPixels]):
    """A segmenter; see `NetworkLearner`.

    It trains on the source's images and on target images: on all of them if the objective has a loss on pixels without
    a label (its attribute ``uses_unlabeled``), else on those of which something was bought. Its scalars say how many
    pixels were paid for and how many labels are left of them at training size.

    Views have class probabilities at the image's own size, one image at a time; a branch's features and errors stay at
    their own resolution, un-normalized. Everything but the embedding stays on the device. Option of `views`: ``flip``,
    the mean of the probabilities of an image and of its flipped image, turned back. Of the source's images it tells as
    much, if all ids are theirs.
    """

    provides = SegmenterNetwork.provides

    def _labels(self, task: FitTask) -> BoughtPixels:
        return BoughtPixels(task.labels_dir, tuple(task.labeled), task.cycle)

    def _labels_hash(self, labels: BoughtPixels) -> str:
        return labels.content_hash()

    def _counts(self, labels: BoughtPixels) -> dict[str, float]:
        with worker_errors():
            return labels.count(self.dataset.target_hw, self.num_workers)

    def _batches(
        self, task: FitTask, labels: BoughtPixels, module: FitModule, first: int, stop: int, ranks: Ranks
    ) -> Any:
        targets = {*task.labeled, *(task.unlabeled if getattr(module.objective, "uses_unlabeled", True) else ())}
        return dense_train_batches(
            self.dataset,
            labels,
            targets=sorted(targets),
            network=module.network,
            objective=module.objective,
            batch_size=self.settings.batch_size,
            seed=task.seed,
            first_step=first,
            stop_step=stop,
            rank=ranks.rank,
            world=ranks.world,
            num_workers=self.num_workers,
            cache=self.image_cache,
        )

    def _begin(self, task: FitTask, module: FitModule) -> None:
        objective: Any = module.objective
        if not getattr(objective, "wants_survey", False):
            return
        device, network = this_device(), module.network
        ids = sorted({*task.labeled, *task.unlabeled})
        batches = self._plain_batches(network, ids)
        log.info("looking at %d target images before the first step", len(ids))
        network.to(device).eval()
        with worker_errors(), as_trained(self.settings, device):
            on_device = (loaded.to(device, non_blocking=True) for loaded in batches)
            objective.survey(network, on_device, Rng(task.seed, "survey"))
        network.train()

    def _has_one_size(self, network: SegmenterNetwork) -> bool:
        return self.dataset.target_hw is not None

    def _views(
        self, network: SegmenterNetwork, ids: Sequence[str], needs: frozenset[str], options: Mapping[str, Any]
    ) -> Iterator[DenseView]:
        strange = [key for key in options if key not in _OPTIONS]
        if strange:
            raise ConfigError(
                explain(
                    expected=f"options among {', '.join(_OPTIONS)}",
                    got=repr(strange[0]),
                    where="learner.views",
                    do=did_you_mean(strange[0], _OPTIONS),
                )
            )
        # a wrong option is refused now, not at the first image
        return self._all_views(network, ids, needs, bool(options.get("flip")))

    def _all_views(
        self, network: SegmenterNetwork, ids: Sequence[str], needs: frozenset[str], flip: bool
    ) -> Iterator[DenseView]:
        batches = self._plain_batches(network, ids)
        with worker_errors():
            for batch in batches:
                yield from self._look(network, batch, needs, flip)

    def _plain_batches(self, network: Any, ids: Sequence[str]) -> DataLoader:
        return dense_predict_batches(
            self.dataset,
            ids,
            network=network,
            batch_size=self._forward_size(ids),
            num_workers=self.num_workers,
            cache=self.image_cache,
        )

    def _forward_size(self, ids: Sequence[str]) -> int:
        """Return how many images a forward takes.

        A divisor of ``predict_batch``, at whose multiples ids are cut, that fits in memory or cache.
        """
        is_source = bool(ids) and ids[0].startswith(SOURCE_PREFIX)
        fixed_hw = self.dataset.source_hw if is_source else self.dataset.target_hw
        height, width = fixed_hw or (self.dataset.size_hw(ids[0]) if ids else (1, 1))
        most = max(1, _PIXELS_A_FORWARD[this_device().type] // (height * width))
        return max(n for n in range(1, min(most, self.predict_batch) + 1) if self.predict_batch % n == 0)

    def _look(
        self, network: SegmenterNetwork, loaded: DenseBatch | PackedDenseBatch, needs: frozenset[str], flip: bool
    ) -> Iterator[DenseView]:
        device = this_device()
        with torch.inference_mode():
            batch = loaded.to(device, non_blocking=True)
            images = batch.source_images if batch.target_images is None else batch.target_images
        assert images is not None
        wants_probs = bool(needs & {"dense_probs", "class_probs"})
        features = errors = embeddings = flipped = None
        # Not around the yield: what the caller does with tensors is its own affair.
        with torch.inference_mode(), as_trained(self.settings, device):
            output = network(images)
            if wants_probs and flip:
                flipped = network(images.flip(-1)).logits
            if needs & {"pixel_features", "pixel_error"}:
                features, errors = _branch_maps(network, output.backbone, needs)
            if "image_embedding" in needs:
                embeddings = network.embedding(output.backbone).float().cpu().numpy()
        for row, sample_id in enumerate(batch.sample_ids):
            size_hw, probs = self.dataset.size_hw(sample_id), None
            if wants_probs:
                probs = _probs(output.logits[row], None if flipped is None else flipped[row], images.shape[2:], size_hw)
            yield DenseView(
                sample_id,
                size_hw,
                probs,
                features=None if features is None else features[row],
                extras={} if errors is None else {"error": errors[row]},
                embedding=None if embeddings is None else embeddings[row],
            )


@torch.inference_mode()
def _probs(logits: Tensor, flipped: Tensor | None, input_hw: Sequence[int], size_hw: tuple[int, int]) -> Tensor:
    """Return class probabilities at the image's own size, (C, H, W) float32.

    As RIPU's released code has it: for selection by way of the input's size, with a flipped image (evaluation) straight
    away; corners aligned throughout.

    Args:
        logits: (C, h, w) of the image.
        flipped: (C, h, w) of its flipped image; None: it was not looked at.
        input_hw: size of the network's input.
        size_hw: (H, W).
    """
    if flipped is None:
        return upsample(upsample(logits[None], (input_hw[0], input_hw[1])), size_hw)[0].softmax(0)
    probs = upsample(logits[None], size_hw)[0].softmax(0)
    return probs.add_(upsample(flipped[None], size_hw)[0].softmax(0).flip(-1)).mul_(0.5)


def _branch_maps(
    network: SegmenterNetwork, backbone: Tensor, needs: frozenset[str]
) -> tuple[Tensor | None, Tensor | None]:
    """Return F, (B, D, h, w), and e = |Fhat - F|^2, (B, h, w), float32; None for what is not needed."""
    branch: Any = network.branch  # there is one with an estimator, or the needs would have been refused
    features = branch.reduce(backbone)
    error = reconstruction_error(branch.reconstruct(features), features) if "pixel_error" in needs else None
    return features.float() if "pixel_features" in needs else None, error
