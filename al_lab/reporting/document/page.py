"""A page is a list of sections.

This file turns it into one self-contained HTML file and, if asked, into figure and table files.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from al_lab import __version__
from al_lab.core.fields import shown
from al_lab.core.files import write_text
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.mosaic import Tile, save_sheet
from al_lab.reporting.figures.theme import save_figure, to_svg

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A figure with its file name, what it shows in words, and what to read from it."""

    name: str
    figure: Figure
    alt: str
    caption: str = ""
    is_wide: bool = False  # a row of its own

    @cached_property
    def svg(self) -> Markup:
        """The figure inline; matplotlib escapes its own text."""
        return Markup(to_svg(self.figure, self.name, self.alt))  # noqa: S704


@dataclass(frozen=True)
class Sheet:
    """A row of thumbnails."""

    name: str
    title: str
    tiles: Sequence[Tile]
    total: int
    is_open: bool = True
    is_wide: bool = False  # pictures twice as wide, captions of several lines


@dataclass
class Section:
    """One heading with what belongs to it; ``missing`` says what isn't shown, why, and which command would make it."""

    key: str
    title: str
    text: str = ""
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    files: list[Table] = field(default_factory=list)  # exported, not shown
    sheets: list[Sheet] = field(default_factory=list)
    legend: dict[str, str] = field(default_factory=dict)
    blocks: list[tuple[str, str]] = field(default_factory=list)  # (title, preformatted text), folded
    missing: list[tuple[str, str]] = field(default_factory=list)  # (sentence, command)
    commands: list[tuple[str, str]] = field(default_factory=list)  # (what it does, command)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show, not even a reason."""
        return not (
            self.text or self.pictures or self.tables or self.sheets or self.blocks or self.missing or self.commands
        )


def part(note: Callable[[str], None], what: str, make: Callable[[], T], instead: T) -> T:
    """Return a part of a page; one that a run's odd contents keep from being made becomes a note, and the page goes on.

    Args:
        note: takes the sentence.
        what: the part, for the sentence.
        make: makes it.
        instead: what stands in its place.
    """
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - whatever a file of somebody else's holds, the rest of the page is shown
        log.debug("%s can't be made", what, exc_info=True)
        note(
            f"{what} is left out, for the run's files hold something odd ({type(error).__name__}: {shown(str(error))})."
        )
        return instead


def sections_of(
    note: Callable[[str], None], makers: Sequence[tuple[str, Callable[[], "Section | Sequence[Section]"]]]
) -> list["Section"]:
    """Make the sections of a page, each a `part` of its own."""
    none: Section | Sequence[Section] = ()
    made = [part(note, f"The section {title!r}", make, none) for title, make in makers]
    return [section for item in made for section in ([item] if isinstance(item, Section) else item)]


@dataclass(frozen=True)
class Headline:
    """One of the big numbers at the top."""

    value: str
    label: str
    detail: str = ""


@dataclass
class Page:
    """Everything a report shows."""

    title: str
    subtitle: str
    status: str
    is_done: bool
    verdict: str = ""
    numbers: list[Headline] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def html(self) -> str:
        """Render the page; everything that comes from a run is escaped."""
        for section in self.sections:
            section.pictures = [p for p in section.pictures if self._is_drawn(p)]
        shown = [section for section in self.sections if not section.is_empty]
        return (
            _environment()
            .get_template("page.html.j2")
            .render(
                page=self,
                sections=shown,
                version=__version__,
                written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            )
        )

    def _is_drawn(self, picture: Picture) -> bool:
        return bool(part(self.notes.append, f"The figure {picture.name!r}", lambda: picture.svg, Markup("")))

    def write(self, *paths: Path) -> None:
        """Write the page, to several places if asked."""
        text = self.html()
        for path in paths:
            write_text(path, text)

    def export(self, folder: Path) -> list[Path]:
        """Write every figure as PNG and PDF below ``figures/`` and every table as CSV and LaTeX below ``tables/``."""
        paths: list[Path] = []
        for section in self.sections:
            for picture in section.pictures:
                none: list[Path] = []
                drawn = part(
                    self.notes.append,
                    f"The figure {picture.name!r}",
                    partial(save_figure, picture.figure, folder / "figures", picture.name),
                    none,
                )
                paths += drawn
            for sheet in section.sheets:
                paths += save_sheet(sheet.tiles, folder / "figures", sheet.name)
            for table in [*section.tables, *section.files]:
                paths += table.save(folder / "tables")
        return paths


def slug(text: str) -> str:
    """Return a file-name- and id-safe form of a label."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") or "x"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
