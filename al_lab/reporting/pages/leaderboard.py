"""The leaderboard: strategies, data sets and seeds on one page."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.reporting.document.page import Headline, Page, Section
from al_lab.reporting.judge.board import Board
from al_lab.reporting.judge.contest import Contest, Entry
from al_lab.reporting.judge.entries import checked, contests_of_table, metric_of
from al_lab.reporting.judge.judge import alike
from al_lab.reporting.judge.points import read_table
from al_lab.reporting.judge.protocol import Series, check_one_protocol, group_runs, reference
from al_lab.reporting.read.find import find_runs
from al_lab.reporting.read.line_names import LEVELS
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.board import labels, standing, wins
from al_lab.reporting.sections.results import metric_label, pick_metric, spent_columns

# Stages that every strategy has, random too: what is left of a run's time is acquisition.
_NOT_ACQUISITION = ("survey", "buy_test", "initialize", "train", "evaluate", "annotate", "analyze", "truth")


def write_leaderboard(
    paths: Sequence[Path],
    out_dir: Path,
    *,
    metric: str | None = None,
    column: str | None = None,
    level: float | None = None,
    across: Sequence[str] = (),
    common: bool = False,
    is_changed: Callable[[str], bool] = lambda strategy: False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write ``leaderboard.html``, and its tables (CSV, LaTeX) below ``tables/``.

    Args:
        paths: files of points (CSV), run folders, or folders above them.
        out_dir: where to write.
        metric: by which all is decided; None: the first one that everything has.
        column: the count of labels that decides (``images``, ``boxes``, …); None: the budget's.
        level: up to which labels are counted, a fraction; None: random's last point on each data set.
        across: settings in which runs may differ, as for a comparison.
        common: compare the seeds and cycles that all lines of a data set have, and leave out lines of one seed.
        is_changed: whether a strategy, by its name, changes the detector.
        say: takes the line on what these seeds can't tell.

    Returns:
        Path of the page.

    Raises:
        DataError: if nothing can be compared, in a sentence.
    """
    notes: list[str] = []
    options = (metric, column, level, common, is_changed, notes.append)
    tables = [path for path in paths if path.suffix == ".csv"]
    folders = [path for path in paths if path.suffix != ".csv"]
    contests = _of_tables(tables, *options) if tables else []
    contests += _of_runs(find_runs(folders), across, *options) if folders else []
    _check(contests)
    page = build_leaderboard(Board(tuple(contests)), notes, paths)
    for section in page.sections:
        for table in [*section.tables, *section.files]:
            table.save(Path(out_dir) / "tables")
    path = Path(out_dir) / "leaderboard.html"
    page.write(path)
    say(next((s.text for s in page.sections if s.key == "advice"), ""))
    return path


def build_leaderboard(board: Board, notes: Sequence[str], paths: Sequence[Path]) -> Page:
    """Compose the page."""
    sections = [
        standing.standing_section(board, notes),
        wins.wins_section(board),
        labels.saved_section(board),
        labels.curves_section(board),
        labels.advice_section(board),
        Section(
            "sources",
            "Where this comes from",
            "Files of points and run folders, in this order.",
            blocks=[("Files and folders", "\n".join(map(str, paths)))],
        ),
    ]
    contests = board.contests
    metric = metric_label(contests[0].metric)
    return Page(
        f"Leaderboard by {metric}",
        f"{len(board.labels)} lines · {_counted(len(contests), 'data set')}",
        f"{sum(len(e.seeds) for c in contests for e in c.entries)} runs",
        True,
        _verdict(board),
        _numbers(board),
        sections,
    )


def _verdict(board: Board) -> str:
    better, worse = (
        [d for d in board.planned if d.pair.contrast.is_clear and (d.pair.contrast.difference > 0) == is_up]
        for is_up in (True, False)
    )
    judged = sum(math.isfinite(d.pair.contrast.p) for d in board.planned)
    if not judged:
        return "No line was measured against a random line."
    said = [
        f"clearly {word}: {', '.join(f'{d.pair.ours} on {d.contest}' for d in found)}"
        for word, found in (("better", better), ("worse", worse))
        if found
    ]
    text = "; ".join(said) or "nothing is clearly better or worse"
    comparisons = _counted(judged, "comparison")
    return f"{comparisons} with random: {text}."


def _numbers(board: Board) -> list[Headline]:
    over = [o for o in board.overall if o.contests > 1]
    seeds = sorted({len(e.seeds) for c in board.contests for e in c.entries})
    numbers = [Headline(str(len(board.labels)), "lines", f"on {_counted(len(board.contests), 'data set')}")]
    if over:
        best = over[0]
        share = f"beats {100 * best.beaten:.0f} % of its rivals on {best.contests} data sets"
        numbers.append(Headline(best.label, "beats most rivals", share))
    span = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    pairs = [d for d in (*board.planned, *board.explored) if math.isfinite(d.pair.contrast.p)]
    clear = sum(d.pair.contrast.is_clear for d in pairs)
    return [*numbers, Headline(span, "seeds a line"), Headline(f"{clear} of {len(pairs)}", "pairs differ clearly")]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _check(contests: Sequence[Contest]) -> None:
    """Refuse a page whose data sets can't be named apart, or are decided by different numbers."""
    names = Counter(c.name for c in contests)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise DataError(explain(expected="each data set once", got=f"{twice} twice", where="leaderboard",
                                do="put all its lines into one file, or name the files apart"))  # fmt: skip
    for what, values in (
        ("metric", [c.metric for c in contests]),
        ("way to judge", ["last points" if c.by_last else "areas under the curve" for c in contests]),
        ("count of labels", [c.units[0] for c in contests]),
    ):
        odd = next((k for k, value in enumerate(values) if value != values[0]), None)
        if odd is not None:
            raise DataError(
                explain(
                    expected=f"one {what} for all data sets",
                    got=f"{values[0]} on {contests[0].name}, {values[odd]} on {contests[odd].name}",
                    where="leaderboard",
                    do="make one leaderboard for each, or choose with --metric and --column",
                )
            )


def _of_tables(
    paths: Sequence[Path],
    metric: str | None,
    column: str | None,
    level: float | None,
    common: bool,
    is_changed: Callable[[str], bool],
    note: Callable[[str], None],
) -> list[Contest]:
    tables = [read_table(path) for path in paths]
    wanted = metric_of(tables, metric)
    return [c for t in tables for c in contests_of_table(t, wanted, column, level, common, is_changed, note)]


def _of_runs(
    runs: Sequence[Run],
    across: Sequence[str],
    metric: str | None,
    column: str | None,
    level: float | None,
    common: bool,
    is_changed: Callable[[str], bool],
    note: Callable[[str], None],
) -> list[Contest]:
    wanted = pick_metric(runs, metric)
    if wanted is None:
        got = sorted({name for run in runs for name in run.metric_names})
        raise DataError(explain(expected="one metric that all runs have", got=", ".join(got) or "none",
                                where="leaderboard", do="make one leaderboard for each metric"))  # fmt: skip
    contests = []
    for dataset in dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == dataset]
        check_one_protocol(own, across)
        lines = [s for s in group_runs(own, across) if s.strategy not in LEVELS]
        columns = [c.removeprefix("spent_") for c in spent_columns([r for s in lines for r in s.runs])]
        if column is not None and column not in columns:
            raise DataError(explain(expected=f"labels counted in {column}", got=", ".join(columns),
                                    where=str(own[0].path), do="--column takes one of these"))  # fmt: skip
        units = tuple(sorted(columns, key=lambda u: u != column))
        by_last = all(run.is_one_training for s in lines for run in s.runs)
        drawn = _drawn_images(lines, wanted)
        entries = tuple(_entry(s, lines, wanted, units, drawn.get(s.label, {}), is_changed) for s in lines)
        contest = Contest(dataset, wanted, units, entries, by_last, level)
        contests.append(checked(contest, own[0].path.parents[2], common, note))
    return contests


def _drawn_images(lines: Sequence[Series], metric: str) -> dict[str, dict[int, np.ndarray]]:
    """Return line -> seed -> (T, B) the metric on test images drawn again; nothing unless all runs kept the same."""
    found: dict[str, dict[int, np.ndarray]] = {}
    images, shapes = set(), set()
    for series in lines:
        for run in series.runs:
            kept = [run.resampled(int(row["cycle"]), metric) for row in run.metrics if metric in row]
            if not kept or any(k is None for k in kept):
                return {}
            images |= {k[0] for k in kept if k is not None}
            values = [k[1] for k in kept if k is not None]
            shapes |= {v.shape for v in values}
            if len(shapes) > 1 or not np.isfinite(values).all():
                return {}
            found.setdefault(series.label, {})[run.seed] = np.asarray(values)
    return found if len(images) == 1 else {}


def _entry(
    series: Series,
    lines: Sequence[Series],
    metric: str,
    units: Sequence[str],
    drawn: Mapping[int, np.ndarray],
    is_changed: Callable[[str], bool],
) -> Entry:
    wanted = () if (first := reference(series, lines)) is series else (first, alike(series, lines))
    seconds = [
        float(entry["seconds"])
        for run in series.runs
        for entry in run.ledger
        if entry.get("stage") not in _NOT_ACQUISITION and isinstance(entry.get("seconds"), int | float)
    ]
    return Entry(
        series.label,
        series.strategy,
        {unit: series.curves(metric, f"spent_{unit}") for unit in units},
        tuple(dict.fromkeys(s.label for s in wanted if s is not None)),
        drawn,
        sum(seconds) / 60 / len(series.runs) if seconds else math.nan,
        is_changed(series.strategy),
    )
