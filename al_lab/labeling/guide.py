"""A page for whoever labels: what is asked for, in which order, and what the model thinks it sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from al_lab.core.files import write_text
from al_lab.core.types import Detections

_SHOWN = 4  # boxes of which a row says what they may be
_UNSURE = 0.25  # of a second class, to be named beside the first

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Images to label</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
table{border-collapse:collapse;width:100%}td,th{padding:.5rem;border-bottom:1px solid #8884;text-align:left;vertical-align:top}
img{max-width:200px;max-height:150px;border-radius:4px}.done{opacity:.5}.chip{white-space:nowrap;margin-right:.8rem}
.chip i{display:inline-block;width:1em;height:1em;border:1px solid #8888;vertical-align:-.15em;margin-right:.3em}code{overflow-wrap:anywhere}
@media(max-width:40rem){td{display:block;border:0;padding:.2rem}tr{display:block;border-bottom:1px solid #8884;padding:.7rem 0}th{display:none}}
</style>"""  # noqa: E501


def write_guide(
    folder: Path,
    classes: Sequence[str],
    items: Sequence[Any],
    open_ids: Set[str],
    predictions: Mapping[str, Detections] | None,
    min_confidence: float,
) -> None:
    """Write ``guide.html`` beside the images it shows.

    Args:
        folder: of the request.
        classes: names in label order.
        items: what is asked for, the most wanted first.
        open_ids: of those still to be labeled.
        predictions: what the current model finds; None before the first training.
        min_confidence: weaker detections are not spoken of.
    """
    rows = []
    for rank, item in enumerate(items, 1):
        found = predictions.get(item.sample_id) if predictions is not None else None
        why = _why(item, found.above(min_confidence) if found is not None else None, classes)
        rows.append((rank, item.file_name, item.sample_id not in open_ids, why))
    named = ", ".join(f"<b>{escape(name)}</b>" for name in classes)
    intro = (
        f"<p>Draw a box around every object of these classes: {named}. "
        "The most wanted image stands first. README.txt says where the result goes.</p>"
    )
    title = f"{len(open_ids)} of {len(items)} images to label"
    write_text(folder / "guide.html", table_page(title, intro, rows))


def table_page(title: str, intro: str, rows: Iterable[tuple[int, str, bool, str]]) -> str:
    """Return a page with a table of images.

    Args:
        title: of the page.
        intro: HTML above the table.
        rows: rank, file name in ``images/``, whether it is done, and as HTML why it was chosen.
    """
    lines = [
        f'<tr class="{"done" if is_done else ""}"><td>{rank}</td>'
        f'<td><a href="images/{quote(name)}"><img loading="lazy" alt="" src="images/{quote(name)}"></a></td>'
        f"<td><code>{escape(name)}</code><br>{'done' if is_done else 'to label'}</td><td>{why}</td></tr>"
        for rank, name, is_done, why in rows
    ]
    head = "<table><tr><th>Rank<th>Image<th>File<th>Why this one</tr>"
    return f"{_HEAD}<h1>{escape(title)}</h1>{intro}{head}{''.join(lines)}</table></html>"


def _why(item: Any, found: Detections | None, classes: Sequence[str]) -> str:
    """Say what is known of the choice: its utility, and what the model sees and is unsure of."""
    if found is None:
        return "drawn for the first training, before any model looked at it"
    utility = f"utility {item.query.utility:.3g}"
    if not len(found.labels):
        return f"{utility}; the model finds nothing in it: mind what it misses"
    words = []
    first = 1 if found.activation == "softmax" else 0
    # of boxes that were kept without their distributions, nothing is known of other classes
    knows_all = found.probs.shape[1] == len(classes) + first
    for label, confidence, probs in zip(found.labels[:_SHOWN], found.confidence, found.probs, strict=False):
        order = np.argsort(-probs[first:], kind="stable") if knows_all else ()
        second = next((int(k) for k in order if k != label), None)
        rival = f" or {escape(classes[second])}" if second is not None and probs[first + second] > _UNSURE else ""
        words.append(f"{escape(classes[int(label)])}{rival} {confidence:.2f}")
    more = f" and {len(found.labels) - _SHOWN} more" if len(found.labels) > _SHOWN else ""
    return f"{utility}; the model finds {', '.join(words)}{more}"
