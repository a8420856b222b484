"""Campaigns whose detector is a person's: cycle by cycle they train it on what was bought and hand in predictions."""

import json
import shutil
from pathlib import Path

import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.config.build import build
from al_lab.core.record.labels import read_labels
from al_lab.data.predictions.read import PredictionFiles
from al_lab.data.predictions.views import Views
from al_lab.labeling.store import LabelStore
from al_lab.learners.foreign.asked import asked_of
from al_lab.selection.choose import Order, choose
from al_lab.selection.labeled import Known
from tests.learners.foreign.people import answer, exchange
from tests.stubs import StubDetection, quicken, stub_config

GENERAL = "al_lab.strategies.general"
ENTROPY = {"_target_": f"{GENERAL}.entropy.Entropy"}
CORE_SET = {"_target_": f"{GENERAL}.core_set.CoreSet"}
PAL = {"_target_": "al_lab.strategies.detection.pal.Pal"}
SHORTLIST = {"_target_": f"{GENERAL}.shortlist.Shortlist", "of": ENTROPY, "then": CORE_SET}
DETECTOR = {"_target_": "al_lab.learners.foreign.predictions.PredictionsDetector"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    quicken(monkeypatch)


def config(strategy=ENTROPY, **changes):
    return stub_config(strategy, detector=DETECTOR | changes)


def answers(run_dir: Path, cycle: int, form: str) -> None:
    answer(exchange(run_dir, cycle), form)


def test_three_cycles_as_a_person_does_them(tmp_path):
    run = tmp_path / "run"
    asked = []
    for cycle, form in enumerate(("coco", "yolo", "csv")):
        outcome = run_campaign(config(), run)
        assert outcome["status"] == "awaiting"
        assert f"predictions of cycle {cycle} are awaited" in outcome["message"]
        folder = exchange(run, cycle)
        labels = json.loads((folder / "train/train/annotations/instances.json").read_text())
        assert len(labels["images"]) == 6 + 5 * cycle
        asked.append(len((folder / "predict" / "images.txt").read_text().splitlines()))
        assert "training" not in {p.name for p in (run / f"cycle_{cycle:02d}").glob("*")}
        answers(run, cycle, form)
    outcome = run_campaign(config(), run)
    assert outcome["status"] == "finished"
    assert asked == [34 + 8, 29 + 8, 8]  # of the pool, and the test set; in the end the test set alone
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [m["num_labeled"] for m in metrics] == [6, 11, 16]
    assert all("voc07_ap50" in m and m["spent_boxes"] > 0 for m in metrics)
    assert run_campaign(config(), run)["status"] == "already finished"


@pytest.mark.parametrize("strategy", [ENTROPY, CORE_SET, PAL, SHORTLIST], ids=lambda s: s["_target_"].split(".")[-1])
def test_a_campaign_and_a_single_choice_take_the_same_images(strategy, tmp_path):
    """`al-lab select` on the same files, with the same seed and cycle."""
    run, arrays = tmp_path / "run", {"embeddings": True, "distributions": True}
    for cycle in range(2):
        assert run_campaign(config(strategy, **arrays), run)["status"] == "awaiting"
        answers(run, cycle, "npz")
    assert run_campaign(config(strategy, **arrays), run)["status"] == "awaiting"
    for cycle in (0, 1):
        dataset, folder = StubDetection(), exchange(run, cycle)
        ids = [row["id"] for row in json.loads((run / f"cycle_{cycle:02d}" / "queries.json").read_text())["queries"]]
        labeled = json.loads((run / f"cycle_{cycle:02d}" / "pool.json").read_text())["whole"]
        files = PredictionFiles([], [folder / "predictions" / "arrays.npz"])
        named = asked_of(folder / "predict", dataset, [*dataset.pool_ids, *dataset.test_ids])
        found = files.join(named, dataset.classes)
        chooser = build(strategy)
        if chooser.needs_labels:
            chooser.learn(read_labels(run, sorted(labeled)))
        views = Views(found, dataset, chooser.needs_for("image"))
        known = Known(LabelStore(tmp_path / "store"), dataset)
        choice = choose(chooser, views, found, dataset, set(labeled), known, Order(5, cycle=cycle))
        assert [pick.sample_id for pick in choice.picks] == ids


def spoil(folder: Path, how: str) -> None:
    """Put something in that can't be taken over."""
    place = folder / "predictions"
    if how == "half":
        (path,) = answer(folder, "coco")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "strangers":
        (place / "table.csv").write_text("file,class,x1,y1,x2,y2,confidence\nother.jpg,a,1,1,9,9,0.5\n")
    elif how == "no test":
        (path,) = answer(folder, "csv")
        path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("test")) + "\n")
    elif how == "class":
        (place / "table.csv").write_text("file,class,x1,y1,x2,y2,confidence\nimg__007.jpg,zebra,1,1,9,9,0.5\n")
    elif how == "archive":
        (place / "all.zip").write_bytes(b"PK")
    else:
        answer(folder, "csv")


WRONG = {
    "half": "results.json: expected",
    "strangers": "expected names of the dataset's images, got 1 names that are none, such as 'other.jpg'",
    "no test": "expected predictions of the 8 images of the test set, got none of any; predict all images",
    "class": "expected one of 3 classes of the dataset, got 'zebra'",
    "archive": "got an archive; unpack it there",
}
BARE = {
    "embeddings": "expected an embedding for each of 42 images, got none for 42",
    "distributions": "expected a whole class distribution of each box",
}


def check_refused(run: Path, how: str, sentence: str, **changes: bool) -> None:
    place = exchange(run, 0) / "predictions"
    shutil.rmtree(place)
    place.mkdir()
    spoil(exchange(run, 0), how)
    outcome = run_campaign(config(**changes), run)
    assert outcome["status"] == "awaiting"
    assert sentence in outcome["message"] and "could not be taken over" in outcome["message"]
    assert sentence in (exchange(run, 0) / "problems.txt").read_text()
    assert not (run / "cycle_00" / "model.ckpt").exists()


def test_what_is_wrong_is_a_sentence_and_the_run_waits_on(tmp_path):
    run_campaign(config(), tmp_path / "run")
    for how, sentence in WRONG.items():
        check_refused(tmp_path / "run", how, sentence)


@pytest.mark.parametrize("key", BARE)
def test_what_was_promised_has_to_come(key, tmp_path):
    run_campaign(config(**{key: True}), tmp_path / "run")
    check_refused(tmp_path / "run", "bare", BARE[key], **{key: True})


def test_last_cycles_predictions_are_not_taken_twice(tmp_path):
    run = tmp_path / "run"
    run_campaign(config(), run)
    spoil(exchange(run, 0), "class")
    run_campaign(config(), run)
    answers(run, 0, "csv")  # over the wrong one
    run_campaign(config(), run)
    assert not (exchange(run, 0) / "problems.txt").exists()
    shutil.copy(exchange(run, 0) / "predictions" / "table.csv", exchange(run, 1) / "predictions")
    outcome = run_campaign(config(), run)
    assert outcome["status"] == "awaiting" and "got exactly those of the cycle before" in outcome["message"]


def test_a_killed_hand_out_is_written_again_and_a_lost_model_taken_again(tmp_path):
    run = tmp_path / "run"
    run_campaign(config(), run)
    folder = exchange(run, 0)
    whole = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    for part in ("train", "predict"):  # as if the process had died before it had said that all is there
        (folder / part / ".written").unlink()
    shutil.rmtree(folder / "train" / "train" / "images")
    run_campaign(config(), run)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == whole
    answers(run, 0, "csv")
    run_campaign(config(), run)
    before = (run / "cycle_00" / "queries.json").read_bytes()
    (run / "cycle_00" / "model.ckpt").unlink()
    (run / "cycle_00" / "metrics.json").write_text("{}")
    run_campaign(config(), run)
    assert (run / "cycle_00" / "queries.json").read_bytes() == before


def test_a_run_that_gets_more_cycles_asks_for_the_pool(tmp_path):
    run = tmp_path / "run"
    short = config()
    short["budget"]["cycles"] = 0
    run_campaign(short, run)
    answers(run, 0, "csv")
    assert run_campaign(short, run)["status"] == "finished"
    with pytest.raises(Exception, match=r"got predictions without 20 of them.*delete this cycle's model.ckpt"):
        run_campaign(config(), run)
    (run / "cycle_00" / "model.ckpt").unlink()
    shutil.rmtree(exchange(run, 0) / "predictions")
    assert "34 images of the pool" in run_campaign(config(), run)["message"]
    answers(run, 0, "csv")
    assert "cycle 1" in run_campaign(config(), run)["message"]


def test_a_waiting_command_goes_on_by_itself_and_looks_at_no_half_copied_file(tmp_path, monkeypatch):
    run, seen = tmp_path / "run", []

    def sleep(_: float) -> None:
        """Between two looks: files come in two parts."""
        cycle = max(int(p.name[-2:]) for p in (run / "to_train").iterdir())
        place = exchange(run, cycle) / "predictions"
        if not (place / "table.csv").exists():
            answers(run, cycle, "csv")
            text = (place / "table.csv").read_text()
            (place / "table.csv").write_text(text[: len(text) // 2])
            seen.append((cycle, text))
        elif seen and (place / "table.csv").read_text() != seen[-1][1]:
            (place / "table.csv").write_text(seen[-1][1])

    monkeypatch.setattr("time.sleep", sleep)
    assert run_campaign(config(wait=True), run)["status"] == "finished"
    assert [cycle for cycle, _ in seen] == [0, 1, 2]
    assert not list((run / "to_train").rglob("problems.txt"))
