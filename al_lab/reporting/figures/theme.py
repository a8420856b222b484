"""One look for every figure: a colour per strategy that a colour-blind reader can tell apart.

SVG follows light and dark.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from al_lab.core.files import atomic_path

# These four are replaced by CSS variables in inline SVG; printed as they are they suit white paper.
INK, MUTED, GRID, PAPER = "#1c2127", "#5f6b7a", "#e1e5ea", "#fefefe"
_CSS_NAMES = {INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--paper"}

# Paul Tol's "vibrant" scheme (colour-blind safe) for the known strategies: the same colour in every report.
_STRATEGY_COLORS = {
    "random": "#868f9b",
    "full data": INK,
    "entropy": "#0077bb",
    "core_set": "#ee7733",
    "margin": "#009988",
    "least_confidence": "#33bbee",
    "mgral": "#cc3311",
    "al_ssl": "#ee3377",
    "density": "#aa4499",
    "ripu": "#117733",
}
_OTHER_COLORS = ("#997700", "#44aa99", "#6699cc", "#bb5566", "#882255", "#88ccee")
_MARKERS = {
    "random": "o",
    "entropy": "s",
    "core_set": "^",
    "margin": "D",
    "least_confidence": "v",
    "mgral": "P",
    "al_ssl": "X",
    "density": "p",
    "ripu": "h",
}
_OTHER_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h", "*")
CLASS_COLORS = (
    "#33bbee",
    "#ee7733",
    "#44cc88",
    "#ee3377",
    "#ddcc33",
    "#bb88ff",
    "#ff9999",
    "#88ddcc",
    "#cc9955",
    "#ffffff",
)

_RC: dict[Any, Any] = {
    # Names of classes and strategies come from files: a dollar sign in one is a dollar sign.
    "text.parse_math": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.markersize": 5.5,
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.labelsize": 10.5,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "font.family": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
}


def color_of(strategy: str, label: str = "", labels: Sequence[str] = ()) -> str:
    """Colour of a strategy; of several variants the first listed keeps it.

    What isn't known takes the next free colour.
    """
    if strategy in _STRATEGY_COLORS and _is_first(strategy, label, labels):
        return _STRATEGY_COLORS[strategy]
    return _OTHER_COLORS[_rank(label or strategy, labels) % len(_OTHER_COLORS)]


def marker_of(strategy: str, label: str = "", labels: Sequence[str] = ()) -> str:
    """Marker of a strategy, so that a figure survives a black-and-white printer."""
    if strategy in _MARKERS and _is_first(strategy, label, labels):
        return _MARKERS[strategy]
    return _OTHER_MARKERS[_rank(label or strategy, labels) % len(_OTHER_MARKERS)]


def _is_first(strategy: str, label: str, labels: Sequence[str]) -> bool:
    return label in ("", strategy) or label == next((name for name in labels if _strategy_in(name) == strategy), None)


def _strategy_in(label: str) -> str:
    return label.split(" (", 1)[0]


def _rank(label: str, labels: Sequence[str]) -> int:
    others = sorted(
        name
        for name in labels
        if not (_strategy_in(name) in _STRATEGY_COLORS and _is_first(_strategy_in(name), name, labels))
    )
    return others.index(label) if label in others else sum(label.encode())


@contextmanager
def look() -> Iterator[None]:
    """Draw inside this: matplotlib's settings are ours here and untouched outside."""
    with mpl.rc_context(_RC):
        yield


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """Return an ``<svg>`` to put inline: colours that follow the page, ids that never collide with another figure's."""
    stream = io.StringIO()
    with mpl.rc_context({**_RC, "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for color, variable in _CSS_NAMES.items():
        text = text.replace(color, f"var({variable},{color})")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'((?:xlink:)?href)="#', rf'\1="#{name}-', text).replace("url(#", f"url(#{name}-")
    text = text.replace("'DejaVu Sans'", "var(--font)")
    width = re.search(r'viewBox="0 0 ([\d.]+) ', text)
    style = f'style="max-width:{float(width.group(1)) * 1.35:.0f}px"' if width else ""
    head = f'<svg role="img" aria-label="{_attribute(alt)}" {style}'
    for attribute in ("width", "height"):  # the page decides; viewBox keeps the proportions
        text = re.sub(rf'(<svg\b[^>]*?) {attribute}="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", head, 1)


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name.png`` (200 dpi) and ``name.pdf`` on white."""
    FigureCanvasAgg(figure)
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    for path in paths:
        with atomic_path(path) as temporary, mpl.rc_context(_RC):
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
            figure.savefig(temporary, format=path.suffix[1:], facecolor="white", metadata=metadata)
    return paths


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
