"""An oracle that names one class for a whole segment, as a person with one click does."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from al_lab.core.errors import ConfigError, explain
from al_lab.core.oracle import SimulatedOracle
from al_lab.core.record.purchase import Purchase
from al_lab.core.record.squares import num_clicks
from al_lab.core.types import Query, Region

_VOID = 255


class DominantOracle(SimulatedOracle):
    """One click a segment: all its pixels get the class that most of its labeled pixels have.

    As in Adaptive Superpixel (Kim et al., ICCV 2023), whose labels this simulates. A segment all of whose pixels are
    void is void. Of equally many the class of the lower number wins. How wrong the answers are is in the account:
    ``dominant`` in oracle_stats.json has the labeled pixels of the bought segments and how many of them have another
    class than they were given, and by class how many were ``lost`` (have the class and were given another) and
    ``invented`` (the other way round).

    What is bought by single pixels, squares or images is answered as `SimulatedOracle` answers it.
    """

    only_segments = True

    def _reveal_pixels(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        regions = [q.region for q in purchase.queries if q.region is not None]
        if not regions:
            return super()._reveal_pixels(dataset, purchase)
        if any(region.segments is None for region in regions):
            raise ConfigError(
                explain(
                    expected="segments, of which each gets one class",
                    got=f"a purchase by {purchase.allowance.unit}",
                    where="oracle=dominant",
                    do="set budget.unit=segment, or use oracle=simulated",
                )
            )
        facts: dict[str, Any] = {}
        revealed = self._dominant(dataset, purchase, facts)
        return self.deliver_pixels(dataset, purchase, revealed, clicks=num_clicks(purchase), facts=facts)

    def _dominant(
        self, dataset: Any, purchase: Purchase, facts: dict[str, Any]
    ) -> Iterator[tuple[Query, Region, np.ndarray]]:
        """Yield what is answered; ``facts`` is filled when all is."""
        num = len(dataset.classes)
        lost_C, invented_C, seen = np.zeros(num, np.int64), np.zeros(num, np.int64), 0
        for query, region, truth in self._true_pixels(dataset, purchase.queries):
            if query.region is None or region.segments is None:
                yield query, region, truth
                continue
            answer = dominant(truth, region.segments, num)
            known = truth < num
            wrong = known & (answer != truth)
            seen += int(known.sum())
            lost_C += np.bincount(truth[wrong], minlength=num)
            invented_C += np.bincount(answer[wrong], minlength=num)
            yield query, region, answer
        facts["dominant"] = {
            "pixels": seen,
            "wrong": int(lost_C.sum()),
            "lost": lost_C.tolist(),
            "invented": invented_C.tolist(),
        }


def dominant(labels: np.ndarray, segments: np.ndarray, num_classes: int) -> np.ndarray:
    """Return for each pixel the most frequent class of its segment, void left out; (n,) uint8.

    Args:
        labels: (n,) uint8, 255 for void.
        segments: (n,) whole numbers >= 0.
        num_classes: C.
    """
    known = labels < num_classes
    num = int(segments.max()) + 1 if len(segments) else 0
    pairs = segments[known].astype(np.int64) * num_classes + labels[known]
    count_RC = np.bincount(pairs, minlength=num * num_classes).reshape(num, num_classes)
    label_R = np.where(count_RC.any(1), count_RC.argmax(1), _VOID).astype(np.uint8)
    return label_R[segments]
