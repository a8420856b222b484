"""The label store from the command line: what goes in comes out, and nothing is removed without a word."""

import numpy as np
import pytest
from PIL import Image

from al_lab.cli.labels import main


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("AL_LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("al_lab.cli.command.start_log", lambda: None)

    def call(*words):
        status = main([*words])
        return status, capsys.readouterr()

    return call


def test_import_list_export_forget(run, voc_tree, tmp_path):
    root = voc_tree({"a": [("cat", 5, 5, 20, 20)], "b": [], "c": None})
    photos = ("dataset=folder", f"dataset.root={root}")
    assert "2 new answers, 0 known" in run("import", *photos)[1].out
    assert "0 new answers, 2 known" in run("import", *photos)[1].out
    assert "2 images, 2 answers, 1 boxes" in run("list")[1].out
    out = run("list", *photos)[1].out
    assert "a: 1 objects, version 1" in out and "2 of 3 images have labels" in out
    assert run("export", *photos, "--to", "yolo", "--out", str(tmp_path / "out"))[0] == 0
    texts = [p.read_text() for p in sorted((tmp_path / "out").rglob("labels/*.txt"))]
    assert len(texts) == 2 and sum(t.count("\n") for t in texts) == 1
    assert "add --yes" in run("forget", *photos)[1].out
    assert "2 of 3 images have labels" in run("list", *photos)[1].out
    assert "2 answers about 2 images are removed" in run("forget", *photos, "--yes")[1].out
    assert "0 images, 0 answers" in run("list")[1].out


def test_label_maps_too(run, tmp_path):
    root = tmp_path / "streets"
    for k, value in enumerate((0, 1, 255)):  # of the last nothing is labeled
        for folder, mode in (("images", "RGB"), ("labels", "L")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            color = (k, 9, 9) if mode == "RGB" else value
            Image.new(mode, (4, 3), color).save(root / folder / f"{k}.png")
    (root / "classes.txt").write_text("road\ncar\n")
    streets = ("dataset=segmentation_folder", f"dataset.root={root}", "dataset.test_split=none")
    assert "2 new answers, 0 known already, 0 not taken over" in run("import", *streets)[1].out
    out = run("list")[1].out
    assert "2 images, 2 answers, 24 labeled pixels\n" in out and "  road  12\n" in out and "  car  12\n" in out
    out = run("list", *streets)[1].out
    assert "0: 12 of 12 pixels, version 1" in out and "2 of 3 images have labels" in out
    assert run("export", *streets, "--to", "masks", "--out", str(tmp_path / "out"))[0] == 0
    (mask,) = [p for p in (tmp_path / "out").rglob("labels/**/1.png")]
    assert (np.asarray(Image.open(mask)) == 1).all()
    assert "2 answers about 2 images are removed" in run("forget", *streets, "--yes")[1].out


def test_a_wrong_command_is_a_sentence(run):
    status, printed = run("list", "dataset=folder", "dataset.root=/nowhere")
    assert status == 2 and "got no such folder" in printed.err
