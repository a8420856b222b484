import json
import logging
import sys

import pytest
import yaml
from PIL import Image

from al_lab.campaign import publish
from al_lab.core.errors import ConfigError
from al_lab.trackers import tracking
from al_lab.trackers.tracking import MAX_IMAGES, Several, TensorBoardTracker, Tracker, WandbTracker, run_id


class Recorder(Tracker):
    """Keeps what it is told; fails where it is asked to."""

    def __init__(self, fails=()):
        super().__init__()
        self.fails, self.calls = fails, []

    def _note(self, name, *values):
        if name in self.fails:
            raise ConnectionError("no route to the dashboard")
        self.calls.append((name, *values))

    def _on_start(self):
        self._note("start")

    def _on_stage(self, key, scalars, seconds):
        self._note("stage", key, scalars, seconds)

    def _on_cycle(self, cycle, metrics):
        self._note("cycle", cycle, metrics)

    def _on_selection(self, cycle, rows):
        self._note("selection", cycle, len(rows))

    def _on_finish(self):
        self._note("finish")


def tell(tracker, run_dir, config=None, cycle=0, rows=()):
    tracker.start(run_dir, config or {})
    tracker.log_stage(f"{cycle:02d}/train", {"loss": 1.5, "bad": float("nan")}, 3.0)
    tracker.log_cycle(
        cycle, {"cycle": cycle, "spent_images": 20, "spent_boxes": 55, "num_labeled": 20, "voc07_ap50": 0.4}
    )
    tracker.log_steps(cycle, {"step": [0, 1, 2], "loss": [3.0, 2.0, 1.5], "lr": [0.1, 0.1, 0.1]})
    tracker.log_classes(cycle, {"spent_images": 20, "num_labeled": 20}, {"voc07_ap50": {"cat": 0.5, "dog": 0.3}})
    tracker.log_selection(cycle, rows)
    tracker.finish()


@pytest.fixture
def rows(maker):
    return [
        {
            "id": i,
            "utility": 0.1 * k,
            "image": str(path),
            "boxes_xyxy": a.boxes_xyxy.tolist(),
            "labels": a.labels.tolist(),
            "classes": list("abcd"),
        }
        for k, (i, (path, a)) in enumerate(list(maker.truth.items())[:60])
    ]


@pytest.mark.parametrize("fails", [{"start"}, {"stage"}, {"cycle"}, {"selection"}, {"finish"}])
def test_a_failing_tracker_never_stops_a_campaign(tmp_path, caplog, fails):
    tracker = Recorder(fails)
    with caplog.at_level(logging.WARNING):
        tell(tracker, tmp_path)
    assert "no route to the dashboard" in caplog.text
    assert "the campaign goes on" in caplog.text
    told = {c[0] for c in tracker.calls}
    assert told == (set() if fails == {"start"} else {"start", "stage", "cycle", "selection", "finish"} - fails)


def test_one_failing_tracker_does_not_hide_another(tmp_path):
    good = Recorder()
    tell(Several([Recorder({"start", "stage"}), good]), tmp_path)
    assert [c[0] for c in good.calls] == ["start", "stage", "cycle", "selection", "finish"]


@pytest.mark.parametrize(("unit", "spent"), [("image", 20.0), ("box", 55.0)])
def test_what_was_spent_is_counted_in_the_budgets_unit(tmp_path, unit, spent):
    tracker = Recorder()
    tell(tracker, tmp_path, {"budget": {"unit": unit}})
    assert tracker.calls[2][2]["spent"] == spent


def test_values_that_are_not_finite_are_left_out(tmp_path):
    tracker = Recorder()
    tell(tracker, tmp_path)
    assert tracker.calls[1] == ("stage", "00/train", {"loss": 1.5}, 3.0)


def test_at_most_fifty_images_are_sent(tmp_path, rows):
    tracker = Recorder()
    tell(tracker, tmp_path, rows=rows)
    assert tracker.calls[3] == ("selection", 0, MAX_IMAGES)


def test_the_step_is_what_was_committed(tmp_path):
    tracker = Recorder()
    tracker.start(tmp_path, {})
    assert tracker.step == 0
    (tmp_path / "ledger.jsonl").write_text('{"key": "00/train"}\n{"key": "00/evaluate"}\n')
    assert tracker.step == 2


def test_the_same_folder_is_the_same_record_and_a_new_one_is_not(tmp_path):
    folder = tmp_path / "seed0"
    folder.mkdir()
    first = run_id(folder)
    assert run_id(folder) == first
    folder.rename(tmp_path / "seed0.before-restart-1")  # restart=true
    folder.mkdir()
    assert run_id(folder) != first
    assert run_id(tmp_path / "seed0.before-restart-1") == first


def test_a_missing_package_is_a_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with caplog.at_level(logging.WARNING):
        tell(WandbTracker(), tmp_path)
    assert "WandbTracker.start failed" in caplog.text


@pytest.fixture
def no_key(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_without_a_key_wandb_is_offline(no_key, caplog):
    with caplog.at_level(logging.WARNING):
        assert WandbTracker()._mode() == "offline"
        assert not caplog.text
        assert WandbTracker(mode="online")._mode() == "offline"
    assert "no API key" in caplog.text


def test_with_a_key_wandb_is_online(no_key, monkeypatch):
    no_key.write_text("machine api.wandb.ai login user password not-a-real-key\n")
    no_key.chmod(0o600)
    assert WandbTracker()._mode() == "online"
    assert WandbTracker(mode="offline")._mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert WandbTracker()._mode() == "disabled"


def test_a_wrong_mode_is_refused():
    with pytest.raises(
        ConfigError, match=r"tracker.mode: expected auto \| online \| offline \| disabled, got 'ofline'"
    ):
        WandbTracker(mode="ofline")


def test_the_shipped_configs_build():
    conf = tracking.Path(__file__).parents[2] / "conf" / "tracker"
    for name in ("wandb", "tensorboard"):
        node = yaml.safe_load((conf / f"{name}.yaml").read_text())
        built = getattr(tracking, node.pop("_target_").rsplit(".", 1)[1])(**node)
        assert isinstance(built, Tracker)


def test_tensorboard_goes_on_in_the_same_folder(maker, rows):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = maker.run("entropy")
    rows[0]["image"] = "gone.jpg"  # one picture less, nothing else
    for cycle in range(2):
        tell(TensorBoardTracker(), run, {"trainer": {"lr": 0.1}}, cycle=cycle, rows=rows[:3])
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("cycle/voc07_ap50")] == [(20, 0.4), (20, 0.4)]
    assert [e.step for e in events.Scalars("stage/train/seconds")] == [0, 1]
    assert sorted(events.Tags()["images"]) == ["select/01", "select/02"]
    assert [(e.step, e.value) for e in events.Scalars("train/cycle_01/loss")] == [(0, 3.0), (1, 2.0), (2, 1.5)]
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("class/voc07_ap50/dog")] == [(20, 0.3), (20, 0.3)]
    assert b"lr: 0.1" in events.Tensors("configuration")[0].tensor_proto.string_val[0]


def test_long_trainings_are_thinned():
    steps = tracking.thinned({"step": range(2 * tracking.MAX_STEPS), "loss": range(2 * tracking.MAX_STEPS)})
    assert len(steps["step"]) == tracking.MAX_STEPS
    assert steps["step"] == steps["loss"]
    assert (steps["step"][0], steps["step"][-1]) == (0, 2 * tracking.MAX_STEPS - 1)
    assert tracking.thinned({}) == {} and tracking.thinned({"step": [4], "loss": [1]}) == {"step": [4.0], "loss": [1.0]}


def test_the_campaign_hands_over_what_lies_in_its_folder(tmp_path):
    (tmp_path / "train_log.csv").write_text("step,loss\n0,2.5\n1,\n")
    (tmp_path / "per_class.csv").write_text(
        "class,ap,num_gt,num_det,metric\ncat,0.5,9,9,coco_ap\ndog,nan,0,0,coco_ap\n"
    )
    steps = publish._steps(tmp_path / "train_log.csv")
    assert steps["step"] == [0.0, 1.0] and steps["loss"][0] == 2.5
    assert publish._classes(tmp_path / "per_class.csv") == {"coco_ap": {"cat": 0.5}}
    assert publish._steps(tmp_path / "gone.csv") == publish._classes(tmp_path / "gone.csv") == {}


@pytest.mark.slow
def test_wandb_offline_continues_one_run_with_fifty_images(maker, rows, no_key, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DATA_DIR", "")
    monkeypatch.delenv("WANDB_DATA_DIR")
    run = maker.run("entropy")
    for cycle in range(2):
        tell(WandbTracker(), run, {"budget": {"unit": "image"}}, cycle, rows)
    record = run_id(run)
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert {f.name for f in files} == {f"run-{record}.wandb"}
    content = b"".join(f.read_bytes() for f in files)
    for word in (
        b"shapes/entropy",
        b"entropy/default/seed0",
        b"cycle/*",
        b"cycle/spent",
        b"cycle/voc07_ap50",
        b"stage/train/seconds",
        b"class/voc07_ap50/dog",
        b"train/cycle_00/loss",
    ):
        assert word in content
    tables = [json.loads(p.read_text()) for p in run.glob("wandb/**/*.table.json")]
    assert {len(t["data"]) for t in tables} == {MAX_IMAGES, 3}  # selections, and the steps of the trainings
    assert tables
    assert b"media/images/" in content
    # the images themselves, beside the run and not in the home folder
    assert len(list((run / "wandb" / "data").rglob("tmp*"))) > 10


def test_pictures_are_made_small_enough_to_send(tmp_path):
    Image.new("RGB", (2000, 1000)).save(tmp_path / "big.png")
    picture, scale = tracking.picture_of({"id": "big", "image": str(tmp_path / "big.png")})
    assert picture.size == (512, 256)
    assert scale == pytest.approx(0.256)
