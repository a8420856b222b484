"""What all oracles that are people have in common: who was asked, what was answered, what is kept for other runs."""

import json
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from al_lab.core.documents import Source
from al_lab.core.errors import AwaitingLabels, ConfigError, ResumeError, explain
from al_lab.core.fields import flag, fraction, not_negative, optional, positive, text
from al_lab.core.files import sha256, write_text
from al_lab.core.oracle import Oracle
from al_lab.core.record.labels import read_annotations
from al_lab.core.record.purchase import Purchase
from al_lab.core.record.seal import seal
from al_lab.core.types import Annotation, Query
from al_lab.labeling.answers import Answers
from al_lab.labeling.request import Item, make_items
from al_lab.labeling.store import LabelStore, stored_labels

log = logging.getLogger(__name__)

_PROBLEMS_SHOWN = 10


@dataclass
class Taken:
    """What is answered of one purchase so far.

    Attributes:
        annotations: sample id -> its objects.
        seconds: sample ids that somebody was asked for in this purchase -> the time it took, None where nobody knows;
            the other annotations were there before.
    """

    annotations: dict[str, Annotation] = field(default_factory=dict)
    seconds: dict[str, float | None] = field(default_factory=dict)


class PeopleOracle(Oracle):
    """Has people label the queried images; what they answered is never asked for again.

    Args:
        min_confidence: of the model's detections that are offered as pre-labels.
        store: folder of what people labeled (see `LabelStore`); None: this run asks for everything itself.
        wait: keep the command running until the labels are there, instead of ending it.
        poll_seconds: how often a waiting command looks.
        rates: see `Oracle`.
    """

    needs_truth = False
    wants_predictions = True

    def __init__(
        self, min_confidence: float, store: str | None, wait: bool, poll_seconds: float, **rates: float
    ) -> None:
        super().__init__(**rates)
        self.min_confidence = fraction(min_confidence, "oracle.min_confidence", "try 0.3")
        self.wait = flag(wait, "oracle.wait")
        self.poll_seconds = positive(poll_seconds, "oracle.poll_seconds")
        self.store = LabelStore(Path(store).expanduser()) if store else None
        self._digests: dict[str, str] = {}
        self._stored: dict[str, Annotation] = {}  # what this process knows to be in the store

    def check(self, dataset: Any) -> None:
        """See `Oracle.check`.

        Raises:
            ConfigError: for a dataset whose labels nobody can be asked for.
            LabError: if the store can't be written.
        """
        if dataset.task != "detection":
            do = "use oracle=simulated, or a detection dataset"
            raise ConfigError(explain(expected="boxes", got=f"a {dataset.task} dataset", where="oracle", do=do))
        if self.store is not None:
            self.store.check()

    def reveal(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        """Take over what is answered; deliver if it is all, else ask for the rest.

        Raises:
            AwaitingLabels: as long as labels are missing.
            ConfigError: for pixels, which nobody can be asked for.
        """
        if dataset.task != "detection" or any(q.region is not None for q in purchase.queries):
            raise ConfigError(
                explain(
                    expected="whole images of a detection dataset",
                    got=f"{dataset.task}, budget.unit={purchase.allowance.unit}",
                    where="oracle",
                    do="use oracle=simulated, or budget.unit=image with a detector",
                )
            )
        items = make_items(dataset, purchase.queries)
        taken = read_taken(purchase)
        self._take_from_store(dataset, purchase, taken)
        answers = self.collect(dataset, purchase, items, taken)
        taken.annotations |= answers.annotations
        taken.seconds |= {i: answers.seconds.get(i) for i in answers.annotations}
        self._keep(dataset, purchase, taken, answers)
        wanted = _wanted(purchase, taken.annotations)
        if all(q.sample_id in taken.annotations for q in wanted):
            log.info("%s: all labels are there", self.place(purchase))
            return self.deliver(dataset, replace(purchase, queries=wanted), taken.annotations, taken.seconds)
        raise AwaitingLabels(self.ask(dataset, purchase, items, taken, answers.problems))

    @abstractmethod
    def place(self, purchase: Purchase) -> str:
        """Say where people find what they are asked for."""

    @abstractmethod
    def collect(self, dataset: Any, purchase: Purchase, items: Sequence[Item], taken: Taken) -> Answers:
        """Return what people have answered; also what was taken before, as it may be corrected until all is there."""

    @abstractmethod
    def ask(
        self, dataset: Any, purchase: Purchase, items: Sequence[Item], taken: Taken, problems: Sequence[str]
    ) -> str:
        """Ask for what is not taken yet, or bring the request up to date; return what the user is told."""

    def digest(self, dataset: Any, sample_id: str) -> str:
        """Return the sha256 of an image's bytes."""
        if sample_id not in self._digests:
            self._digests[sample_id] = sha256(dataset.image_path(sample_id))
        return self._digests[sample_id]

    def _take_from_store(self, dataset: Any, purchase: Purchase, taken: Taken) -> None:
        """Take what people labeled before, for any run, of images this purchase still lacks."""
        lacking = [q.sample_id for q in purchase.queries if q.sample_id not in taken.annotations]
        if self.store is None or not lacking:
            return
        found = {
            i: label for i, stored in stored_labels(self.store, dataset, lacking).items()
            if (label := stored.seen_by(dataset.classes)) is not None
        }  # fmt: skip
        if found:
            log.info(
                "%d of %d images were labeled before (%s): nobody is asked for them again",
                len(found), len(purchase.queries), self.store.folder,
            )  # fmt: skip
        taken.annotations |= found

    def _keep(self, dataset: Any, purchase: Purchase, taken: Taken, answers: Answers) -> None:
        """Write what is taken into the run's folder, then into the store.

        A kill between the two must not make an answer look as if it had been there before.
        """
        if taken.annotations:
            rows = (
                seal({"id": i, "annotation": a.to_json()})
                | ({"asked": True, "seconds": taken.seconds[i]} if i in taken.seconds else {"asked": False})
                for i, a in taken.annotations.items()
            )
            write_text(_accepted_path(purchase), "".join(f"{json.dumps(row)}\n" for row in rows))
        for sample_id, seconds in taken.seconds.items():
            annotation = taken.annotations[sample_id]
            before = self._stored.get(sample_id)
            if self.store is None or (before is not None and before.to_json() == annotation.to_json()):
                continue
            origin = answers.sources.get(sample_id, self.place(purchase))
            self.store.add(self.digest(dataset, sample_id), dataset.classes, annotation, seconds, origin)
            self._stored[sample_id] = annotation
        empty = sum(len(a.labels) == 0 for a in answers.annotations.values())
        if empty:
            log.info("%s: %d images are said to show no object", self.place(purchase), empty)
        for note in answers.notes:
            log.warning("%s", note)
        for problem in answers.problems:
            log.warning("not taken over: %s", problem)


def stop_at_boxes(purchase: Purchase) -> int | None:
    """Return how many boxes are enough, with a budget of boxes."""
    return purchase.allowance.amount if purchase.allowance.unit == "box" else None


def problem_lines(problems: Sequence[str], rest: str = "") -> list[str]:
    """Return what the user is told of answers that could not be taken over.

    Args:
        problems: a sentence each.
        rest: where those stand that are not shown.
    """
    if not problems:
        return []
    more = rest if len(problems) > _PROBLEMS_SHOWN else ""
    return [
        f"{len(problems)} could not be taken over{more}:",
        *(f"  - {problem}" for problem in problems[:_PROBLEMS_SHOWN]),
    ]


def _accepted_path(purchase: Purchase) -> Path:
    return purchase.folder / "accepted.jsonl"


def read_taken(purchase: Purchase) -> Taken:
    """Read what earlier calls took over, in the order of the queries.

    Raises:
        ResumeError: if somebody changed the file into something else.
    """
    path = _accepted_path(purchase)
    if not path.is_file():
        return Taken()
    do = f"restore the file, or remove it: what still lies where people answered is read again ({path.name})"
    stored = read_annotations(path, do=do)
    kind = optional(not_negative)
    rows = Source(path, "labels that were taken over", do, ResumeError).read_rows()
    # Rows without the field are of a version that knew no store: all were asked for.
    seconds = {r.read("id", text): r.read("seconds", kind, None) for r in rows if r.read("asked", flag, True)}
    ids = [q.sample_id for q in purchase.queries if q.sample_id in stored]
    return Taken({i: stored[i] for i in ids}, {i: seconds[i] for i in ids if i in seconds})


def _wanted(purchase: Purchase, accepted: Mapping[str, Annotation]) -> tuple[Query, ...]:
    """Return the queries whose labels are needed: all, or with a budget of boxes those up to where it ends."""
    if purchase.allowance.unit != "box":
        return purchase.queries
    boxes = 0
    for count, query in enumerate(purchase.queries, 1):
        if query.sample_id not in accepted:
            return purchase.queries
        boxes += len(accepted[query.sample_id].labels)
        if boxes >= purchase.allowance.amount:
            return purchase.queries[:count]
    return purchase.queries
