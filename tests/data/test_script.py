"""scripts/data.py, called in this process."""

import importlib.util
import json
import logging
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "data.py"


@pytest.fixture
def run(monkeypatch):
    spec = importlib.util.spec_from_file_location("al_lab_data_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handlers = logging.getLogger().handlers[:]
    monkeypatch.setattr("al_lab.command.start_log", lambda: None)
    yield module.main
    logging.getLogger().handlers[:] = handlers


def test_help_shows_commands_and_examples(run, capsys):
    with pytest.raises(SystemExit) as stop:
        run(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("verify", "stats", "download", "dataset=voc_folder dataset.root=photos"))


def test_verify_and_stats_of_a_folder(run, capsys, voc_tree):
    root = voc_tree({"a": [("dog", 1, 1, 9, 9)], "b": [("dog", 5, 5, 5, 9)], "c": []}, {"train": ["a", "b"], "test": ["c"]})
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


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["verify", "dataset=voc_fodler"], "did you mean 'voc_folder'?"),
        (["verify", "dataset=voc", "runtime.data_dir=/nowhere"], "scripts/data.py download voc"),
        (["stats", "dataset=coco", "runtime.data_dir=/nowhere"], "scripts/data.py download coco"),
        (["verify", "dataset=voc_folder", "dataset.root=/nowhere"], "got no such folder"),
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
