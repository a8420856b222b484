"""People as the oracle: what they are given, and what becomes of every kind of return."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from al_lab.core.budget import Allowance
from al_lab.core.errors import AwaitingLabels, ConfigError, ResumeError
from al_lab.core.pool import INITIAL
from al_lab.core.record.labels import read_annotations, read_labels
from al_lab.core.record.predictions import save_predictions
from al_lab.core.record.purchase import Purchase
from al_lab.core.record.seal import seal
from al_lab.core.types import Annotation, Detections, Query
from al_lab.data.datasets.voc_folder import VOCFolder
from al_lab.data.formats import coco as coco_format
from al_lab.data.formats import cvat, label_studio, labelme, voc, yolo
from al_lab.data.formats.layout import uploaded_name
from al_lab.data.formats.record import Record
from al_lab.data.formats.voc import parse_voc
from al_lab.labeling.folder import FolderOracle
from al_lab.labeling.request import make_items

CLASSES = ("cat", "dog")
HEIGHT, WIDTH = 40, 60


def xml(
    *objects: tuple[str, int, int, int, int], filename: str = "", size_hw: tuple[int, int] = (HEIGHT, WIDTH)
) -> str:
    """A VOC file as tools write it: pixels counted from 1."""
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in objects
    )
    return (
        f"<annotation><filename>{filename}</filename><size><width>{size_hw[1]}</width><height>{size_hw[0]}</height></size>"
        f"{boxes}</annotation>"
    )


GOOD = xml(("cat", 11, 6, 31, 26))


@pytest.fixture
def dataset(tmp_path: Path) -> VOCFolder:
    """Six photographs, nobody has labeled one; two share a name, one is stored on its side."""
    root = tmp_path / "photos"
    for n, name in enumerate(["a/one", "b/one", "three", "four", "five", "side"]):
        path = root / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        size = (WIDTH, HEIGHT)
        if name == "side":
            exif[0x0112] = 6
            size = (HEIGHT, WIDTH)
        Image.new("RGB", size, (40 * n, 90, 200)).save(path, exif=exif)
    return VOCFolder(str(root), classes=list(CLASSES))


@pytest.fixture
def purchase(tmp_path: Path) -> Callable[..., Purchase]:
    """Make a purchase of some images."""

    def make(
        *ids: str, unit: str = "image", amount: int | None = None, cycle: int = INITIAL, predictions: Path | None = None
    ) -> Purchase:
        run_dir = tmp_path / "outputs" / "photos" / "random" / "default" / "seed0"
        return Purchase(
            run_dir,
            cycle,
            tuple(Query(i, utility=-n) for n, i in enumerate(ids)),
            Allowance(unit, amount or len(ids)),
            predictions,
        )

    return make


def wait(oracle: FolderOracle, dataset: VOCFolder, purchase: Purchase) -> str:
    """Run the command once more; it must go on waiting. Returns what it says."""
    with pytest.raises(AwaitingLabels) as caught:
        oracle.reveal(dataset, purchase)
    return str(caught.value)


def test_the_folder_says_what_to_do_with_what(dataset: VOCFolder, purchase: Callable[..., Purchase]) -> None:
    oracle, order = FolderOracle(), purchase("three", "a/one", "b/one", "side")
    message = wait(oracle, dataset, order)
    folder = order.run_dir / "to_label" / "initial"
    assert message.startswith(f"4 of 4 images wait for labels: images, lists and instructions are in {folder}")
    assert str(folder / "labels") in message
    names = ["three.jpg", "a__one.jpg", "b__one.jpg", "side.png"]
    assert (folder / "list.txt").read_text().split() == names  # in rank order
    assert sorted(p.name for p in (folder / "images").iterdir()) == sorted(names)
    rows = list(csv.DictReader((folder / "list.csv").open()))
    assert [(r["file"], r["sample_id"], r["state"]) for r in rows] == [
        (name, q.sample_id, "open") for name, q in zip(names, order.queries, strict=True)
    ]
    assert (folder / "classes.txt").read_text().split() == list(CLASSES)
    assert "a box around every object of these classes: cat, dog" in (folder / "README.txt").read_text()
    assert not (folder / "prelabels").exists()
    # a tool that ignores EXIF sees the side photo as the campaign does
    assert Image.open(folder / "images" / "side.png").size == (WIDTH, HEIGHT)
    assert not (order.folder / "labels.jsonl").exists()


def test_a_tool_that_changes_an_image_does_not_reach_the_dataset(
    dataset: VOCFolder, purchase: Callable[..., Purchase]
) -> None:
    wait(FolderOracle(), dataset, purchase("three"))
    copy = purchase("three").run_dir / "to_label" / "initial" / "images" / "three.jpg"
    before = dataset.image_path("three").read_bytes()
    with copy.open("r+b") as stream:
        stream.write(b"scribble")
    assert dataset.image_path("three").read_bytes() == before


def test_a_complete_return_becomes_labels_and_costs(dataset: VOCFolder, purchase: Callable[..., Purchase]) -> None:
    oracle, order = FolderOracle(seconds_per_image=0, seconds_per_box=3600), purchase("three", "a/one", "four", "five")
    wait(oracle, dataset, order)
    labels = order.run_dir / "to_label" / "initial" / "labels"
    (labels / "three.xml").write_text(xml(("dog", 1, 1, 60, 40), ("cat", 11, 6, 31, 26)))
    (labels / "export" / "Annotations").mkdir(parents=True)  # as an unpacked export brings it
    (labels / "export" / "Annotations" / "a__one.xml").write_text(GOOD)
    (labels / "four.xml").write_text(xml())  # an image without objects
    (labels / "no_objects.txt").write_text("five.jpg\n")  # another way to say so
    assert oracle.reveal(dataset, order) == order.queries
    bought = read_labels(order.run_dir, [q.sample_id for q in order.queries])
    assert bought["three"].labels.tolist() == [1, 0]
    np.testing.assert_array_equal(bought["three"].boxes_xyxy, [[0, 0, 59, 39], [10, 5, 30, 25]])
    assert [len(a.labels) for a in bought.values()] == [2, 1, 0, 0]
    assert json.loads((order.folder / "cost.json").read_text()) == {
        "images": 4, "boxes": 3, "pixels": 0, "hours": 3.0,
        "asked_images": 4, "asked_boxes": 3, "asked_hours": 3.0, "timed_images": 0, "timed_hours": 0.0,
    }  # fmt: skip


def test_a_partial_return_is_kept_and_the_rest_is_asked_for_again(
    dataset: VOCFolder, purchase: Callable[..., Purchase]
) -> None:
    oracle, order = FolderOracle(), purchase("three", "four", "five")
    folder = order.run_dir / "to_label" / "initial"
    wait(oracle, dataset, order)
    (folder / "labels" / "four.xml").write_text(GOOD)
    message = wait(oracle, dataset, order)
    assert message.startswith("2 of 3 images wait")
    assert "1 images are labeled and kept" in message
    assert (folder / "list.txt").read_text().split() == ["three.jpg", "five.jpg"]
    # Resumed by another process, after somebody emptied the exchange folder: what was accepted is in the run folder.
    shutil.rmtree(folder)
    assert wait(FolderOracle(), dataset, order).startswith("2 of 3 images wait")
    assert wait(FolderOracle(), dataset, order).startswith("2 of 3 images wait")
    for name in ("three", "five"):
        (folder / "labels" / f"{name}.xml").write_text(GOOD)
    assert len(oracle.reveal(dataset, order)) == 3
    assert list(read_labels(order.run_dir, ["four"])["four"].labels) == [0]


def test_a_correction_counts_until_all_are_there(dataset: VOCFolder, purchase: Callable[..., Purchase]) -> None:
    oracle, order = FolderOracle(), purchase("three", "four")
    labels = order.run_dir / "to_label" / "initial" / "labels"
    wait(oracle, dataset, order)
    (labels / "four.xml").write_text(GOOD)
    wait(oracle, dataset, order)
    (labels / "four.xml").write_text("<annotation>")  # half saved: the version before stays
    assert wait(oracle, dataset, order).startswith("1 of 2 images wait")
    (labels / "four.xml").write_text(xml(("dog", 2, 2, 9, 9)))
    (labels / "three.xml").write_text(GOOD)
    oracle.reveal(dataset, order)
    assert read_labels(order.run_dir, ["four"])["four"].labels.tolist() == [1]


BROKEN = {
    "broken XML": ("three.xml", "<annotation><object>", "can't be parsed"),
    "no XML": ("three.xml", "cat 1 2 3 4", "can't be parsed"),
    "empty file": (
        "three.xml",
        "",
        "got an empty file; export it again; if the image shows no object, write its name into",
    ),
    "XML bomb": ("three.xml", '<!DOCTYPE a [<!ENTITY b "b">]><annotation>&b;</annotation>', "possible XML bomb"),
    "unknown class": ("three.xml", xml(("cta", 1, 1, 9, 9)), "got 'cta'; did you mean 'cat'?"),
    "box outside": ("three.xml", xml(("cat", 1, 1, 90, 9)), "a box inside the image of width 60 and height 40"),
    "no number": (
        "three.xml",
        GOOD.replace("31", "x"),
        "<bndbox/xmax>: expected a finite number of pixels, written in digits, got 'x'",
    ),
    "wrong image": ("three.xml", xml(("cat", 1, 1, 9, 9), filename="four.jpg"), "one whose <filename> is 'four.jpg'"),
    "stranger": ("seven.xml", GOOD, "nobody asked for this image"),
    "renamed": ("image1.xml", xml(("cat", 1, 1, 9, 9), filename="three.jpg"), "rename it to three.xml"),
    "resized": ("three.xml", xml(("cat", 1, 1, 9, 9), size_hw=(80, 120)), "height x width 40 x 60, got 80 x 120"),
    "rotated": ("three.xml", xml(("cat", 1, 1, 9, 9), size_hw=(WIDTH, HEIGHT)), "got 60 x 40 (turned by a quarter)"),
    "other format": ("three.csv", "0 0.5 0.5 0.1 0.1", "got a .csv file; export as Pascal VOC or COCO"),
    "archive": ("export.zip", "PK", "got an archive"),
    "unknown name": (
        "no_objects.txt",
        "tree.jpg",
        "line 1: expected names of list.csv, got 'tree.jpg'; did you mean 'three.jpg'?",
    ),
    "broken JSON": ("coco.json", '{"images": [', "got no JSON"),
    "not COCO": ("coco.json", "[]", "'annotations' and 'categories'"),
    "malformed": (
        "coco.json",
        '{"images": [], "categories": [{}]}',
        "categories[0].id: expected a number or text, got no such field",
    ),
    "no size": (
        "three.xml",
        GOOD.replace("<width>60", "<width>inf"),
        "<size>: expected a whole",
    ),
    "no encoding": ("three.xml", '<?xml version="1.0" encoding="x"?><annotation/>', "unknown encoding"),
    "huge number": ("coco.json", '{"images": [{"id": 1, "file_name": "x", "height": 1e999}]}', "images"),
    "other images": (
        "coco.json",
        '{"images": [{"id": 1, "file_name": "x.jpg"}], "categories": []}',
        "none of them, but 'x.jpg'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_return_is_named_with_file_and_remedy_and_hides_nothing(
    dataset: VOCFolder, purchase: Callable[..., Purchase], case: str
) -> None:
    file_name, content, expected = BROKEN[case]
    oracle, order = FolderOracle(), purchase("three", "four")
    folder = order.run_dir / "to_label" / "initial"
    wait(oracle, dataset, order)
    (folder / "labels" / file_name).write_text(content)
    (folder / "labels" / "four.xml").write_text(GOOD)
    message = wait(oracle, dataset, order)
    assert "1 of 2 images wait" in message
    assert "1 could not be taken over:" in message
    assert expected in message
    assert str(folder / "labels" / file_name) in message
    assert expected in (folder / "problems.txt").read_text()
    (folder / "labels" / file_name).unlink()
    (folder / "labels" / "three.xml").write_text(GOOD)
    assert len(oracle.reveal(dataset, order)) == 2
    assert not (folder / "problems.txt").exists()


def coco(images: list[tuple[str, list[tuple[str, list[float]]]]], size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> str:
    """A COCO file whose category ids have gaps and another order than ours."""
    ids = {"dog": 3, "cat": 7, "cow": 9}
    entries = [
        {"id": n, "file_name": name, "height": size_hw[0], "width": size_hw[1]} for n, (name, _) in enumerate(images)
    ]
    boxes = [
        {"image_id": n, "category_id": ids[c], "bbox": box}
        for n, (_, objects) in enumerate(images)
        for c, box in objects
    ]
    return json.dumps(
        {"images": entries, "annotations": boxes, "categories": [{"id": i, "name": c} for c, i in ids.items()]}
    )


def test_a_coco_file_answers_image_by_image(dataset: VOCFolder, purchase: Callable[..., Purchase]) -> None:
    oracle, order = FolderOracle(), purchase("three", "a/one", "four", "five")
    folder = order.run_dir / "to_label" / "initial"
    wait(oracle, dataset, order)
    (folder / "labels" / "export.json").write_text(
        coco(
            [
                # as Label Studio names it
                ("images/1/0a1b2c3d-three.jpg", [("dog", [1, 2, 10, 20]), ("cat", [0, 0, 60, 40])]),
                ("a__one.jpg", []),
                ("four.jpg", [("cow", [1, 2, 3, 4])]),
                ("five.jpg", [("cat", [50, 30, 30, 30])]),
                ("old.jpg", []),
            ]
        )
    )
    message = wait(oracle, dataset, order)
    assert "3 of 4 images wait" in message  # an image without boxes among others may just be unfinished
    assert "image four.jpg: object 1: expected one of 2 known classes, got 'cow'" in message
    assert "image five.jpg: expected a box inside the image" in message
    (folder / "labels" / "export.json").unlink()
    (folder / "labels" / "again.json").write_text(coco([("four.jpg", [("cat", [1, 2, 3, 4])]), ("five.jpg", [])]))
    assert "2 of 4 images wait" in wait(oracle, dataset, order)
    (folder / "labels" / "no_objects.txt").write_text("a__one.jpg\nfive.jpg\n")
    oracle.reveal(dataset, order)
    bought = read_labels(order.run_dir, ["three", "a/one", "four", "five"])
    assert bought["three"].labels.tolist() == [1, 0]
    np.testing.assert_array_equal(bought["three"].boxes_xyxy, [[1, 2, 11, 22], [0, 0, 60, 40]])
    assert [len(a.labels) for a in bought.values()] == [2, 0, 1, 0]


def test_a_coco_image_of_another_size_is_refused(dataset: VOCFolder, purchase: Callable[..., Purchase]) -> None:
    oracle, order = FolderOracle(), purchase("three")
    wait(oracle, dataset, order)
    (order.run_dir / "to_label" / "initial" / "labels" / "c.json").write_text(
        coco([("three.jpg", [("cat", [1, 2, 3, 4])])], size_hw=(20, 30))
    )
    assert "height x width 40 x 60, got 20 x 30" in wait(oracle, dataset, order)


def test_two_different_answers_for_an_image_are_none(dataset: VOCFolder, purchase: Callable[..., Purchase]) -> None:
    oracle, order = FolderOracle(), purchase("three")
    labels = order.run_dir / "to_label" / "initial" / "labels"
    wait(oracle, dataset, order)
    (labels / "three.xml").write_text(GOOD)
    (labels / "no_objects.txt").write_text("three\n")
    message = wait(oracle, dataset, order)
    assert "three.jpg: expected one answer an image, got different ones in" in message
    (labels / "no_objects.txt").unlink()
    assert len(oracle.reveal(dataset, order)) == 1


def test_with_tools_that_export_unfinished_images_empty_means_not_yet(
    dataset: VOCFolder, purchase: Callable[..., Purchase]
) -> None:
    oracle, order = FolderOracle(empty_is_answer=False), purchase("three", "four", "five")
    labels = order.run_dir / "to_label" / "initial" / "labels"
    wait(oracle, dataset, order)
    (labels / "three.xml").write_text(xml())
    (labels / "c.json").write_text(coco([("four.jpg", [])]))
    (labels / "no_objects.txt").write_text("five\n")
    assert wait(oracle, dataset, order).startswith("2 of 3 images wait")


def test_the_current_model_gives_people_a_start(
    dataset: VOCFolder, purchase: Callable[..., Purchase], tmp_path: Path
) -> None:
    found = Detections(
        np.array([[10.2, 5, 30, 25], [0, 0, 60, 40], [1, 1, 2, 2]], np.float32),
        np.array([0.9, 0.5, 0.1], np.float32),
        np.array([0, 1, 0]),
        np.array([[0.9], [0.5], [0.1]], np.float32),
        "sigmoid",
    )
    save_predictions(tmp_path / "prelabels.npz", {"three": found, "a/one": Detections.none(1, "sigmoid")})
    oracle, order = (
        FolderOracle(min_confidence=0.3),
        purchase("three", "a/one", cycle=2, predictions=tmp_path / "prelabels.npz"),
    )
    wait(oracle, dataset, order)
    folder = order.run_dir / "to_label" / "cycle_02" / "prelabels"
    content = json.loads((folder / "coco.json").read_text())
    assert [(a["category_id"], a["bbox"], a["score"]) for a in content["annotations"]] == [
        (1, [10.2, 5.0, 19.8, 20.0], 0.9),
        (2, [0.0, 0.0, 60.0, 40.0], 0.5),
    ]
    assert [i["file_name"] for i in content["images"]] == ["three.jpg", "a__one.jpg"]
    # The VOC pre-labels are what the reader of returns reads: to the pixel, corners included.
    again, _ = parse_voc(folder / "voc" / "three.xml", CLASSES, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(again.boxes_xyxy, [[10, 5, 30, 25], [0, 0, 59, 39]])
    assert ElementTree.parse(folder / "voc" / "a__one.xml").findall("object") == []
    # An annotator who has nothing to correct hands them in as they are.
    shutil.copytree(folder / "voc", folder.parent / "labels", dirs_exist_ok=True)
    assert len(oracle.reveal(dataset, order)) == 2


def test_a_budget_of_boxes_ends_the_work_early(dataset: VOCFolder, purchase: Callable[..., Purchase]) -> None:
    oracle, order = FolderOracle(), purchase("three", "four", "five", unit="box", amount=3)
    labels = order.run_dir / "to_label" / "initial" / "labels"
    assert "3 boxes are enough" in wait(oracle, dataset, order)
    two = xml(("cat", 1, 1, 9, 9), ("dog", 11, 11, 19, 19))
    (labels / "four.xml").write_text(two)
    wait(oracle, dataset, order)  # the first in rank is still missing
    (labels / "three.xml").write_text(two)
    assert [q.sample_id for q in oracle.reveal(dataset, order)] == ["three"]  # four would make it 4 boxes


def test_runs_that_share_an_exchange_folder_do_not_meet(
    dataset: VOCFolder, purchase: Callable[..., Purchase], tmp_path: Path
) -> None:
    order = purchase("three")
    assert str(tmp_path / "share" / "photos-random-default-seed0" / "initial") in wait(
        FolderOracle(str(tmp_path / "share")), dataset, order
    )


def test_an_impossible_confidence_is_refused() -> None:
    with pytest.raises(ConfigError, match="oracle.min_confidence"):
        FolderOracle(min_confidence=30)


def test_a_digit_changed_in_what_was_accepted_is_named(tmp_path: Path) -> None:
    path = tmp_path / "accepted.jsonl"
    annotation = Annotation.make([[1.0, 2.0, 30.0, 40.0]], [0])
    line = json.dumps(seal({"id": "three", "annotation": annotation.to_json()}))
    path.write_text(f"{line}\n")
    assert read_annotations(path)["three"].to_json() == annotation.to_json()
    path.write_text(f"{line}\n".replace("30.0", "31.0"))
    with pytest.raises(ResumeError, match=r"accepted.jsonl.*annotation"):
        read_annotations(path)


def test_a_damaged_record_of_what_was_accepted_is_named(dataset: VOCFolder, purchase: Callable[..., Purchase]) -> None:
    order = purchase("three")
    order.folder.mkdir(parents=True)
    (order.folder / "accepted.jsonl").write_text('{"id": "three"')
    with pytest.raises(ResumeError, match=r"accepted.jsonl: line 1: expected one annotated image a line"):
        FolderOracle().reveal(dataset, order)


def test_blood_cells_labeled_by_their_true_files(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "bccd"
    shutil.copytree(shared_data / "bccd" / "JPEGImages", root / "JPEGImages")
    shutil.copy(shared_data / "bccd" / "classes.txt", root)
    dataset = VOCFolder(str(root))
    assert not any(dataset.has_truth(i) for i in dataset.pool_ids)
    ids = (*dataset.pool_ids[:20], "BloodImage_00338")  # the last has a box without area
    oracle, order = (
        FolderOracle(),
        Purchase(tmp_path / "run", INITIAL, tuple(Query(i) for i in ids), Allowance("image", len(ids))),
    )
    labels = tmp_path / "run" / "to_label" / "initial" / "labels"
    wait(oracle, dataset, order)
    for sample_id in ids[:7]:
        shutil.copy(shared_data / "bccd" / "Annotations" / f"{sample_id}.xml", labels)
    assert wait(oracle, dataset, order).startswith("14 of 21 images wait")
    for sample_id in ids[7:]:
        shutil.copy(shared_data / "bccd" / "Annotations" / f"{sample_id}.xml", labels)
    assert len(oracle.reveal(dataset, order)) == 21
    full = VOCFolder(str(shared_data / "bccd"))
    bought = read_labels(tmp_path / "run", ids)
    assert all(bought[i].to_json() == full.truth(i).to_json() for i in ids)


# --- any tool, and what was labeled before ----------------------------------------------------------------------------

RECORD = Record("three.jpg", np.array([[1.0, 2, 11, 22]]), ("dog",), "three", (HEIGHT, WIDTH), key="three")


@pytest.mark.parametrize("module", [voc, coco_format, yolo, cvat, label_studio, labelme])
def test_what_a_tool_exports_is_taken_over(dataset: VOCFolder, purchase: Callable[..., Purchase], module: Any) -> None:
    oracle, order = FolderOracle(), purchase("three")
    wait(oracle, dataset, order)
    module.write(order.run_dir / "to_label" / "initial" / "labels", [RECORD], CLASSES)
    oracle.reveal(dataset, order)
    bought = read_labels(order.run_dir, ["three"])["three"]
    np.testing.assert_allclose(bought.boxes_xyxy, RECORD.boxes_xyxy, atol=1e-4)
    assert bought.labels.tolist() == [CLASSES.index("dog")]


def test_label_studios_open_and_skipped_tasks_are_asked_for_again(
    dataset: VOCFolder, purchase: Callable[..., Purchase]
) -> None:
    oracle, order = FolderOracle(tool="label_studio"), purchase("three", "a/one", "four")
    wait(oracle, dataset, order)
    folder = order.run_dir / "to_label" / "initial"
    assert "RectangleLabels" in (folder / "label_studio_config.xml").read_text()
    tasks = json.loads((folder / "label_studio_tasks.json").read_text())
    assert [t["data"]["al_lab_id"] for t in tasks] == ["three", "a/one", "four"]
    tasks[0]["annotations"] = [{"result": [], "was_cancelled": False, "lead_time": 36.0}]
    tasks[1]["annotations"] = []
    tasks[2]["annotations"] = [{"result": [], "was_cancelled": True}]
    for n, task in enumerate(tasks):  # whatever a server makes of names, the id comes back
        task["data"]["image"] = f"/data/upload/1/{n}.jpg"
    (folder / "labels" / "export.json").write_text(json.dumps(tasks))
    assert "2 of 3 images wait" in wait(oracle, dataset, order)
    (folder / "labels" / "no_objects.txt").write_text("a__one\nfour\n")
    oracle.reveal(dataset, order)
    cost = json.loads((order.folder / "cost.json").read_text())
    assert (cost["timed_images"], cost["timed_hours"]) == (1, 0.01)


def test_names_survive_an_upload(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    names = ("IMG (1)", "IMG_1", "süd/ost, 5%", "..hidden", "CON")
    root = tmp_path / "photos"
    for name in names:
        write_image(root / f"x{name}.jpg" if name.startswith(".") else root / f"{name}.jpg")
    data = VOCFolder(str(root), classes=CLASSES)
    items = make_items(data, [Query(i) for i in data.pool_ids])
    stems = [item.stem for item in items]
    assert len({s.lower() for s in stems}) == len(names)
    assert all(uploaded_name(s) == s.lower() and s.isascii() for s in stems)
    assert "IMG_1" in stems


def test_nobody_is_asked_twice_for_the_same_image(
    dataset: VOCFolder, purchase: Callable[..., Purchase], tmp_path: Path
) -> None:
    store = str(tmp_path / "labels")
    first = purchase("three", "four")
    oracle = FolderOracle(store=store)
    wait(oracle, dataset, first)
    (first.run_dir / "to_label" / "initial" / "labels" / "three.xml").write_text(GOOD)
    (first.run_dir / "to_label" / "initial" / "labels" / "four.xml").write_text(xml())
    oracle.reveal(dataset, first)
    second = replace(purchase("three", "four", "five"), run_dir=tmp_path / "another")
    assert "1 of 3 images wait" in wait(FolderOracle(store=store), dataset, second)
    assert (second.run_dir / "to_label" / "initial" / "list.txt").read_text() == "five.jpg\n"
    (second.run_dir / "to_label" / "initial" / "labels" / "no_objects.txt").write_text("five.jpg")
    FolderOracle(store=store).reveal(dataset, second)
    cost = json.loads((second.folder / "cost.json").read_text())
    assert (cost["images"], cost["boxes"], cost["asked_images"], cost["asked_boxes"]) == (3, 1, 1, 0)
    third = replace(purchase("five", "three"), run_dir=tmp_path / "third")
    FolderOracle(store=store).reveal(dataset, third)
    assert json.loads((third.folder / "cost.json").read_text())["asked_images"] == 0
    fourth = replace(purchase("five"), run_dir=tmp_path / "fourth")
    assert "1 of 1 images wait" in wait(FolderOracle(), dataset, fourth)


def test_a_waiting_command_notices_what_is_put_into_the_folder(
    dataset: VOCFolder, purchase: Callable[..., Purchase], monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, order = FolderOracle(wait=True), purchase("three", "four")
    labels = order.run_dir / "to_label" / "initial" / "labels"
    slept: list[float] = []

    def label(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:  # noqa: PLR2004 - the first look finds nothing new
            (labels / "three.xml").write_text(GOOD)

    monkeypatch.setattr("time.sleep", label)
    assert "2 of 2 images wait" in wait(oracle, dataset, order)
    oracle.wait_for_news(order)
    assert slept == [5.0, 5.0]
    assert "1 of 2 images wait" in wait(oracle, dataset, order)
    (labels / "four.xml").write_text(GOOD)  # while nobody looked
    oracle.wait_for_news(order)
    assert len(slept) == 2
    assert oracle.reveal(dataset, order) == order.queries
