"""How well each class is detected, a running mean over a training that travels with the weights (PPAL)."""

from typing import Literal

import torch
from torch import Tensor

from al_lab.models.detectors.branches.branch import Branch, Maps, Site
from al_lab.models.detectors.head import HeadOutput

Decay = Literal["intended", "released"]
MOMENTUM = 0.99  # m_0; PPAL Sec. 3.2


class ClassQualityBranch(Branch):
    """Two numbers of each class and no layer: it says nothing of an image, an objective updates it.

    PPAL (Yang et al., CVPR 2024, Eq. 2-3): with qbar_c the mean quality of this step's boxes of class c,

        Q_c <- m_c Q_c + (1 - m_c) qbar_c;   then m_c <- m_0 where c was there, else m_0 m_c

    Args:
        site: of the network.

    Attributes:
        quality: Q, (C,), from 0.
        momentum: m, (C,), from m_0.
    """

    quality: Tensor
    momentum: Tensor

    trained_by = "class_quality"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.register_buffer("quality", torch.zeros(site.num_classes))
        self.register_buffer("momentum", torch.full((site.num_classes,), MOMENTUM))

    def forward(self, head: HeadOutput, maps: Maps) -> HeadOutput:
        """See `Branch.forward`: nothing is said."""
        return head

    @torch.no_grad()
    def update(self, mean_C: Tensor, decay: Decay, momentum: float = MOMENTUM) -> None:
        """Take in a step.

        Args:
            mean_C: qbar, 0 of classes that no box was of.
            decay: ``intended``: Q of such a class stays; ``released``: it decays, qbar = 0 is taken for a mean.
            momentum: m_0.
        """
        is_there_C = mean_C > 0
        moved_C = self.momentum * self.quality + (1 - self.momentum) * mean_C
        self.quality.copy_(moved_C if decay == "released" else torch.where(is_there_C, moved_C, self.quality))
        self.momentum.copy_(torch.where(is_there_C, momentum, momentum * self.momentum))
