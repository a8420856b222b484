"""What papers report on a run's dataset, quoted beside its own numbers.

Methods that are not built here appear in its tables too.
"""

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from al_lab.reporting.document.page import Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.judge.curves import mean_and_error
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.sections.results import last_values, metric_label


@cache
def published_rows() -> tuple[dict[str, str], ...]:
    """Return the rows of ``published.csv``: dataset, method, network, labels, metric, percent, table, command."""
    text = (files("al_lab.reporting.sections") / "published.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def published_section(lines: Sequence[Series]) -> Section:
    """Show the published numbers on the lines' dataset.

    Each comes with the command that runs the method here, after the lines' own last points.
    """
    section = Section("published", "Published numbers")
    first = lines[0].runs[0]
    rows = [row for row in published_rows() if row["dataset"] == first.dataset]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        own = [
            [s.label, "", "", 100 * mean_and_error(last_values(s, metric))[0], "this page", ""]
            for s in lines
            if metric in s.runs[0].metric_names and last_values(s, metric)
        ]
        quoted = [
            [
                row["method"],
                row["network"],
                row["labels"],
                float(row["percent"]),
                row["table"],
                f"python run.py {row['command']}" if row["command"] else "not built",
            ]
            for row in rows
            if row["metric"] == metric
        ]
        section.tables.append(
            Table(
                f"published_{metric}",
                f"{metric_label(metric)}, %",
                ["method", "network", "labels", "percent", "from", "here"],
                [*own, *quoted],
            )
        )
    if section.tables:
        section.text = (
            "Quoted from Density Matters (Liu et al., AAAI 2024), not run here: other code and hardware, one run "
            "each. The last column "
            "is the command of the same row."
        )
    return section
