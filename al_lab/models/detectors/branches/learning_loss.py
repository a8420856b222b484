"""The loss prediction module of LL4AL: what an image's loss will be, from the detector's feature maps."""

from typing import Literal

import torch
from torch import Tensor, nn

from al_lab.core.fields import at_least, one_of
from al_lab.models.detectors.branches.branch import Branch, Maps, Site, means_of_images
from al_lab.models.detectors.head import HeadOutput


class LearningLossBranch(Branch):
    """Predicts a number of each image, ``extra["predicted_loss"]`` (B, 1) float32; larger: more loss.

    Yoo & Kweon, "Learning Loss for Active Learning", CVPR 2019, Sec. 3.2 and Fig. 2b. For maps F_1..F_T:

        g_t = mean of F_t over the image;   u_t = ReLU(W_t g_t + b_t) in R^128;   l = w . [u_1 .. u_T] + b

    What pads an input is no part of its image, in training neither.

    Args:
        site: of the network.
        tap: ``raw``: SSD's conv4_3 before its L2Norm, as the re-implementations on VOC tap it; ``neck``: behind it, as
            the head sees it. The same where the neck has no such norm.
        width: of each u_t.

    Attributes:
        is_detached: what it learns does not change the network; an objective sets it at every step.
    """

    trained_by = "learning_loss"

    def __init__(self, site: Site, tap: Literal["raw", "neck"] = "raw", width: int = 128) -> None:
        super().__init__(site)
        self.tap = one_of("raw", "neck")(tap, "detector.branches.learning_loss.tap")
        at_least(1)(width, "detector.branches.learning_loss.width")
        self.parts = nn.ModuleList(nn.Linear(channels, width) for channels in site.widths)
        self.last = nn.Linear(width * len(site.widths), 1)
        self.is_detached = False

    def forward(self, head: HeadOutput, maps: Maps) -> HeadOutput:
        """See `Branch.forward`."""
        taps = list(maps.unscaled if self.tap == "raw" and maps.unscaled else maps.levels)
        predicted = self.predict([t.detach() for t in taps] if self.is_detached else taps)
        return head._replace(extra={**head.extra, "predicted_loss": predicted})

    def predict(self, taps: list[Tensor]) -> Tensor:
        """Return (B, 1) for maps (B, E_t, h_t, w_t).

        In float32 whatever the network computes in: the eight bits of bfloat16 would make most images of a pool equal.
        """
        with torch.autocast(taps[0].device.type, enabled=False):
            means = [means_of_images(tap.float(), self.valid) for tap in taps]
            parts = [layer(mean).relu() for layer, mean in zip(self.parts, means, strict=True)]
            predicted: Tensor = self.last(torch.cat(parts, dim=1))
        return predicted
