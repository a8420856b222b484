"""MI-AOD's second classifier, and its classifier of instances: two heads beside the detector's own."""

from al_lab.models.detectors.branches.branch import AnchorLayers, Branch, Maps, Site
from al_lab.models.detectors.head import HeadOutput


class TwoHeadsBranch(Branch):
    """A second classifier like the network's own, and one that says which anchors stand for the image.

    Yuan et al., "Multiple Instance Active Learning for Object Detection", CVPR 2021, Fig. 3. Says ``extra["logits2"]``
    and ``extra["instances"]``, raw, (B, P, K) each. Detections stay those of the network's own classifier.

    Layers are those of `AnchorLayers`, of their own: RetinaNet's levels share a tower each, SSD's have a layer each.

    Args:
        site: of the network.

    Attributes:
        second: the classifier f2.
        instances: the multiple instance classifier.
    """

    trained_by = "mial"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        is_sigmoid = site.activation == "sigmoid"
        self.second = AnchorLayers(site, site.num_logits, is_rare=is_sigmoid)
        self.instances = AnchorLayers(site, site.num_logits, is_rare=is_sigmoid)

    def forward(self, head: HeadOutput, maps: Maps) -> HeadOutput:
        """See `Branch.forward`."""
        said = {"logits2": self.second(maps.levels), "instances": self.instances(maps.levels)}
        return head._replace(extra={**head.extra, **said})
