"""What MGRAL's own numbers say of it.

Did the agent beat chance, can its table be trusted, what did its training come to, what did it cost.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from al_lab.core.statistics.verdict import ALPHA, Contrast, contrasts, holm, plain, two_sided
from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import lut as lut_figures
from al_lab.reporting.figures.lut import RowsPanel, Training
from al_lab.reporting.judge.curves import mean_and_error
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read import commands
from al_lab.reporting.read.lut import LutCycle, lut_cycles
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.mgral_clock import price_section
from al_lab.reporting.sections.mgral_truth import truth_section
from al_lab.reporting.sections.results import metric_label
from al_lab.reporting.sections.run import MAX_PANELS, spread

_CONTROLS = "strategy.agent.controls=10"
_SIGNIFICANCE = 0.05  # the stage's own threshold: a spread that noise makes more often than this proves nothing
_WHAT_A_ROW_IS = (
    "A row is one training: the labeled images plus one random batch without labels, from the pool. Its reward "
    "is what that "
    "training reaches, in points of {metric}, measured on {where}."
)
_SPLITS = {
    "holdout": "{n} labeled images held out of it",
    "kfold": "the labeled images, one fold of them a row",
    "val": "{n} labeled images outside the pool, which the budget does not count (split: val)",
    "test": "THE TEST SET ({n} images; split: test): the choice of images depends on test labels, so the curve above "
    "is not a fair one",
}
_ROWS_NOTE = (
    "Errors and spreads in points. Seed noise: the same row with other seeds, and the part of it that a seed does not "
    "do to all rows "
    "alike, by which the spread is divided. p: how often noise alone makes so large a ratio (F test). The error of "
    "the mean is what "
    "predicting every row by the mean of the others gives; none can be expected below that part of the noise. Ridge: "
    "a regression on "
    "batch features that learned from the same rows. Leaving out a good row lowers the others' mean, so a useless "
    "estimator has a rank "
    "correlation below 0, and the mean itself one of −1. Distance: rank correlation of the distance of two rows with "
    "their difference."
)
_ROWS_COLUMNS = (
    "cycle",
    "rows",
    "spread",
    "seed noise",
    "not alike for all",
    "spread / noise",
    "p, %",
    "error of the table",
    "of the mean of all rows",
    "of ridge",
    "rank corr. of the table",
    "of ridge",
    "distance corr.",
    "rows without neighbors",
)
_LEARNING_COLUMNS = (
    "cycle",
    "iterations",
    "reward, first tenth",
    "last tenth",
    "gain",
    "size of advantage",
    "entropy, first tenth",
    "last tenth",
    "no preference",
    "overlap, last tenth",
    "neighbors",
    "fall-backs",
    "nearest record instead",
)


def mgral_sections(run: Run) -> list[Section]:
    """Return the sections of a run that has look-up tables; none for any other."""
    cycles = lut_cycles(run)
    return (
        [
            _chance_section(run, cycles),
            truth_section(run, cycles),
            _table_section(cycles),
            _training_section(cycles),
            price_section(run, cycles),
        ]
        if cycles
        else []
    )


def _chance_section(run: Run, cycles: Sequence[LutCycle]) -> Section:
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
                commands.changed(run, _CONTROLS),
            )
        )
        return section
    cycle = controlled[0]
    agent, shuffled = cycle.number("controls", "agent"), cycle.number("controls", "shuffled_rewards")
    section.text = f"{_plainly(cycle)} {_of_the_query(cycle)}"
    noise = cycle.number("signal", "own_noise")
    caption = (
        "Each point is one training, without the batch's labels. Gray band: where 95 % of random batches fall. "
        + ("Bars: noise of one training, a standard deviation. " if math.isfinite(noise) else "")
        + "Dotted: training without any unlabeled image. The table's rows were trained with another seed, which moves "
        "all of them alike."
    )
    figure = lut_figures.controls(cycle.rewards_M, cycle.random, shuffled, agent, cycle.reference, noise, _reach(cycle))
    section.pictures.append(
        Picture(
            "mgral_controls",
            figure,
            "rewards of the agent's batch, of random ones and of the shuffled agent's",
            caption,
        )
    )
    rows: list[list] = [["the agent's batch", agent, math.nan, math.nan, ""]]
    for name, label, value in (
        ("against_random", f"mean of {len(cycle.random)} random batches", float(cycle.random.mean())),
        ("against_shuffled", "batch of the agent with shuffled rewards", shuffled),
    ):
        rows.append(
            [
                label,
                value,
                cycle.number("controls", name, "difference"),
                cycle.number("controls", name, "standard_error"),
                _verdict(cycle, name),
            ]
        )
    section.tables.append(
        Table(
            "mgral_controls",
            f"Measured by a training at the query of cycle {cycle.cycle}",
            ["batch", "reward", "agent's minus this", "± SE", "verdict"],
            rows,
            digits=2,
            note="Points. The standard error (SE) is by how much random batches differ, those of the table included. "
            "Clear: Student's t, "
            f"p below {ALPHA:g} after Holm's correction for two comparisons.",
        )
    )
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
        else f" In training, the agent's own estimate moved by {_signed(gain)} points, that of the agent with "
        f"shuffled rewards by {_signed(other)}."
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
    return f"{_signed(cycle.number('controls', name, 'difference'))} ± {half:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _p_value(cycle: LutCycle) -> float:
    """How often noise alone makes so large a spread; older runs call it luck."""
    found = cycle.number("signal", "p_value")
    return found if math.isfinite(found) else cycle.number("signal", "luck")


def _table_section(cycles: Sequence[LutCycle]) -> Section:
    """Say whether rows differ by more than noise, and whether they predict each other."""
    section = Section("lut", "Look-up table")
    last = cycles[-1]
    judged = [c for c in cycles if math.isfinite(_p_value(c))]
    where = _SPLITS.get(str(last.table.get("split")), "images nobody named").format(
        n=last.table.get("num_measured", "?")
    )
    section.text = _WHAT_A_ROW_IS.format(metric=metric_label(str(last.table.get("metric"))), where=where)
    section.text += (
        f" {_sentence(f'in cycle {last.cycle}, ' + last.sentence('signal'))}" if last.sentence("signal") else ""
    )
    if len(judged) > 1:
        above = sum(_p_value(c) <= _SIGNIFICANCE for c in judged)
        section.text += f" In {above} of {len(judged)} cycles the rows differ by more than noise explains."
    section.text += f" {_sentence(last.sentence('leave_one_out'))}" if last.sentence("leave_one_out") else ""
    if "predictor" in last.facts and not len(last.estimates_M):
        section.text += " Fewer than three different rows can't be judged by leaving one out."
    shown = {c.cycle: c for c in cycles}
    panels = [
        RowsPanel(f"cycle {k}", shown[k].rewards_M, shown[k].repeats, shown[k].reference, shown[k].estimates_M)
        for k in spread(list(shown), MAX_PANELS)
    ]
    section.pictures.append(
        Picture(
            "mgral_rows",
            lut_figures.rows_and_noise(panels),
            "rewards of the rows, and of the same rows with other seeds",
            "What a seed does to all rows alike is harmless, as all rows share one; that rings lie higher or lower by "
            "different amounts is noise, and rows that differ by no more than that teach noise.",
            is_wide=len(panels) > 1,
        )
    )
    judged_panels = [p for p in panels if len(p.estimates_M)]
    if judged_panels:
        section.pictures.append(
            Picture(
                "mgral_leave_one_out",
                lut_figures.leave_one_out(judged_panels),
                "what the other rows predict of each row against what it got",
                "Each row, predicted from the others as a batch is.",
                is_wide=len(panels) > 1,
            )
        )
    section.tables.append(
        Table(
            "mgral_table",
            "The table, judged by itself",
            _ROWS_COLUMNS,
            [_row(c) for c in cycles],
            digits=[0, 0, 2, 2, 2, 1, 0, 2, 2, 2, 2, 2, 2, 0],
            note=_ROWS_NOTE,
        )
    )
    return section


def _sentence(text: str) -> str:
    text = re.sub(r"(?<![\w.])-(?=\d)", "−", text)
    return f"{text[:1].upper()}{text[1:]}."


def _row(c: LutCycle) -> list:
    alone = c.number("leave_one_out", "num_without_neighbors")
    return [
        c.cycle,
        len(c.rewards_M),
        c.number("signal", "row_spread"),
        c.number("signal", "seed_noise"),
        c.number("signal", "own_noise"),
        c.signal_to_noise,
        100 * _p_value(c),
        c.number("leave_one_out", "rmse"),
        c.number("leave_one_out", "rmse_of_mean"),
        c.number("regressor", "rmse"),
        c.number("leave_one_out", "rank_correlation"),
        c.number("regressor", "rank_correlation"),
        c.number("leave_one_out", "distance_correlation"),
        int(alone) if math.isfinite(alone) else None,
    ]


def _training_section(cycles: Sequence[LutCycle]) -> Section:
    """Show reward, reference, advantage, entropy, overlap and neighbors over the iterations."""
    section = Section("agent", "Agent's training")
    trained = {c.cycle: c for c in cycles if len(c.curves.get("reward", ()))}
    closed = "".join(f" In cycle {c.cycle} {c.sentence('gate')}." for c in cycles if c.sentence("gate"))
    if not trained:
        section.text = closed.strip() or "The agent has not been trained yet."
        return section
    last = trained[max(trained)]
    section.text = (
        "The reward is an estimate, read off the table, not a measurement: that it rises says that the "
        "agent follows the table."
    )
    section.text += (
        f" {_sentence(f'in cycle {last.cycle}, ' + last.sentence('learning'))}" if last.sentence("learning") else ""
    )
    told = [
        c
        for c in trained.values()
        if c.sentence("likeness") and (c is last or c.facts["likeness"].get("verdict") != "same")
    ]
    section.text += "".join(f" In cycle {c.cycle} {c.sentence('likeness')}." for c in told) + closed
    lines = [Training(f"cycle {k}", trained[k].curves) for k in spread(list(trained), lut_figures.MAX_LINES)]
    lines += [
        Training(f"cycle {c.cycle}, shuffled rewards", c.shuffled, True)
        for c in trained.values()
        if len(c.shuffled.get("reward", ()))
    ][:1]
    caption = (
        "Top-B overlap: Jaccard index of the best images of one iteration and the next, 1 where the choice stands "
        "still. Dashed: the "
        "reference, and the mean distance where the full line is that to the nearest record. Long trainings are "
        "averaged in bins."
    )
    caption += " Gray: the control's agent, whose rewards mean nothing." if lines[-1].is_shuffled else ""
    figure = lut_figures.learning_curves(lines)
    section.pictures.append(
        Picture("mgral_learning", figure, "the agent's training over iterations", caption, is_wide=True)
    )
    rows = [
        [
            c.cycle,
            *(
                _whole(c.number("learning", name))
                if name in ("iterations", "fall_backs", "nearest_instead")
                else c.number("learning", name)
                for name in (
                    "iterations",
                    "reward_first",
                    "reward_last",
                    "gain",
                    "advantage",
                    "entropy_first",
                    "entropy_last",
                    "entropy_flat",
                    "overlap_last",
                    "neighbors",
                    "fall_backs",
                    "nearest_instead",
                )
            ),
        ]
        for c in trained.values()
    ]
    section.tables.append(
        Table(
            "mgral_learning",
            "The agent's training, means over its first and its last tenth",
            _LEARNING_COLUMNS,
            rows,
            digits=2,
            note="Rewards and gains in points, entropies in nats a pick. Fall-backs: batches trained as rows of their "
            "own as no record was "
            "near; when these are used up, the nearest record's worth counts.",
        )
    )
    return section


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None


def compared_mgral_section(lines: Sequence[Series]) -> Section:
    """Give mean and standard deviation over seeds of what the tables and the controls said.

    Empty if no line has a table.
    """
    section = Section("mgral", "MGRAL over seeds")
    found = {series.label: {run.seed: lut_cycles(run) for run in series.runs} for series in lines}
    found = {label: {seed: cycles for seed, cycles in seeds.items() if cycles} for label, seeds in found.items()}
    rows: list[list] = []
    seeds_rows: list[list] = []
    controls: list[list] = []
    for label, of_seeds in found.items():
        seeds_rows += [[label, seed, c.cycle, *_honesty(c)] for seed, cycles in of_seeds.items() for c in cycles]
        for cycle in sorted({c.cycle for cycles in of_seeds.values() for c in cycles}):
            cells = [_honesty(c) for cycles in of_seeds.values() for c in cycles if c.cycle == cycle]
            rows.append([label, cycle, len(cells), *map(_mean_and_deviation, zip(*cells, strict=True))])
        controls += _controls_over_seeds(label, [c for cycles in of_seeds.values() for c in cycles if len(c.random)])
    if not rows:
        return section
    columns = ["error of the table", "of the mean of all rows", "rank correlation", "spread / noise", "reward gain"]
    section.text = (
        "The look-up table judged by itself, and the agent against chance: mean ± standard deviation over seeds. "
        + " ".join(f"{row[0]}: {_said(row)}" for row in controls)
    )
    section.tables.append(
        Table(
            "mgral_seeds_mean",
            "Tables and agents over seeds",
            ["strategy", "cycle", "seeds", *columns],
            rows,
            note="Errors and gains in points; the gain is the estimated reward's, last tenth of the iterations "
            "minus first.",
        )
    )
    section.files.append(
        Table("mgral_seeds", "Tables and agents", ["strategy", "seed", "cycle", *columns], seeds_rows, digits=2)
    )
    if controls:
        section.tables.append(
            Table(
                "mgral_controls_mean",
                "Batches measured by a training at the first query, over seeds",
                [
                    "strategy",
                    "seeds",
                    "agent − random",
                    "± SE",
                    "verdict",
                    "agent − shuffled rewards",
                    "± SE of that",
                    "verdict on that",
                ],
                controls,
                digits=2,
                note=f"Points; SE: standard error over seeds. Clear: Student's t over seeds, p below {ALPHA:g} after "
                f"Holm's correction.",
            )
        )
    else:
        section.missing.append(
            (
                "No line trained a batch to compare the agent's with. This does, for the first seed:",
                commands.changed(next(s.runs[0] for s in lines if found[s.label]), _CONTROLS),
            )
        )
    return section


def _honesty(c: LutCycle) -> list[float]:
    return [
        c.number("leave_one_out", "rmse"),
        c.number("leave_one_out", "rmse_of_mean"),
        c.number("leave_one_out", "rank_correlation"),
        c.signal_to_noise,
        c.number("learning", "gain"),
    ]


def _mean_and_deviation(values: Sequence[float]) -> str | None:
    mean, error = mean_and_error(values)
    if not math.isfinite(mean):
        return None
    deviation = f" ± {error * math.sqrt(np.isfinite(values).sum()):.2f}" if math.isfinite(error) else ""
    return f"{mean:.2f}{deviation}".replace("-", "−")


def _controls_over_seeds(label: str, cycles: Sequence[LutCycle]) -> list[list]:
    if not cycles:
        return []
    judged: list[Contrast] = contrasts(
        [
            dict(enumerate(c.number("controls", name, "difference") for c in cycles))
            for name in ("against_random", "against_shuffled")
        ]
    )
    row: list = [label, len(cycles)]
    for contrast in judged:
        row += [contrast.difference, contrast.standard_error, contrast.verdict]
    return [row]


def _said(row: Sequence) -> str:
    _, n, random, _, first, shuffled, _, second = row
    seeds = f"over {n} seeds" if n > 1 else "on one seed"
    return (
        f"{seeds}, its agent's first batch gives {_signed(random)} points against random batches ({first}), "
        f"{_signed(shuffled)} against that "
        f"of an agent with shuffled rewards ({second})."
    )
