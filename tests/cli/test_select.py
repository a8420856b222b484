"""From predictions files to a table, a page, and a folder for people, in one command."""

import argparse
import copy
import csv
import json
import shlex
from functools import cache

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from al_lab.cli import labels
from al_lab.cli import select as command
from al_lab.cli.tool import composed
from al_lab.data.datasets.folder import Folder
from al_lab.labeling.store import LabelStore, take_over
from al_lab.models.backbone import Backbone
from tests.trees import _image

BOX = "10,10,30,30"
GIVEN = ("--predictions", "table.csv", "--count", "2")


@pytest.fixture
def photos(tmp_path):
    """Ten photographs without labels, and a table of predictions: the higher the number, the surer."""
    for k in range(10):
        _image(tmp_path / "photos" / f"p{k}.png")
    lines = [f"p{k}.png,{'cat' if k % 2 else 'dog'},{BOX},{0.5 + k / 20}" for k in range(9)]
    (tmp_path / "table.csv").write_text("file,class,x1,y1,x2,y2,confidence\n" + "\n".join(lines) + "\n")
    return tmp_path


@cache
def composed_once(overrides):
    return composed(argparse.Namespace(overrides=list(overrides), config_dir=None))


@pytest.fixture
def run(photos, monkeypatch, capsys):
    monkeypatch.setattr("al_lab.cli.command.start_log", lambda: None)
    monkeypatch.setattr(command, "composed", lambda args: copy.deepcopy(composed_once(tuple(args.overrides))))
    monkeypatch.chdir(photos)

    def call(*words):
        status = command.main(["dataset=folder", "dataset.root=photos", "runtime.data_dir=data", *words])
        return status, capsys.readouterr()

    return call


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_round_and_the_next(run, photos, caplog):
    status, printed = run("--predictions", "table.csv", "strategy=margin", "--count", "4", "--random-share", "0.25",
                          "--quota", "cat=0.5", "--tool", "yolo", "--out", "round_1")  # fmt: skip
    assert status == 0, printed.err
    assert "4 images: round_1/selected.csv" in printed.out
    table = rows(photos / "round_1" / "selected.csv")
    assert [r["rank"] for r in table] == ["1", "2", "3", "4"] and sum(r["arm"] == "random" for r in table) == 1
    best = next(r for r in table if r["arm"] == "strategy")
    assert best["file"] == "photos/p0.png" and best["why"] == "its only box: dog 0.50" and best["num_boxes"] == "1"
    assert float(best["utility"]) == float(best["utility_max"]) == 1 and best["expected_boxes"] == "0.5"
    assert "1 of 10 images stand in no file" in caplog.text and "only its confidence s is known" in caplog.text

    asked = photos / "round_1" / "to_label"
    assert len(list((asked / "images").iterdir())) == 4 and (asked / "README.txt").is_file()
    assert (asked / "classes.txt").read_text() == "cat\ndog\n"  # as the predictions name them
    assert {p.name for p in (asked / "prelabels").iterdir()} >= {"coco.json", "voc", "yolo"}
    page = (photos / "round_1" / "selected.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "its only box: dog 0.50" in page and "Drawn at random" in page

    take, again = (
        shlex.split(next(line for line in page.splitlines() if what in line).split("<code>")[1].split("</code>")[0])
        for what in ("--round", "--labeled")
    )
    assert take == ["al-lab", "labels", "take", "dataset=folder", "dataset.root=photos", "runtime.data_dir=data",
                    "--round", "round_1"]  # fmt: skip
    assert again[:2] == ["al-lab", "select"] and command.main(again[2:]) == 0
    second = rows(photos / "round_2" / "selected.csv")
    assert not {r["sample_id"] for r in table} & {r["sample_id"] for r in second} and len(second) == 4


def test_what_came_back_is_kept_and_compared(run, photos, monkeypatch, capsys):
    assert run("--predictions", "table.csv", "--count", "8", "--random-share", "0.5", "--out", "round_1")[0] == 0
    monkeypatch.setattr(labels, "composed", lambda args: copy.deepcopy(composed_once(tuple(args.overrides))))
    words = ["take", "dataset=folder", "dataset.root=photos", "runtime.data_dir=data", "--round", "round_1"]
    assert labels.main(words) == 0
    assert "0 of 8 images of round_1 are labeled" in capsys.readouterr().out

    request = photos / "round_1" / "to_label"
    table = rows(photos / "round_1" / "selected.csv")
    for n, row in enumerate(table):  # every box of the random share is right; of the others one is missing, or two
        path = request / "labels" / f"{row['sample_id']}.txt"
        label = 1 - int(row["sample_id"][1]) % 2  # odd numbers are cats
        boxes = [] if row["num_boxes"] == "0" else [f"{label} .333333 .5 .333333 .5"]
        extra = 0 if row["arm"] == "random" else 1 + n // 2 % 2
        path.write_text("\n".join([*boxes, *[f"0 .8 .{k + 1} .1 .1" for k in range(extra)]]) + "\n")
    (request / "labels" / "p99.txt").write_text("0 .5 .5 .1 .1\n")
    assert labels.main(words) == 0
    out = capsys.readouterr().out
    assert "not taken over: " in out and "p99.txt" in (request / "problems.txt").read_text()
    assert "8 of 8 images of round_1 are labeled, 8 answers are new" in out
    assert "1.50 of the strategy (4 images), 0.00 at random (4); difference +1.50" in out
    assert "more than chance explains: the strategy finds images on which the detector errs" in out
    assert (request / "list.txt").read_text() == ""
    assert labels.main(words) == 0 and "0 answers are new" in capsys.readouterr().out
    left = run("--predictions", "table.csv", "--count", "9", "--out", "round_2")
    assert left[0] == 0 and len(rows(photos / "round_2" / "selected.csv")) == 2


def test_what_people_labeled_is_left_out(run, photos):
    (photos / "photos" / "p0.txt").write_text("0 .5 .5 .2 .2\n")
    (photos / "photos" / "classes.txt").write_text("cat\ndog\n")
    take_over(LabelStore(photos / "data" / ".labels"), Folder("photos", test_split="none"), "people")
    (photos / "photos" / "p0.txt").unlink()
    assert run("--predictions", "table.csv", "--count", "2", "--near-copies", "keep")[0] == 0
    assert [r["sample_id"] for r in rows(photos / "selected" / "selected.csv")] == ["p1", "p2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--predictions", "table.csv", "--count", "0"], "--count or --boxes: expected a whole number >= 1, got 0"),
        (["--predictions", "none.csv", "--count", "2"], "none.csv: expected a table of predictions"),
        ([*GIVEN, "--quota", "cta=0.5"], "--quota: expected a class, got 'cta'; did"),
        ([*GIVEN, "--quota", "cat"], "--quota: expected CLASS=SHARE, got 'cat'"),
        ([*GIVEN, "--tool", "cvta"], "did you mean 'cvat'?"),
        ([*GIVEN, "--out", "photos"], "photos: expected a new folder"),
        ([*GIVEN, "strategy=core_set"], "strategy=core_set: expected files that hold"),
        (["dataset.classes=[cat,dog]", "--boxes", "9", "strategy=random"], "--boxes: expected predictions"),
        ([*GIVEN, "strategy.sigmoid=classes"], "expected whole class distributions"),
        ([*GIVEN, "strategy.agregate=sum"], "strategy.agregate"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_a_sentence(words, sentence, run, photos):
    status, printed = run(*words)
    assert status == 2 and sentence in printed.err and "Traceback" not in printed.err
    assert not (photos / "selected").exists()


def test_embeddings_that_are_missing_are_named(run, photos):
    np.savez(photos / "e.npz", images=np.array(["p0.png"]), embedding=np.ones((1, 4)))
    status, printed = run("--arrays", "e.npz", "strategy=core_set", "dataset.classes=[cat,dog]", "--count", "2")
    assert status == 2 and "an embedding for each of 10 images, got none for 9, first 'p1'" in printed.err


def test_classes_that_starve_are_named(run, photos, caplog):
    results = [{"image_id": f"p{k}", "category_id": k == 9, "bbox": [1, 1, 9, 9], "score": 0.99 if k == 9 else 0.5}
               for k in range(10)]  # fmt: skip
    (photos / "r.json").write_text(json.dumps([{**r, "category_id": int(r["category_id"])} for r in results]))
    words = ("dataset.classes=[cat,dog,owl]", "--predictions", "r.json", "--count", "3", "--near-copies", "keep")
    assert run(*words, "--quota", "owl=0.4")[0] == 0
    assert "dog starves: seen in 1 images of the pool, in none of the chosen" in caplog.text
    assert "owl starves: 0 of the 1 images of its quota" in caplog.text
    assert "classes starve" in (photos / "selected" / "selected.html").read_text()


def test_a_strategy_that_learns_from_what_is_labeled(run, photos):
    for k in range(5):
        (photos / "photos" / f"p{k}.txt").write_text("0 .333 .5 .333 .5\n" if k % 2 else "")
    (photos / "photos" / "classes.txt").write_text("cat\ndog\n")
    words = ("dataset.test_split=none", "--predictions", "table.csv", "strategy=pal", "--count", "2")
    status, printed = run(*words)
    assert status == 2 and "expected labeled images, whose labels it learns from, got none; say which" in printed.err
    assert run(*words, "--labeled", "annotated", "--near-copies", "keep")[0] == 0
    table = rows(photos / "selected" / "selected.csv")
    assert len(table) == 2 and {r["sample_id"] for r in table} <= {f"p{k}" for k in range(5, 9)}
    assert all("the chance to be true is 0." in r["why"] for r in table)


def test_nothing_that_may_be_chosen_is_a_sentence_before_anything_is_written(run, photos):
    np.savez(photos / "v.npz", images=[f"p{k}.png" for k in range(10)], embedding=np.ones((10, 4)))
    (photos / "old.txt").write_text("p0.png\n")
    status, printed = run(*GIVEN, "--arrays", "v.npz", "--near-cosine", "0.9", "--labeled", "old.txt", "--out", "r")
    assert status == 2
    assert "9 of them are near copies" in printed.err and "--near-copies keep" in printed.err
    assert not (photos / "r").exists()


def test_a_backbone_embeds_the_images_with_local_weights(run, photos):
    torch.save(get_model("squeezenet1_1", weights=None).state_dict(), photos / "w.pth")
    own = ("dataset.classes=[cat,dog]", "strategy=core_set", "--count", "3", "--near-copies", "keep")
    source = "embedding={backbone: squeezenet1_1, weights: %s, input_px: 64}"
    status, printed = run(*own, source % "w.pth")
    assert status == 0, printed.err
    found = [r["sample_id"] for r in rows(photos / "selected" / "selected.csv")]
    dataset = Folder(str(photos / "photos"), classes=["cat", "dog"])
    network = Backbone("squeezenet1_1", str(photos / "w.pth"), 64)
    vectors = network([dataset.load_image(i) for i in dataset.pool_ids])
    np.savez(photos / "v.npz", images=[f"{i}.png" for i in dataset.pool_ids], embedding=vectors)
    assert run(*own, "embedding=v.npz", "--out", "again")[0] == 0
    assert [r["sample_id"] for r in rows(photos / "again" / "selected.csv")] == found
    status, printed = run(*own, source % "none.pth", "--out", "more")
    assert status == 2 and "embedding: none.pth: expected a file, got no such file" in printed.err
    status, printed = run(*own, "embedding=resnet81", "--out", "more")
    assert status == 2 and "embedding: expected a classifier of torchvision" in printed.err


def test_objects_embed_their_image(run, photos):
    image, sure = np.array([0, 0, 1, 2]), np.array([0.9, 0.3, 0.5, 0.5])
    probs = np.stack([sure, 0 * sure], 1)
    vectors = np.array([[1.0, 0], [0, 1], [0, 4], [1, 0]])
    boxes = np.array([[1, 1, 9, 9], [2, 2, 9, 9], [3, 3, 9, 9], [4, 4, 9, 9.0]])
    names = [f"p{k}.png" for k in range(10)]
    arrays = {"images": names, "image": image, "boxes_xyxy": boxes, "probs": probs, "activation": "sigmoid"}
    np.savez(photos / "b.npz", **arrays, box_embedding=vectors)
    np.savez(photos / "bare.npz", **arrays)
    own = ("dataset.classes=[cat,dog]", "strategy=core_set", "--count", "3", "--near-copies", "keep")
    status, printed = run(*own, "embedding=objects", "--arrays", "b.npz")
    assert status == 0, printed.err
    means = np.zeros((10, 2))
    means[:3] = [[0.75, 0.25], [0, 4], [1, 0]]  # .9 : .3; images without a box lie at the origin
    np.savez(photos / "v.npz", images=names, embedding=means)
    assert run(*own, "embedding=v.npz", "--out", "again")[0] == 0
    chosen = [[r["sample_id"] for r in rows(photos / f / "selected.csv")] for f in ("selected", "again")]
    assert chosen[0] == chosen[1] and "p1" in chosen[0]
    status, printed = run(*own, "embedding=objects", "--arrays", "bare.npz", "--out", "more")
    assert status == 2 and "box_embedding (--arrays), for embedding=objects, got files that hold" in printed.err
