"""A project of a Label Studio server: found or made, held against the classes, filled with tasks, read again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import anything, at_least, optional, text
from al_lab.data.formats import label_studio
from al_lab.data.formats.record import Record
from al_lab.labeling.server import Server

log = logging.getLogger(__name__)

DIGEST = "al_lab_sha256"  # a data key of our own: of the image's bytes
LONGEST_TITLE, SHORTEST_TITLE = 50, 3  # Label Studio's own limits
_CONTROL = {"detection": "RectangleLabels"}  # task -> the tag of the interface that people answer with
_count = at_least(0)


@dataclass(frozen=True)
class Task:
    """One task as a list of tasks shows it.

    Attributes:
        id: the server's number.
        digest: of the image, as we gave it.
        is_done: as many people as the project wants have finished it, and at least one of them did not skip it.
        is_skipped: somebody skipped it, and nobody has labeled it.
        is_begun: somebody has labeled it where the project wants more than one (the list does not tell of drafts).
        updated_at: when somebody last did something with it, ISO 8601.
    """

    id: int
    digest: str
    is_done: bool
    is_skipped: bool
    is_begun: bool
    updated_at: str

    @property
    def stamp(self) -> tuple[Any, ...]:
        """What changes with every answer; of a task without any, nothing is true."""
        return self.is_done, self.is_skipped, self.is_begun, self.updated_at if self.is_done else ""


@dataclass(frozen=True)
class Project:
    """A project that fits.

    Attributes:
        server: it is on.
        id: the server's number.
        title: of the project.
        image_key: the key of a task's data under which the interface looks for the image.
        from_name, to_name: what the interface calls its boxes and its image.
    """

    server: Server
    id: int
    title: str
    image_key: str
    from_name: str
    to_name: str

    @property
    def url(self) -> str:
        """Where people find it."""
        return f"{self.server.url}/projects/{self.id}/data"

    def tasks(self) -> list[Task]:
        """Return all tasks that carry our keys, in the order in which people are shown them."""
        rows = self.server.pages("/api/tasks", "tasks", project=self.id, fields="task_only")
        return [task for row in rows if (task := self._task(row)) is not None]

    def _task(self, row: Mapping[str, Any]) -> Task | None:
        entry = Entry(row, self._source, f"task {row.get('id')}")
        digest = entry.entry("data").read(DIGEST, optional(anything), None)
        if not isinstance(digest, str):
            return None  # somebody else's
        answers, skips = (entry.read(k, _count, 0) for k in ("total_annotations", "cancelled_annotations"))
        is_labeled = bool(row.get("is_labeled"))
        return Task(
            entry.read("id", at_least(1)),
            digest,
            is_labeled and answers > 0,
            skips > 0 and answers == 0,
            answers > 0 and not is_labeled,
            entry.read("updated_at", optional(text), None) or "",
        )

    def record(self, task: Task) -> Record:
        """Fetch what people answered in a task.

        Raises:
            DataError: naming task and region.
        """
        row = self.server.get(f"/api/tasks/{task.id}")
        entry = Entry(row, self._source, f"task {task.id}")
        data = dict(entry.read("data", anything))
        # The reader knows the usual names of the image's key; this project may have another.
        row = dict(row) | {"data": data | {"image": data.get(self.image_key) or data.get("image")}}
        return label_studio.read_task(Entry(row, self._source, f"task {task.id}"))

    @property
    def _source(self) -> Source:
        return Source(Path(f"Label Studio's project {self.id} ({self.title})"), "a task", "correct it there")

    def push(self, tasks: Sequence[dict[str, Any]]) -> None:
        """Make tasks of images and predictions, written for `label_studio.labeling_config`'s names."""
        for task in tasks:
            task["data"][self.image_key] = task["data"].pop("image")
            for prediction in task.get("predictions", ()):
                for region in prediction["result"]:
                    region |= {"from_name": self.from_name, "to_name": self.to_name}
        self.server.post(f"/api/projects/{self.id}/import", tasks)

    def serve_files(self, root: Path, folder: str) -> None:
        """Let the server show files of its own disk in this project: a storage of it, unless it has one.

        Args:
            root: the folder that the server serves, as this machine sees it.
            folder: below it, where the images are.

        Raises:
            ConfigError: if it does not want to.
        """
        path = root / folder
        stores = self.server.get("/api/storages/localfiles", project=self.id)
        known = [Path(s["path"]) for s in stores if isinstance(s, dict) and isinstance(s.get("path"), str)]
        if any(path.is_relative_to(k) for k in known):
            return
        body = {"project": self.id, "path": str(path), "title": "al_lab", "use_blob_urls": True}
        try:
            self.server.post("/api/storages/localfiles", body)
        except ValueError as error:  # DataError: its words are the server's
            raise ConfigError(
                f"{error}; add it by hand (the project's Settings, Cloud Storage, Local files) with the path that the "
                "server itself has for these images, or use oracle.images=upload"
            ) from error


def find_project(server: Server, title: str, task: str, classes: Sequence[str]) -> Project | None:
    """Return the project of a title; None if there is none.

    Raises:
        ConfigError: if there are several, or its interface is not for these classes.
    """
    found = [p for p in server.pages("/api/projects", "results", title=title) if p.get("title") == title]
    if not found:
        return None
    if len(found) > 1:
        got, do = f"{len(found)} of them", "rename all but one, or give oracle.project=… another title"
        raise ConfigError(explain(expected=f"one project {title!r}", got=got, where=server.url, do=do))
    return _fitting(server, found[0], task, classes)


def make_project(server: Server, title: str, task: str, classes: Sequence[str]) -> Project:
    """Make a project whose annotators get the first task first, and a skipped one again."""
    body = {
        "title": title,
        "label_config": label_studio.labeling_config(classes),
        "sampling": "Sequential sampling",
        "skip_queue": "REQUEUE_FOR_ME",
        "description": "Made by al_lab. Tasks come in the order in which they are wanted.",
    }
    made = server.post("/api/projects", body)
    log.info("made the project %r on %s", title, server.url)
    return _fitting(server, made, task, classes)


def _fitting(server: Server, found: Mapping[str, Any], task: str, classes: Sequence[str]) -> Project:
    """Hold a project's interface against what will be asked."""
    where = f"project {found.get('title')!r} on {server.url}"
    parsed, tag = found.get("parsed_label_config"), _CONTROL[task]
    controls = [
        (name, c)
        for name, c in (parsed.items() if isinstance(parsed, dict) else ())
        if isinstance(c, dict) and c.get("type") == tag and [i.get("type") for i in c.get("inputs", ())] == ["Image"]
    ]
    wanted = label_studio.labeling_config(classes)
    do = f"give oracle.project=… a new title, or set this project's labeling interface to {' '.join(wanted.split())}"
    if len(controls) != 1:
        got = f"{len(controls)} of them" if controls else "none"
        expected = f"one {tag} over one Image in the labeling interface"
        raise ConfigError(explain(expected=expected, got=got, where=where, do=do))
    name, control = controls[0]
    labels = [str(label) for label in control.get("labels", ())]
    if set(labels) != set(classes):
        lacking, foreign = _named(set(classes) - set(labels)), _named(set(labels) - set(classes))
        got = "; ".join([f"{lacking} missing"] * bool(lacking) + [f"{foreign} besides"] * bool(foreign))
        expected = f"the labels {', '.join(classes)}"
        raise ConfigError(explain(expected=expected, got=got, where=where, do=do))
    to_name = str(control["to_name"][0])
    return Project(server, int(found["id"]), str(found["title"]), str(control["inputs"][0]["value"]), name, to_name)


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
