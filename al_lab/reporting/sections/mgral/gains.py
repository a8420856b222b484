"""What the images were worth where MGRAL trained no rows, and what was bought by it."""

import math
from collections.abc import Mapping, Sequence

from al_lab.reporting.document.page import Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.read.lut import LutCycle

_QUERIES = {"top": "the largest gains", "set": "a set in which images alike count less"}


def gains_section(cycles: Sequence[LutCycle], closed: Mapping[int, str]) -> Section:
    """Show how much of all gains each query bought, and whether its images are of one kind.

    Args:
        cycles: the queries that were bought by gains.
        closed: cycle -> why nothing was weighed there.
    """
    section = Section("gains", "Gains without training")
    told = [f"cycle {cycle}: {why}" for cycle, why in closed.items()]
    if cycles:
        last = cycles[-1]
        told += [str(last.facts.get("sentence") or ""), last.sentence("copies"), last.sentence("likeness")]
    section.text = "".join(f" {text[:1].upper()}{text[1:]}." for text in told if text).strip()
    if not cycles:
        return section
    rows: list[list] = []
    for cycle in cycles:
        number = cycle.number("num_zero")
        rows.append(
            [
                cycle.cycle,
                _QUERIES.get(str(cycle.facts.get("query")), ""),
                cycle.batch_size,
                100 * cycle.number("share_of_gains"),
                100 * cycle.number("largest_share_of_gains"),
                int(number) if math.isfinite(number) else None,
                cycle.number("likeness", "nearest"),
                cycle.number("likeness", "random_nearest"),
            ]
        )
    section.tables.append(
        Table(
            "mgral_gains",
            "What was bought by them",
            [
                "cycle",
                "bought",
                "images",
                "share of all gains, %",
                "largest possible, %",
                "images without gain",
                "distance to the nearest other one",
                "in random batches",
            ],
            rows,
            digits=[0, 0, 0, 1, 1, 0, 2, 2],
            note="An image's gain: what its labels, whichever they turn out to be, are expected to change in the class "
            "loss of held-out images by one step of gradient descent of the last class layers. Nothing here says that "
            "gains rank images as labels do: that is measured by strategy.truth.rows.",
        )
    )
    return section
