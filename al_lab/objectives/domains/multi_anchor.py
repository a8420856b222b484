"""MADA's second stage: target images are drawn softly to anchors, and learn from their own predictions."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, distributed

from al_lab.acquisition.domains.anchors import anchors as k_means
from al_lab.acquisition.domains.anchors import class_centroids
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, below_one, check_fields, fraction, not_negative
from al_lab.core.rng import Rng
from al_lab.models.segmenters.segmenter import SegmenterNetwork, SegmenterOutput, upsample
from al_lab.objectives.adapt import CROSS_ENTROPIES, Adaptation, Seen
from al_lab.objectives.adaptation import cross_entropy
from al_lab.objectives.reduce import global_positives

_SMALLEST = 1e-12  # of a distance: an image that is an anchor has no gradient


def harmonic_distance(vectors_BG: Tensor, anchors_KG: Tensor) -> tuple[Tensor, Tensor]:
    """Return K / sum_k 1 / mse_k of each image, (B,), and its nearest anchor, (B,) int64.

    Args:
        vectors_BG: g of B images.
        anchors_KG: at most K of them are there; rows that are not finite are none.
    """
    there = anchors_KG.isfinite().all(1)
    known = torch.where(there[:, None], anchors_KG, 0.0)
    mse_BK = torch.stack([(vectors_BG - anchor).square().mean(1) for anchor in known], 1)
    inverse = torch.where(there, 1 / mse_BK.clamp(min=_SMALLEST), 0.0)
    return there.sum() / inverse.sum(1), inverse.argmax(1)


@torch.no_grad()
def followed(anchors_KG: Tensor, vectors_BG: Tensor, nearest_B: Tensor, m: float) -> Tensor:
    """Return the anchors after A <- m A + (1 - m) g of each image's nearest, one image after the other."""
    moved = anchors_KG.clone()
    for g, k in zip(vectors_BG, nearest_B, strict=True):
        row = torch.arange(len(moved), device=moved.device)[:, None] == k
        moved = torch.where(row, m * moved + (1 - m) * g, moved)
    return moved


class MultiAnchor(Adaptation):
    """What `Adaptation` minimizes, pseudo-labels of all target pixels, and a soft distance to anchors of the target.

    Ning et al., "Multi-Anchor Active Domain Adaptation for Semantic Segmentation" (MADA), ICCV 2021, stage 2; facts
    from the released code (github.com/munanning/MADA). Before the first step all target images are looked at with the
    model that the training begins with (stage 1's): A_1..A_K = k-means of their g (`class_centroids`, own predictions).

        L = L_adaptation + pseudo CE(x_t, argmax P(x_t)) + anchors K / sum_k (1 / mse(g(x_t), A_k))
        A_k <- m A_k + (1 - m) g(x_t)                         of the nearest k, after each step

    | symbol | argument | default | where |
    |---|---|---|---|
    | weight of pseudo-labels, no threshold | pseudo | 1 | released code |
    | weight of the distance | anchors | 0.7 | released code |
    | K, least pixels of a class | num_anchors, min_pixels | 10, 10 | released code |
    | iterations of k-means | iterations | 20 | released code |
    | m | ema | 0.999 | released code |
    | part of the target's places for bought images | bought_ratio | 0.5 | released code: a batch of its own, as large |

    Deviations: features are the network's branch F, not a decoder's, as in `Mada`; bought images, too, have
    pseudo-labels and a distance; the released pooling of g, which only changes gradients, is a plain mean.

    Args:
        pseudo, anchors: weights, >= 0.
        num_anchors, min_pixels, iterations, ema, bought_ratio: see above.
        adaptation: arguments of `Adaptation`; None: stage 1's, cross-entropies and the branch's classifier.

    Raises:
        ConfigError: for a value out of range, or (with a network) without a branch.
    """

    target_terms: ClassVar[tuple[str, ...]] = (*Adaptation.target_terms, "pseudo", "anchors")
    target_anchors: Tensor

    def __init__(
        self,
        pseudo: float = 1.0,
        anchors: float = 0.7,
        num_anchors: int = 10,
        min_pixels: int = 10,
        iterations: int = 20,
        ema: float = 0.999,
        bought_ratio: float = 0.5,
        adaptation: Mapping[str, Any] | None = None,
    ) -> None:
        stage_1 = {**CROSS_ENTROPIES, "aux": 1.0, "stop_gradient_step": 0, "source_balance": False}
        super().__init__(**cast(dict[str, Any], stage_1 | dict(adaptation or {})))
        kinds: dict[str, Any] = {
            **dict.fromkeys(("pseudo", "anchors"), not_negative),
            **dict.fromkeys(("num_anchors", "min_pixels", "iterations"), at_least(1)),
            "ema": below_one,
            "bought_ratio": fraction,
        }
        check_fields(locals(), kinds, "objective")
        self.weights |= {"pseudo": float(pseudo), "anchors": float(anchors)}
        self.num_anchors, self.min_pixels, self.iterations = int(num_anchors), int(min_pixels), int(iterations)
        self.ema, self.bought_ratio = float(ema), float(bought_ratio)
        self.register_buffer("target_anchors", torch.empty(0))

    @property
    def uses_unlabeled(self) -> bool:
        """Every target image has pseudo-labels and a distance."""
        return True

    def attach(self, network: SegmenterNetwork) -> None:
        """Make room for the anchors; learners call this before a checkpoint is read."""
        super().attach(network)
        if network.branch is None:
            raise ConfigError(
                explain(
                    expected="a network with features of pixels",
                    got="segmenter.branch=null",
                    where="objective, MultiAnchor",
                    do="set 'segmenter.branch={dim: 256, estimator: none}'",
                )
            )
        length = network.num_classes * network.branch.reduce.out_channels
        self.target_anchors = torch.full((self.num_anchors, length), torch.nan)

    @property
    def wants_survey(self) -> bool:
        """Whether all target images are to be looked at before the next step."""
        return self.weights["anchors"] > 0 and not bool(self.target_anchors.isfinite().any())

    @torch.no_grad()
    def survey(self, network: SegmenterNetwork, batches: Iterable[Any], rng: Rng) -> None:
        """Set the anchors from all target images, in batches of the network's device."""
        rows = [self.vectors(network, network(batch.target_images)).float().cpu().numpy() for batch in batches]
        found = torch.from_numpy(k_means(np.concatenate(rows), self.num_anchors, self.iterations, rng))
        self.target_anchors[: len(found)] = found.to(self.target_anchors)

    def vectors(self, network: SegmenterNetwork, output: SegmenterOutput) -> Tensor:
        """Return g of B images, (B, C D), with a gradient through features alone."""
        branch: Any = network.branch
        features = branch.reduce(output.backbone)
        label = upsample(output.logits.detach(), features.shape[2:]).argmax(1)
        pairs = zip(features.flatten(2), label.flatten(1), strict=True)
        return torch.stack([class_centroids(f, y, network.num_classes, self.min_pixels) for f, y in pairs])

    def more_terms(self, network: SegmenterNetwork, source: Seen | None, target: Seen | None) -> dict[str, Tensor]:
        """Return the losses of pseudo-labels and of the anchors, which are moved: it is called once a step."""
        if target is None:
            return {}
        terms = {}
        if self.weights["pseudo"]:
            logits = target.output.logits
            terms["pseudo"] = cross_entropy(logits, logits.detach().argmax(1))
        if self.weights["anchors"]:
            g = self.vectors(network, target.output)
            distance, nearest = harmonic_distance(g, self.target_anchors)
            terms["anchors"] = distance.sum() / global_positives(torch.full((), len(g), device=g.device))
            with torch.no_grad():
                self.target_anchors.copy_(followed(self.target_anchors, *_of_all(g, nearest), self.ema))
        return terms


def _of_all(g: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Return both of all devices' images, in the order of the devices."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return g, nearest
    parts = []
    for own in (g.detach(), nearest):
        gathered = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(gathered, own.contiguous())
        parts.append(torch.cat(gathered))
    return parts[0], parts[1]
