"""A folder of files that people handed in: whose image each one speaks of, and what was said twice."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from al_lab.core.errors import DataError, explain
from al_lab.core.fields import shown
from al_lab.data.formats.layout import uploaded_name
from al_lab.labeling.request import Item

L = TypeVar("L")

# Label Studio puts eight hex digits and a dash before the name of every file that was uploaded.
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_NAMES_SHOWN = 5
_ARCHIVES = (".zip", ".tar", ".gz", ".rar", ".7z")


@dataclass
class Answers(Generic[L]):
    """Everything found in a folder.

    Attributes:
        annotations: sample id -> what was handed in for it.
        sources: sample id -> the file it came from.
        seconds: sample id -> what a person spent on it, where the tool knew.
        problems: a sentence for each thing that could not be taken over.
        notes: a sentence for each thing that was worked around.
    """

    annotations: dict[str, L] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class FolderReader(ABC, Generic[L]):
    """Knows what was asked for, and reads one file after the other.

    Attributes:
        what: the files it takes, in words.
        when_empty: what to do if an image that looks unfinished shows nothing.
    """

    what: str
    when_empty: str

    def __init__(self, folder: Path, items: Sequence[Item]) -> None:
        self.folder = folder
        self.items = items
        self.by_name = {name: item for item in reversed(items) for name in item.known_as}
        self.by_id = {item.sample_id: item for item in items}
        self.answers: Answers[L] = Answers()
        self.twice: dict[str, list[str]] = {}
        self.not_done: dict[Path, list[str]] = {}

    def read_all(self) -> Answers[L]:
        """Read every file below the folder; exports bring folders along."""
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file() and not is_hidden(self.folder, p)):
            try:
                if path.suffix.lower() in _ARCHIVES:
                    raise DataError(explain(expected=self.what, got="an archive", where=str(path), do="unpack it here"))
                self.read(path)
            except DataError as error:
                self.answers.problems.append(str(error))
        return self.finish()

    @abstractmethod
    def read(self, path: Path) -> None:
        """Take over what a file answers.

        Raises:
            DataError: if the file as a whole can't be taken over.
        """

    @abstractmethod
    def record(self, kind: str, path: Path, item: Item, record: Any) -> None:
        """Take over what a file of a format says of one image.

        Raises:
            DataError: if it makes no sense.
        """

    @abstractmethod
    def join(self, before: L, new: L) -> L | None:
        """Return two answers about an image as one; None if they differ."""

    def item(self, name: str) -> Item | None:
        """Find the image that a file name or path speaks of, also under the name that an upload made of it."""
        base = PurePosixPath(name.replace("\\", "/")).name
        for candidate in (base, _UPLOAD_PREFIX.sub("", base)):
            for stem in (candidate, candidate.rpartition(".")[0]):
                for known in (stem, uploaded_name(stem)):
                    if known and known in self.by_name:
                        return self.by_name[known]
        return None

    def one(self, kind: str, path: Path, item: Item | None, record: Any) -> None:
        """Take over a file about one image.

        Raises:
            DataError: if nobody asked for this image.
        """
        if item is None:
            raise not_asked_for(path, record.file_name)
        self.record(kind, path, item, record)

    def many(self, kind: str, path: Path, records: Iterable[Any]) -> None:
        """Take over a file about many images, of which some may not have been asked for here.

        Raises:
            DataError: if none was.
        """
        found = [(r, self.by_id.get(r.key or "") or self.item(r.file_name)) for r in records]
        if all(item is None for _, item in found):
            first = shown(found[0][0].file_name) if found else "no image at all"
            raise DataError(
                explain(
                    expected="images of list.csv",
                    got=f"none of them, but {first}",
                    where=str(path),
                    do="keep the images' file names when you import them into the tool",
                )
            )
        strangers = sum(item is None for _, item in found)
        if strangers:  # the export of a whole project also holds the cycles before
            self.answers.notes.append(f"{path}: {strangers} images that were not asked for here are left out")
        for record, item in found:
            if item is None:
                continue
            try:
                self.record(kind, path, item, record)
            except DataError as error:
                self.answers.problems.append(str(error))

    def take(self, item: Item, label: L, path: Path, seconds: float | None = None) -> None:
        """Keep an answer; two different ones for an image are none."""
        before = self.answers.annotations.get(item.sample_id)
        joined = label if before is None else self.join(before, label)
        if joined is None:
            self.twice.setdefault(item.sample_id, [self.answers.sources[item.sample_id]]).append(str(path))
            return
        self.answers.annotations[item.sample_id] = joined
        self.answers.sources[item.sample_id] = str(path)
        if seconds is not None:
            self.answers.seconds[item.sample_id] = seconds

    def unfinished(self, path: Path, item: Item) -> None:
        """Remember that a file shows nothing of an image."""
        self.not_done.setdefault(path, []).append(item.file_name)

    def finish(self) -> Answers[L]:
        """Take back what was answered in two different ways; say which images look empty and count as open."""
        for path, names in self.not_done.items():
            open_names = [n for n in names if self.item(n).sample_id not in self.answers.annotations]  # type: ignore[union-attr]
            if open_names:
                more = f" and {len(open_names) - _NAMES_SHOWN} more" if len(open_names) > _NAMES_SHOWN else ""
                self.answers.notes.append(
                    f"{path}: {len(open_names)} images have nothing labeled there and count as not labeled yet "
                    f"({', '.join(open_names[:_NAMES_SHOWN])}{more}){self.when_empty}"
                )
        for sample_id, paths in self.twice.items():
            del self.answers.annotations[sample_id], self.answers.sources[sample_id]
            self.answers.seconds.pop(sample_id, None)
            name = self.by_id[sample_id].file_name
            self.answers.problems.append(
                explain(
                    expected="one answer an image",
                    got=f"different ones in {' and '.join(paths)}",
                    where=name,
                    do="remove the one that is wrong",
                )
            )
        return self.answers


def is_hidden(folder: Path, path: Path) -> bool:
    """Say whether a file below a folder is one that systems leave behind."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)


def check_size(item: Item, size_hw: tuple[int, int], where: str) -> None:
    """Refuse labels that were drawn on an image of another size.

    Raises:
        DataError: naming both sizes.
    """
    if size_hw == item.size_hw:
        return
    turned = " (turned by a quarter)" if size_hw == item.size_hw[::-1] else ""
    raise DataError(
        explain(
            expected=f"labels of {item.file_name}, height x width {item.size_hw[0]} x {item.size_hw[1]}",
            got=f"{size_hw[0]} x {size_hw[1]}{turned}",
            where=where,
            do="label the image of the images/ folder as it is, neither resized nor rotated",
        )
    )


def not_asked_for(path: Path, name: str) -> DataError:
    """Return the error of an answer about an image that is not in the list."""
    return DataError(
        explain(
            expected="a file named like one of the images of list.csv",
            got=repr(name),
            where=str(path),
            do="rename it, or remove it: nobody asked for this image",
        )
    )
