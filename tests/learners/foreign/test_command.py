"""Campaigns whose detector is a program: what it is told, what it leaves, and how it may go wrong."""

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import LabError
from al_lab.learners.build import build_learner
from al_lab.learners.foreign.process import command_words, run_command
from tests.stubs import StubDetection, quicken, stub_config

PROGRAM = Path(__file__).with_name("program.py")
TRAIN = f"{{python}} {PROGRAM} train --labels {{labels}} --model {{checkpoint}} --seed {{seed}}"
PREDICT = f"{{python}} {PROGRAM} predict --images {{images}} --model {{checkpoint}} --out {{out}}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    quicken(monkeypatch)


def config(train: str = "", predict: str = "", *, whole: str = "", cycles: int = 1, **changes):
    detector = {
        "_target_": "al_lab.learners.foreign.command.CommandDetector",
        "train": whole or TRAIN + train,
        "predict": PREDICT + predict,
        "device": "cpu",
        "train_minutes": 1,
        "predict_minutes": 1,
    }
    made = stub_config(
        {"_target_": "al_lab.strategies.general.entropy.Entropy"}, cycles=cycles, detector=detector | changes
    )
    made["runtime"]["predict_batch"] = 16
    return made


def test_a_campaign_from_start_to_end(tmp_path):
    assert run_campaign(config(), tmp_path / "run")["status"] == "finished"
    cycle = tmp_path / "run" / "cycle_00"
    assert re.fullmatch("[0-9a-f]{64}", (cycle / "model.ckpt").read_text())
    logs = sorted(p.name for p in (cycle / "commands").iterdir())
    assert logs[-1] == "train.log" and all(re.fullmatch(r"predict_\w{10}.log", name) for name in logs[:-1])
    assert "program.py train --labels" in (cycle / "commands" / "train.log").read_text()
    assert len(json.loads((cycle / "queries.json").read_text())["queries"]) == 5
    assert "voc07_ap50" in (tmp_path / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"train": " --do fail"}, r"detector.train \(log: .*train.log\): expected exit code 0, got exit code 3; "
         r"correct .*\| CUDA error: no kernel image"),
        ({"whole": "sh -c 'echo the other rank; sleep 600'", "train_minutes": 0.02}, r"expected an end within 0.02 "
         r"minutes, got none: it was ended; .*detector.train_minutes\)\nits last words:\n  \| the other rank"),
        ({"whole": "sh -c 'kill -9 $$'"}, r"got an end by SIGKILL \(the kernel does this when memory runs out\)"),
        ({"train": " --do nothing"}, r"expected a model in .*model.pt, got no such file; let the command write it to"),
        ({"predict": " --do fail"}, r"detector.predict \(log: .*exit code 3"),
        ({"predict": " --do nothing"}, r"expected predictions in .*out, got none; let the command write predictions"),
        ({"predict": " --do nothing", "predictions": "labels"}, r"expected predictions in .*labels, got no such file"),
        ({"predict": " --do half"}, r"detector.predict .*boxes.csv"),
        ({"predict": " --do json"}, r"detector.predict .*boxes.json: expected predictions, got no JSON"),
        ({"predict": "", "distributions": True}, r"expected a whole class distribution of each box"),
    ],
    ids=lambda v: " ".join(map(str, v.values())) if isinstance(v, dict) else "",
)  # fmt: skip
def test_what_goes_wrong_is_a_sentence_and_the_same_command_goes_on(words, sentence, tmp_path):
    with pytest.raises(LabError) as caught:
        run_campaign(config(**words), tmp_path / "run")
    assert re.search(sentence, str(caught.value), re.S), str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": "pyton train.py"}, "got 'pyton', which is not there"),
        (
            {"train": "a {chekpoint}"},
            r"detector.train: expected words in braces among {data}, .*did you mean 'checkpoint'",
        ),
        ({"predict": "a 'b"}, "detector.predict: expected a command, got No closing quotation"),
        ({"predict": ""}, "detector.predict: expected a command, got nothing"),
        ({"train": "a --from {init}"}, "expected init, got null; say what the first training begins with"),
        ({"checkpoint": "../m.pt"}, "detector.checkpoint: expected a place below {out}"),
        ({"labels": "masks"}, "detector.labels: expected voc | coco"),
        ({"train_minutes": 0}, "detector.train_minutes: expected a finite number > 0"),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_a_wrong_setting_is_a_sentence(changes, sentence, tmp_path):
    made = config(cycles=0)
    made["detector"] |= changes
    with pytest.raises(LabError, match=re.sub(r"([|{}])", r"\\\1", sentence)):
        learner = build_learner(made, StubDetection())
        if "pyton" in made["detector"]["train"]:
            run_campaign(made, tmp_path / "run")
        del learner


def test_words_with_spaces_stay_words_and_other_braces_are_left_alone():
    assert command_words("p --a={out}/x '{\"k\": 1}' \"b c\"", {"out": "/my photos"}) == [
        "p", "--a=/my photos/x", '{"k": 1}', "b c",
    ]  # fmt: skip


def test_what_a_command_has_started_ends_with_it(tmp_path):
    script = "sleep 600 & echo $! > pid; exit 0"
    run_command(["sh", "-c", f"cd {tmp_path}; {script}"], tmp_path / "log", 1, "detector.train")
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 60  # killed, it is gone as soon as the machine finds time for it
    while is_running(pid):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_folder_is_a_model_and_the_next_cycle_begins_with_it(tmp_path):
    made = config(" --init {init}", checkpoint="model/", init="yolo.pt", start="weights")
    made["trainer"]["start"] = "weights"  # as the composed configuration has it
    made["detector"]["train"] = f"sh -c 'mkdir -p $2; {made['detector']['train']}' sh x {{checkpoint}}"
    assert run_campaign(made, tmp_path / "run")["status"] == "finished"
    logs = [(tmp_path / "run" / f"cycle_0{c}" / "commands" / "train.log").read_text() for c in (0, 1)]
    assert "--init yolo.pt" in logs[0]
    assert "/init/model" in logs[1]
    packed = (tmp_path / "run" / "cycle_00" / "model.ckpt").read_bytes()
    learner = build_learner(made, StubDetection())
    learner.load(tmp_path / "run" / "cycle_00" / "model.ckpt")
    assert len(list(learner.views(["img/000", "img/001"], ("detections",)))) == 2
    (tmp_path / "run" / "cycle_00" / "model.ckpt").write_bytes(packed[:700])
    with pytest.raises(LabError, match="expected a packed folder"):
        list(learner.views(["img/000"], ("detections",)))


def run_until(made: dict, run: Path, moment: str) -> None:
    """Run a campaign in a process of its own, and kill it at a moment; wait until its command is gone, too."""
    pid = os.fork()
    if not pid:
        try:
            run_campaign(made, run)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 120
    while not list(run.glob(moment)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while any(str(run.parent / "stop") in words for words in running()):
        assert time.monotonic() < deadline, "a command outlived its campaign"
        time.sleep(0.02)


def running() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().decode(errors="replace"))
    return found


@pytest.mark.slow
def test_killed_in_its_training_and_in_its_prediction_it_ends_as_undisturbed(tmp_path):
    stops = {what: tmp_path / f"stop_{what}" for what in ("train", "predict")}
    made = config()
    for what, stop in stops.items():
        made["detector"][what] = f"sh -c 'test -e {stop} && sleep 100; exec \"$@\"' sh {made['detector'][what]}"
    assert run_campaign(made, tmp_path / "whole")["status"] == "finished"
    for what, moment in (("train", "cycle_00/commands/train.log"), ("predict", "cycle_00/commands/predict_*.log")):
        stops[what].touch()
        run_until(made, tmp_path / "killed", moment)
        stops[what].unlink()
    assert run_campaign(made, tmp_path / "killed")["status"] == "finished"
    for name in ("selections.json", "metrics.jsonl", "cycle_01/model.ckpt"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
