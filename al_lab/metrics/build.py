"""From the metric names in a dataset's yaml to metrics."""

from collections.abc import Sequence

from al_lab.core.errors import ConfigError
from al_lab.metrics import coco_ap, voc_ap
from al_lab.metrics.result import Metric, unknown_metric


def build_metrics(names: Sequence[str]) -> list[Metric]:
    """Return metrics that compute ``names`` of detection between them; names of one kind share one computation.

    Raises:
        ConfigError: for a name nobody computes.
    """
    for name in names:
        if name not in voc_ap.NAMES + coco_ap.NAMES:
            raise ConfigError(unknown_metric(name, voc_ap.NAMES + coco_ap.NAMES))
    metrics: list[Metric] = []
    kinds = {n: voc_ap.VocAP if n in voc_ap.NAMES else coco_ap.CocoAP for n in names}
    for kind in dict.fromkeys(kinds.values()):
        metrics.append(kind(tuple(n for n in names if kinds[n] is kind)))
    return metrics
