"""``al-lab data``, called in this process."""

import json
import logging
import re

import numpy as np
import pytest
from PIL import Image

from al_lab.cli.data import main


@pytest.fixture
def run(monkeypatch):
    handlers = logging.getLogger().handlers[:]
    monkeypatch.setattr("al_lab.cli.command.start_log", lambda: None)
    yield main
    logging.getLogger().handlers[:] = handlers


def test_help_shows_commands_and_examples(run, capsys):
    with pytest.raises(SystemExit) as stop:
        run(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("verify", "stats", "download", "dataset=voc_folder dataset.root=photos"))


def test_verify_and_stats_of_a_folder(run, capsys, voc_tree):
    root = voc_tree(
        {"a": [("dog", 1, 1, 9, 9)], "b": [("dog", 5, 5, 5, 9)], "c": [("dog", 1, 1, 9, 9)]},
        {"train": ["a", "b"], "test": ["c"]},
    )
    overrides = ["dataset=voc_folder", f"dataset.root={root}"]
    assert run(["verify", *overrides]) == 0
    out = capsys.readouterr().out
    assert "b.xml: b: object 1 has no area ([4, 4, 4, 8]) and is left out" in out
    assert "pool 2, val 0, test 1 images, 2 classes; 3 looked at, 1 findings, 0 errors" in out
    assert run(["stats", "--json", *overrides]) == 0
    assert json.loads(capsys.readouterr().out)["pool"]["boxes"] == 1
    (root / "JPEGImages" / "a.jpg").write_text("broken")
    assert run(["verify", "--json", *overrides]) == 1
    assert [f["severity"] for f in json.loads(capsys.readouterr().out)] == ["error", "warning"]


def test_a_misspelt_key_is_refused_with_a_plus_too(run, capsys):
    assert run(["stats", "+datset=x"]) == 2
    assert "got 'datset'; did you mean 'dataset'?" in capsys.readouterr().err


def test_verify_and_stats_of_label_maps(run, capsys, tmp_path, write_image):
    for folder, ids in (("photos", [[0, 0, 1, 255]]), ("drawn", [[1, 1, 1, 0]])):
        for split in ("train", "test"):
            write_image(tmp_path / folder / "images" / split / "a.png", (1, 4))
            (tmp_path / folder / "labels" / split).mkdir(parents=True)
            Image.fromarray(np.array(ids, np.uint8)).save(tmp_path / folder / "labels" / split / "a.png")
        (tmp_path / folder / "classes.txt").write_text("sky\nroad\n")
    overrides = [
        "dataset=segmentation_folder",
        f"dataset.root={tmp_path / 'photos'}",
        f"dataset.source={tmp_path / 'drawn'}",
    ]
    assert run(["verify", *overrides]) == 0
    assert (
        ": pool 1, val 0, test 1, source 1 images, 2 classes; 3 looked at, 0 findings, 0 errors"
        in capsys.readouterr().out
    )
    assert run(["stats", *overrides]) == 0
    assert re.split(" {2,}", capsys.readouterr().out.splitlines()[-1].strip()) == [
        "road",
        "33.33 % in 1",
        "33.33 % in 1",
        "75.00 % in 1",
    ]
    Image.new("RGB", (4, 1), (10, 20, 30)).save(tmp_path / "drawn" / "labels" / "train" / "a.png")
    assert run(["verify", *overrides]) == 1
    assert "source/train/a: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["verify", "dataset=voc_fodler"], "did you mean 'voc_folder'?"),
        (["verify", "dataset=voc", "runtime.data_dir=/nowhere"], "al-lab data download voc"),
        (["stats", "dataset=coco", "runtime.data_dir=/nowhere"], "al-lab data download coco"),
        (["verify", "dataset=voc_folder", "dataset.root=/nowhere"], "got no such folder"),
        (["verify", "dataset=gtav_cityscapes", "runtime.data_dir=/nowhere"], "al-lab data download gtav"),
        (
            ["verify", "dataset=gtav_cityscapes", "dataset.source=null", "runtime.data_dir=/nowhere"],
            "al-lab data download cityscapes",
        ),
        (["verify", "dataset=synthia_cityscapes", "runtime.data_dir=/nowhere"], "al-lab data download synthia"),
        (
            ["download", "cityscapes", "--data-dir", "/nowhere"],
            "get it at https://www.cityscapes-dataset.com/downloads/ (an account",
        ),
        (["verify", "dataset=voc_folder"], "root"),
    ],
)
def test_wrong_inputs_are_one_sentence(run, capsys, argv, message):
    assert run(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("argv", [[], ["vrify"], ["download"], ["download", "imagenet"], ["verify", "--limit", "x"]])
def test_wrong_commands_end_with_the_usage(run, capsys, argv):
    with pytest.raises(SystemExit) as stop:
        run(argv)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_wrong_key_is_named_as_by_run_py(run, capsys):
    assert run(["verify", "dataset=gtav_cityscapes", "+dataset.source.rot=x"]) == 2
    assert re.search(r"dataset\.source\.rot: .* unknown key 'rot'", capsys.readouterr().err)


def test_an_own_dataset_is_verified_from_its_folder(run, capsys, tmp_path, monkeypatch, voc_tree):
    root = voc_tree({n: [("dog", 1, 1, 9, 9)] for n in "ab"}, {"train": ["a"], "test": ["b"]})
    (tmp_path / "my_voc.py").write_text(
        "from al_lab.data.datasets.voc_folder import VOCFolder\n\n\nclass MyVOC(VOCFolder):\n    pass\n"
    )
    (tmp_path / "my_conf" / "dataset").mkdir(parents=True)
    (tmp_path / "my_conf" / "dataset" / "mine.yaml").write_text("_target_: my_voc.MyVOC\nroot: ???\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(["verify", "--config-dir", str(tmp_path / "my_conf"), "dataset=mine", f"dataset.root={root}"]) == 0
    assert "2 looked at, 0 findings" in capsys.readouterr().out
