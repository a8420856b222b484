"""Numbered points and squares: which they are, the page that asks for them, and what becomes of every table."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.errors import DataError
from al_lab.core.pool import INITIAL
from al_lab.core.record.labels import read_bought_pixels
from al_lab.core.record.pixel_labels import NO_CLASS
from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Candidates, Query, Region
from al_lab.labeling.folder import FolderOracle
from al_lab.labeling.pixels.points import targets_of
from tests.labeling.pixels.conftest import SIZE, cost_of, folder_of, placed, save, wait

U = 255
PIXELS = [3, 9, 20, 47]  # x, y: (3, 0), (1, 1), (4, 2), (7, 5)


def table(path: Path, *rows: tuple, head: str = "image,point,class") -> None:
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")


def test_every_pixel_is_a_point_and_numbers_go_row_by_row():
    targets = targets_of(Query("a", Region(np.array(PIXELS), SIZE)), None)
    assert [(t.number, t.x, t.y, t.side) for t in targets] == [(1, 3, 0, 1), (2, 1, 1, 1), (3, 4, 2, 1), (4, 7, 5, 1)]
    assert targets_of(Query("a"), None) == ()


def test_squares_are_those_that_were_bought():
    """Of two overlapping candidates that touch, the more wanted one is whole; clipped ones are squares, too."""
    candidates = Candidates.pixels("a", (9, 9), [0, 40, 42, 80, 20], [0.9, 0.8, 0.7, 0.2, 0.1], 1)
    parts = [candidates.region_of(n) for n in (0, 1, 2, 3)]
    region = Region(np.unique(np.concatenate([p.pixels for p in parts])), (9, 9))
    targets = targets_of(Query("a", region), candidates)
    assert [(t.x, t.y, t.side, len(t.pixels)) for t in targets] == [
        (0, 0, 3, 4),
        (4, 4, 3, 9),
        (6, 4, 3, 9),
        (8, 8, 3, 4),
    ]


def test_a_replayed_region_is_asked_for_in_pieces_that_touch():
    mask = np.zeros(SIZE, bool)
    mask[0:2, 0:2] = mask[4:, 5:] = True
    targets = targets_of(Query("a", Region.from_mask(mask)), Candidates.images([], []))
    assert [len(t.pixels) for t in targets] == [4, 6]


def test_pixels_of_an_image_of_another_size_are_refused(dataset, purchase):
    order = purchase("a")
    other = Purchase(order.run_dir, 0, (Query("a", Region(np.array([1]), (3, 4))),), Allowance("pixel", 1))
    with pytest.raises(DataError, match=r"a label map of \(3, 4\), got \(6, 8\)"):
        FolderOracle().reveal(dataset, other)


def test_the_folder_asks_for_points(dataset, purchase):
    order = purchase("b", "side", pixels=PIXELS, cycle=1)
    message = wait(FolderOracle(), dataset, order)
    folder = folder_of(order)
    assert message.startswith("8 of 8 points in 2 images wait for labels") and "open points.html" in message
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert [(r["image"], r["point"], r["x"], r["y"], r["class"]) for r in rows[:2]] == [
        ("b.jpg", "1", "3", "0", ""),
        ("b.jpg", "2", "1", "1", ""),
    ]
    page = (folder / "points.html").read_text()
    assert page.count("<select") == 8 and page.count('class="mark ring"') == 8
    assert "http" not in re.sub(r"http-equiv", "", page)  # nothing is fetched
    assert 'rows=[["b.jpg", 1, 3, 0, 1],' in page and "images/side.png" in page
    assert "points.html" in (folder / "guide.html").read_text()


def test_a_page_is_harmless_whatever_names_say(dataset, purchase, tmp_path):
    dataset.classes = ("</script><b>", "car", '"&')
    order = purchase("a", pixels=PIXELS)
    wait(FolderOracle(), dataset, order)
    page = (folder_of(order) / "points.html").read_text()
    assert page.count("</script>") == 1 and "<b>" not in page


def test_many_points_are_several_pages_and_those_that_are_done_go(dataset, purchase, monkeypatch):
    monkeypatch.setattr("al_lab.labeling.pixels.points_page._PER_PAGE", 4)
    oracle, order = FolderOracle(), purchase("a", "b", "side", pixels=PIXELS)
    wait(oracle, dataset, order)
    folder = folder_of(order)
    assert sorted(p.name for p in folder.glob("points*.html")) == ["points.html", "points_2.html", "points_3.html"]
    assert 'href="points_2.html"' in (folder / "points.html").read_text()
    table(folder / "labels" / "points.csv", *(("b.jpg", n, "car") for n in (1, 2, 3, 4)))
    wait(oracle, dataset, order)
    assert sorted(p.name for p in folder.glob("points*.html")) == ["points.html", "points_2.html"]


def test_a_table_is_taken_over_and_the_rest_is_asked_for(dataset, purchase):
    oracle, order = FolderOracle(seconds_per_pixel=3.6), purchase("a", "b", pixels=PIXELS)
    wait(oracle, dataset, order)
    folder = folder_of(order)
    table(folder / "labels" / "one.csv", ("a.jpg", 1, "car"), ("a.jpg", 2, 2), ("b.jpg", 4, "none"), ("b.jpg", 3, ""))
    message = wait(oracle, dataset, order)
    assert "5 of 8 points in 2 images wait" in message
    assert "3 of 8 points are named and kept; they will not be asked for again" in message
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert [(r["image"], r["point"]) for r in rows] == [("a.jpg", "3"), ("a.jpg", "4"), *(("b.jpg", k) for k in "123")]
    (folder / "labels" / "one.csv").unlink()
    # a spreadsheet's: semicolons, a byte order mark, columns in another order
    lines = ["﻿class;point;image;x;y", "road;3;a.jpg;4;2", "254;4;A.JPG;7;5", *(f"sky;{n};b;;" for n in (1, 2, 3))]
    (folder / "labels" / "two.csv").write_text("\r\n".join(lines))
    assert oracle.reveal(dataset, order) == order.queries
    (a, bought), (b, _) = (read_bought_pixels(order.run_dir, i, 0) for i in ("a", "b"))
    assert (np.flatnonzero(bought).tolist(), a.reshape(-1)[PIXELS].tolist()) == (PIXELS, [1, 2, 0, U])
    assert b.reshape(-1)[PIXELS].tolist() == [2, 2, 2, U]
    cost = cost_of(order)
    assert (cost["images"], cost["pixels"], cost["clicks"], cost["asked_clicks"]) == (0, 8, 8, 8)
    assert cost["hours"] == pytest.approx(0.008) == cost["asked_hours"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("a.jpg", 7, "car"), "line 2: point: expected a point of a.jpg, 1..4, got 7"),
        (("a.jpg", "x", "car"), "line 2: point: expected a whole number >= 0, written in digits, got 'x'"),
        (("a.jpg", 1, "bus"), "line 2: class: expected one of 3 known classes, or 'none', got 'bus'"),
        (("a.jpg", 1, 3), "line 2: class: expected a class's name, its id 0..2, or none, got '3'"),
        (("a.jpg", 1, 99999), "line 2: class: expected a class's name"),
        (
            ("a.jpg", 1, "car", 4),
            "line 2: x: expected 3, where point 1 of a.jpg is, got 4; fill in the table of this cycle",
        ),
    ],
)
def test_a_wrong_line_is_named_with_its_number_and_the_others_are_kept(dataset, purchase, row, said):
    oracle, order = FolderOracle(), purchase("a", pixels=PIXELS)
    wait(oracle, dataset, order)
    path = folder_of(order) / "labels" / "points.csv"
    table(path, row, *(("a.jpg", n, "car", "") for n in (2, 3, 4)), head="image,point,class,x")
    message = wait(oracle, dataset, order)
    assert "1 of 4 points in 1 images wait" in message
    assert f"{path}: {said}" in message


def test_a_point_with_two_classes_has_none(dataset, purchase):
    oracle, order = FolderOracle(), purchase("a", pixels=PIXELS)
    wait(oracle, dataset, order)
    table(folder_of(order) / "labels" / "p.csv", *(("a.jpg", n, c) for n, c in ((1, "car"), (1, "sky"), (2, "car"))))
    message = wait(oracle, dataset, order)
    assert "3 of 4 points" in message
    assert "p.csv: line 3: expected one class for point 1 of a.jpg, got another one than in line 2" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,point\na.jpg,1\n", "line 1: expected a table with the columns image, point"),
        ("", "an empty file"),
        ("image,point,class\nz.jpg,1,car\n", "expected images of list.csv, got none of them"),
        ('image,point,class\n"a.jpg,1,car\n', "line 2: expected cells with separators between them"),
    ],
)
def test_a_table_of_something_else_is_named(dataset, purchase, text, said):
    oracle, order = FolderOracle(), purchase("a", pixels=PIXELS)
    wait(oracle, dataset, order)
    (folder_of(order) / "labels" / "points.csv").write_text(text)
    message = wait(oracle, dataset, order)
    assert "4 of 4 points" in message
    assert said in message
    assert "1 could not be taken over" in message


def test_points_may_be_read_from_masks_and_from_tools(dataset, purchase):
    oracle, order = FolderOracle(tool="label_studio"), purchase("a", "b", "side", pixels=PIXELS)
    wait(oracle, dataset, order)
    folder = folder_of(order)
    mask = np.full(SIZE, U)
    mask.reshape(-1)[PIXELS] = [0, 1, 2, NO_CLASS]
    mask[5, 0] = 1  # nobody asked
    save(folder / "labels" / "a.png", mask)
    tasks = json.loads((folder / "label_studio_tasks.json").read_text())
    assert "KeyPointLabels" in (folder / "label_studio_config.xml").read_text()
    assert [t["data"]["al_lab_id"] for t in tasks] == ["a", "b", "side"]
    (given,) = tasks[1].pop("predictions")
    assert [r["value"]["keypointlabels"] for r in given["result"]] == [["?"]] * 4
    for region, name in zip(given["result"], ("car", "?", "sky", "road"), strict=True):
        region["value"]["keypointlabels"] = [name]
    given["result"][0]["value"]["x"] += 7.0  # half a pixel beside it
    done = tasks[1] | {"id": 1, "annotations": [{"result": given["result"], "lead_time": 7.2}]}
    (folder / "labels" / "export.json").write_text(json.dumps([done]))
    points = [
        {"label": "sky", "shape_type": "point", "points": [[x + 0.5, y + 0.5]]} for x, y in ((3, 0), (1, 1), (4, 2))
    ]
    me = {"imagePath": "side.png", "imageHeight": 6, "imageWidth": 8, "shapes": points}
    (folder / "labels" / "side.json").write_text(json.dumps(me))
    assert "2 of 12 points in 2 images wait" in wait(oracle, dataset, order)
    table(folder / "labels" / "p.csv", ("b.jpg", 2, "road"), ("side.png", 4, "road"))
    oracle.reveal(dataset, order)
    got = [read_bought_pixels(order.run_dir, i, 0) for i in ("a", "b", "side")]
    assert [labels.reshape(-1)[PIXELS].tolist() for labels, _ in got] == [[0, 1, 2, U], [1, 0, 2, 0], [2, 2, 2, 0]]
    assert all(np.flatnonzero(bought).tolist() == PIXELS for _, bought in got)
    assert (cost_of(order)["timed_images"], cost_of(order)["timed_hours"]) == (1, 0.002)


def test_a_click_beside_all_points_is_named(dataset, purchase):
    oracle, order = FolderOracle(), purchase("a", pixels=[0, 4])
    wait(oracle, dataset, order)
    for x, said in ((7.9, "sky at x 7.9"), (2.5, "2 that are as near")):
        point = {"label": "sky", "shape_type": "point", "points": [[x, 5.0 if x > 7 else 0.5]]}
        (folder_of(order) / "labels" / "a.json").write_text(
            json.dumps({"imagePath": "a.jpg", "imageHeight": 6, "imageWidth": 8, "shapes": [point]})
        )
        message = wait(oracle, dataset, order)
        assert said in message and "expected one of the 2 numbered points within 3 pixels" in message


def test_squares_are_asked_for_once_each_and_cost_a_click(dataset, purchase, tmp_path):
    candidates = Candidates.pixels("a", SIZE, [9, 38], [0.9, 0.8], 1)
    region = Region(np.unique(np.concatenate([candidates.region_of(n).pixels for n in (0, 1)])), SIZE)
    order = Purchase(tmp_path / "run", 0, (Query("a", region, 0.9),), Allowance("region", 2, per_image=True))
    placed(order)
    candidates.save(order.folder / "candidates.npz")
    oracle = FolderOracle(seconds_per_pixel=3600)
    assert "2 of 2 squares in 1 images wait" in wait(oracle, dataset, order)
    page = (folder_of(order) / "points.html").read_text()
    assert page.count('class="mark"') == 2
    table(folder_of(order) / "labels" / "points.csv", ("a.jpg", 1, "car"), ("a.jpg", 2, "sky"))
    oracle.reveal(dataset, order)
    labels, bought = read_bought_pixels(order.run_dir, "a", 1)
    assert (labels[0:3, 0:3] == 1).all() and (labels[3:6, 5:8] == 2).all() and bought.sum() == 18
    cost = cost_of(order)
    assert (cost["pixels"], cost["clicks"], cost["asked_clicks"], cost["hours"]) == (18, 2, 2, 2.0)


def test_another_run_asks_only_for_the_rest_and_both_counts_are_right(dataset, purchase, tmp_path):
    store = str(tmp_path / "kept")
    first = purchase("a", pixels=PIXELS)
    oracle = FolderOracle(store=store)
    wait(oracle, dataset, first)
    table(folder_of(first) / "labels" / "points.csv", *(("a.jpg", n, "car") for n in (1, 2, 3, 4)))
    oracle.reveal(dataset, first)
    second = purchase("a", pixels=[3, 9, 30], run="other")
    oracle = FolderOracle(store=store)
    assert "1 of 3 points in 1 images wait" in wait(oracle, dataset, second)
    table(folder_of(second) / "labels" / "points.csv", ("a.jpg", 3, "sky"))
    oracle.reveal(dataset, second)
    cost = cost_of(second)
    assert (cost["pixels"], cost["clicks"], cost["asked_clicks"], cost["asked_pixels"]) == (3, 3, 1, 1)
    assert read_bought_pixels(second.run_dir, "a", 0)[0].reshape(-1)[[3, 9, 30]].tolist() == [1, 1, 2]
    whole = purchase("a", run="third")  # single pixels are no answer for a whole image
    assert "1 of 1 images wait" in wait(FolderOracle(store=store), dataset, whole)
    save(folder_of(whole) / "labels" / "a.png", np.zeros(SIZE))
    FolderOracle(store=store).reveal(dataset, whole)
    fourth = purchase("a", pixels=[0, 3], run="fourth")  # but a whole image answers for its pixels
    FolderOracle(store=store).reveal(dataset, fourth)
    assert cost_of(fourth)["asked_clicks"] == 0
    assert fourth.cycle == INITIAL
