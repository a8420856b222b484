"""Is it worth going on? Expected gains of the next labels, and of the next seeds."""

import math
from collections.abc import Sequence

from al_lab.reporting.document.page import Page, Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.advice import forecast
from al_lab.reporting.figures.theme import color_of
from al_lab.reporting.judge.advice import WORTH, Advice, advice_of, undecided, undecided_sentence
from al_lab.reporting.judge.judge import Pair
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.results import SPENT_LABELS, judge_of, metric_label, spent_columns

_KEY, TITLE = "advice", "Is it worth going on?"
_HOW = (
    "The curve is a power law with an offset, averaged over all shapes the points allow; intervals hold 95 %. They "
    "take for granted that labels never harm and that the next purchase is chosen and trained as those before."
)


def advice_section(lines: Sequence[Series], metric: str | None, own: Run | None = None) -> Section:
    """Show what the next labels and seeds are worth.

    Args:
        lines: of the page.
        metric: its name; None: nothing was evaluated yet.
        own: the run whose page it is: its line alone is forecast, with a figure.
    """
    section = Section(_KEY, TITLE)
    curved = [s for s in lines if not s.runs[0].is_level]
    if metric is None or not curved:
        return section
    judge = judge_of(lines, metric)
    if judge.by_last:
        section.text = "All cycles are one training, so its points are no learning curve and nothing is forecast."
    else:
        section = _forecasts(section, curved, metric, own)
    if own is None:
        section.text = " ".join(t for t in (section.text, undecided_sentence(judge.planned)) if t)
        table = seeds_table([*judge.planned], [*judge.explored])
        section.tables += [table] if table.rows else []
    return section


def advice_line(page: Page) -> str:
    """Return the advice of a page for a screen; "" where it has none."""
    text = next((s.text for s in page.sections if s.key == _KEY), "")
    return " ".join(text.replace(_HOW, "").split())


def _forecasts(section: Section, lines: Sequence[Series], metric: str, own: Run | None) -> Section:
    column = spent_columns([run for s in lines for run in s.runs])[0]
    wanted = [s for s in lines if own is None or own in s.runs]
    found = {s.label: a for s in wanted if (a := _of(s, metric, column, own)) is not None}
    if not found:
        section.text = _why_not(wanted, metric, column)
        return section
    unit = column.removeprefix("spent_")
    section.tables.append(forecast_table(found, unit))
    best = max(
        (s for s in wanted if s.label in found), key=lambda s: found[s.label].fitted.height(found[s.label].now).mean()
    )
    advice = found[best.label]
    section.text = f"{advice.sentence(best.label, unit)} {_HOW}"
    if own is not None:
        marks = {"next purchase": advice.later} | (
            {"twice the labels": advice.twice} if advice.twice > advice.later else {}
        )
        labels = SPENT_LABELS[column], f"{metric_label(metric)}, %"
        figure = forecast(advice.fitted, best.curves(metric, column), marks, color_of(best.strategy), labels)
        section.pictures.append(Picture("advice", figure, "the learning curve with its band, up to twice the labels"))
    return section


def _of(series: Series, metric: str, column: str, own: Run | None) -> Advice | None:
    curves, pool = series.curves(metric, column), series.runs[0].pool_size
    most = float(pool) if pool is not None and column == "spent_images" else math.inf
    if own is not None and own.seed not in curves:
        return None
    return advice_of(curves, most, None if own is None else own.seed)


def _why_not(lines: Sequence[Series], metric: str, column: str) -> str:
    longest = max((len(c) for s in lines for c in s.curves(metric, column).values()), default=0)
    if longest < 2:  # noqa: PLR2004 - a curve has two points
        return (
            "One point is no curve yet: after the next evaluation this says what further labels are expected to gain."
        )
    return "Nothing is forecast: nothing is left to buy, or the metric is no fraction."


def forecast_table(found: dict[str, Advice], unit: str) -> Table:
    """Return one row a line: expected gains in points with their intervals, and the next evaluation in percent."""
    rows = [
        [name, len(a.fitted.seeds), a.now, a.later]
        + [cell for e in (a.gain, a.gain_twice, a.next_point) for cell in (100 * e.mean, e.span)]
        + [100 * a.chance]
        for name, a in found.items()
    ]
    spans = [
        f"{what}{end}" for what in ("gain of the next", "gain of twice", "next evaluation, %") for end in ("", ": 95 %")
    ]
    worth = f"chance that the next gains {100 * WORTH:g} point, %"
    return Table(
        "advice",
        "What further labels are expected to gain, in points",
        ["strategy", "seeds", f"{unit} now", f"{unit} next", *spans, worth],
        rows,
        digits=[0, 0, 0, 0, *([1] * 6), 0],
        note="Twice: as many labels again, or the rest of the pool. The next evaluation is that of one run, its luck "
        "included. How often such intervals held what came: docs/results/advisor.md.",
    )


def seeds_table(*families: Sequence[Pair]) -> Table:
    """Return which pairs can't be told apart, and how many seeds more would; planned pairs first."""
    rows = [
        [p.ours, p.theirs, 100 * p.contrast.difference, 100 * p.contrast.half, len(p.contrast.seeds)]
        + ["more than a hundred" if n is None else str(n)]
        for pairs in families
        for p, n in undecided(pairs)
    ]
    return Table(
        "more_seeds",
        "What these seeds can't tell apart",
        ["strategy", "against", "difference, points", "± interval", "seeds", "more seeds that would"],
        rows,
        digits=[0, 0, 2, 2, 0, 0],
        note="As if the difference seen were the true one: then so many more seeds call it clear eight times in ten. "
        "Where the true difference is smaller, they don't.",
    )
