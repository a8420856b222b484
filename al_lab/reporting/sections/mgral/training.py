"""What the agent's training came to: reward, reference, advantage, entropy, overlap and neighbors over iterations."""

from collections.abc import Mapping, Sequence

from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import lut as lut_figures
from al_lab.reporting.figures.lut import Training
from al_lab.reporting.read.lut import LutCycle
from al_lab.reporting.sections.mgral.words import sentence, whole
from al_lab.reporting.sections.run import spread

# of `LutCycle.facts["learning"]`, with the column's name and whether it is a count
_COLUMNS = {
    "iterations": ("iterations", True),
    "reward_first": ("reward, first tenth", False),
    "reward_last": ("last tenth", False),
    "gain": ("gain", False),
    "advantage": ("size of advantage", False),
    "entropy_first": ("entropy, first tenth", False),
    "entropy_last": ("last tenth", False),
    "entropy_flat": ("no preference", False),
    "overlap_last": ("overlap, last tenth", False),
    "neighbors": ("neighbors", False),
    "fall_backs": ("fall-backs", True),
    "nearest_instead": ("nearest record instead", True),
}


def training_section(cycles: Sequence[LutCycle]) -> Section:
    """Show reward, reference, advantage, entropy, overlap and neighbors over the iterations."""
    section = Section("agent", "Agent's training")
    trained = {c.cycle: c for c in cycles if len(c.curves.get("reward", ()))}
    closed = "".join(f" In cycle {c.cycle} {c.sentence('gate')}." for c in cycles if c.sentence("gate"))
    if not trained:
        section.text = closed.strip() or "The agent has not been trained yet."
        return section
    section.text = _said(trained) + closed
    section.pictures.append(_curves(trained))
    section.tables.append(_means(trained))
    return section


def _said(trained: Mapping[int, LutCycle]) -> str:
    last = trained[max(trained)]
    learned = sentence(f"in cycle {last.cycle}, " + last.sentence("learning")) if last.sentence("learning") else ""
    alike = [
        f"In cycle {c.cycle} {c.sentence('likeness')}."
        for c in trained.values()
        if c.sentence("likeness") and (c is last or c.facts["likeness"].get("verdict") != "same")
    ]
    first = (
        "The reward is an estimate, read off the table, not a measurement: that it rises says that the agent follows "
        "the table."
    )
    return " ".join(filter(None, (first, learned, *alike)))


def _curves(trained: Mapping[int, LutCycle]) -> Picture:
    lines = [Training(f"cycle {k}", trained[k].curves) for k in spread(list(trained), lut_figures.MAX_LINES)]
    lines += [
        Training(f"cycle {c.cycle}, shuffled rewards", c.shuffled, True)
        for c in trained.values()
        if len(c.shuffled.get("reward", ()))
    ][:1]
    caption = (
        "Top-B overlap: Jaccard index of the best images of one iteration and the next, 1 where the choice stands "
        "still. Dashed: the reference, and the mean distance where the full line is that to the nearest record. Long "
        "trainings are averaged in bins."
    )
    caption += " Gray: the control's agent, whose rewards mean nothing." if lines[-1].is_shuffled else ""
    figure = lut_figures.learning_curves(lines)
    return Picture("mgral_learning", figure, "the agent's training over iterations", caption, is_wide=True)


def _means(trained: Mapping[int, LutCycle]) -> Table:
    def cell(cycle: LutCycle, name: str, is_count: bool) -> float | int | None:
        value = cycle.number("learning", name)
        return whole(value) if is_count else value

    return Table(
        "mgral_learning",
        "The agent's training, means over its first and its last tenth",
        ["cycle", *(label for label, _ in _COLUMNS.values())],
        [[c.cycle, *(cell(c, k, is_count) for k, (_, is_count) in _COLUMNS.items())] for c in trained.values()],
        digits=2,
        note="Rewards and gains in points, entropies in nats a pick. Fall-backs: batches trained as rows of their "
        "own as no record was near; when these are used up, the nearest record's worth counts.",
    )
