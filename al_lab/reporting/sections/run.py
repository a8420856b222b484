"""Sections about one run: the images it bought, its utilities and embedding, cost, times, settings."""

import json
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import yaml

from al_lab.core.pool import INITIAL, TEST
from al_lab.reporting.document.page import Picture, Section, Sheet
from al_lab.reporting.document.tables import Table, duration, unit_of
from al_lab.reporting.figures import curves as figures
from al_lab.reporting.figures import pool as pool_figures
from al_lab.reporting.figures.mosaic import MAX_PER_CYCLE, class_colors, tiles
from al_lab.reporting.figures.theme import color_of
from al_lab.reporting.read import commands
from al_lab.reporting.read.lut import agent_scores
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.asked import asked_table, asked_words
from al_lab.reporting.sections.bought_pixels import buys_pixels

MAX_SHEETS = 9
MAX_PANELS = 6
Method = Literal["pca", "tsne"]
_TSNE_POINTS = 3000
_CONFIG_SECRETS = ("api_key", "token", "password")


def spread(items: Sequence[int], limit: int) -> list[int]:
    """Return at most ``limit`` of the items, evenly spread, first and last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, limit).round().astype(int))]


def images_section(
    run: Run, limit: int = MAX_PER_CYCLE, max_sheets: int = MAX_SHEETS, prefix: str = "selected"
) -> Section:
    """Show thumbnails of what each cycle bought."""
    section = Section("images", "Selected images")
    purchases = list(run.purchases)
    shown = spread(purchases, max_sheets)
    colors = class_colors(run.classes)
    gone: list[str] = []
    for cycle in shown:
        choices = run.bought(cycle)
        if not choices:
            continue
        pictures = tiles(choices, colors, limit)
        gone += [t.problem for t in pictures if t.picture is None and t.choice.image is not None]
        name = f"{prefix}_{'initial' if cycle == INITIAL else f'cycle_{cycle:02d}'}"
        is_open = cycle in (purchases[-1], *([0] if 0 in purchases else []))
        title = "Bought first, as the initial set" if cycle == INITIAL else f"Bought after cycle {cycle}"
        section.sheets.append(Sheet(name, title, pictures, len(choices), is_open))
    if not section.sheets:
        section.text = "Nothing has been bought yet."
        return section
    has_maps = any(t.choice.has_map for s in section.sheets for t in s.tiles)
    section.text = f"The images bought, in rank order{'' if has_maps else ', with the labels that came back drawn in'}."
    if len(shown) < len(purchases):
        section.text += f" {len(shown)} of {len(purchases)} purchases are shown."
    used = {label for s in section.sheets for t in s.tiles for label in t.choice.labels}
    section.legend = {name: color for name, color in colors.items() if name in used} if len(used) <= 24 else {}
    if gone:
        run.note(f"{len(gone)} of the images to show could not be opened, the first: {gone[0]}")
    return section


def utilities_section(run: Run, name: str = "utilities") -> Section:
    """Show how the utilities of a cycle are spread, and where the bought ones lie."""
    section = Section("utilities", "Utilities")
    panels = [p for p in (utility_panel(run, c) for c in spread(scored_cycles(run), MAX_PANELS)) if p is not None]
    if not panels:
        section.text = "No candidates have been written yet."
        return section
    section.text = "How useful the strategy found each candidate" + (
        "; pixels and regions are the best of their image." if buys_pixels(run) else ", and which of them were bought."
    )
    if not any(p.is_telling for p in panels):
        section.text += " All utilities are equal here: this strategy does not choose by them."
        return section
    if all(len(p.candidates) == 0 for p in panels):
        section.text = (
            "This strategy weighs candidates against those it has chosen already, so only the bought ones "
            "have a utility."
        )
    section.pictures.append(
        Picture(name, pool_figures.utility_histograms(panels), "histograms of the utilities of each cycle")
    )
    return section


def embedding_section(run: Run, method: Method = "pca", name: str = "embedding") -> Section:
    """Show the pool flat, with what was labeled before and what was bought now."""
    section = Section("embedding", "Embedding")
    panels = [p for p in (embedding_panel(run, c, method) for c in spread(scored_cycles(run), 3)) if p is not None]
    if not panels:
        section.text = (
            (
                "No image embedding was kept. A strategy that needs `image_embedding` (core_set, say) keeps it with "
                "its candidates; "
                "random looks at nothing."
            )
            if not buys_pixels(run)
            else ""
        )
        return section
    axes = "t-SNE" if method == "tsne" else "the two principal axes"
    elsewhere = run.config.get("embedding")
    whose = f"The image embedding from {elsewhere}" if elsewhere else "The image embedding of each cycle's own model"
    section.text = f"{whose}, on {axes}. Distances between panels mean nothing."
    section.pictures.append(
        Picture(name, pool_figures.embedding(panels), "pool, labeled and bought images in two dimensions")
    )
    return section


def scored_cycles(run: Run) -> list[int]:
    """Return the cycles that have candidates."""
    return [c for c, folder in run.cycle_dirs.items() if (folder / "candidates.npz").exists()]


def utility_panel(run: Run, cycle: int, title: str = "") -> pool_figures.UtilityPanel | None:
    """Return one cycle's utilities; None if there are none.

    Of pixels and regions, those each image proposed: all are alike, bought or not.
    """
    candidates = run.candidates(cycle)
    if candidates is None or len(candidates) == 0:
        return None
    scores = agent_scores(run, cycle)  # MGRAL's agent scores the pool after it was proposed
    bought = np.asarray([c.utility for c in run.bought(cycle) if c.utility is not None], float)
    bought = bought[np.isfinite(bought)]
    if scores is not None:
        return pool_figures.UtilityPanel(title or f"cycle {cycle}", scores, bought)
    if candidates.center is not None:  # a query names an image, its utility is that of the image's best pixel
        return pool_figures.UtilityPanel(title or f"cycle {cycle}", candidates.utility, np.zeros(0))
    # k-center: a utility arises in select only
    is_joint = np.ptp(candidates.utility) == 0 and len(bought) > 0 and np.ptp(bought) > 0
    return pool_figures.UtilityPanel(title or f"cycle {cycle}", np.zeros(0) if is_joint else candidates.utility, bought)


def embedding_panel(run: Run, cycle: int, method: Method, title: str = "") -> pool_figures.EmbeddingPanel | None:
    """Return one cycle's embedding, flat; None if none was kept."""
    title = title or f"cycle {cycle}"
    candidates = run.candidates(cycle)
    features = None if candidates is None else candidates.info.get("embedding")
    ids: Sequence[str] = () if candidates is None else candidates.sample_ids
    if features is None or features.ndim != 2 or len(features) < 3:
        return None
    labeled, bought = run.labeled_ids(cycle), {c.sample_id for c in run.bought(cycle)}
    kind = np.asarray([2 if i in bought else 1 if i in labeled else 0 for i in ids])
    if (kind == 2).all():  # by pixel every image is bought from
        return None
    if method == "tsne":
        keep = np.unique(
            np.concatenate(
                [np.flatnonzero(kind == 2), np.linspace(0, len(ids) - 1, min(len(ids), _TSNE_POINTS)).astype(int)]
            )
        )
        return pool_figures.EmbeddingPanel(title, _tsne(features[keep]), kind[keep])
    return pool_figures.EmbeddingPanel(title, pool_figures.principal_axes(features), kind)


def _tsne(features: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE  # imports for a second; most reports don't need it

    perplexity = min(30.0, max(2.0, (len(features) - 1) / 3))
    return TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=0).fit_transform(
        np.nan_to_num(features)
    )


def cost_section(run: Run) -> Section:
    """Show what each purchase cost in images, boxes (or pixels) and hours of labelling."""
    section = Section("cost", "Cost")
    costs = {c: run.cost(c) for c in (*([TEST] if run.tests_itself else []), *run.purchases)}
    costs = {c: cost for c, cost in costs.items() if cost}
    if not costs:
        section.text = "No cost was written (the oracle writes cost.json with each purchase)."
        return section
    counted = ("images", "boxes", "pixels", "clicks", "hours")
    units = [u for u in counted if any(cost.get(u, 0) > 0 for cost in costs.values())]
    names = [{INITIAL: "initial", TEST: "test set"}.get(c, str(c)) for c in costs]
    time_unit, size = unit_of([3600 * sum(cost.get("hours", 0.0) for cost in costs.values())])
    panels = {u: [cost.get(u, 0.0) * (3600 / size if u == "hours" else 1) for cost in costs.values()] for u in units}
    rates = "image and per box (oracle.seconds_per_image, oracle.seconds_per_box"
    if "pixels" in units:  # whole label maps have a rate of their own
        rates = "label map (oracle.seconds_per_map" if "images" in units else "click (oracle.seconds_per_pixel"
    section.text = (
        f"What each purchase cost. Time is an estimate from the oracle's seconds per {rates}): put your own in."
    )
    figure = figures.bars_per_purchase(
        names,
        {(f"{time_unit} of labeling" if u == "hours" else u): v for u, v in panels.items()},
        color_of(run.strategy),
    )
    section.pictures.append(Picture("cost", figure, f"cost of each purchase in {', '.join(units)}"))
    rows = [
        [name, *(float(v[k]) if u == "hours" else int(v[k]) for u, v in panels.items())] for k, name in enumerate(names)
    ]
    rows.append(["sum", *(float(np.sum(v)) if u == "hours" else int(np.sum(v)) for u, v in panels.items())])
    columns = ["bought after cycle", *(time_unit if u == "hours" else u for u in units)]
    section.tables.append(Table("cost", "Cost of each purchase", columns, rows, digits=1))
    if any("asked_images" in cost for cost in costs.values()):
        section.tables.append(asked_table(run, dict(zip(names, costs.values(), strict=True))))
        section.text += " " + asked_words(run, list(costs.values()))
    return section


def times_section(run: Run) -> Section:
    """Show where the time went."""
    section = Section("times", "Time")
    note_divergence(run)
    entries = [(e.get("cycle"), str(e.get("stage")), e.get("seconds")) for e in run.ledger]
    timed = [
        (c, s, float(t))
        for c, s, t in entries
        if isinstance(c, int) and isinstance(t, int | float) and math.isfinite(t)
    ]
    if not timed:
        section.text = "No stage has been committed yet."
        return section
    cycles = sorted({c for c, _, _ in timed})
    stages = dict.fromkeys(s for _, s, _ in timed)  # in the order they first ran
    seconds = {stage: [sum(t for c, s, t in timed if (c, s) == (cycle, stage)) for cycle in cycles] for stage in stages}
    total = sum(t for _, _, t in timed)
    section.text = (
        f"{duration(total)} in all, on the machine described below; a stage that resumed counts its last stretch."
    )
    section.pictures.append(
        Picture(
            "stage_times", figures.stage_times([f"cycle {c}" for c in cycles], seconds), "time of each stage by cycle"
        )
    )
    rows = [[c, *(float(v[k]) if v[k] else None for v in seconds.values())] for k, c in enumerate(cycles)]
    table = Table("stage_times", "Seconds by stage", ["cycle", *seconds], rows)
    section.tables.append(table)
    return section


def note_divergence(run: Run) -> None:
    """Note which trainings diverged and were begun again.

    Such a model has another seed, perhaps another learning rate.
    """
    for entry in run.ledger:
        scalars = entry.get("scalars") or {}
        where = f"cycle {entry.get('cycle')}"
        if scalars.get("diverged"):
            run.note(
                f"{where}: training diverged {scalars['diverged']:g} time(s), the last time at step "
                f"{scalars.get('diverged_step', math.nan):g}; the model is of a further attempt, with another seed and "
                f"{scalars.get('lr_factor', math.nan):g} times the learning rate."
            )
        if scalars.get("diverged_rows"):
            run.note(
                f"{where}: {scalars['diverged_rows']:g} rows of the table diverged and were begun again with "
                f"other seeds."
            )


def settings_section(run: Run) -> Section:
    """Show the command, the resolved config and the environment."""
    section = Section("settings", "Settings")
    section.commands.append(("This run, again (or further, if it was cut off):", commands.reproduce(run)))
    section.blocks.append(
        (
            "Resolved configuration",
            yaml.safe_dump(_without_secrets(run.config), sort_keys=False, allow_unicode=True, width=110),
        )
    )
    if run.environment:
        section.blocks.append(
            ("Environment", json.dumps(_without_secrets(run.environment), indent=2, ensure_ascii=False, default=str))
        )
    return section


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {
            k: "(hidden)" if str(k).lower().endswith(_CONFIG_SECRETS) and v else _without_secrets(v)
            for k, v in value.items()
        }
    return [_without_secrets(v) for v in value] if isinstance(value, list) else value
