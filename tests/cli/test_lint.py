"""A list of chosen images is judged by files; nothing is trained, nothing is asked of people."""

import json

import numpy as np
import pytest

from al_lab.cli.pages import lint as command
from al_lab.core.files import write_json
from tests.cli.test_select import photos

__all__ = ["photos"]


@pytest.fixture
def run(photos, monkeypatch, capsys):
    monkeypatch.setattr("al_lab.cli.command.start_log", lambda: None)
    monkeypatch.chdir(photos)

    def call(*words):
        status = command.main(["dataset=folder", "dataset.root=photos", "runtime.data_dir=data", *words])
        return status, capsys.readouterr()

    return call


def test_a_list_and_its_page(run, photos):
    (photos / "chosen.txt").write_text("p1.png\np3.png\nstranger.png\np1.png\n")
    (photos / "old.txt").write_text("p0.png\n")
    vectors = np.eye(10, dtype=np.float32)
    vectors[3] = vectors[0]
    np.savez(photos / "v.npz", images=np.array([f"p{k}.png" for k in range(10)]), embedding=vectors)
    status, printed = run("--selection", "chosen.txt", "--predictions", "table.csv", "--arrays", "v.npz",
                          "--labeled", "old.txt", "--out", "judged", "oracle.seconds_per_box=60")  # fmt: skip
    assert status == 0, printed.err
    assert "2 of 9 images with 1 boxes expected, about 1 minutes of labeling" in printed.out
    assert "of a labeled one" in printed.out and "embeddings from a cosine of" in printed.out
    found = json.loads((photos / "judged" / "lint.json").read_text())
    assert (
        found["images"] == 2
        and {"id": "p3", "like": "p0", "is_labeled": True, "what": "cosine 1.0000"} in found["copies"]
    )
    assert next(c["images"] for c in found["classes"] if c["class"] == "dog") == 0
    page = (photos / "judged" / "lint.html").read_text()
    assert "stranger.png" in page and "1 names stand there twice" in page and "Judged without a training" in page


def test_a_cycles_queries_are_a_selection(run, photos):
    write_json(photos / "queries.json", {"queries": [{"id": "p4", "utility": 2.0}, {"id": "p2"}]})
    status, printed = run("--selection", "queries.json", "--predictions", "table.csv")
    assert status == 0, printed.err
    assert json.loads((photos / "lint" / "lint.json").read_text())["images"] == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("stranger.png\n", "expected names of the dataset's images, got none, first 'stranger.png'"), ("", "got none")],
)
def test_a_list_of_strangers_is_refused(run, photos, content, sentence):
    (photos / "chosen.txt").write_text(content)
    status, printed = run("--selection", "chosen.txt", "--predictions", "table.csv")
    assert status == 2 and sentence in printed.err
    assert not (photos / "lint").exists()


def test_wrong_options_are_refused(run, photos):
    (photos / "chosen.txt").write_text("p1.png\n")
    for words, sentence in ((("--near-cosine", "often"), "--near-cosine"), (("--shows", "2"), "--shows")):
        status, printed = run("--selection", "chosen.txt", "--predictions", "table.csv", *words)
        assert status == 2 and sentence in printed.err


def test_objects_of_files_without_their_embeddings_are_refused_as_in_a_campaign(run, photos):
    (photos / "chosen.txt").write_text("p1.png\n")
    status, printed = run("--selection", "chosen.txt", "--predictions", "table.csv", "embedding=objects")
    assert status == 2 and "got files that hold detections and class_probs; give a file (embedding=" in printed.err
