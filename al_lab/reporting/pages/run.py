"""The report of one run: ``report.html`` in its folder."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from al_lab.core.errors import DataError
from al_lab.core.files import sha256
from al_lab.reporting.document.page import Headline, Page, Section, part, sections_of
from al_lab.reporting.document.stamp import stamp
from al_lab.reporting.document.tables import duration
from al_lab.reporting.judge.curves import area_under_curve, labels_to_reach, mean_and_error
from al_lab.reporting.judge.judge import Judge, alike
from al_lab.reporting.judge.protocol import (
    COMPARED,
    Series,
    baseline,
    check_one_protocol,
    full_data,
    group_runs,
    no_labels,
    same_protocol,
    training_of,
)
from al_lab.reporting.read import commands
from al_lab.reporting.read.find import read_run
from al_lab.reporting.read.line_names import LEVELS, is_supervised
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections import run as parts
from al_lab.reporting.sections.advice import TITLE as ADVICE
from al_lab.reporting.sections.advice import advice_line, advice_section
from al_lab.reporting.sections.bought_pixels import bought_share, buys_pixels, overlays_section, pixel_classes_section
from al_lab.reporting.sections.flips import flips_section
from al_lab.reporting.sections.left_out import left_out_section
from al_lab.reporting.sections.lint import purchases_section
from al_lab.reporting.sections.mgral.choice import choice_section
from al_lab.reporting.sections.mgral.of_run import mgral_sections
from al_lab.reporting.sections.pixels.metrics import pixel_metrics_section
from al_lab.reporting.sections.pseudo import pseudo_section
from al_lab.reporting.sections.published import published_section
from al_lab.reporting.sections.results import (
    classes_section,
    curve_section,
    curve_table,
    detector_note,
    distribution_section,
    judge_of,
    last_values,
    levels_section,
    metric_label,
    pick_metric,
    spent_columns,
)
from al_lab.reporting.sections.segmentation import pixel_sections
from al_lab.reporting.sections.verdicts import few_objects, what_can_be_seen

log = logging.getLogger(__name__)


def write_report(
    run_dir: Path,
    others: Sequence[Path] = (),
    *,
    exports_dir: Path | None = None,
    method: parts.Method = "pca",
    levels: Sequence[float] = (),
    image_folders: Sequence[Path] = (),
    metric: str | None = None,
    is_changed: Callable[[str], bool] = lambda strategy: False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write ``report.html`` into a run folder.

    Other seeds of the same strategy, the random line and the full-data line are taken from ``others`` and from the runs
    of the same dataset and protocol that lie beside this one.

    Args:
        run_dir: a run folder, finished or under way.
        others: more run folders to compare with; their protocol must be the same.
        exports_dir: write a copy of the page there, and every figure (PNG, PDF) and table (CSV, LaTeX) below it.
        method: how the embedding is flattened; t-SNE takes seconds.
        levels: metric levels (fractions) to answer "how many labels" for, besides the usual ones.
        image_folders: whose images the page may show, besides those in the run folder itself: the dataset's, for a run
            of one's own. A run folder from somebody else can name any file of this computer.
        metric: what the page is about; None: the preferred one.
        is_changed: whether a strategy, by its name, changes the detector.
        say: takes the line on whether going on is worth it.

    Returns:
        Path of the page.

    Raises:
        DataError: if the folder is no run, ``others`` mix protocols, or a run lacks the metric.
    """
    ledger = Path(run_dir) / "ledger.jsonl"
    made_of = sha256(ledger) if ledger.is_file() else "none"
    run = read_run(Path(run_dir), image_folders)
    named = [read_run(Path(p)) for p in others]
    check_one_protocol([run, *named])
    family = _family(run, named)
    page = build_page(run, family, method, levels, metric, is_changed)
    path = run.path / "report.html"
    page.write(path, *([Path(exports_dir) / path.name] if exports_dir is not None else []))
    stamp(path, made_of)
    if exports_dir is not None:
        page.export(Path(exports_dir))
    say(advice_line(page))
    return path


def build_page(
    run: Run,
    family: Sequence[Run],
    method: parts.Method = "pca",
    levels: Sequence[float] = (),
    metric: str | None = None,
    is_changed: Callable[[str], bool] = lambda strategy: False,
) -> Page:
    """Compose the page of a run; ``family`` are the runs it is drawn with, itself included."""
    groups = group_runs(family)
    full = full_data(groups)
    lines = [s for s in groups if s.strategy not in LEVELS] or [s for s in groups if run in s.runs]
    drawn = [s for s in (full, no_labels(groups)) if s is not None and s not in lines]
    own = next((s for s in groups if run in s.runs), groups[0])
    random, by_pixel = baseline(lines), buys_pixels(run)
    metric = pick_metric([run], metric) or pick_metric(family, metric)
    single = [Series(own.label, own.strategy, (run,))]
    sections = sections_of(
        run.note,
        [
            (
                "Learning curve",
                lambda: _curve(run, own, lines, drawn, metric, _missing(run, own, random, full), is_changed),
            ),
            ("Labels needed", lambda: levels_section(lines, full, metric, levels)),
            (ADVICE, lambda: advice_section(lines, metric, run)),
            ("Classes", lambda: classes_section(single, metric)),
            ("Every metric", lambda: pixel_metrics_section(single)),
            ("What was bought", lambda: pixel_classes_section(single) if by_pixel else distribution_section(single)),
            ("Images", lambda: overlays_section(single) if by_pixel else parts.images_section(run)),
            ("Left out", lambda: left_out_section(run)),
            ("Analysis", lambda: pixel_sections(single)),
            ("Judged without a training", lambda: purchases_section(run)),
            ("Utilities", lambda: parts.utilities_section(run)),
            ("The choice beside entropy", lambda: choice_section(run)),
            ("MGRAL", lambda: mgral_sections(run)),
            ("Entropy and inconsistency", lambda: flips_section(run)),
            ("Pseudo-labels", lambda: pseudo_section(single)),
            ("Embedding", lambda: parts.embedding_section(run, method)),
            ("Cost", lambda: parts.cost_section(run)),
            ("Time", lambda: parts.times_section(run)),
            ("Published", lambda: published_section(single)),
            ("Settings", lambda: parts.settings_section(run)),
        ],
    )
    subtitle = f"{run.dataset} · {run.name} · seed {run.seed}"
    title = f"{'Full data' if run.is_full else 'No target label' if run.is_bare else run.strategy} on {run.dataset}"
    return Page(
        title,
        subtitle,
        _status(run),
        run.is_complete,
        _waits(run) + part(run.note, "The verdict", lambda: _verdict(run, own, lines, full, metric), ""),
        part(run.note, "The list of numbers", lambda: _numbers(run, own, random, metric), []),
        sections,
        list(dict.fromkeys(run.notes)),
    )


def _curve(
    run: Run,
    own: Series,
    lines: Sequence[Series],
    drawn: Sequence[Series],
    metric: str | None,
    missing: Sequence[tuple[str, str]],
    is_changed: Callable[[str], bool],
) -> Section:
    curve = curve_section(lines, drawn, metric)
    curve.text += detector_note(lines, is_changed)
    curve.missing += missing
    if metric is not None and len(run.metrics):
        curve.tables.append(curve_table([Series(own.label, own.strategy, (run,))], metric))
    return curve


def _family(run: Run, named: Sequence[Run]) -> list[Run]:
    """Collect the run, those named, and its siblings of the same protocol; of several variants of random, one."""
    found = {run.path: run, **{r.path: r for r in named}}
    # outputs/<dataset>/<strategy>/<name>/seed<k>: only this strategy's and random's folders can hold lines of this page
    home = run.path.parents[2] if len(run.path.parents) > 3 else run.path
    for strategy in dict.fromkeys((run.path.parents[1].name, "random")):
        for config in sorted((home / strategy).glob("*/seed*/config.yaml")) if strategy else ():
            if not config.parent.name[4:].isdigit() or config.parent.resolve() in found:
                continue
            try:
                other = read_run(config.parent)
            except DataError as error:
                log.warning("the report leaves out a neighbour: %s", error)
                continue
            if _is_neighbor(run, other):
                found[other.path] = other
    return _one_random(run, list(found.values()))


def _is_neighbor(run: Run, other: Run) -> bool:
    """Whether a run beside this one is drawn with it.

    Its other seeds, the random and full-data lines trained alike or on human labels alone.
    """
    if _is_other_seed(run, other):
        return same_protocol(run, other)
    if other.strategy == run.strategy and not other.is_level and training_of(other) == training_of(run):
        return False  # another variant of the same strategy
    return same_protocol(run, other, COMPARED if is_supervised(other) else ())


def _is_other_seed(run: Run, other: Run) -> bool:
    of_one_line = (other.strategy, other.name, training_of(other)) == (run.strategy, run.name, training_of(run))
    return of_one_line and other.is_level == run.is_level and not other.is_full


def _one_random(run: Run, runs: list[Run]) -> list[Run]:
    """Keep one random line for each way to train: the one of this run's name, or that with most runs."""
    lines = Counter(
        (training_of(r), r.name)
        for r in runs
        if r.strategy == "random" and not r.is_level and not _is_other_seed(run, r)
    )
    best: dict[str, str] = {}
    for (training, name), _ in sorted(lines.items(), key=lambda item: (item[0][1] == run.name, item[1], item[0][1])):
        best[training] = name
    return [
        r
        for r in runs
        if r is run or r.is_level or r.strategy != "random" or _is_other_seed(run, r) or r.name == best[training_of(r)]
    ]


def _status(run: Run) -> str:
    if run.is_complete:
        return "complete"
    if run.awaited:
        return "waiting for labels"
    done = 0 if run.last_cycle is None else run.last_cycle + 1
    return (
        f"in progress: {done} of {run.planned_cycles} cycles evaluated"
        if run.planned_cycles
        else f"{done} cycles evaluated"
    )


def _waits(run: Run) -> str:
    """Say for what a run waits and where; "" if it does not."""
    if not run.awaited:
        return ""
    images = "image" if run.awaited == 1 else "images"
    return (
        f"This run waits for people: {run.awaited} {images} in {run.asks_in} {'has' if run.awaited == 1 else 'have'} "
        f"no labels yet. "
        "When they are there, the same command goes on. "
    )


def _missing(run: Run, own: Series, random: Series | None, full: Series | None) -> list[tuple[str, str]]:
    missing = []
    if commands.asks_people(run):
        return [(commands.NO_LINES_OF_PEOPLE, "")] if random is None else []
    if random is None and run.strategy != "random":
        missing.append(("There is no random line yet. This makes it:", commands.random_line(run, own.seeds)))
    if full is None:
        missing.append(("There is no full-data line yet. This makes it:", commands.full_data_line(run)))
    return missing


def _verdict(run: Run, own: Series, lines: Sequence[Series], full: Series | None, metric: str | None) -> str:
    random = baseline(lines)
    if metric is None or not run.metrics:
        return "No evaluation has been written yet."
    column = spent_columns([run])[0]
    last = run.metrics[-1]
    sentence = f"{_who(run)} reaches {100 * run.column(metric)[-1]:.1f} % {metric_label(metric)}"
    spent = last.get(column)
    sentence += f" with {spent:,.0f} {column.removeprefix('spent_')} labeled" if isinstance(spent, int | float) else ""
    whole = mean_and_error(last_values(full, metric))[0] if full and not run.is_full else math.nan
    sentence += (
        f", {100 * run.column(metric)[-1] / whole:.0f} % of what full data gives."
        if math.isfinite(whole) and whole > 0
        else "."
    )
    if random is None or own is random or run.is_level:
        return sentence
    judge = judge_of(lines, metric)
    sentence += _against(own, random, judge)
    twin = alike(own, lines)
    if twin is not None and twin is not random:
        sentence += (
            _against(own, twin, judge) + " The first counts the training too, the second the choice of images alone."
        )
    contrast = judge.against(own.label, random.label)
    unseen = what_can_be_seen(judge.resolution) if contrast.freedom > 0 and not contrast.is_clear else ""
    return " ".join(t for t in (sentence, unseen, few_objects([run])) if t)


def _who(run: Run) -> str:
    return (
        "Training on everything" if run.is_full else "Training without a target label" if run.is_bare else run.strategy
    )


def _against(own: Series, random: Series, judge: Judge) -> str:
    pair = judge.against(own.label, random.label)
    if not pair.seeds:
        return (
            f" {random.label[0].upper()}{random.label[1:]} has no seed in common with it yet, so there is no "
            f"paired comparison."
        )
    if pair.freedom < 1:
        return (
            f" Against {random.label}, its {judge.name} differs by {_signed(pair.difference)} points on one seed, "
            "which proves nothing: run more seeds."
        )
    half = f" ± {100 * pair.half:.1f}" if math.isfinite(pair.half) else ""
    return (
        f" Against {random.label}, its {judge.name} differs by {_signed(pair.difference)}{half} points "
        f"({len(pair.seeds)} paired seeds): {pair.verdict}."
    )


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _numbers(run: Run, own: Series, random: Series | None, metric: str | None) -> list[Headline]:
    numbers = []
    if metric is not None and run.metrics:
        values = run.column(metric)
        before = f"from {100 * values[0]:.1f} % in cycle {run.metrics[0]['cycle']}" if len(values) > 1 else ""
        numbers.append(Headline(f"{100 * values[-1]:.1f} %", f"{metric_label(metric)}, last cycle", before))
        curve = own.curves(metric, spent_columns([run])[0]).get(run.seed)
        if curve is not None and len(curve) > 1 and not run.is_one_training:
            numbers.append(
                Headline(f"{100 * area_under_curve(curve):.1f} %", "area under the curve", "its mean height")
            )
    labeled = len(run.labeled_ids(max(run.cycle_dirs, default=0)))
    size = run.pool_size
    if labeled:
        numbers.append(
            Headline(
                f"{labeled:,}", "images labeled", f"{100 * labeled / size:.1f} % of a pool of {size:,}" if size else ""
            )
        )
    costs = [run.cost(c) for c in run.purchases]
    boxes, pixels, hours = (sum(c.get(k, 0.0) for c in costs) for k in ("boxes", "pixels", "hours"))
    if pixels and buys_pixels(run):
        share = bought_share(run, pixels)
        numbers.append(
            Headline(
                f"{pixels:,.0f}",
                "pixels labeled",
                f"about {100 * share:.2g} % of the pool's" if share is not None else "",
            )
        )
    if boxes:
        words = f"about {duration(3600 * hours)} of labeling" if hours else ""
        if any("asked_images" in c for c in costs):  # people: what was labeled before is no work of this run
            asked, work = (sum(c.get(k, 0.0) for c in costs) for k in ("asked_boxes", "asked_hours"))
            words = f"{asked:,.0f} asked for in {duration(3600 * work)}" if asked else "none asked for"
        numbers.append(Headline(f"{boxes:,.0f}", "boxes labeled", words))
    if metric is not None and random is not None and own is not random and not run.is_level and not run.is_one_training:
        numbers += _saving(run, own, random, metric)
    seconds = sum(float(e["seconds"]) for e in run.ledger if isinstance(e.get("seconds"), int | float))
    if seconds:
        numbers.append(Headline(duration(seconds), "computing time"))
    return numbers


def _saving(run: Run, own: Series, random: Series, metric: str) -> list[Headline]:
    column = spent_columns([run])[0]
    ours, theirs = own.band(metric, column), random.band(metric, column)
    if not len(ours.mean) or not len(theirs.mean):
        return []
    level = float(theirs.mean[-1])
    need, fewest = labels_to_reach(ours.spent, ours.mean, level), labels_to_reach(theirs.spent, theirs.mean, level)
    if need is None or not fewest:
        return [Headline("–", f"saved against {random.label}", f"{random.label}'s last point is not reached")]
    saved = f"{100 * (1 - need / fewest):.0f} %".replace("-", "−")
    return [Headline(saved, f"labels saved against {random.label}", f"to reach {100 * level:.1f} %")]
