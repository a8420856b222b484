"""What one kind of label needs of people who are asked: how it is known, kept with a run, and when it is complete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from al_lab.core.documents import Entry
from al_lab.core.oracle import Oracle
from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Query
from al_lab.labeling.reader import Answers, L
from al_lab.labeling.store import StoredLabel


@dataclass
class Taken(Generic[L]):
    """What is answered of one purchase so far.

    Attributes:
        annotations: sample id -> all that is known of it; of single pixels some may still be open.
        seconds: sample ids that somebody was asked for in this purchase -> the time it took, None where nobody knows;
            the other annotations were there before.
        said: of those sample ids, what of the annotation was answered in this purchase.
    """

    annotations: dict[str, L] = field(default_factory=dict)
    seconds: dict[str, float | None] = field(default_factory=dict)
    said: dict[str, L] = field(default_factory=dict)


class LabelTask(ABC, Generic[L]):
    """One purchase of one kind of label.

    Attributes:
        dataset: of the images.
        purchase: what was ordered.
        queries: by sample id, in rank order.
    """

    def __init__(self, dataset: Any, purchase: Purchase) -> None:
        self.dataset, self.purchase = dataset, purchase
        self.queries: Mapping[str, Query] = {q.sample_id: q for q in purchase.queries}

    @abstractmethod
    def known(self, stored: StoredLabel, query: Query) -> L | None:
        """Return what the label store knows of a query; None if nothing of use."""

    @abstractmethod
    def add_known(self, taken: Taken[L], sample_id: str, label: L) -> None:
        """Add what the label store knows of an image."""

    @abstractmethod
    def add(self, taken: Taken[L], sample_id: str, label: L, seconds: float | None) -> None:
        """Add an answer of people."""

    @abstractmethod
    def is_answered(self, query: Query, taken: Taken[L]) -> bool:
        """Say whether nothing of a query is open."""

    def wanted(self, taken: Taken[L]) -> tuple[Query, ...]:
        """Return the queries whose labels are needed, by default all."""
        del taken
        return self.purchase.queries

    @abstractmethod
    def to_row(self, taken: Taken[L], sample_id: str) -> dict[str, Any]:
        """Return a line of ``accepted.jsonl``."""

    @abstractmethod
    def add_row(self, taken: Taken[L], sample_id: str, row: Entry) -> None:
        """Add what `to_row` returned.

        Raises:
            LabError: of the row's kind, naming the field that makes no sense.
        """

    @abstractmethod
    def deliver(self, oracle: Oracle, queries: Sequence[Query], taken: Taken[L]) -> tuple[Query, ...]:
        """Write labels and cost into the run folder; return what was bought."""

    def known_words(self, found: Mapping[str, L]) -> str:
        """Say how much of the purchase the label store knows."""
        return f"{len(found)} of {len(self.purchase.queries)} images were labeled before"

    @abstractmethod
    def summary(self, answers: Answers[L]) -> str | None:
        """Say of answers what people should hear about; None if nothing."""
