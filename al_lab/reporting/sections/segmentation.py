"""Sections about a segmentation's last model.

How well bought pixels stand for the others, its predictions, densities and features.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import segmentation as draw
from al_lab.reporting.figures.theme import color_of
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read import commands
from al_lab.reporting.read.analysis import Analysis, analysis_of
from al_lab.reporting.sections.bought_pixels import opened, shown
from al_lab.reporting.sections.pixels.densities import DENSITIES, densities_of, query_table, same_model_table

_COVERAGE = (
    ("radius", "covering radius δ"),
    ("largest_radial", "largest average distance, max δₛ(k)"),
    ("largest_radial_others", "the same without the center itself"),
    ("mean_distance", "mean distance to the nearest center"),
)
_COVERAGE_TEXT = (
    "How well bought pixels stand for the others of their image, on the unit-length features of each run's last "
    "model: centers are the "
    "bought pixels, distances are plain. The loss on all pixels exceeds that on bought ones by at most max δₛ(k), the "
    "largest mean "
    "distance of a center to the pixels it is nearest to; that never exceeds δ, the largest distance of all (Density "
    "Matters, Theorems "
    "1 to 3). Hidden labels were used for this page only."
)
_CALIBRATION = (
    "Centers of plain k-center on the same pixels, about evenly spread over densities from 0.5 to 3; line: "
    "least squares of "
    "δₛ = a/d + c. The paper takes a > 0 and its R² of 0.72 for good densities. But k-center evens these distances "
    "out, so R² is near 0 for good densities, too; that of as many random centers and the rank of densities ask for "
    "the same without it."
)
_MAPS = (
    "Error: how badly features are foretold by their surroundings, |F̂ − F|²; density: what the strategy makes of it. "
    "Bright is large, scaled in "
    "each picture."
)
_BOUNDS_NOTE = (
    "Means over images, then over seeds with their standard deviation (SD). Smaller is better in all but R². Density "
    "Matters reports for "
    "k-center and its own choice: δ 0.132 and 0.176, max δₛ(k) 0.364 and 0.124, core-set loss 0.646 and 0.550. "
)


def pixel_sections(lines: Sequence[Series]) -> list[Section]:
    """Return the sections that need a finished analysis; none for detection."""
    if not any(run.config.get("segmenter") for s in lines for run in s.runs):
        return []
    found = {s.label: [a for a in map(analysis_of, s.runs) if a is not None] for s in lines}
    sections = [_coverage_section(lines, found), _maps_section(lines, found), _features_section(lines, found)]
    return [section for section in sections if not section.is_empty]


def _coverage_section(lines: Sequence[Series], found: Mapping[str, Sequence[Analysis]]) -> Section:
    """Show Table 4's numbers and the calibration of densities."""
    section = Section("coverage", "Coverage")
    if not any(found.values()):
        run = lines[0].runs[0]
        if run.is_complete:
            section.missing.append(
                (
                    "This run ended without an analysis of its bought pixels. The same command makes it (of "
                    "runtime.analyze_images images):",
                    commands.reproduce(run),
                )
            )
        return section
    section.text = _COVERAGE_TEXT
    alone = [a for s in lines for a in found[s.label]]
    if len(lines) == 1 and len(alone) == 1:
        _add_single(section, alone[0])
    else:
        section.tables.append(_bound_table(lines, found))
        section.files.append(_run_table(lines, found))
    section.tables += same_model_table(lines, found) + query_table(lines)
    labels, panels = [s.label for s in lines], []
    for series in lines:
        first = next((a for a in found[series.label] if (a.facts.get("calibration") or {}).get("density")), None)
        if first is not None:
            values = first.facts["calibration"]
            panels.append(
                draw.CalibrationPanel(
                    series.label,
                    color_of(series.strategy, series.label, labels),
                    np.asarray(values["density"]),
                    np.asarray(values["radial"]),
                    first.fit,
                )
            )
    if panels:
        section.pictures.append(
            Picture(
                "density_calibration", draw.calibration(panels), "average radial distance against density", _CALIBRATION
            )
        )
    return section


def _add_single(section: Section, analysis: Analysis) -> None:
    rows: list[list[Any]] = [
        [label, analysis.mean(key), max(row[key] for row in analysis.covered)]
        for key, label in _COVERAGE
        if analysis.covered
    ]
    for key, label in (
        ("core_set", "core-set loss, |all − bought|"),
        ("all", "mean cross-entropy of all pixels"),
        ("bought", "of bought pixels"),
    ):
        if math.isfinite(analysis.loss(key)):
            rows.append([label, analysis.loss(key), math.nan])
    if analysis.covered:
        held = sum(row["largest_radial"] <= row["radius"] * (1 + 1e-9) for row in analysis.covered)
        section.text += f" Theorem 3, max δₛ(k) ≤ δ, held in {held} of {len(analysis.covered)} images."
    section.text += "" if analysis.covered else " This model has no features of pixels, so only losses were measured."
    caption = f"{len(analysis.facts['images'])} images of the pool"
    note = "Losses are over the pixels of all these images together. " + _sampled(analysis)
    section.tables.append(
        Table("coverage", caption, ["", "mean over images", "largest of an image"], rows, digits=3, note=note)
    )


def _sampled(analysis: Analysis) -> str:
    rows, said = analysis.covered, []
    if few := [row for row in rows if row["population"] < row["valid"]]:
        said.append(f"In {len(few)} of them {few[0]['population']:,} pixels stood for {few[0]['valid']:,}.")
    if few := [row for row in rows if row.get("centers", 0) < row.get("centers_of", 0)]:  # older runs took all
        said.append(f"In {len(few)} of them {few[0]['centers']:,} stood for {few[0]['centers_of']:,} bought pixels.")
    return " ".join(said)


def _bound_table(lines: Sequence[Series], found: Mapping[str, Sequence[Analysis]]) -> Table:
    """Return Table 4, one row a strategy: means and standard deviations over seeds."""
    quantities: list[tuple[str, Callable[[Analysis], float]]] = [
        ("δ", lambda a: a.mean("radius")),
        ("max δₛ(k)", lambda a: a.mean("largest_radial")),
        ("mean distance", lambda a: a.mean("mean_distance")),
        ("core-set loss", lambda a: a.loss("core_set")),
        ("R²", lambda a: a.fit[2] if a.fit else math.nan),
        ("R², random centers", lambda a: a.fit_random[2] if a.fit_random else math.nan),
    ]
    rows = []
    for series in lines:
        analyses = found[series.label]
        if not analyses:
            continue
        row: list[Any] = [series.label, len(analyses)]
        for _, value in quantities:
            values = np.asarray([v for v in map(value, analyses) if math.isfinite(v)])
            row += [
                float(values.mean()) if len(values) else math.nan,
                float(values.std(ddof=1)) if len(values) > 1 else math.nan,
            ]
        rows.append(row)
    return Table(
        "bounds",
        "Bounds and core-set loss",
        ["strategy", "seeds", *(c for name, _ in quantities for c in (name, "± SD"))],
        rows,
        digits=3,
        note=_BOUNDS_NOTE + _sampled_any(found),
    )


def _sampled_any(found: Mapping[str, Sequence[Analysis]]) -> str:
    return next((text for analyses in found.values() for a in analyses if (text := _sampled(a))), "")


def _run_table(lines: Sequence[Series], found: Mapping[str, Sequence[Analysis]]) -> Table:
    rows = [
        [s.label, a.run.seed, row["id"], *(row[k] for k, _ in _COVERAGE)]
        for s in lines
        for a in found[s.label]
        for row in a.covered
    ]
    return Table(
        "bounds_per_image",
        "Bounds of each image",
        ["strategy", "seed", "image", *(k for k, _ in _COVERAGE)],
        rows,
        digits=4,
    )


def _firsts(lines: Sequence[Series], found: Mapping[str, Sequence[Analysis]]) -> list[tuple[str, Analysis]]:
    return [(s.label, found[s.label][0]) for s in shown([s for s in lines if found[s.label]])]


def _maps_section(lines: Sequence[Series], found: Mapping[str, Sequence[Analysis]]) -> Section:
    """Show predictions beside the truth, and density and error maps beside the image."""
    section = Section("maps", "Predictions and densities")
    firsts = _firsts(lines, found)
    names = list(firsts[0][1].facts.get("class_names", ())) if firsts else []
    colors = draw.palette(names)
    rows = []
    for k, row in enumerate(firsts[0][1].facts.get("predictions", ()) if firsts else ()):
        a = firsts[0][1]
        truth = a.array(f"truth_{k}") if "accuracy" in row else None
        panels: list[draw.Panel] = [
            (row["id"], opened(a.run, a.run.image(row["image"]))),
            ("truth", None if truth is None else draw.color_labels(truth, list(colors.values()))),
        ]
        rows.append(panels + [_predicted(label, other, row["id"], list(colors.values())) for label, other in firsts])
    if rows:
        section.text = (
            "Test images with the last model's classes (and the share of their pixels that is right); "
            "black has no class."
        )
        section.pictures.append(
            Picture(
                "predictions", draw.image_grid(rows, colors), "test images, their truth and predictions", is_wide=True
            )
        )
    for label, a in firsts:
        maps = [_density_row(a, k, row) for k, row in enumerate(a.facts.get("maps", ()))]
        if maps and (len(lines) == 1 or not any(p.name.startswith("density_maps") for p in section.pictures)):
            caption = _MAPS + (f" {label}, first seed." if len(lines) > 1 else "")
            section.pictures.append(
                Picture(
                    "density_maps", draw.image_grid(maps, {}), "images, errors and densities", caption, is_wide=True
                )
            )
    labels = [s.label for s in lines]
    spread = [
        (s.label, color_of(s.strategy, s.label, labels), densities_of(a))
        for s in lines
        for label, a in firsts
        if label == s.label
    ]
    spread = [(label, color, values) for label, color, values in spread if len(values)]
    if spread:
        section.pictures.append(
            Picture("densities", draw.densities(spread), "histogram of estimated densities", DENSITIES)
        )
    return section


def _predicted(label: str, analysis: Analysis, sample_id: str, colors: Sequence[str]) -> draw.Panel:
    for k, row in enumerate(analysis.facts.get("predictions", ())):
        if row["id"] == sample_id:
            predicted, right = analysis.array(f"predicted_{k}"), row.get("accuracy")
            title = label if right is None else f"{label}\n{100 * right:.1f} %"
            return title, None if predicted is None else draw.color_labels(predicted, colors)
    return label, None


def _density_row(analysis: Analysis, k: int, row: Mapping[str, Any]) -> list[draw.Panel]:
    error, density = analysis.array(f"error_{k}"), analysis.array(f"density_{k}")
    return [
        (row["id"], opened(analysis.run, analysis.run.image(row["image"]))),
        ("reconstruction error", None if error is None else draw.color_values(error, "magma")),
        ("estimated density", None if density is None else draw.color_values(density, "viridis")),
    ]


def _features_section(lines: Sequence[Series], found: Mapping[str, Sequence[Analysis]]) -> Section:
    """Show features of bought and other pixels on a plane."""
    section = Section("features", "Features of pixels")
    panels: list[draw.FeaturePanel] = []
    names: list[str] = []
    for label, a in _firsts(lines, found):
        if not a.covered:
            continue
        arrays = [a.array(f"tsne_{k}") for k in ("points", "labels", "bought")]
        if all(v is not None for v in arrays):
            panels.append(draw.FeaturePanel(label, *arrays))  # type: ignore[arg-type]
            names = names or list(a.facts.get("class_names", ()))
    if panels:
        section.text = (
            "t-SNE of the last model's features, of bought and other pixels of the analyzed images in the color of "
            "their true class. "
            "Distances between panels mean nothing, and bought pixels are drawn more often than they occur."
        )
        section.pictures.append(
            Picture("features_tsne", draw.features(panels, draw.palette(names)), "features of pixels in two dimensions")
        )
    return section
