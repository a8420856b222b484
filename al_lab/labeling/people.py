"""What all oracles that are people have in common: who was asked, what was answered, what is kept for other runs."""

import json
import logging
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.core.documents import Source
from al_lab.core.errors import AwaitingLabels, ConfigError, ResumeError, explain
from al_lab.core.fields import flag, fraction, positive, text
from al_lab.core.files import sha256, write_text
from al_lab.core.oracle import Oracle
from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Query
from al_lab.labeling.boxes import BoxTask
from al_lab.labeling.reader import Answers
from al_lab.labeling.request import Item, make_items
from al_lab.labeling.store import LabelStore, says_the_same, stored_labels
from al_lab.labeling.task import LabelTask, Taken

log = logging.getLogger(__name__)

_PROBLEMS_SHOWN = 10


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
    tasks: tuple[str, ...] = ("detection",)  # of whose labels people can be asked

    def __init__(
        self, min_confidence: float, store: str | None, wait: bool, poll_seconds: float, **rates: float
    ) -> None:
        super().__init__(**rates)
        self.min_confidence = fraction(min_confidence, "oracle.min_confidence", "try 0.3")
        self.wait = flag(wait, "oracle.wait")
        self.poll_seconds = positive(poll_seconds, "oracle.poll_seconds")
        self.store = LabelStore(Path(store).expanduser()) if store else None
        self._digests: dict[str, str] = {}
        self._stored: dict[str, Any] = {}  # what this process knows to be in the store

    def check(self, dataset: Any) -> None:
        """See `Oracle.check`.

        Raises:
            ConfigError: for a dataset whose labels nobody can be asked for.
            LabError: if the store can't be written.
        """
        if dataset.task not in self.tasks:
            expected, do = f"a dataset for {' or '.join(self.tasks)}", "use oracle=folder, or oracle=simulated"
            raise ConfigError(explain(expected=expected, got=f"one for {dataset.task}", where="oracle", do=do))
        if self.store is not None:
            self.store.check()

    def reveal(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        """Take over what is answered; deliver if it is all, else ask for the rest.

        Raises:
            AwaitingLabels: as long as labels are missing.
        """
        task = self.task_of(dataset, purchase)
        items = make_items(dataset, purchase.queries)
        taken = read_taken(task)
        self._take_from_store(task, taken)
        answers = self.collect(dataset, purchase, items, taken)
        for sample_id, label in answers.annotations.items():
            task.add(taken, sample_id, label, answers.seconds.get(sample_id))
        self._keep(task, taken, answers)
        wanted = task.wanted(taken)
        if all(task.is_answered(q, taken) for q in wanted):
            log.info("%s: all labels are there", self.place(purchase))
            return task.deliver(self, wanted, taken)
        raise AwaitingLabels(self.ask(dataset, purchase, items, taken, answers.problems))

    def task_of(self, dataset: Any, purchase: Purchase) -> LabelTask[Any]:
        """Return what is asked: boxes, unless an oracle knows more."""
        return BoxTask(dataset, purchase)

    @abstractmethod
    def place(self, purchase: Purchase) -> str:
        """Say where people find what they are asked for."""

    @abstractmethod
    def collect(self, dataset: Any, purchase: Purchase, items: Sequence[Item], taken: Taken[Any]) -> Answers[Any]:
        """Return what people have answered; also what was taken before, as it may be corrected until all is there."""

    @abstractmethod
    def ask(
        self, dataset: Any, purchase: Purchase, items: Sequence[Item], taken: Taken[Any], problems: Sequence[str]
    ) -> str:
        """Ask for what is not taken yet, or bring the request up to date; return what the user is told."""

    def digest(self, dataset: Any, sample_id: str) -> str:
        """Return the sha256 of an image's bytes."""
        if sample_id not in self._digests:
            self._digests[sample_id] = sha256(dataset.image_path(sample_id))
        return self._digests[sample_id]

    def _take_from_store(self, task: LabelTask[Any], taken: Taken[Any]) -> None:
        """Take what people labeled before, for any run, of what this purchase still lacks."""
        lacking = [q for q in task.purchase.queries if not task.is_answered(q, taken)]
        if self.store is None or not lacking:
            return
        stored = stored_labels(self.store, task.dataset, [q.sample_id for q in lacking])
        found = {
            q.sample_id: label
            for q in lacking
            if q.sample_id in stored and (label := task.known(stored[q.sample_id], q)) is not None
        }
        for sample_id, label in found.items():
            task.add_known(taken, sample_id, label)
        if found:
            log.info("%s (%s): nobody is asked for that again", task.known_words(found), self.store.folder)

    def _keep(self, task: LabelTask[Any], taken: Taken[Any], answers: Answers[Any]) -> None:
        """Write what is taken into the run's folder, then into the store.

        A kill between the two must not make an answer look as if it had been there before.
        """
        if taken.annotations:
            rows = [task.to_row(taken, i) for i in task.queries if i in taken.annotations]
            write_text(_accepted_path(task.purchase), "".join(f"{json.dumps(row)}\n" for row in rows))
        for sample_id, label in taken.said.items() if self.store is not None else ():
            if sample_id in self._stored and says_the_same(self._stored[sample_id], label):
                continue
            self._store(task, sample_id, label, taken, answers)
        if said := task.summary(answers):
            log.info("%s: %s", self.place(task.purchase), said)
        for note in answers.notes:
            log.warning("%s", note)
        for problem in answers.problems:
            log.warning("not taken over: %s", problem)

    def _store(
        self, task: LabelTask[Any], sample_id: str, label: Any, taken: Taken[Any], answers: Answers[Any]
    ) -> None:
        assert self.store is not None
        self.store.for_task(task.dataset.task).add(
            self.digest(task.dataset, sample_id),
            task.dataset.classes,
            label,
            taken.seconds[sample_id],
            answers.sources.get(sample_id, self.place(task.purchase)),
            task.queries[sample_id].region is None,
        )
        self._stored[sample_id] = label


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


def read_taken(task: LabelTask[Any]) -> Taken[Any]:
    """Read what earlier calls took over, in the order of the queries.

    Raises:
        ResumeError: if somebody changed the file into something else.
    """
    path = _accepted_path(task.purchase)
    taken: Taken[Any] = Taken()
    if path.is_file():
        do = f"restore the file, or remove it: what still lies where people answered is read again ({path.name})"
        rows = Source(path, "one annotated image a line", do, ResumeError).read_rows()
        by_id = {row.read("id", text): row for row in rows}
        for sample_id in (i for i in task.queries if i in by_id):
            task.add_row(taken, sample_id, by_id[sample_id])
    return taken
