"""The folder in which people find images to label pixel by pixel, or points to name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from html import escape
from pathlib import Path
from typing import Any

from al_lab.core.files import write_json, write_text
from al_lab.data.formats import label_studio
from al_lab.labeling.guide import table_page
from al_lab.labeling.pixels.palette import cvat_labels, named_colors, none_name, write_class_table
from al_lab.labeling.pixels.points import Target, template
from al_lab.labeling.pixels.points_page import write_points_pages
from al_lab.labeling.request import Item, write_images_and_lists


def write_pixel_request(
    folder: Path,
    dataset: Any,
    items: Sequence[Item],
    done: Set[str],
    targets: Mapping[str, Sequence[Target]],
    tool: str | None,
) -> None:
    """Write (or bring up to date) everything people need; what they have put into ``labels/`` is never touched.

    Args:
        folder: of this purchase.
        dataset: for its classes and images.
        items: in rank order.
        done: sample ids of which nothing is open.
        targets: the open questions of images of which pixels were asked for, by sample id.
        tool: ``label_studio``, ``cvat``, ``labelme`` or None.
    """
    open_items = write_images_and_lists(folder, dataset, items, done)
    write_class_table(folder, dataset.classes)
    asked = [(item.file_name, t) for item in open_items for t in targets.get(item.sample_id, ())]
    if targets:
        write_text(folder / "points.csv", template(asked))
        write_points_pages(folder, dataset.classes, open_items, targets)
    if tool == "label_studio":
        _write_label_studio(folder, dataset.classes, open_items, targets)
    elif tool == "cvat":
        write_text(folder / "cvat_labels.json", cvat_labels(dataset.classes))
    _write_guide(folder, dataset.classes, items, done, targets)
    write_text(folder / "README.txt", _instructions(dataset.classes, items[0], targets, len(items)))


def _write_label_studio(
    folder: Path, classes: Sequence[str], items: Sequence[Item], targets: Mapping[str, Sequence[Target]]
) -> None:
    tasks = [
        label_studio.map_task(
            i.file_name, i.sample_id, i.size_hw, [(t.number, t.x, t.y) for t in targets.get(i.sample_id, ())]
        )
        for i in items
    ]
    write_json(folder / "label_studio_tasks.json", tasks)
    write_text(folder / "label_studio_config.xml", label_studio.map_config(named_colors(classes), bool(targets)))


def class_chips(classes: Sequence[str]) -> str:
    """Return the class table as a line of HTML: color, id and name."""
    return " ".join(
        f'<span class="chip"><i style="background:{color}"></i>{escape(name)}</span>'
        for name, color in named_colors(classes).items()
    )


def _write_guide(
    folder: Path,
    classes: Sequence[str],
    items: Sequence[Item],
    done: Set[str],
    targets: Mapping[str, Sequence[Target]],
) -> None:
    rows = []
    for rank, item in enumerate(items, 1):
        is_initial = item.query.utility == 0.0 and item.sample_id not in targets
        why = "drawn for the first training" if is_initial else f"utility {item.query.utility:.3g}"
        if asked := targets.get(item.sample_id):
            why += f"; {len(asked)} points to name"
        rows.append((rank, item.file_name, item.sample_id in done, why))
    what = "Name the class at the points of <a href='points.html'>points.html</a>." if targets else (
        "Give every pixel that you can judge its class; what you leave out counts as not labeled."
    )  # fmt: skip
    intro = (
        f"<p>{what} The most wanted image stands first. README.txt says where the result goes.</p>"
        f"<p>{class_chips(classes)}</p><p>Ids and colors are in class_table.csv.</p>"
    )
    noun = "images with points to name" if targets else "images to label"
    write_text(folder / "guide.html", table_page(f"{len(items) - len(done)} of {len(items)} {noun}", intro, rows))


def _instructions(
    classes: Sequence[str], example: Item, targets: Mapping[str, Sequence[Target]], num_images: int
) -> str:
    none = none_name(classes)
    masks = (
        f"  - masks, one PNG an image, named like it ({example.stem}.png for {example.file_name}) and of its size: "
        "gray or palette, the pixel is the class's id; or RGB in the colors of class_table.csv;\n"
        "  - Label Studio: the JSON export of brush, polygon, rectangle or ellipse labels;\n"
        "  - CVAT: 'CVAT for images 1.1' with masks, polygons, boxes or ellipses, or its 'Segmentation mask' with "
        "labelmap.txt;\n"
        "  - labelme: its JSON files with polygons, rectangles or circles."
    )
    rules = (
        "Where areas overlap, the one drawn later lies on top: the later one in the file, in CVAT the one of the "
        "higher z_order."
    )
    void = (
        f"255 (or black) means 'not labeled', {none} (254, or white) 'I looked, and it is none of the classes'. "
        "Spell the classes as in classes.txt. Do not crop, rotate or resize the images."
    )
    part = "You may hand in a part: what is correct is taken over, and problems.txt says what is wrong with the rest."
    if targets:
        parts = [
            f"Please say which class is at each numbered point, or in each square: {', '.join(classes)}; or {none}.",
            "Open points.html in a browser, choose the classes, press 'Save the table', and put the file into labels/. "
            "Or fill the column 'class' of points.csv with names or ids and save it into labels/ as CSV.",
            "A square has one class: the one that most of it shows.",
            "Instead of tables you may put these into labels/, and the points are read from them:\n"
            "  - Label Studio's JSON with key points, labelme's or CVAT's points, on the pixels of points.csv (at most "
            "3 pixels beside them);\n" + masks,
        ]
    else:
        parts = [
            f"Please label the pixels of the images by class: {', '.join(classes)}.",
            f"The images are in images/ ({num_images} of them); list.txt names those still open, the most wanted "
            "first; guide.html shows them.",
            "An image may be labeled in part: what you leave out counts as not labeled, and is not asked for again. An "
            "image of which nothing is labeled is still open.",
            "Put the result into labels/, as your tool exports it:\n" + masks,
        ]
    return "\n\n".join([*parts, rules, void, part]) + "\n"
