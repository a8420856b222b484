"""The oracle that is people with Label Studio: it asks a server, and takes back what they finish there."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from al_lab.core.disk import lock_error
from al_lab.core.errors import AwaitingLabels, ConfigError, DataError, LabError, explain
from al_lab.core.fields import one_of, optional, text
from al_lab.core.record.predictions import load_predictions
from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Query
from al_lab.data.formats import label_studio
from al_lab.data.formats.record import Record
from al_lab.labeling.answers import accept_records
from al_lab.labeling.boxes import stop_at_boxes
from al_lab.labeling.delivery import WAYS, Delivery
from al_lab.labeling.people import PeopleOracle, problem_lines, read_taken
from al_lab.labeling.project import (
    DIGEST,
    LONGEST_TITLE,
    SHORTEST_TITLE,
    Project,
    Task,
    find_project,
    make_project,
)
from al_lab.labeling.reader import Answers
from al_lab.labeling.request import Item, prelabels
from al_lab.labeling.server import Server, ServerAwayError, read_url, read_variable
from al_lab.labeling.task import Taken

log = logging.getLogger(__name__)

_LONGEST_WAIT_S = 60.0  # between two questions to a server that does not answer
_SHOWN = 5


class LabelStudioOracle(PeopleOracle):
    """Has people label the queried images in a project of a Label Studio server.

    A task carries the sha256 of its image: what is there already is found again by it, whatever the server calls the
    file, and never made twice. A task counts as answered when as many people have finished it as the project wants. Of
    several annotations the one marked as ground truth counts, else the newest; their times are added. Skipped tasks,
    drafts and predictions are no answers. Nothing is ever deleted there, and only tasks are added.

    Args:
        url: of the server.
        token_env: the environment variable that holds the token of an account there.
        project: title; None: made of the dataset's name. It is made if there is none.
        images: how the server comes by the images: ``upload`` sends them there, ``local_files`` names files of a folder
            that it serves, ``url`` makes addresses of a prefix.
        image_base: with ``local_files`` the folder that the server serves, as this machine sees it; with ``url`` the
            prefix that stands before an image's path below the folder that holds all images of the pool.
        min_confidence, store, wait, poll_seconds: see `PeopleOracle`.
        seconds_per_image, seconds_per_box, seconds_per_pixel, seconds_per_map: see `Oracle`.
    """

    def __init__(
        self,
        url: str = "http://localhost:8080",
        token_env: str = "LABEL_STUDIO_API_KEY",
        project: str | None = None,
        images: str = "upload",
        image_base: str | None = None,
        min_confidence: float = 0.3,
        store: str | None = None,
        wait: bool = True,
        poll_seconds: float = 10.0,
        seconds_per_image: float = 2.0,
        seconds_per_box: float = 7.0,
        seconds_per_pixel: float = 2.0,
        seconds_per_map: float = 5400.0,
    ) -> None:
        super().__init__(
            min_confidence,
            store,
            wait,
            poll_seconds,
            seconds_per_image=seconds_per_image,
            seconds_per_box=seconds_per_box,
            seconds_per_pixel=seconds_per_pixel,
            seconds_per_map=seconds_per_map,
        )
        self.url, self.token_env = read_url(url), read_variable(token_env)
        self.project = optional(text)(project, "oracle.project")
        if self.project is not None and not SHORTEST_TITLE <= len(self.project) <= LONGEST_TITLE:
            expected = f"a title of {SHORTEST_TITLE} to {LONGEST_TITLE} characters"
            got = f"one of {len(self.project)}"
            raise ConfigError(explain(expected=expected, got=got, where="oracle.project", do="give another"))
        self.delivery = Delivery(one_of(*WAYS)(images, "oracle.images"), image_base)
        self._found: Project | None = None
        self._tasks: dict[str, list[Task]] = {}  # digest -> its tasks, as they were seen last
        self._answers: dict[tuple[int, Any], Record] = {}  # (task, stamp) -> what people said
        self._watched: frozenset[str] = frozenset()  # digests of what is asked for
        self._seen: frozenset[Any] = frozenset()
        self._failures = 0  # questions in a row that the server did not answer

    def check(self, dataset: Any) -> None:
        """Find the server, the account, the project (or make it) and the images, before anything is trained.

        Raises:
            ConfigError: for the first that is not as it has to be.
        """
        super().check(dataset)
        try:
            self.delivery.check(self._project(dataset), dataset)
        except ServerAwayError as away:
            do = "start the server, or correct oracle.url"
            expected = "a Label Studio server that answers"
            raise ConfigError(explain(expected=expected, got=f"none ({away})", where=self.url, do=do)) from None

    def reveal(self, dataset: Any, purchase: Purchase) -> tuple[Query, ...]:
        """See `PeopleOracle.reveal`; a server that does not answer is waited for like people.

        Raises:
            AwaitingLabels: as long as labels are missing.
            LabError: without ``oracle.wait``, if the server does not answer.
        """
        try:
            with self._alone(purchase):
                bought = super().reveal(dataset, purchase)
        except AwaitingLabels:
            self._failures = 0
            raise
        except ServerAwayError as away:
            self._failures += 1
            known, asked = len(read_taken(self.task_of(dataset, purchase)).annotations), len(purchase.queries)
            said = f"{self.url} does not answer ({away}); {known} of {asked} images are labeled and kept"
            if not self.wait:
                raise LabError(f"{said}; start the server and run the same command again") from None
            raise AwaitingLabels(f"{said}; asked again in {self._pause_s:.0f} s") from None
        self._failures = 0
        return bought

    def place(self, purchase: Purchase) -> str:
        """See `PeopleOracle.place`."""
        return self._found.url if self._found is not None else self.url

    def collect(self, dataset: Any, purchase: Purchase, items: Sequence[Item], taken: Taken[Any]) -> Answers[Any]:
        """Read what is finished of what this purchase asks for; answers of the store are not looked for again."""
        project = self._project(dataset)
        self._look(project)
        mine = [i for i in items if i.sample_id not in taken.annotations or i.sample_id in taken.seconds]
        self._watched = frozenset(self.digest(dataset, item.sample_id) for item in items)
        self._seen = self._state()
        found: dict[str, tuple[Item, Record]] = {}
        problems, booked = [], set[str]()
        for item in mine:
            digest = self.digest(dataset, item.sample_id)
            done = [t for t in self._tasks.get(digest, ()) if t.is_done]
            if not done:
                continue
            try:
                record = self._record(project, max(done, key=lambda t: (t.updated_at, t.id)))
            except DataError as error:
                problems.append(str(error))
                continue
            # The time of a task counts once, also where two names have the same image.
            found[item.sample_id] = item, replace(record, seconds=0.0) if digest in booked else record
            booked.add(digest)
        answers = accept_records(found.values(), items, dataset.classes)
        answers.problems += problems
        return answers

    def ask(
        self, dataset: Any, purchase: Purchase, items: Sequence[Item], taken: Taken[Any], problems: Sequence[str]
    ) -> str:
        """Make the tasks that are missing, the most wanted first."""
        project = self._project(dataset)
        new: dict[str, tuple[int, Item]] = {}
        for rank, item in enumerate(items, 1):
            digest = self.digest(dataset, item.sample_id)
            if item.sample_id not in taken.annotations and digest not in self._tasks:
                new.setdefault(digest, (rank, item))  # copies of an image are one task
        if new:
            log.info("%d tasks are added to %s", len(new), project.url)
        predictions = load_predictions([purchase.predictions]) if purchase.predictions else None
        todo = list(new.items())
        for start in range(0, len(todo), self.delivery.batch):
            batch = todo[start : start + self.delivery.batch]
            chosen = [item for _, (_, item) in batch]
            records, confidence = prelabels(dataset.classes, chosen, predictions or {}, self.min_confidence)
            tasks = label_studio.tasks(records, dataset.classes, None if predictions is None else confidence)
            for task, (digest, (rank, item)) in zip(tasks, batch, strict=True):
                address = self.delivery.address(project, dataset, item)
                order = {"al_lab_rank": rank, "al_lab_utility": item.query.utility, "al_lab_cycle": purchase.cycle}
                task["data"] |= {"image": address, DIGEST: digest, **order}
            project.push(tasks)
        missing = [i for i in items if i.sample_id not in taken.annotations]
        tasks_there = [t for i in missing for t in self._tasks.get(self.digest(dataset, i.sample_id), ())]
        lines = [f"{len(missing)} of {len(items)} images wait for labels: {project.url}"]
        return "\n".join(lines + self._hints(project, purchase, tasks_there, len(taken.annotations), problems))

    def wait_for_news(self, purchase: Purchase) -> None:
        """Look every ``poll_seconds`` until somebody has answered; return as well when the server comes or goes."""
        time.sleep(self._pause_s)
        while not self._failures and self._found is not None:
            try:
                self._look(self._found)
            except ServerAwayError:
                return  # `reveal` says so
            if self._state() != self._seen:
                return
            time.sleep(self._pause_s)

    @property
    def _pause_s(self) -> float:
        return min(self.poll_seconds * 2**self._failures, max(_LONGEST_WAIT_S, self.poll_seconds))

    def _project(self, dataset: Any) -> Project:
        """Return the project, found or made once."""
        if self._found is None:
            token = os.environ.get(self.token_env, "").strip()
            if not token:
                do = f"export {self.token_env}=… (Account & Settings of {self.url}); it is written nowhere"
                expected = f"a token of Label Studio in the environment variable {self.token_env}"
                raise ConfigError(explain(expected=expected, got="none", where="oracle.token_env", do=do))
            server = Server(self.url, token, self.token_env)
            title = self.project or f"al_lab {dataset.name}"[:LONGEST_TITLE]
            fits = (server, title, dataset.task, dataset.classes)
            self._found = find_project(*fits) or make_project(*fits)
        return self._found

    def _look(self, project: Project) -> None:
        self._tasks = {}
        for task in project.tasks():
            self._tasks.setdefault(task.digest, []).append(task)

    def _state(self) -> frozenset[Any]:
        """Return what tells whether somebody answered; tasks nobody has touched say nothing."""
        tasks = (t for d in self._watched for t in self._tasks.get(d, ()))
        return frozenset((t.id, t.stamp) for t in tasks if any(t.stamp))

    def _record(self, project: Project, task: Task) -> Record:
        key = (task.id, task.stamp)
        if key not in self._answers:
            self._answers[key] = project.record(task)
        return self._answers[key]

    def _hints(
        self, project: Project, purchase: Purchase, tasks: Sequence[Task], kept: int, problems: Sequence[str]
    ) -> list[str]:
        """Say which of the open tasks need a look, and what happens next."""
        lines = []
        begun, skipped = sum(t.is_begun for t in tasks), [t for t in tasks if t.is_skipped]
        if begun:
            lines.append(f"{begun} of them wait for one more person, as the project wants several")
        if skipped:
            shown = ", ".join(f"{project.url}?task={t.id}" for t in skipped[:_SHOWN])
            more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
            lines.append(
                f"{len(skipped)} of them were skipped and are still wanted ({shown}{more}); an image that shows no "
                "object is answered by submitting it without boxes"
            )
        if (stop := stop_at_boxes(purchase)) is not None:
            lines.append(f"label in the order of the tasks; {stop} boxes are enough")
        if kept:
            lines.append(f"{kept} images are labeled and kept; they will not be asked for again")
        if not self.wait:
            lines.append("then run the same command again (oracle.wait=true would go on by itself)")
        return lines + problem_lines(problems)

    @contextlib.contextmanager
    def _alone(self, purchase: Purchase) -> Iterator[None]:
        """Keep other campaigns of this machine from making the same task, or booking the same answer, meanwhile."""
        folder = self.store.folder if self.store is not None else purchase.run_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stream = (folder / ".label_studio.lock").open("a")
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            raise lock_error(error, folder) from error
        with stream:
            yield
