"""Any single-stage anchor detector of mmdet, named by its model dict, as a `AnchorDetector`.

mmdet gives the network and its anchors; matching thresholds, box coder and test settings are read from the same dict,
so that a published config keeps its meaning. Loss, decoding and NMS are ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.models.detectors.branches.branch import Maps, Site
from al_lab.models.detectors.head import HeadOutput, flatten_maps
from al_lab.models.detectors.network import SIZES, AnchorDetector
from al_lab.models.detectors.priors import priors_from_corners
from al_lab.models.detectors.settings import Postprocess, Resize
from al_lab.models.mm.mmdet_build import build_detector, coder_of, inputs_of, matching_of, settings_of
from al_lab.models.mm.registry import plain, take_pretrained
from al_lab.models.recent import Recent
from al_lab.models.smallest import explained, ghost
from al_lab.models.weights import Normalization, load_pretrained

_FC = 4  # layers at the end of SSD's VGG: fc6, ReLU, fc7, ReLU; both are convolutions


class MMDetNetwork(AnchorDetector):
    """An mmdet detector with anchors, box deltas and plain class probabilities.

    Such are SSD, SSDLite, RetinaNet and their relatives.

    Args:
        num_classes: foreground classes; replaces the dict's own number.
        model: mmdet's model dict. ``data_preprocessor`` gives mean, std, channel order and padding,
            ``train_cfg.assigner`` the matching, ``bbox_head.bbox_coder`` the variances, ``test_cfg`` the
            post-processing.
        input_hw: input size; with ``keep_ratio`` the (shorter, longer) side limits.
        resize: ``fixed`` or ``keep_ratio``.
        clip_priors: clamp the anchors' center-size numbers to [0, 1]: the papers' SSD, which mmdet's is not.
        weights: pretrained backbone (or whole detector of mmdet): a file, ``torchvision://name`` or a URL; null starts
            from random. A ``Pretrained`` init_cfg of the backbone means the same.
        embedding_from: the image embedding: ``last`` level, ``mean`` over levels (equal widths), or a level's index;
            each averaged over space.
        postprocess: instead of ``test_cfg``.
        cache_dir: where downloaded weights are kept.
        branches: names of heads beside its own, or names with options, see `AnchorDetector.add_branches`.
        dropout: see `Dropout`; ``where`` is ``fc`` of an SSD on VGG, behind fc6 and fc7, or ``class_tower`` of a
            RetinaNet, behind each of its convolutions.

    Raises:
        ConfigError: if the dict names something that is not such a detector.
    """

    def __init__(
        self,
        num_classes: int,
        model: Mapping[str, Any],
        input_hw: tuple[int, int],
        *,
        resize: Resize = "fixed",
        clip_priors: bool = False,
        weights: str | None = None,
        embedding_from: str | int = "last",
        postprocess: Postprocess | None = None,
        cache_dir: str | None = None,
        branches: Sequence[str] | Mapping[str, Any] = (),
        dropout: Mapping[str, Any] | None = None,
    ) -> None:
        own: dict[str, Any] = plain(model)
        inputs = inputs_of(own)
        weights = weights or take_pretrained(own)
        detector: Any = build_detector(own, num_classes)
        head = detector.bbox_head
        super().__init__(
            num_classes,
            input_hw,
            activation="sigmoid" if head.use_sigmoid_cls else "softmax",
            mean=inputs.mean,
            std=inputs.std,
            resize=resize,
            pad_divisor=inputs.pad_divisor,
            code=coder_of(head),
            matching=matching_of(own.get("train_cfg")),
            postprocess=postprocess or settings_of(own.get("test_cfg")),
        )
        self.detector: Any = detector
        self.clip_priors, self.embedding_from, self._swap = bool(clip_priors), embedding_from, inputs.is_bgr
        self._priors: Recent[Tensor] = Recent(SIZES)
        shapes, widths = self._probe(_padded(self.input_hw, self.pad_divisor))
        self.register_buffer(
            "priors", self._make_priors(shapes, _padded(self.input_hw, self.pad_divisor)), persistent=False
        )
        if weights:
            load_pretrained(detector, weights, cache_dir, Normalization(self.mean, self.std, inputs.is_bgr))
        per_cell = tuple(int(n) for n in head.prior_generator.num_base_priors)
        self.add_branches(
            branches, Site(num_classes, self.num_logits, self.activation, widths, per_cell, tower=_tower(head))
        )
        self._drop(dropout, _places(detector))
        self._tower_maps: list[Tensor] = []
        if _tower(head):
            head.cls_convs[-1].register_forward_hook(self._keep_tower_map)

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict for (B, 3, h, w) normalized RGB images."""
        return self.onward(self.trunk(images), images)

    def trunk(self, images: Tensor) -> Any:
        """Return the neck's maps or, of VGG with dropout, what its layers before fc6 say."""
        inputs = images.flip(1) if self._swap else images
        if len(self.dropouts) and _is_vgg(self.detector):
            return _along_vgg(self.detector.backbone, ((), inputs), 0, -_FC)
        return self._maps(tuple(self.detector.backbone(inputs)))

    def onward(self, trunk: Any, images: Tensor) -> HeadOutput:
        """See `AnchorDetector.onward`."""
        self._tower_maps = []
        if not isinstance(trunk, Maps):
            trunk = self._maps(_along_vgg(self.detector.backbone, trunk, -_FC, None)[0])
        maps: Maps = trunk
        shapes = [tuple(m.shape[-2:]) for m in maps.levels]
        input_hw = (int(images.shape[2]), int(images.shape[3]))
        per_cell = self.detector.bbox_head.prior_generator.num_base_priors
        sizes = tuple(int(n) * h * w for n, (h, w) in zip(per_cell, shapes, strict=True))
        return self.with_branches(maps, tuple(maps.levels), self._priors_for(shapes, input_hw), input_hw, sizes)

    def own_head(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See `AnchorDetector.own_head`."""
        class_maps, box_maps = self.detector.bbox_head(levels)
        return self.class_logits(class_maps), flatten_maps(box_maps, 4)

    def drop_own_head(self) -> None:
        """See `AnchorDetector.drop_own_head`; the anchors stay."""
        head = self.detector.bbox_head
        for name in [name for name, child in head.named_children() if any(True for _ in child.parameters())]:
            delattr(head, name)

    def _maps(self, backbone: tuple[Tensor, ...]) -> Maps:
        """Return the neck's maps, as ``extract_feat`` does, and SSD's as they are before their norm."""
        if not self.detector.with_neck:
            return Maps(backbone)
        levels = tuple(self.detector.neck(backbone))
        is_ssd = hasattr(self.detector.neck, "l2_norm")  # which hands the backbone's maps on, the first one normalized
        return Maps(levels, (*backbone, *levels[len(backbone) :]) if is_ssd else levels)

    def _keep_tower_map(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if torch.is_inference_mode_enabled():  # a training would hold on to its graph
            self._tower_maps.append(output)

    def class_maps(self, head: HeadOutput) -> tuple[Tensor, ...]:
        """See `AnchorDetector.class_maps`: RetinaNet's last maps before the class layer, of the last forward."""
        if not _tower(self.detector.bbox_head):
            return super().class_maps(head)
        assert len(self._tower_maps) == len(head.level_sizes), "class_maps: expected a forward in inference mode before"
        return tuple(maps[: len(head.logits)] for maps in self._tower_maps)  # flipped images lie behind

    def class_logits(self, maps: list[Tensor]) -> Tensor:
        """See `AnchorDetector.class_logits`; mmdet's background is last, ours first."""
        logits = super().class_logits(maps)
        return torch.cat([logits[..., -1:], logits[..., :-1]], dim=-1) if self.activation == "softmax" else logits

    def class_layers(self) -> list[nn.Module]:
        """See `Detector.class_layers`; RetinaNet's levels share one, each of SSD's has its own."""
        head = self.detector.bbox_head
        shared = getattr(head, "retina_cls", None)
        layers = [shared] if shared is not None else [_last(branch) for branch in getattr(head, "cls_convs", ())]
        are_known = layers and all(isinstance(layer, nn.Conv2d) for layer in layers)
        # without background, the class loss is no cross-entropy and no focal loss of these logits
        return layers if are_known and self.activation != "softmax_fg" else super().class_layers()

    def class_modules(self) -> list[nn.Module]:
        """See `AnchorDetector.class_modules`: with the tower before RetinaNet's last layer."""
        head = self.detector.bbox_head
        return [*self.class_layers(), *([head.cls_convs] if hasattr(head, "cls_convs") else [])]

    def embedding_map(self, features: tuple[Tensor, ...]) -> Tensor:
        """See `Detector.embedding_map`; with ``mean`` the middle level."""
        if self.embedding_from == "mean":
            return features[len(features) // 2]
        return features[-1 if self.embedding_from == "last" else int(self.embedding_from)]

    def embedding(self, features: tuple[Tensor, ...]) -> Tensor:
        """Return (B, E) float32: 256 numbers from SSD300's conv11_2, or from the mean over RetinaNet's pyramid."""
        if self.embedding_from == "mean":
            return torch.stack([f.float().mean(dim=(2, 3)) for f in features]).mean(0)
        return super().embedding(features)

    def _priors_for(self, shapes: list[tuple], input_hw: tuple[int, int]) -> Tensor:
        if input_hw == _padded(self.input_hw, self.pad_divisor):
            return self.priors
        device = self.priors.device
        return self._priors.get((input_hw, device), lambda: self._make_priors(shapes, input_hw).to(device))

    def _make_priors(self, shapes: list[tuple], input_hw: tuple[int, int]) -> Tensor:
        corners = torch.cat(self.detector.bbox_head.prior_generator.grid_priors(shapes, device="cpu"))
        priors = priors_from_corners(corners, input_hw)
        return priors.clamp(0, 1) if self.clip_priors else priors

    def _probe(self, input_hw: tuple[int, int]) -> tuple[list[tuple], tuple[int, ...]]:
        """Run shapes only (no numbers) through a copy and check that the head speaks our language.

        Returns:
            (h, w) of each level, and the channels of its map.
        """
        where = f"detector.model.bbox_head ({type(self.detector.bbox_head).__name__})"
        with torch.no_grad():
            shapes, images = ghost(self.detector), torch.empty(1, 3, *input_hw, device="meta")
            with explained(lambda: shapes.extract_feat, images):
                features = shapes.extract_feat(images)
            maps = shapes.bbox_head(features)
        if len(maps) != 2:
            raise ConfigError(
                explain(
                    expected="two outputs a level, class logits and box deltas",
                    got=f"{len(maps)}",
                    where=where,
                    do="its class probabilities pass through another branch (centerness, objectness, quality); "
                    "choose a RetinaNet- or SSD-like head",
                )
            )
        priors = [
            n * s[0] * s[1]
            for n, s in zip(
                self.detector.bbox_head.prior_generator.num_base_priors, (m.shape[-2:] for m in maps[1]), strict=True
            )
        ]
        logits = [m[0].numel() // self.num_logits for m in maps[0]]
        if priors != [m[0].numel() // 4 for m in maps[1]] or priors != logits:
            raise ConfigError(
                explain(
                    expected=f"{self.num_logits} logits and 4 deltas for each of {priors} anchors",
                    got=f"{logits} and {[m[0].numel() // 4 for m in maps[1]]}",
                    where=where,
                    do="choose another head",
                )
            )
        if self.embedding_from == "mean" and len({f.shape[1] for f in features}) > 1:
            raise ConfigError(
                explain(
                    expected="levels of equal width for embedding_from=mean",
                    got=str([f.shape[1] for f in features]),
                    where="detector.embedding_from",
                    do="set it to last or to a level's index",
                )
            )
        if isinstance(self.embedding_from, int) and not -len(features) <= self.embedding_from < len(features):
            raise ConfigError(
                explain(
                    expected=f"a level in 0..{len(features) - 1}",
                    got=str(self.embedding_from),
                    where="detector.embedding_from",
                    do="choose one, or last, or mean",
                )
            )
        return [tuple(m.shape[-2:]) for m in maps[1]], tuple(int(f.shape[1]) for f in features)


def _tower(head: Any) -> int:
    """Return how many layers RetinaNet's levels share before the last one; 0 of SSD, whose levels have their own."""
    return int(head.stacked_convs) if getattr(head, "retina_cls", None) is not None else 0


def _is_vgg(detector: Any) -> bool:
    return type(detector.backbone).__name__ == "SSDVGG"


def _along_vgg(
    backbone: Any, begun: tuple[tuple[Tensor, ...], Tensor], first: int, stop: int | None
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Go on through some layers of SSD's VGG, and return the maps that were handed out so far, and the last one."""
    maps, x = begun
    for number, layer in list(enumerate(backbone.features))[first:stop]:
        x = layer(x)
        maps = (*maps, x) if number in backbone.out_feature_indices else maps
    return maps, x


def _places(detector: Any) -> dict[str, list[tuple[nn.Module, int]]]:
    """Return where an mmdet detector can have dropout, see `MMDetNetwork`."""
    if _is_vgg(detector):
        fc6, relu6, fc7, relu7 = detector.backbone.features[-_FC:]
        return {"fc": [(relu6, fc6.out_channels), (relu7, fc7.out_channels)]}
    tower = list(getattr(detector.bbox_head, "cls_convs", ()))
    if hasattr(detector.bbox_head, "retina_cls") and all(hasattr(conv, "out_channels") for conv in tower):
        return {"class_tower": [(conv, conv.out_channels) for conv in tower]}
    return {}


def _last(branch: nn.Module) -> nn.Module:
    """Return the last layer of a branch."""
    return list(branch.children())[-1] if isinstance(branch, nn.Sequential) else branch


def _padded(hw: tuple[int, int], divisor: int) -> tuple[int, int]:
    return -(-hw[0] // divisor) * divisor, -(-hw[1] // divisor) * divisor
