"""What a detector says of an image and of its flipped image.

Entropy against inconsistency, and the pairs it disagrees most about.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from al_lab.core.errors import DataError
from al_lab.core.types import Candidates
from al_lab.data.formats.images import small_rgb
from al_lab.reporting.document.page import Picture, Section, Sheet
from al_lab.reporting.figures.mosaic import Tile, class_colors, draw_box
from al_lab.reporting.figures.pool import FlipPanel, flip_scatter
from al_lab.reporting.figures.theme import CLASS_COLORS
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read.run_folder import Choice, Run
from al_lab.reporting.sections.run import MAX_PANELS, scored_cycles, spread

_MAX_PAIRS = 6
_PAIR_PX = 240  # longer side of each of the two
_GAP_PX = 6
_SHOWN = 2  # classes named on each side, besides that of the box
_BACKGROUND = "background"
_TEXT = (
    "Each point is an image that could have been bought: its largest class entropy and its largest disagreement J "
    "with its flipped image, "
    "over the boxes that count."
)


@dataclass(frozen=True)
class _Flips:
    """One query's readings: (M,) each, in the order of the candidates."""

    candidates: Candidates
    entropy: np.ndarray
    inconsistency: np.ndarray
    count: np.ndarray
    is_bought: np.ndarray


def flips_section(run: Run) -> Section:
    """Show the scatter over the cycles, and the bought images with the largest inconsistency.

    Empty where nothing was measured.
    """
    section = Section("flips", "Entropy and inconsistency")
    found = {c: _flips(run, c) for c in scored_cycles(run)}
    cycles = [c for c, flips in found.items() if flips is not None]
    _add_scatter(section, [(f"cycle {c}", found[c]) for c in spread(cycles, MAX_PANELS)])
    if cycles and (sheet := _sheet(run, cycles[-1], found[cycles[-1]], "flip_pairs")):
        section.sheets.append(sheet)
    return section


def compared_flips_section(lines: Sequence[Series], max_lines: int) -> Section:
    """Show the scatter of each method's last query, first seed."""
    section = Section("flips", "Entropy and inconsistency")
    panels = []
    for series in lines[:max_lines]:
        run = series.runs[0]
        last = scored_cycles(run)[-1:]
        flips = _flips(run, last[0]) if last else None
        if flips is not None:
            panels.append((f"{series.label}, cycle {last[0]}", flips))
            if sheet := _sheet(run, last[0], flips, f"flip_pairs_{len(panels)}", limit=3):
                section.sheets.append(
                    Sheet(
                        sheet.name,
                        f"{series.label}: {sheet.title[0].lower()}{sheet.title[1:]}",
                        sheet.tiles,
                        sheet.total,
                        len(panels) == 1,
                        is_wide=True,
                    )
                )
    _add_scatter(section, panels)
    if panels:
        section.text += " The last query of each line's first seed."
    return section


def _add_scatter(section: Section, found: Sequence[tuple[str, _Flips | None]]) -> None:
    panels, empty = [], []
    for title, flips in found:
        if flips is None:
            continue
        counts = flips.count > 0
        panels.append(FlipPanel(title, flips.entropy[counts], flips.inconsistency[counts], flips.is_bought[counts]))
        bought = int((flips.is_bought & ~counts).sum())
        empty.append(
            f"{title}: {int((~counts).sum()):,} of {len(counts):,}"
            + (f" ({bought:,} of them bought)" if bought else "")
        )
    if not panels:
        return
    section.text = _TEXT
    caption = f"No box counted, so utility 0 and no point here – {'; '.join(empty)}."
    section.pictures.append(
        Picture(
            "entropy_inconsistency",
            flip_scatter(panels),
            "entropy against inconsistency, bought images marked",
            caption,
        )
    )


def _flips(run: Run, cycle: int) -> _Flips | None:
    """Return one query's readings; None if the strategy did not measure them."""
    candidates = run.candidates(cycle)
    if candidates is None or candidates.center is not None or not len(candidates):
        return None
    columns = [candidates.info.get(name) for name in ("entropy", "inconsistency", "count")]
    if any(c is None for c in columns[:2]):
        return None
    entropy, inconsistency = (np.asarray(c, float) for c in columns[:2])
    count = np.ones(len(entropy), int) if columns[2] is None else np.asarray(columns[2])
    if any(c.ndim != 1 for c in (entropy, inconsistency, count)) or not np.isfinite([entropy, inconsistency]).all():
        run.note(
            f"{candidates_name(cycle)}: entropy and inconsistency are not one finite number an image; they are "
            f"left out."
        )
        return None
    bought = {c.sample_id for c in run.bought(cycle)}
    return _Flips(candidates, entropy, inconsistency, count, np.asarray([i in bought for i in candidates.sample_ids]))


def candidates_name(cycle: int) -> str:
    """Return the file's name inside the run folder, for notes."""
    return f"cycle_{cycle:02d}/candidates.npz"


def _sheet(run: Run, cycle: int, flips: _Flips | None, name: str, limit: int = _MAX_PAIRS) -> Sheet | None:
    """Return the bought images with the largest inconsistency, each beside its flipped image.

    None if no box was kept.
    """
    if flips is None or "box" not in flips.candidates.info:
        return None
    order = np.argsort(-flips.inconsistency, kind="stable")
    rows = [int(k) for k in order if flips.is_bought[k] and flips.count[k] > 0][:limit]
    choices = {c.sample_id: c for c in run.bought(cycle)}
    tiles = [_pair(run, choices[flips.candidates.sample_ids[k]], flips, k) for k in rows]
    total = int((flips.is_bought & (flips.count > 0)).sum())
    title = f"Largest disagreement with the flipped image, of what was bought after cycle {cycle}"
    return Sheet(name, title, tiles, total, is_wide=True) if tiles else None


def _pair(run: Run, choice: Choice, flips: _Flips, row: int) -> Tile:
    """Draw an image and its flipped image, each with its most inconsistent box, and say what the detector saw there."""
    info = flips.candidates.info
    label = int(info["box_label"][row]) if "box_label" in info else -1
    sides = [
        _named(run, np.asarray(info[key][row], float)) if key in info else {} for key in ("box_probs", "box_flip_probs")
    ]
    lines = [
        f"{side}: {_words(probs, run.class_name(label))}"
        for side, probs in zip(("image", "flipped"), sides, strict=True)
        if probs
    ]
    words = "\n".join([f"J = {flips.inconsistency[row]:.3g} nats, entropy {flips.entropy[row]:.2f}", *lines])
    if choice.image is None:
        return Tile(choice, None, "no image that may be shown", words)
    try:
        picture, scale = small_rgb(choice.image, _PAIR_PX)
    except DataError as error:
        return Tile(choice, None, str(error), words)
    flipped = ImageOps.mirror(picture)
    x1, y1, x2, y2 = np.asarray(info["box"][row], float) * scale
    colors = class_colors(run.classes)
    draw_box(picture, np.asarray([x1, y1, x2, y2]), colors.get(run.class_name(label), CLASS_COLORS[0]))
    seen = max(sides[1], key=lambda name: sides[1][name], default=run.class_name(label))
    draw_box(flipped, np.asarray([picture.width - x2, y1, picture.width - x1, y2]), colors.get(seen, "#ffffff"))
    both = Image.new("RGB", (2 * picture.width + _GAP_PX, picture.height), "#ffffff")
    both.paste(picture, (0, 0))
    both.paste(flipped, (picture.width + _GAP_PX, 0))
    return Tile(choice, both, words=words)


def _named(run: Run, probs_K: np.ndarray) -> dict[str, float]:
    """Return class -> probability; a column more than there are classes is background, the first one.

    Empty if nothing was seen there.
    """
    has_background = len(run.classes) > 0 and len(probs_K) == len(run.classes) + 1
    names = [
        *([_BACKGROUND] if has_background else []),
        *(run.class_name(k) for k in range(len(probs_K) - has_background)),
    ]
    return {name: float(p) for name, p in zip(names, probs_K, strict=True) if np.isfinite(p)}


def _words(probs: dict[str, float], own: str) -> str:
    """Name the most probable classes, and that of the box wherever it stands."""
    ranked = sorted(probs, key=lambda name: -probs[name])
    shown = ranked[:_SHOWN] + ([own] if own in ranked[_SHOWN:] else [])
    return ", ".join(f"{name} {probs[name]:.2f}" for name in shown)
