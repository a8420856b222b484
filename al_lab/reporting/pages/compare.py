"""The report over many runs: strategies against each other, over seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from al_lab.core.errors import DataError, explain
from al_lab.reporting.document.page import Headline, Page, Picture, Section, part, sections_of, slug
from al_lab.reporting.document.tables import Table, unit_of
from al_lab.reporting.figures.pool import embedding, utility_histograms
from al_lab.reporting.judge.curves import mean_and_error, shared_areas
from al_lab.reporting.judge.judge import Judge, Pair
from al_lab.reporting.judge.protocol import (
    COMPARED,
    Series,
    baseline,
    check_one_protocol,
    full_data,
    group_runs,
    no_labels,
    reference,
)
from al_lab.reporting.read import commands
from al_lab.reporting.read.find import find_runs
from al_lab.reporting.read.line_names import FULL_DATA, LEVELS, differing
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections import run as parts
from al_lab.reporting.sections.advice import TITLE as ADVICE
from al_lab.reporting.sections.advice import advice_line, advice_section
from al_lab.reporting.sections.bought_pixels import buys_pixels, overlays_section, pixel_classes_section
from al_lab.reporting.sections.class_gain import gain_section
from al_lab.reporting.sections.flips import compared_flips_section
from al_lab.reporting.sections.mgral.seeds import compared_mgral_section
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
from al_lab.reporting.sections.verdicts import points, verdict_section, what_can_be_seen

_IMAGES_PER_STRATEGY = 8
_MAX_SHOWN = 8  # strategies whose images, utilities and embedding are drawn


def write_comparison(
    runs: Sequence[Path],
    out_dir: Path,
    *,
    method: parts.Method = "pca",
    levels: Sequence[float] = (),
    across: Sequence[str] = (),
    image_folders: Sequence[Path] = (),
    metric: str | None = None,
    is_changed: Callable[[str], bool] = lambda strategy: False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write ``report.html``, ``figures/`` (PNG, PDF) and ``tables/`` (CSV, LaTeX) over runs and seeds.

    Args:
        runs: run folders, or folders above them.
        out_dir: where to write.
        method: how embeddings are flattened.
        levels: metric levels (fractions) to answer "how many labels" for, besides the usual ones.
        across: settings in which the runs may differ, besides strategy and objective: dotted keys or groups.
        image_folders: whose images the page may show, besides those in the run folders themselves.
        metric: what the page compares by; None: the preferred one that every run has.
        is_changed: whether a strategy, by its name, changes the detector.
        say: takes the line on whether going on is worth it.

    Returns:
        Path of the page.

    Raises:
        DataError: if there is no run, if protocols differ, if a strategy has two runs of one seed, or if a run lacks
            the metric.
    """
    found = find_runs(runs, image_folders)
    if not found:
        raise DataError(
            explain(expected="at least one run", got="none", where="report", do="name a folder below outputs/")
        )
    check_one_protocol(found, across)
    page = build_comparison(found, method, levels, across, metric, is_changed)
    page.export(Path(out_dir))
    path = Path(out_dir) / "report.html"
    page.write(path)
    say(advice_line(page))
    return path


def build_comparison(
    runs: Sequence[Run],
    method: parts.Method = "pca",
    levels: Sequence[float] = (),
    across: Sequence[str] = (),
    metric: str | None = None,
    is_changed: Callable[[str], bool] = lambda strategy: False,
) -> Page:
    """Compose the page over runs of one protocol."""
    groups = group_runs(runs, across)
    full = full_data(groups)
    lines = [s for s in groups if s.strategy not in LEVELS] or list(groups)
    levels_drawn = [s for s in (full, no_labels(groups)) if s is not None and s not in lines]
    compared = (*COMPARED, *across)
    metric = pick_metric(runs, metric)
    notes: list[str] = []
    sections = sections_of(
        notes.append,
        [
            ("Learning curve", lambda: _curves(lines, levels_drawn, groups, full, metric, is_changed)),
            ("Who is better", lambda: verdict_section(lines, levels_drawn, metric)),
            ("Labels needed", lambda: levels_section(lines, full, metric, levels)),
            (ADVICE, lambda: advice_section(lines, metric)),
            ("Classes", lambda: classes_section(lines, metric)),
            ("Every metric", lambda: pixel_metrics_section([*lines, *levels_drawn])),
            ("Gain per class", lambda: gain_section(lines, metric)),
            ("What was bought", lambda: _bought(lines)),
            ("Analysis", lambda: pixel_sections(lines)),
            ("Utilities", lambda: _utilities(lines)),
            ("MGRAL", lambda: compared_mgral_section(lines)),
            ("Entropy and inconsistency", lambda: compared_flips_section(lines, _MAX_SHOWN)),
            ("Pseudo-labels", lambda: pseudo_section(lines, metric)),
            ("Embeddings", lambda: _embeddings(lines, method)),
            ("Cost", lambda: _costs(lines)),
            ("Published", lambda: published_section(lines)),
            ("Settings", lambda: _settings(runs, [*lines, *levels_drawn], _methods(groups, compared))),
        ],
    )
    status = (
        f"{len(runs)} runs"
        if all(r.is_complete for r in runs)
        else f"{sum(r.is_complete for r in runs)} of {len(runs)} runs complete"
    )
    subtitle = f"{', '.join(s.label for s in lines)} · {_how_many([len(s.runs) for s in lines])}"
    verdict = part(notes.append, "The verdict", lambda: _verdict(lines, metric), "")
    none: list[Headline] = []
    numbers = part(notes.append, "The list of numbers", lambda: _numbers(lines, full, metric), none)
    notes += [f"{run.strategy}, seed {run.seed}: {note}" for run in runs for note in run.notes]
    return Page(
        f"Comparison on {runs[0].dataset}",
        subtitle,
        status,
        all(r.is_complete for r in runs),
        verdict,
        numbers,
        sections,
        notes,
    )


def _curves(
    lines: Sequence[Series],
    levels_drawn: Sequence[Series],
    groups: Sequence[Series],
    full: Series | None,
    metric: str | None,
    is_changed: Callable[[str], bool],
) -> Section:
    curve = curve_section(lines, levels_drawn, metric)
    curve.missing += _missing(lines, full)
    if metric is not None:
        curve.text += _caution(lines, groups, full, metric) + detector_note(lines, is_changed)
        curve.files.append(curve_table([*lines, *levels_drawn], metric))
    return curve


def _caution(lines: Sequence[Series], groups: Sequence[Series], full: Series | None, metric: str) -> str:
    """Say what a reader must know where lines differ in training, or where random or full data exist more than once."""
    text = ""
    random = baseline(lines)
    if len({s.training for s in lines}) > 1:
        text += (
            " Lines here differ in training or budget, too, as their names and the Settings say: only two lines "
            "trained alike tell what "
            "the choice is worth."
        )
    if random is not None and sum(s.strategy == "random" for s in lines) > 1:
        own = (
            " Lines of another budget are compared with its random line."
            if any(reference(s, lines) is not random for s in lines)
            else ""
        )
        text += f" The baseline of every comparison below is {random.label}.{own}"
    for series in groups:
        if series.strategy == FULL_DATA and series is not full and last_values(series, metric):
            text += f" Not drawn: {series.label}, {100 * mean_and_error(last_values(series, metric))[0]:.1f} %."
    return text


def _methods(series: Sequence[Series], compared: Sequence[str]) -> Table:
    """What sets the lines apart; no rows if nothing but the strategy does."""
    columns = differing([(s.strategy, s.runs[0]) for s in series], compared)
    rows = [
        [s.label, s.strategy, *("" if values[k] is None else str(values[k]) for values in columns.values())]
        for k, s in enumerate(series)
    ]
    return Table(
        "methods",
        "In what the lines differ",
        ["line", "strategy", *columns],
        rows if columns else [],
        note="Everything else that decides results is equal. Options of a strategy are listed where it has two "
        "variants here.",
    )


def _missing(lines: Sequence[Series], full: Series | None) -> list[tuple[str, str]]:
    first, missing = lines[0].runs[0], []
    if commands.asks_people(first):
        return [(commands.NO_LINES_OF_PEOPLE, "")] if baseline(lines) is None else []
    if baseline(lines) is None and not first.is_level:
        missing.append(("There is no random line. This makes it:", commands.random_line(first, lines[0].seeds)))
    if full is None:
        missing.append(("There is no full-data line. This makes it:", commands.full_data_line(first)))
    if all(len(s.runs) < 2 for s in lines) and not first.is_level:
        missing.append(
            ("One seed has no error bar. Three are the least to believe in:", commands.more_seeds(first, (0, 1, 2)))
        )
    return missing


def _bought(lines: Sequence[Series]) -> list[Section]:
    if any(buys_pixels(run) for s in lines for run in s.runs):
        return [pixel_classes_section(lines), overlays_section(lines)]
    return [distribution_section(lines), _images(lines)]


def _images(lines: Sequence[Series]) -> Section:
    section = Section(
        "images", "Selected images", "The last purchase of each strategy's first seed, evenly spread over the ranks."
    )
    for series in lines[:_MAX_SHOWN]:
        run = series.runs[0]
        if not run.purchases:
            continue
        part = parts.images_section(
            run, _IMAGES_PER_STRATEGY, 1 if len(run.purchases) == 1 else 2, f"selected_{slug(series.label)}"
        )
        for sheet in part.sheets[-1:]:
            title = f"{series.label}: {sheet.title[0].lower()}{sheet.title[1:]}, seed {run.seed}"
            section.sheets.append(replace(sheet, title=title, is_open=True))
        section.legend |= part.legend
    if not section.sheets:
        section.text = "Nothing has been bought yet."
    return section


def _utilities(lines: Sequence[Series]) -> Section:
    section = Section("utilities", "Utilities")
    panels = []
    for series in lines[:_MAX_SHOWN]:
        run = series.runs[0]
        last = parts.scored_cycles(run)[-1:]
        panel = parts.utility_panel(run, last[0], f"{series.label}, cycle {last[0]}") if last else None
        if panel is not None and panel.is_telling:
            panels.append(panel)
    if not panels:
        section.text = "No strategy here chooses by utilities, or none has been written yet."
        return section
    section.text = (
        "How useful each strategy found the candidates of its last query (first seed), and which of them were bought."
    )
    section.pictures.append(Picture("utilities", utility_histograms(panels), "histograms of each strategy's utilities"))
    return section


def _embeddings(lines: Sequence[Series], method: parts.Method) -> Section:
    section = Section("embedding", "Embedding")
    panels = []
    for series in lines[:_MAX_SHOWN]:
        run = series.runs[0]
        last = parts.scored_cycles(run)[-1:]
        panel = parts.embedding_panel(run, last[0], method, f"{series.label}, cycle {last[0]}") if last else None
        panels += [panel] if panel is not None else []
    if not panels:
        if not buys_pixels(lines[0].runs[0]):
            section.text = "No strategy here kept an image embedding."
        return section
    section.text = (
        "The image embedding at each strategy's last query (first seed), flattened. Distances between "
        "panels mean nothing."
    )
    section.pictures.append(
        Picture("embedding", embedding(panels), "pool, labeled and bought images in two dimensions")
    )
    return section


def _costs(lines: Sequence[Series]) -> Section:
    has_pixels = any(buys_pixels(run) for s in lines for run in s.runs)
    made: list[tuple[str, int, list[int], float, float]] = []
    for series in lines:
        for run in series.runs:
            costs = [run.cost(c) for c in run.purchases]
            images, boxes, pixels, hours = (
                sum(c.get(k, 0.0) for c in costs) for k in ("images", "boxes", "pixels", "hours")
            )
            seconds = sum(float(e["seconds"]) for e in run.ledger if isinstance(e.get("seconds"), int | float))
            made.append(
                (series.label, run.seed, [int(pixels)] if has_pixels else [int(images), int(boxes)], hours, seconds)
            )
    labeling, people = unit_of([3600 * row[3] for row in made])
    computing, machine = unit_of([row[4] for row in made])
    rows = [
        [label, seed, *spent, 3600 * hours / people, seconds / machine] for label, seed, spent, hours, seconds in made
    ]
    units = ["pixels labeled"] if has_pixels else ["images labeled", "boxes labeled"]
    columns = ["strategy", "seed", *units, f"{labeling} of labeling", f"{computing} of computing"]
    text = (
        f"What was spent on people (an estimate from the oracle's seconds per "
        f"{'pixel' if has_pixels else 'image and per box'}) and on machines."
    )
    return Section("cost", "Cost", text, tables=[Table("cost", "Cost of each run", columns, rows, digits=1)])


def _settings(runs: Sequence[Run], lines: Sequence[Series], methods: Table) -> Section:
    section = Section("settings", "Settings")
    if methods.rows:
        section.tables.append(methods)
    for series in lines:
        section.commands.append((f"{series.label}, seed {series.runs[0].seed}:", commands.reproduce(series.runs[0])))
    typical = next((r for r in runs if not r.is_level), runs[0])
    section.blocks = parts.settings_section(typical).blocks
    section.blocks = [(f"{title} of {typical.strategy}, seed {typical.seed}", text) for title, text in section.blocks]
    protocol = str(typical.config.get("protocol", "not named"))
    section.text = f"Budget, detector and training are those of the protocol {protocol}; every setting is below."
    section.blocks.append(
        ("Run folders", "\n".join(f"{'full data' if r.is_full else r.strategy}, seed {r.seed}: {r.path}" for r in runs))
    )
    return section


def _verdict(lines: Sequence[Series], metric: str | None) -> str:
    """Say in plain words what came out: what is clear, or that nothing is and what could have been seen."""
    if metric is None:
        return "No evaluation has been written yet."
    judge = judge_of(lines, metric)
    pairs = [p for p in judge.planned if p.contrast.seeds]
    if not pairs:
        return ""
    said = []
    for random in dict.fromkeys(p.theirs for p in pairs):
        family = sorted((p for p in pairs if p.theirs == random), key=lambda p: -p.contrast.difference)
        said.append(_clear(family, random, judge, metric))
    tail = what_can_be_seen(judge.resolution) if any(not p.contrast.is_clear for p in pairs) else ""
    return " ".join([*said, *([tail] if tail else [])])


def _clear(pairs: Sequence[Pair], random: str, judge: Judge, metric: str) -> str:
    """Return what is clear of the lines against one random line, then the others with what was seen."""
    what = f"{metric_label(metric)}, {'at the last point' if judge.by_last else 'averaged over the learning curve'}"
    if all(p.contrast.freedom < 1 for p in pairs):
        seen = _listed(pairs)
        return f"One seed proves nothing: on it, {seen} against {random} ({what}). Run three seeds or more."
    better, worse = (
        [p for p in pairs if p.contrast.is_clear and (p.contrast.difference > 0) == is_up] for is_up in (True, False)
    )
    unclear = [p for p in pairs if not p.contrast.is_clear]
    sentences = [
        f"{_named(group)} clearly {word} than {random}: {_listed(group, named=len(group) > 1)}"
        for word, group in (("better", better), ("worse", worse))
        if group
    ]
    if unclear and not sentences:
        sentences = [f"No clear difference from {random} was seen: {_listed(unclear)}"]
    elif unclear:
        sentences.append(f"no clear difference for {_listed(unclear)}")
    text = "; ".join(sentences)
    return f"{text[0].upper() if text.startswith('n') else text[0]}{text[1:]} ({what})."


def _named(pairs: Sequence[Pair]) -> str:
    """Return ``entropy is``, ``entropy and margin are``, ``3 strategies are``."""
    if len(pairs) == 1:
        return f"{pairs[0].ours} is"
    return f"{pairs[0].ours} and {pairs[1].ours} are" if len(pairs) == 2 else f"{len(pairs)} strategies are"  # noqa: PLR2004


def _listed(pairs: Sequence[Pair], named: bool = True) -> str:
    """Return ``entropy +1.2 ± 0.8 points, core_set …``."""
    return ", ".join(f"{p.ours + ' ' if named else ''}{_difference(p)}" for p in pairs)


def _difference(pair: Pair) -> str:
    value = points(pair.contrast.difference)
    half = f" ± {100 * pair.contrast.half:.1f}" if math.isfinite(pair.contrast.half) else ""
    number, unit = value.split(" ")
    text = f"{number if number.startswith('−') else '+' + number}{half} {unit if not half else 'points'}"
    return text.replace(" ", "\u00a0")  # a number and its interval stay on one line


def _numbers(lines: Sequence[Series], full: Series | None, metric: str | None) -> list[Headline]:
    if metric is None:
        return []
    numbers = []
    column = spent_columns([run for s in lines for run in s.runs])[0]
    areas = shared_areas([s.curves(metric, column) for s in lines])
    ranked = [(mean_and_error(own)[0], s.label) for s, own in zip(lines, areas, strict=True) if own]
    if ranked and not judge_of(lines, metric).by_last:
        area, label = max(ranked)
        numbers.append(
            Headline(label, "largest area under the curve", f"{100 * area:.1f} % {metric_label(metric)} on average")
        )
    last = [(mean_and_error(last_values(s, metric))[0], s.label) for s in lines if last_values(s, metric)]
    if last:
        value, label = max(last)
        numbers.append(Headline(f"{100 * value:.1f} %", f"best last point, {metric_label(metric)}", label))
        whole = mean_and_error(last_values(full, metric))[0] if full else 0.0
        if whole > 0:
            numbers.append(
                Headline(f"{100 * value / whole:.0f} %", "of what full data gives", f"full data: {100 * whole:.1f} %")
            )
    resolution = judge_of(lines, metric).resolution
    if resolution is not None and math.isfinite(resolution.visible()):
        numbers.append(
            Headline(points(resolution.visible()), "visible difference", "would be called clear eight times in ten")
        )
    numbers.append(Headline(str(len(lines)), "strategies", _how_many([len(s.runs) for s in lines])))
    return numbers


def _how_many(seeds: Sequence[int]) -> str:
    low, high = min(seeds), max(seeds)
    return f"{low} to {high} seeds each" if low < high else f"{low} seed{'s' if low > 1 else ''} each"
