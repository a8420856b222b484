"""Single-stage detectors with anchors: one flat set of anchors, whole class distributions, one image embedding."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.core.types import Detections
from al_lab.models.detectors.boxes import BoxCoder, Matching
from al_lab.models.detectors.branches.branch import Branch, Maps, Site
from al_lab.models.detectors.branches.registry import build_branches
from al_lab.models.detectors.detector import Detector
from al_lab.models.detectors.flip_anchors import AnchorPairs, corresponding_anchors
from al_lab.models.detectors.head import HeadOutput, flatten_maps
from al_lab.models.detectors.looks.dropout import Dropout, Places, place
from al_lab.models.detectors.postprocess import decode_batch
from al_lab.models.detectors.settings import Activation, Postprocess, Resize
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.recent import Recent

#: Input sizes of which anchors and their partners are kept: batches padded to multiples of 32 have some hundred.
SIZES = 32


class AnchorDetector(Detector):
    """A single-stage detector with anchors, whose loss is an objective's.

    A subclass calls `add_branches` last, and its forward ends with `with_branches`; its own layers are ``class_heads``
    and ``box_heads``, a convolution a level, or whatever its `own_head` asks.

    Attributes:
        provides: see `Detector`; an object's has the words of its branches and its dropout besides.
        provides_with: setting -> value -> what it adds to ``provides``; a plain literal.
        code: the box coder.
        matching: how anchors are matched with ground truth in training.
        branches: heads beside the detector's own, by name; empty: none.
        dropouts: what ``dropout`` put behind its layers; empty without.
    """

    provides: tuple[str, ...] = (
        "detections",
        "class_probs",
        "flip_probs",
        "image_embedding",
        "box_embedding",
        "anchors",
        "pre_suppression_count",
        "prior_mixture",
        "box_features",
    )
    provides_with: ClassVar[dict[str, dict[Any, tuple[str, ...]]]] = {
        "branches": {
            "class_quality": ("class_difficulty",),
            "evidence": ("box_evidence",),
            "learning_loss": ("predicted_loss",),
            "two_heads": ("head_disagreement",),
            "mixture": ("box_mixture",),
        },
        "dropout": {"p": ("box_mutual_information",)},
    }
    priors: Tensor
    class_heads: nn.ModuleList
    box_heads: nn.ModuleList

    def __init__(
        self,
        num_classes: int,
        input_hw: tuple[int, int],
        *,
        activation: Activation = "softmax",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        resize: Resize = "fixed",
        pad_divisor: int = 1,
        code: BoxCoder | None = None,
        matching: Matching | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            input_hw,
            activation=activation,
            mean=mean,
            std=std,
            resize=resize,
            pad_divisor=pad_divisor,
            postprocess=postprocess,
        )
        self.code = code or BoxCoder()
        self.matching = matching or Matching()
        self.branches = nn.ModuleDict()
        self.dropouts = nn.ModuleList()
        self._flip_anchors: Recent[AnchorPairs] = Recent(SIZES)

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict for (B, 3, h, w) normalized images."""
        raise NotImplementedError

    def trunk(self, images: Tensor) -> Any:
        """Return what a forward computes before the first dropout, which passes share; by default nothing but images.

        A network that says more goes on from there in `onward`, and nothing may change what it said.
        """
        return images

    def onward(self, trunk: Any, images: Tensor) -> HeadOutput:
        """Predict for the images of which this is the `trunk`."""
        predicted: HeadOutput = self(images)
        return predicted

    def add_branches(self, wanted: Sequence[str] | Mapping[str, Any], site: Site) -> None:
        """Build heads beside the detector's own and say what the network provides.

        They are built last, so that the other initial weights do not depend on them.

        Args:
            wanted: their names, or names with options.
            site: what they have to know of the network.

        Raises:
            ConfigError: for a name that there is none of, or an option it has not.
        """
        self.branches = build_branches(wanted, site)
        for branch in map(self.branch, self.branches):
            self.activation = branch.activation or self.activation
        if not self.has_own_head:
            self.drop_own_head()
        words = (word for name in self.branches for word in self.provides_with["branches"].get(name, ()))
        self.provides = (*type(self).provides, *words)

    @property
    def has_own_head(self) -> bool:
        """Whether logits and deltas are its own layers', not a branch's."""
        return not any(self.branch(name).replaces for name in self.branches)

    def own_head(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits and deltas of the network's own layers: a convolution a level, if a subclass has no others."""
        classes, boxes = (
            [layer(level) for layer, level in zip(layers, levels, strict=True)]
            for layers in (self.class_heads, self.box_heads)
        )
        return self.class_logits(classes), flatten_maps(boxes, 4)

    def drop_own_head(self) -> None:
        """Leave out the network's own layers, whose place a branch takes."""
        self.class_heads, self.box_heads = nn.ModuleList(), nn.ModuleList()

    def class_layers(self) -> list[nn.Module]:
        """See `Detector.class_layers`."""
        return list(getattr(self, "class_heads", ())) or super().class_layers()

    def class_modules(self) -> list[nn.Module]:
        """Return all modules that nothing but the class logits depends on; by default `class_layers`."""
        return self.class_layers()

    def branch(self, name: str) -> Branch:
        """Return a branch.

        Raises:
            ConfigError: if the network has none of this name.
        """
        if name not in self.branches:
            raise ConfigError(
                explain(
                    expected=f"a detector with the branch {name}",
                    got=f"branches {', '.join(self.branches)}" if len(self.branches) else "one without branches",
                    where="detector.branches",
                    do=f"set detector.branches=[{name}]",
                )
            )
        found = self.branches[name]
        assert isinstance(found, Branch)
        return found

    def steady_parameters(self) -> list[nn.Parameter]:
        """Return the parameters whose learning rate neither warms up nor drops, see `Branch.steady`."""
        branches = (self.branch(name) for name in self.branches)
        return [p for branch in branches for p in branch.steady()]

    def with_branches(
        self,
        maps: Maps,
        features: tuple[Tensor, ...],
        priors: Tensor,
        input_hw: tuple[int, int],
        level_sizes: tuple[int, ...],
    ) -> HeadOutput:
        """Return what the own layers say with what the branches say besides (``extra``) or instead.

        Args:
            maps: what the layers look at.
            features: see `HeadOutput`, as for the others.
            priors: (P, 4).
            input_hw: of the images.
            level_sizes: sum to P.
        """
        nothing = maps.levels[0].new_zeros(0)
        logits, deltas = self.own_head(maps.levels) if self.has_own_head else (nothing, nothing)
        head = HeadOutput(logits, deltas, features, priors, input_hw, level_sizes)
        for branch in self.branches.values():
            head = branch(head, maps)
        return head

    @contextmanager
    def knowing_padding(self, images: Tensor, valid_hw: Tensor) -> Iterator[None]:
        """Let branches know which part of each input is image, while the network looks at a batch.

        Args:
            images: (B, 3, h, w).
            valid_hw: (B, 2), the part of each input that is image.
        """
        branches = [self.branch(name) for name in self.branches] if self.resize != "fixed" else []
        if branches:
            valid = (valid_hw / torch.tensor(images.shape[2:], device=valid_hw.device)).to(images.device)
            for branch in branches:
                branch.valid = valid
        try:
            yield
        finally:
            for branch in branches:
                branch.valid = None

    def class_maps(self, head: HeadOutput) -> tuple[Tensor, ...]:
        """Return the map of each level that classes are told by, (B, E, h, w); by default what the heads see."""
        return head.features[-len(head.level_sizes) :]

    def look(self, images: Tensor, valid_hw: Tensor) -> HeadOutput:
        """See `Detector.look`."""
        with self.knowing_padding(images, valid_hw):
            seen: HeadOutput = self(images)
        return seen.in_full()

    def look_flipped(self, images: Tensor, valid_hw: Tensor) -> tuple[HeadOutput, HeadOutput]:
        """See `Detector.look_flipped`; one forward for both."""
        whole = torch.tensor(images.shape[2:]).expand_as(valid_hw)  # of the flipped ones no branch is asked
        with self.knowing_padding(images, torch.cat([valid_hw, whole.to(valid_hw)])):
            seen, flipped = together(self, images, images.flip(-1))
        return seen.in_full(), flipped.in_full()

    def flip_width(self, seen: HeadOutput, size_hw: tuple[int, int], valid_hw: tuple[int, int]) -> float:
        """See `Detector.flip_width`.

        A padded input is flipped with its padding, so the axis of symmetry is the input's, not the image's.
        """
        return size_hw[1] * seen.input_hw[1] / float(valid_hw[1])

    def detections(
        self,
        seen: HeadOutput,
        sizes_hw: Sequence[tuple[int, int]],
        valid_hw: Tensor,
        settings: Postprocess | None = None,
    ) -> list[Detections]:
        """See `Detector.detections`."""
        return decode_batch(seen, self, sizes_hw, settings, valid_hw)

    def _drop(self, dropout: Dropout | Mapping[str, Any] | None, places: Places) -> None:
        """Put dropout behind the layers of one of the network's places, and say so in ``provides``."""
        self.dropouts = place(dropout, places, type(self).__name__)
        if self.dropouts:
            self.provides = (
                *self.provides,
                *(word for words in self.provides_with["dropout"].values() for word in words),
            )

    def class_logits(self, maps: list[Tensor]) -> Tensor:
        """Return (B, P, K) logits from the maps (B, A K, H, W) that the class layers gave, level by level."""
        return flatten_maps(maps, self.num_logits)

    def flip_anchors(self, head: HeadOutput) -> AnchorPairs:
        """Return how the anchors of a prediction correspond to those of the flipped image.

        Found once an input size, as long as it is one of the last `SIZES`.
        """
        key = (head.input_hw, head.level_sizes, head.logits.device)
        return self._flip_anchors.get(key, lambda: corresponding_anchors(head, self.code))

    def probs(self, logits: Tensor) -> Tensor:
        """Return the class distribution of each anchor, in float32."""
        logits = logits.float()
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1)


def together(network: AnchorDetector, *views: Tensor) -> list[HeadOutput]:
    """Predict for several versions of a batch in one forward, and take the result apart again."""
    head: HeadOutput = network(torch.cat(views))
    return head.parts(len(views))
