"""Boxes of people, for detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from al_lab.core.documents import Entry
from al_lab.core.fields import flag, not_negative, optional
from al_lab.core.oracle import Oracle
from al_lab.core.record.labels import annotation_of
from al_lab.core.record.purchase import Purchase
from al_lab.core.record.seal import seal
from al_lab.core.types import Annotation, Query
from al_lab.labeling.reader import Answers
from al_lab.labeling.store import StoredLabel
from al_lab.labeling.task import LabelTask, Taken


def stop_at_boxes(purchase: Purchase) -> int | None:
    """Return how many boxes are enough, with a budget of boxes."""
    return purchase.allowance.amount if purchase.allowance.unit == "box" else None


class BoxTask(LabelTask[Annotation]):
    """All objects of whole images."""

    def known(self, stored: StoredLabel, query: Query) -> Annotation | None:
        """See `LabelTask.known`."""
        found: Annotation | None = stored.seen_by(self.dataset.classes)
        return found

    def add_known(self, taken: Taken[Annotation], sample_id: str, label: Annotation) -> None:
        """See `LabelTask.add_known`."""
        taken.annotations[sample_id] = label

    def add(self, taken: Taken[Annotation], sample_id: str, label: Annotation, seconds: float | None) -> None:
        """See `LabelTask.add`: a correction replaces what was there."""
        taken.annotations[sample_id] = taken.said[sample_id] = label
        taken.seconds[sample_id] = seconds

    def is_answered(self, query: Query, taken: Taken[Annotation]) -> bool:
        """See `LabelTask.is_answered`."""
        return query.sample_id in taken.annotations

    def wanted(self, taken: Taken[Annotation]) -> tuple[Query, ...]:
        """See `LabelTask.wanted`: with a budget of boxes those up to where it ends."""
        queries, stop = self.purchase.queries, stop_at_boxes(self.purchase)
        if stop is None:
            return queries
        boxes = 0
        for count, query in enumerate(queries, 1):
            if query.sample_id not in taken.annotations:
                return queries
            boxes += len(taken.annotations[query.sample_id].labels)
            if boxes >= stop:
                return queries[:count]
        return queries

    def to_row(self, taken: Taken[Annotation], sample_id: str) -> dict[str, Any]:
        """See `LabelTask.to_row`."""
        row = seal({"id": sample_id, "annotation": taken.annotations[sample_id].to_json()})
        is_asked = sample_id in taken.seconds
        return row | ({"asked": True, "seconds": taken.seconds[sample_id]} if is_asked else {"asked": False})

    def add_row(self, taken: Taken[Annotation], sample_id: str, row: Entry) -> None:
        """See `LabelTask.add_row`; rows without ``asked`` are of a version that knew no store: all were asked for."""
        label, seconds = annotation_of(sample_id, row), row.read("seconds", optional(not_negative), None)
        if row.read("asked", flag, True):
            self.add(taken, sample_id, label, seconds)
        else:
            self.add_known(taken, sample_id, label)

    def deliver(self, oracle: Oracle, queries: Sequence[Query], taken: Taken[Annotation]) -> tuple[Query, ...]:
        """See `LabelTask.deliver`."""
        purchase = replace(self.purchase, queries=tuple(queries))
        return oracle.deliver(self.dataset, purchase, taken.annotations, taken.seconds)

    def summary(self, answers: Answers[Annotation]) -> str | None:
        """See `LabelTask.summary`."""
        empty = sum(len(a.labels) == 0 for a in answers.annotations.values())
        return f"{empty} images are said to show no object" if empty else None
