"""A page of crops with numbered points: it needs no server, and saves the table of classes that were chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from al_lab.core.files import write_text
from al_lab.labeling.pixels.palette import named_colors
from al_lab.labeling.pixels.points import COLUMNS, Target
from al_lab.labeling.request import Item

_PER_PAGE = 400  # questions: more of them make a browser slow
_CROP_PX = 220  # of the screen
_AROUND, _LEAST, _MOST = 5, 48, 320  # a crop shows a fifth of the longer side, in these bounds
_WHOLE_PX = 320  # of the picture that shows where the points are

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Points to name</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:84rem;margin:1rem auto;padding:0 1rem 5rem;color-scheme:light dark}
h2{font-size:1rem;margin:2rem 0 .5rem;overflow-wrap:anywhere}.row{display:flex;flex-wrap:wrap;gap:12px}
.view{position:relative;overflow:hidden;background-repeat:no-repeat;background-color:#8883;image-rendering:pixelated;border-radius:4px}
.card{width:220px}.card select{width:100%;font:inherit;padding:.2rem}
.card.done select{outline:2px solid #2a8}
.mark{position:absolute;box-sizing:border-box;border:2px solid #f0f;box-shadow:0 0 0 1px #000a,inset 0 0 0 1px #000a}
.ring{border-radius:50%}.tag{position:absolute;font:bold 12px/15px system-ui;background:#000b;color:#fff;padding:0 4px;border-radius:3px}
.chip{white-space:nowrap;margin-right:.8rem}.chip i{display:inline-block;width:1em;height:1em;border:1px solid #8888;vertical-align:-.15em;margin-right:.3em}
#bar{position:fixed;left:0;right:0;bottom:0;padding:.6rem 1rem;background:Canvas;border-top:1px solid #8886;text-align:center}
button{font:inherit;padding:.3rem 1rem}
</style>"""  # noqa: E501
# What was chosen is remembered by the browser, so that a page that was closed goes on where it was.
_SCRIPT = """<script>
const page=%s,memory=%s,rows=%s,columns=%s,selects=[...document.querySelectorAll("select")];
let kept={};try{kept=JSON.parse(localStorage.getItem(memory)||"{}")}catch(e){}
const state=document.getElementById("state");
function keep(){let n=0;selects.forEach((s,k)=>{const id=rows[k][0]+" "+rows[k][1];
 if(s.value){kept[id]=s.value;n++}else delete kept[id];s.closest(".card").classList.toggle("done",!!s.value)});
 try{localStorage.setItem(memory,JSON.stringify(kept))}catch(e){}
 state.textContent=n+" of "+selects.length+" named"}
selects.forEach((s,k)=>{const v=kept[rows[k][0]+" "+rows[k][1]];
 if(v&&[...s.options].some(o=>o.value===v))s.value=v;s.addEventListener("change",keep)});keep();
const cell=v=>/[",\\n]/.test(v=String(v))?'"'+v.replace(/"/g,'""')+'"':v;
document.getElementById("save").addEventListener("click",()=>{
 const lines=[columns,...rows.map((r,k)=>[...r,selects[k].value])].map(r=>r.map(cell).join(","));
 const a=document.createElement("a");a.href=URL.createObjectURL(new Blob([lines.join("\\n")+"\\n"],{type:"text/csv"}));
 a.download=page+".csv";a.click()});
</script></html>"""


def write_points_pages(
    folder: Path, classes: Sequence[str], items: Sequence[Item], targets: Mapping[str, Sequence[Target]]
) -> None:
    """Write ``points.html``, or several pages of which it is the first; pages of before that are not needed go.

    Args:
        folder: of the request; the images lie in ``images/``.
        classes: names in label order.
        items: with open questions, the most wanted first.
        targets: the open questions, by sample id.
    """
    pages: list[list[Item]] = []
    count = _PER_PAGE
    for item in (i for i in items if targets.get(i.sample_id)):
        if count >= _PER_PAGE:
            pages.append([])
            count = 0
        pages[-1].append(item)
        count += len(targets[item.sample_id])
    names = ["points.html", *(f"points_{n}.html" for n in range(2, len(pages) + 1))]
    for path in folder.glob("points*.html"):
        if path.name not in names[: len(pages)]:
            path.unlink()
    for n, page in enumerate(pages):
        links = "" if len(pages) == 1 else "<p>" + " ".join(
            f"<b>{k}</b>" if k == n + 1 else f'<a href="{name}">{k}</a>' for k, name in enumerate(names, 1)
        ) + "</p>"  # fmt: skip
        write_text(folder / names[n], _page(folder, names[n].removesuffix(".html"), classes, page, targets, links))


def _page(
    folder: Path,
    name: str,
    classes: Sequence[str],
    items: Sequence[Item],
    targets: Mapping[str, Sequence[Target]],
    links: str,
) -> str:
    colors = named_colors(classes)
    chips = "".join(f'<span class="chip"><i style="background:{c}"></i>{escape(n)}</span>' for n, c in colors.items())
    choices = "<option value=''></option>" + "".join(f"<option>{escape(n)}</option>" for n in colors)
    parts, rows = [], []
    for item in items:
        mine = targets[item.sample_id]
        cards = "".join(_card(item, t, choices) for t in mine)
        parts.append(f"<h2>{escape(item.file_name)}</h2><div class='row'>{_overview(item, mine)}{cards}</div>")
        rows += [[item.file_name, t.number, t.x, t.y, t.side] for t in mine]
    memory = f"{folder.absolute()} {name}"  # what a browser remembers of different cycles and runs stays apart
    script = _SCRIPT % tuple(_json(v) for v in (name, memory, rows, list(COLUMNS)))
    return (
        f"{_HEAD}<h1>Which class is at each point?</h1><p>Choose a class below each picture: of the pixel in the ring, "
        f"or of most of the square. Then save the table and put it into <code>labels/</code>, beside this page; points "
        f"you leave out are asked for again.</p><p>{chips}</p>{links}{''.join(parts)}"
        f'<div id="bar"><span id="state"></span> <button id="save">Save the table ({name}.csv)</button></div>{script}'
    )


def _json(value: object) -> str:
    """Return JSON that may stand inside a script."""
    return json.dumps(value).replace("<", "\\u003c")


def _view(item: Item, left: float, top: float, scale: float, width_px: float, height_px: float, inner: str) -> str:
    """Return a window onto the image, ``scale`` screen pixels a pixel; ``left`` and ``top`` are where it begins."""
    height, width = item.size_hw
    style = (
        f"width:{width_px:g}px;height:{height_px:g}px;background-image:url('images/{quote(item.file_name)}');"
        f"background-size:{width * scale:g}px {height * scale:g}px;"
        f"background-position:{-left * scale:g}px {-top * scale:g}px"
    )
    return f'<div class="view" style="{style}">{inner}</div>'


def _overview(item: Item, targets: Sequence[Target]) -> str:
    scale = _WHOLE_PX / max(item.size_hw)
    tags = "".join(
        f'<span class="tag" style="left:{(t.x + 0.5) * scale - 8:.0f}px;top:{(t.y + 0.5) * scale - 8:.0f}px">'
        f"{t.number}</span>"
        for t in targets
    )
    return _view(item, 0, 0, scale, item.size_hw[1] * scale, item.size_hw[0] * scale, tags)


def _card(item: Item, target: Target, choices: str) -> str:
    shown = min(max(max(item.size_hw) / _AROUND, _LEAST, 2 * target.side), _MOST)
    scale = _CROP_PX / shown
    x, y = target.x + 0.5, target.y + 0.5
    side = max(target.side * scale + 8, 18)  # around the pixel or the square, which stays visible
    place = f"left:{_CROP_PX / 2 - side / 2:g}px;top:{_CROP_PX / 2 - side / 2:g}px;width:{side:g}px;height:{side:g}px"
    mark = f'<span class="mark{" ring" if target.side == 1 else ""}" style="{place}"></span>'
    tag = f'<span class="tag" style="left:4px;top:4px">{target.number}</span>'
    view = _view(item, x - shown / 2, y - shown / 2, scale, _CROP_PX, _CROP_PX, mark + tag)
    return f'<div class="card">{view}<select aria-label="class of point {target.number}">{choices}</select></div>'
