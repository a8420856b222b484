"""The model evidence head (MEH): what each anchor's class loss will be; where little is expected, evidence is much."""

from torch import Tensor, nn

from al_lab.models.detectors.branches.branch import AnchorLayers, Branch, Maps, Site
from al_lab.models.detectors.head import HeadOutput

_LEAST = 1e-9  # released code


class EvidenceBranch(Branch):
    """Predicts the class loss of each anchor, ``extra["loss_hat"]`` (B, P, 1) float32, at least 1e-9.

    Park et al., "Active Learning for Object Detection with Evidential Deep Learning and Hierarchical Uncertainty
    Aggregation", ICLR 2023. RetinaNet's has four 3x3 convolutions with ReLU and one more; SSD's one 3x3 convolution a
    level. Then ReLU (UNSPECIFIED for SSD). It reads the maps and changes nothing behind them, and its learning rate
    never drops, as in the released code.

    With it a head of C yes/no questions (RetinaNet) is one choice among the C classes, without background: its
    probabilities are to be the mean of a Dirichlet distribution. The class layers' biases begin equal, which a softmax
    does not see; the released code draws them from U(-.025, .025).

    Args:
        site: of the network.
    """

    trained_by = "evidential"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.activation = "softmax_fg" if site.activation == "sigmoid" else site.activation
        self.layers = AnchorLayers(site, 1)

    def forward(self, head: HeadOutput, maps: Maps) -> HeadOutput:
        """See `Branch.forward`."""
        loss_hat: Tensor = self.layers([level.detach() for level in maps.levels]).float().relu() + _LEAST
        return head._replace(extra={**head.extra, "loss_hat": loss_hat})

    def steady(self) -> list[nn.Parameter]:
        """See `Branch.steady`."""
        return list(self.parameters())
