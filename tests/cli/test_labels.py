"""The label store from the command line: what goes in comes out, and nothing is removed without a word."""

import pytest

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


def test_a_wrong_command_is_a_sentence(run):
    status, printed = run("list", "dataset=folder", "dataset.root=/nowhere")
    assert status == 2 and "got no such folder" in printed.err
