"""What was left out before anything was bought: counts, and thumbnails with the number that decided."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from al_lab.reporting.document.page import Section, Sheet
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.mosaic import Tile, tiles
from al_lab.reporting.read.run_folder import Choice, Run

_SHOWN = 24  # of a reason
_WORDS = {
    "unreadable": "Unreadable",
    "tiny": "Tiny",
    "dark": "Dark",
    "blurred": "Blurred",
    "near_copies": "Near copies of an image that stays",
}


def left_out_section(run: Run) -> Section:
    """Show which images of the pool are never bought, or were no candidates for the initial set, and why."""
    section = Section("left_out", "Left out")
    found = run.read_object(run.path / "initial" / "left_out.json")
    if found is None:
        return section
    rows = [row for row in found.get("left_out") or () if isinstance(row, dict) and isinstance(row.get("id"), str)]
    looked_at = found.get("images")
    if not rows:
        section.text = f"All {looked_at} images of the pool were looked at, and none was left out."
        return section
    section.text = (
        f"Of {looked_at} images of the pool these were left out before anything was bought. Where a reason begins is "
        "said with each image and set by budget.limits; a complete list is initial/left_out.json."
    )
    for for_good, when in ((True, "never bought"), (False, "not in the initial set")):
        mine = [row for row in rows if bool(row.get("for_good")) == for_good]
        for reason, count in Counter(str(row.get("reason")) for row in mine).most_common():
            of = [row for row in mine if str(row.get("reason")) == reason]
            name = f"left_out_{reason}" if for_good else f"left_out_at_first_{reason}"
            shown = _tiles(run, of)
            section.sheets.append(Sheet(name, f"{_WORDS.get(reason, reason)}: {when}", shown, count, for_good, True))
    counts = Counter((str(row.get("reason")), bool(row.get("for_good"))) for row in rows)
    table = [[reason, "never" if good else "not first", n] for (reason, good), n in sorted(counts.items())]
    section.tables.append(Table("left_out", "Images left out", ["reason", "bought", "images"], table, digits=0))
    return section


def _tiles(run: Run, rows: Sequence[dict[str, Any]]) -> list[Tile]:
    """Draw some of the rows, evenly spread, each with what decided."""
    some = [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SHOWN)).round().astype(int))]
    drawn = []
    for row in some:
        choice = Choice(row["id"], None, run.image(row.get("image")), np.zeros((0, 4)), ())
        (tile,) = tiles([choice], {})
        drawn.append(Tile(choice, tile.picture, tile.problem, str(row.get("what"))))
    return drawn
