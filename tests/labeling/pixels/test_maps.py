"""Whole images labeled by people, pixel by pixel or in part: what they are given, and what becomes of every return."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import ConfigError, ResumeError
from al_lab.core.record.labels import read_bought_pixels
from al_lab.core.record.pixel_labels import NO_CLASS
from al_lab.data.formats.brush import encode_alpha
from al_lab.labeling.folder import FolderOracle
from al_lab.labeling.pixels.palette import color_of, color_table
from tests.labeling.pixels.conftest import CLASSES, SIZE, cost_of, folder_of, save, wait

U = 255
LEFT = np.full(SIZE, U, np.uint8)
LEFT[:, :4] = 1  # the left half is a car, the rest is left out
FULL = np.zeros(SIZE, np.uint8)
FULL[2:] = 2


def test_the_folder_says_what_to_do_with_what(dataset, purchase):
    order = purchase("a", "c (1)", "side")
    message = wait(FolderOracle(), dataset, order)
    folder = folder_of(order)
    assert message.startswith(f"3 of 3 images wait for labels: images, lists and instructions are in {folder}")
    names = (folder / "list.txt").read_text().split("\n")[:3]
    assert names[0] == "a.jpg" and names[2] == "side.png" and names[1].startswith("c_1_") and " " not in names[1]
    assert sorted(p.name for p in (folder / "images").iterdir()) == sorted(names)
    assert Image.open(folder / "images" / "side.png").size == SIZE[::-1]
    table = list(csv.DictReader((folder / "class_table.csv").open()))
    assert [(r["id"], r["name"]) for r in table] == [
        *((str(k), n) for k, n in enumerate(CLASSES)),
        ("254", "none"),
        ("255", "(not labeled)"),
    ]
    assert [table[0][k] for k in "rgb"] == ["128", "0", "0"] and table[0]["color"] == "#800000"
    guide = (folder / "guide.html").read_text()
    assert guide.count("<tr") == 4 and "#008000" in guide and 'src="images/side.png"' in guide
    readme = (folder / "README.txt").read_text()
    assert "a.png for a.jpg" in readme and "later lies on top" in readme and "255" in readme
    assert not (folder / "points.csv").exists()


def test_colors_are_those_of_pascal_voc_and_none_is_used_twice():
    assert [color_of(k) for k in range(4)] == [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert len(color_table(254)) == 256


def test_masks_of_every_kind_are_taken_over_and_what_is_left_out_is_not_paid(dataset, purchase):
    oracle, order = FolderOracle(seconds_per_image=0, seconds_per_map=4800), purchase("a", "b", "side")
    wait(oracle, dataset, order)
    labels = folder_of(order) / "labels"
    save(labels / "a_mask.png", FULL, "P")
    save(labels / "SegmentationClass" / "b.png", LEFT)
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[0] = color_of(2)
    rgb[1] = 255  # looked at, and none of the classes
    Image.fromarray(rgb).save(labels / "side.png")
    (labels / "images").mkdir()
    Image.new("RGB", SIZE[::-1], (1, 2, 3)).save(labels / "images" / "b.png")  # exports bring the photographs along
    assert oracle.reveal(dataset, order) == order.queries
    got, bought = zip(*(read_bought_pixels(order.run_dir, i, 0) for i in ("a", "b", "side")), strict=True)
    assert got[0].tolist() == FULL.tolist() and bought[0].all()
    assert got[1].tolist() == LEFT.tolist() and bought[1].sum() == 24
    assert got[2][0].tolist() == [2] * 8 and (got[2][1:] == U).all() and bought[2].sum() == 16
    cost = cost_of(order)
    assert (cost["images"], cost["pixels"], cost["asked_images"], cost["asked_pixels"]) == (3, 88, 3, 88)
    assert cost["hours"] == pytest.approx(4800 / 3600 * 88 / 48) == cost["asked_hours"]
    assert json.loads((order.folder / "oracle_stats.json").read_text())["bought"] == [16, 24, 40]


def test_what_tools_draw_is_taken_over(dataset, purchase):
    oracle, order = FolderOracle(), purchase("a", "b", "side")
    wait(oracle, dataset, order)
    labels = folder_of(order) / "labels"
    done = {
        "type": "brushlabels",
        "original_width": 8,
        "original_height": 6,
        "value": {"format": "rle", "rle": encode_alpha(LEFT == 1), "brushlabels": ["car"]},
    }
    tasks = [
        {"id": 1, "data": {"image": "x.jpg", "al_lab_id": "a"}, "annotations": [{"result": [done], "lead_time": 36}]},
        {"id": 2, "data": {"image": "y.jpg", "al_lab_id": "b"}, "annotations": [{"result": []}]},
    ]
    (labels / "studio.json").write_text(json.dumps(tasks))
    (labels / "annotations.xml").write_text(
        '<annotations><image id="0" name="images/side.png" width="8" height="6">'
        '<polygon label="sky" points="0,0;8,0;8,6;0,6"/></image></annotations>'
    )
    assert "1 of 3 images wait" in wait(oracle, dataset, order)  # b is finished, and nothing is labeled in it
    shape = {"label": "road", "shape_type": "rectangle", "points": [[0, 0], [8, 6]]}
    (labels / "b.json").write_text(
        json.dumps({"imagePath": "b.jpg", "imageHeight": 6, "imageWidth": 8, "shapes": [shape]})
    )
    oracle.reveal(dataset, order)
    got = [read_bought_pixels(order.run_dir, i, 0)[0] for i in ("a", "b", "side")]
    assert got[0].tolist() == LEFT.tolist() and (got[1] == 0).all() and (got[2] == 2).all()
    assert (cost_of(order)["timed_images"], cost_of(order)["timed_hours"]) == (1, 0.01)


def _cvat_folder(labels: Path) -> None:
    (labels / "labelmap.txt").write_text("# label:color\nbackground:0,0,0::\ncar:9,9,9::\nsky:1,2,3::\nbus:7,7,7::\n")
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[:, :4] = 9
    (labels / "SegmentationClass").mkdir()
    Image.fromarray(rgb).save(labels / "SegmentationClass" / "a.png")


def test_a_tools_own_color_table_counts_for_its_masks(dataset, purchase):
    oracle, order = FolderOracle(), purchase("a")
    wait(oracle, dataset, order)
    labels = folder_of(order) / "labels"
    _cvat_folder(labels)
    assert "expected one of 3 known classes, or 'none', got 'bus'" in wait(oracle, dataset, order)
    (labels / "labelmap.txt").write_text("background:0,0,0::\ncar:9,9,9::\n")
    oracle.reveal(dataset, order)
    assert read_bought_pixels(order.run_dir, "a", 0)[0].tolist() == LEFT.tolist()


def _gray(value: int) -> np.ndarray:
    return np.where(LEFT == 1, np.uint8(1), np.uint8(value))


_STRANGE = np.where((LEFT == 1)[..., None], np.array(color_of(1)), np.array([5, 5, 9])).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("a.png", _gray(37), r"a.png: expected ids of class_table.csv (0, 1, 2, 254, 255), got [37] in 24 pixels"),
        ("a.png", _gray(255).T, "height x width 6 x 8, got 8 x 6 (turned by a quarter)"),
        ("a.png", _gray(255)[:3], "height x width 6 x 8, got 3 x 8"),
        ("stranger.png", _gray(255), "a file named like one of the images of list.csv, got 'stranger.png'"),
        ("a.png", _STRANGE, "got the color 5,5,9, which it lacks, in 24 pixels"),
        ("a.jpg", _gray(255), "a.jpg: expected a gray or palette image of class ids, got a JPEG"),
        ("a.png", LEFT == 1, "a picture of black and white: 255 may mean the second class, or nothing"),
        ("a.zip", None, "got an archive"),
        ("a.txt", None, "got another .txt file"),
        ("a.json", None, "got another .json file"),
        ("a.png", b"\x89PNG", "a.png: expected a readable image"),
        ("a.png", b"", "an empty file"),
    ],
)
def test_what_is_wrong_is_named_and_the_rest_kept(dataset, purchase, name, image, said):
    oracle, order = FolderOracle(), purchase("a", "b")
    wait(oracle, dataset, order)
    labels = folder_of(order) / "labels"
    save(labels / "b.png", FULL)
    if isinstance(image, np.ndarray):
        Image.fromarray(image).save(labels / name, quality=100)
    else:
        (labels / name).write_bytes(b"hello" if image is None else image)
    message = wait(oracle, dataset, order)
    assert message.startswith("1 of 2 images wait")
    assert said in message
    assert "1 could not be taken over" in message
    assert (folder_of(order) / "problems.txt").read_text().count("expected") == 1
    assert (folder_of(order) / "list.txt").read_text() == "a.jpg\n"


def test_two_classes_and_0_and_255_alone_are_asked_about(tmp_path, dataset, purchase):
    dataset.classes = ("road", "car")
    oracle, order = FolderOracle(), purchase("a")
    wait(oracle, dataset, order)
    save(folder_of(order) / "labels" / "a.png", np.where(LEFT == 1, 255, 0))
    assert "say oracle.void_id=255" in wait(oracle, dataset, order)
    FolderOracle(void_id=255).reveal(dataset, order)
    assert read_bought_pixels(order.run_dir, "a", 0)[1].sum() == 24


def test_another_id_may_mean_not_labeled(dataset, purchase):
    oracle, order = FolderOracle(void_id=9), purchase("a")
    wait(oracle, dataset, order)
    save(folder_of(order) / "labels" / "a.png", _gray(9))
    oracle.reveal(dataset, order)
    assert read_bought_pixels(order.run_dir, "a", 0)[0].tolist() == LEFT.tolist()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"void_id": 2}, "oracle.void_id: expected an id that is no class's: 3..255, got 2, which is 'sky'"),
        ({"tool": "yolo"}, "oracle.tool: expected a tool for label maps: label_studio | cvat | labelme, got 'yolo'"),
    ],
)
def test_settings_that_fit_no_label_map_are_refused_at_once(dataset, setting, said):
    with pytest.raises(ConfigError) as caught:
        FolderOracle(**setting).check(dataset)
    assert said in str(caught.value)


def test_an_image_of_which_nothing_is_labeled_is_open(dataset, purchase):
    oracle, order = FolderOracle(), purchase("a", "b")
    wait(oracle, dataset, order)
    labels = folder_of(order) / "labels"
    save(labels / "a.png", np.full(SIZE, U))
    save(labels / "b.png", np.full(SIZE, NO_CLASS))  # looked at: none of the classes anywhere
    assert wait(oracle, dataset, order).startswith("1 of 2 images wait")
    save(labels / "a.png", LEFT)
    oracle.reveal(dataset, order)
    assert (cost_of(order)["pixels"], cost_of(order)["images"]) == (24 + 48, 2)


def test_two_files_may_each_label_a_part_but_not_contradict(dataset, purchase):
    oracle, order = FolderOracle(), purchase("a")
    wait(oracle, dataset, order)
    labels = folder_of(order) / "labels"
    save(labels / "first" / "a.png", LEFT)
    save(labels / "second" / "a.png", np.full(SIZE, 2))
    assert "a.jpg: expected one answer an image, got different ones in" in wait(oracle, dataset, order)
    save(labels / "second" / "a.png", np.where(LEFT == 1, U, 2))
    oracle.reveal(dataset, order)
    assert read_bought_pixels(order.run_dir, "a", 0)[0].tolist() == np.where(LEFT == 1, 1, 2).tolist()


def test_a_correction_counts_until_all_is_there_and_nobody_is_asked_twice(dataset, purchase, tmp_path):
    store = str(tmp_path / "kept")
    oracle, order = FolderOracle(store=store), purchase("a", "b")
    wait(oracle, dataset, order)
    labels = folder_of(order) / "labels"
    save(labels / "a.png", FULL)
    assert "1 images are labeled and kept" in wait(oracle, dataset, order)
    save(labels / "a.png", LEFT)  # also takes back what was labeled
    wait(oracle, dataset, order)
    (labels / "a.png").unlink()
    save(labels / "b.png", FULL)
    oracle.reveal(dataset, order)
    assert read_bought_pixels(order.run_dir, "a", 0)[0].tolist() == LEFT.tolist()
    again = purchase("b", "a", "side", run="another")
    assert wait(FolderOracle(store=store), dataset, again).startswith("1 of 3 images wait")
    save(folder_of(again) / "labels" / "side.png", FULL)
    FolderOracle(store=store).reveal(dataset, again)
    assert read_bought_pixels(again.run_dir, "a", 0)[0].tolist() == LEFT.tolist()
    cost = cost_of(again)
    assert (cost["images"], cost["pixels"], cost["asked_images"], cost["asked_pixels"]) == (3, 24 + 48 + 48, 1, 48)


def test_a_tools_own_files_are_written(dataset, purchase):
    order = purchase("a")
    wait(FolderOracle(tool="label_studio"), dataset, order)
    config = (folder_of(order) / "label_studio_config.xml").read_text()
    assert "BrushLabels" in config and "PolygonLabels" in config and 'background="#800000"' in config
    (task,) = json.loads((folder_of(order) / "label_studio_tasks.json").read_text())
    assert task["data"]["al_lab_id"] == "a"
    wait(FolderOracle(tool="cvat"), dataset, order)
    names = [e["name"] for e in json.loads((folder_of(order) / "cvat_labels.json").read_text())]
    assert names == [*CLASSES, "none"]


def test_a_letter_changed_in_what_was_accepted_is_named(dataset, purchase):
    oracle, order = FolderOracle(), purchase("a", "b")
    wait(oracle, dataset, order)
    save(folder_of(order) / "labels" / "a.png", FULL)
    wait(oracle, dataset, order)
    path = order.folder / "accepted.jsonl"
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {"digest": "0" * 64}))
    with pytest.raises(ResumeError, match=r"accepted.jsonl: line 1.pixels: expected what was taken over"):
        oracle.reveal(dataset, order)
