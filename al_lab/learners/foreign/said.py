"""What a model that is trained elsewhere said of images, whatever it says: boxes, or maps of pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from al_lab.core.errors import DataError, explain
from al_lab.data.formats.layout import walk_files
from al_lab.learners.foreign.asked import Asked

_ARCHIVES = (".zip", ".tar", ".gz", ".rar", ".7z")


class Said(ABC):
    """What files say of images.

    Attributes:
        notes: a sentence for each thing that people should hear of.
    """

    notes: tuple[str, ...] = ()

    @abstractmethod
    def views(self, ids: Sequence[str], needs: Sequence[str]) -> Iterator[Any]:
        """Yield one view an id, in order."""

    @abstractmethod
    def spoken_of(self, sample_id: str) -> bool:
        """Say whether a file speaks of an image."""

    @abstractmethod
    def provides(self) -> tuple[str, ...]:
        """Return what can be asked for, in the words of `Strategy.needs`."""

    @abstractmethod
    def save(self, path: Path, asked: Sequence[str]) -> None:
        """Write it as one file, with the images that were asked about."""

    @abstractmethod
    def counts(self) -> dict[str, float]:
        """Return scalars for the ledger."""

    @abstractmethod
    def same_as(self, other: Said) -> bool:
        """Say whether this is exactly what another file says, and says something at all."""


class Reader(ABC):
    """Reads what a model wrote.

    Args:
        dataset: of the images.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    @abstractmethod
    def read(self, folder: Path, asked: Asked, may_be_empty: bool) -> Said | None:
        """Read a folder, or a file; None: there is nothing yet.

        Args:
            folder: what a model wrote.
            asked: the images it was asked about.
            may_be_empty: a folder without a file means that nothing was found in any image.

        Raises:
            DataError: for whatever is wrong, a sentence a line.
        """

    @abstractmethod
    def nothing(self) -> Said:
        """Return what is said where nothing was asked."""

    @abstractmethod
    def open(self, path: Path) -> tuple[Said, frozenset[str]]:
        """Read what `Said.save` wrote."""


def files_in(place: Path, what: str) -> list[Path]:
    """Return the files of a folder, or the one that ``place`` is; hidden ones are left out.

    Raises:
        DataError: for an archive.
    """
    if not place.is_dir():
        return [place] if place.is_file() else []
    found = sorted(p for p in walk_files(place) if not p.name.startswith("."))
    packed = next((p for p in found if p.suffix.lower() in _ARCHIVES), None)
    if packed is not None:
        raise DataError(explain(expected=what, got="an archive", where=str(packed), do="unpack it there"))
    return found
