"""Did the agent's batch beat random ones, and that of an agent whose rewards were shuffled?"""

import math
from collections.abc import Sequence

from scipy.special import stdtrit

from al_lab.core.statistics.verdict import ALPHA, holm, plain, two_sided
from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import lut as lut_figures
from al_lab.reporting.read import commands
from al_lab.reporting.read.lut import LutCycle
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.mgral.words import signed

#: what trains batches to compare the agent's with
CONTROLS = "strategy.agent.controls=10"


def chance_section(run: Run, cycles: Sequence[LutCycle]) -> Section:
    """Say whether the agent's batch beat random ones and that of an agent with shuffled rewards.

    It needs runs in which such batches were trained.
    """
    section = Section("chance", "Agent against chance")
    controlled = [c for c in cycles if len(c.random)]
    if not controlled:
        section.missing.append(
            (
                "No batch was trained to compare with the agent's, so nobody knows whether it beats random "
                "batches, or an agent "
                "that learned from shuffled rewards. This run with controls at the first query:",
                commands.changed(run, CONTROLS),
            )
        )
        return section
    cycle = controlled[0]
    section.text = f"{_plainly(cycle)} {_of_the_query(cycle)}"
    section.pictures.append(_picture(cycle))
    section.tables.append(_measured(cycle))
    section.files.append(
        Table(
            "mgral_random",
            "Random batches measured by a training",
            ["batch", "reward"],
            [[k, float(v)] for k, v in enumerate(cycle.random)],
            digits=2,
        )
    )
    return section


def _picture(cycle: LutCycle) -> Picture:
    agent, shuffled = cycle.number("controls", "agent"), cycle.number("controls", "shuffled_rewards")
    noise = cycle.number("signal", "own_noise")
    caption = (
        "Each point is one training, without the batch's labels. Gray band: where 95 % of random batches fall. "
        + ("Bars: noise of one training, a standard deviation. " if math.isfinite(noise) else "")
        + "Dotted: training without any unlabeled image. The table's rows were trained with another seed, which moves "
        "all of them alike."
    )
    figure = lut_figures.controls(cycle.rewards_M, cycle.random, shuffled, agent, cycle.reference, noise, _reach(cycle))
    return Picture(
        "mgral_controls", figure, "rewards of the agent's batch, of random ones and of the shuffled agent's", caption
    )


def _measured(cycle: LutCycle) -> Table:
    agent, shuffled = cycle.number("controls", "agent"), cycle.number("controls", "shuffled_rewards")
    rows: list[list] = [["the agent's batch", agent, math.nan, math.nan, ""]]
    for name, label, value in (
        ("against_random", f"mean of {len(cycle.random)} random batches", float(cycle.random.mean())),
        ("against_shuffled", "batch of the agent with shuffled rewards", shuffled),
    ):
        numbers = [cycle.number("controls", name, key) for key in ("difference", "standard_error")]
        rows.append([label, value, *numbers, _verdict(cycle, name)])
    return Table(
        "mgral_controls",
        f"Measured by a training at the query of cycle {cycle.cycle}",
        ["batch", "reward", "agent's minus this", "± SE", "verdict"],
        rows,
        digits=2,
        note="Points. The standard error (SE) is by how much random batches differ, those of the table included. "
        "Clear: Student's t, "
        f"p below {ALPHA:g} after Holm's correction for two comparisons.",
    )


def _freedom(cycle: LutCycle) -> int:
    """Return the degrees of freedom of the spread of random batches, those of the table included."""
    return len(cycle.random) + len(cycle.rewards_M) - 2


def _reach(cycle: LutCycle) -> float:
    """Return how far 95 % of random batches fall from the mean of those that were trained."""
    return _bound(cycle) * cycle.number("controls", "spread") * math.sqrt(1 + 1 / len(cycle.random))


def _bound(cycle: LutCycle) -> float:
    return float(stdtrit(_freedom(cycle), 1 - ALPHA / 2)) if _freedom(cycle) > 0 else math.nan


def _verdict(cycle: LutCycle, name: str) -> str:
    """Return the word for a difference, from the numbers: a run's own word may be of an older rule."""
    names = ("against_random", "against_shuffled")
    pairs = [tuple(cycle.number("controls", n, k) for k in ("difference", "standard_error")) for n in names]
    corrected = holm([two_sided(d, e, _freedom(cycle)) for d, e in pairs])[names.index(name)]
    return plain(pairs[names.index(name)][0], corrected if math.isfinite(corrected) else 1.0)


def _plainly(cycle: LutCycle) -> str:
    """Say it in the first sentence."""
    words = {"clearly better": "clearly beat", "clearly worse": "clearly lost to"}
    found = [
        words.get(_verdict(cycle, name), "did not clearly beat") for name in ("against_random", "against_shuffled")
    ]
    others = ("random batches", "an agent that learned from shuffled rewards")
    return f"The agent {found[0]} {others[0]}, and {found[1]} {others[1]}."


def _of_the_query(cycle: LutCycle) -> str:
    """Give the numbers behind it."""
    n, above = len(cycle.random), round(len(cycle.random) * (cycle.number("controls", "better_than_random") or 0))
    noise = cycle.number("signal", "own_noise")
    seeds = (
        f"Another seed alone moves one training against the others by {noise:.2f}"
        if math.isfinite(noise)
        else "Too few rows were repeated to know how much a seed alone moves one training against the others"
    )
    gain, other = cycle.number("learning", "gain"), cycle.number("controls", "shuffled_gain")
    learned = (
        ""
        if not math.isfinite(gain + other)
        else f" In training, the agent's own estimate moved by {signed(gain)} points, that of the agent with "
        f"shuffled rewards by {signed(other)}."
    )
    return (
        f"At the query of cycle {cycle.cycle}, measured by a training on the same labels and the batch without labels, "
        f"it is above {above} of {n} random "
        f"{'batch' if n == 1 else 'batches'}: {_against(cycle, 'against_random')} points against their mean, "
        f"{_against(cycle, 'against_shuffled')} against the batch of the agent with shuffled rewards (95 % "
        f"intervals). {seeds}.{learned}"
    )


def _against(cycle: LutCycle, name: str) -> str:
    half = _bound(cycle) * cycle.number("controls", name, "standard_error")
    return f"{signed(cycle.number('controls', name, 'difference'))} ± {half:.2f}"
