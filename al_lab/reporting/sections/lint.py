"""What can be said of a selection without a training: sentences, and every number beside random selections."""

from collections.abc import Mapping, Sequence

from al_lab.core.pool import INITIAL
from al_lab.data.lint.lint import Lint
from al_lab.data.lint.reference import Measure
from al_lab.data.lint.words import alarms, sentences
from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.lint import among_random
from al_lab.reporting.read.purchase_lint import lint_of, prints_of, why_not
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.run import spread

_MOST_ROWS = 30  # classes that are shown; all are exported
_COPIES_SHOWN = 500
_MOST_CYCLES = 12
_SHOWN = ("boxes", "classes", "side", "mmd")  # of each purchase


def lint_section(lint: Lint, strategy: str, name: str = "lint") -> Section:
    """Return the section of one selection.

    Args:
        lint: of it.
        strategy: for the color.
        name: prefix of the names of its files.
    """
    section = Section("lint", "Judged without a training")
    loud = alarms(lint)
    section.missing = [(sentence, "") for sentence in [*loud, *lint.notes]]
    section.text = how(lint)
    told = [[sentence] for sentence in sentences(lint) if sentence not in loud]
    section.tables.append(Table(f"{name}_sentences", "What stands out", [""], told))
    everything = [*lint.measures, *lint.cost]
    if everything:
        alt = "where the selection lies among random ones, for each number of the table"
        section.pictures.append(Picture(name, among_random(everything, strategy), alt, is_wide=True))
        section.tables.append(_numbers(everything, name))
    if lint.classes:
        table = class_table(lint, f"{name}_classes")
        (section.tables if len(lint.classes) <= _MOST_ROWS else section.files).append(table)
    if lint.copies.found:
        lines = [f"{c.sample_id}  is nearly {c.like}{' (labeled)' if c.is_labeled else ''}: {c.what}"
                 for c in lint.copies.found[:_COPIES_SHOWN]]  # fmt: skip
        section.blocks.append((f"{len(lint.copies.found)} near copies among the chosen", "\n".join(lines)))
    return section


def purchases_section(run: Run) -> Section:
    """Return the section of a campaign's purchases: a line each, and the last one in full; nothing for segmentation."""
    section = Section("lint", "Judged without a training")
    cycles = [c for c in run.purchases if c != INITIAL]
    if run.config.get("segmenter") or not cycles:
        return section
    reason = why_not(run)
    if reason:
        section.text = reason
        return section
    prints = prints_of(run)
    found = {c: judged for c in spread(cycles, _MOST_CYCLES) if (judged := lint_of(run, c, prints)) is not None}
    if not found:
        return section
    last = max(found)
    section = lint_section(found[last], run.strategy)
    section.text += f" In full: what was bought after cycle {last}."
    section.tables.insert(0, _by_cycle(found))
    return section


def _by_cycle(found: Mapping[int, Lint]) -> Table:
    """Return a line a purchase: each number with random selections' mean behind it."""
    keys = {m.key: m for lint in found.values() for m in (*lint.measures, *lint.cost) if m.key in _SHOWN}
    rows = []
    for cycle, lint in found.items():
        have = {m.key: m for m in (*lint.measures, *lint.cost)}
        row: list[str | int | float | None] = [cycle, lint.num_chosen]
        for key in keys:
            row += [have[key].value, have[key].mean] if key in have else [None, None]
        row += [len(lint.copies.found), ", ".join(c.name for c in lint.classes if c.starves)]
        rows.append(row)
    head = [c for m in keys.values() for c in (f"{m.words}{f', {m.unit}' if m.unit else ''}", "random")]
    columns = ["bought after cycle", "images", *head, "near copies", "classes that starve"]
    digits = [0, 0, *(1 for _ in head), 0, 0]
    note = "Behind each number that of random selections, on average."
    return Table("lint_purchases", "Every purchase", columns, rows, digits=digits, note=note)


def how(lint: Lint) -> str:
    """Say what random selections are here, and what the objects are."""
    whence = f"drawn from the {lint.num_pool:,} images that could have been chosen"
    if lint.is_sample:
        whence = f"drawn with replacement from {lint.num_pool:,} images that were bought at random"
    objects = "Objects are those people labeled" if lint.is_known else "Objects are predicted, sums of confidences"
    of_target = f"; {lint.target} counts {lint.seen}" if lint.seen else ""
    return f"Random selections: 200 of the same size, {whence}. {objects}{of_target}."


def _numbers(measures: Sequence[Measure], name: str) -> Table:
    rows = [[m.words, m.value, m.mean, *m.middle, _standing(m)] for m in measures]
    columns = ["", "selection", "random", "from", "to", "among random selections"]
    note = (
        "From, to: where nine of ten random selections lie. Distances, 0 is the same: by class, the share of objects "
        "that would need another class; by objects an image, of images that would need another number; by size, how "
        "many times objects would double or halve."
    )
    named = [[f"{row[0]}{f', {m.unit}' if m.unit else ''}", *row[1:]] for row, m in zip(rows, measures, strict=True)]
    return Table(name, "Beside random selections", columns, named, digits=2, note=note)


def _standing(measure: Measure) -> str:
    percent = measure.percentile
    if (measure.random_R == measure.value).all():
        return "as all of them"
    more, less = ("more", "less") if measure.better is None else ("better", "worse")
    return f"{more} than {percent:.0f} of 100" if percent >= 50 else f"{less} than {100 - percent:.0f} of 100"  # noqa: PLR2004


def class_table(lint: Lint, name: str) -> Table:
    """Return a line a class: what the selection shows beside random ones and what it is compared with."""
    rows = [
        [
            c.name,
            int(c.images),
            c.random_images.mean,
            c.boxes,
            100 * c.share,
            100 * c.random_share,
            None if c.target_share is None else 100 * c.target_share,
            c.times,
            "starves" if c.starves else "",
        ]
        for c in lint.classes
    ]
    columns = ["class", "images", "of a random selection", "boxes", "% of the boxes", "random, %", "compared with, %",
               "times", ""]  # fmt: skip
    note = f"Compared with {lint.target}: times as often as there." if lint.target else ""
    return Table(name, "Classes of the selection", columns, rows, digits=(0, 0, 1, 1, 1, 1, 1, 2, 0), note=note)
