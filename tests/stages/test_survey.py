"""A pool is looked at before anything is bought: what is left out, the initial set of a cold start, going on."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError
from al_lab.core.record.ledger import Ledger
from al_lab.data.formats import voc
from al_lab.data.formats.record import Record
from al_lab.stages import survey
from tests.stubs import quicken, stub_config

SCENES, COPIES = 4, 6


class Colors:
    """Stands for a pretrained network: the mean color of an image."""

    seen: list[int] = []

    def __init__(self, *_: object) -> None: ...

    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        self.seen.append(len(images))
        return np.stack([i.reshape(-1, 3).mean(0) for i in images]).astype(np.float32)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Four scenes of six frames that look alike, one dark image, one broken one; two test images."""
    root = tmp_path_factory.mktemp("film")
    rng = np.random.default_rng(0)
    for s in range(SCENES):
        tint = np.eye(4, 3)[s] * 100 + 60
        picture = (rng.random((9, 9, 3)) * tint).astype(np.uint8)
        for f in range(COPIES):
            _write(root / "train" / f"scene{s}_{f:02d}.png", picture, f)
    for n in range(4):
        _write(root / "train" / f"single{n}_00.png", rng.integers(0, 255, (9, 9, 3), np.uint8), 0)
        _write(root / "test" / f"t{n}.png", rng.integers(0, 255, (9, 9, 3), np.uint8), 0)
    _write(root / "train" / "dark_00.png", rng.integers(0, 20, (9, 9, 3), np.uint8), 0)
    _write(root / "train" / "wreck_00.png", picture, 0)
    (root / "train" / "wreck_00.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    return root


def _write(path, picture, shift):
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(picture).resize((60, 60), Image.Resampling.BICUBIC)
    Image.fromarray(np.clip(np.asarray(image).astype(int) + 2 * shift, 0, 255).astype(np.uint8)).save(path)
    record = Record(path.name, np.array([[4.0, 4, 40, 40]]), ("abc"[len(path.stem) % 3],), "", (60, 60))
    voc.write_record(path.with_suffix(".xml"), record)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("al_lab.models.backbone.Backbone", Colors)
    monkeypatch.setattr("al_lab.campaign.assemble._check_start", lambda start: None)
    quicken(monkeypatch)


def config(root, strategy="random.Random", dataset=None, **budget):
    node = {"_target_": "al_lab.data.datasets.folder.Folder", "root": str(root), "classes": ["a", "b", "c"]}
    made = stub_config({"_target_": f"al_lab.strategies.general.{strategy}"}, cycles=budget.pop("cycles", 1))
    made["budget"] |= {"initial": 6, "per_cycle": 3, "leave_out": ["unreadable"], **budget}
    made["dataset"] = node | {"metrics": ["voc07_ap50"]} | (dataset or {})
    return made


def bought(run_dir, folder):
    return [row["id"] for row in json.loads((run_dir / folder / "queries.json").read_text())["queries"]]


def test_a_cold_start_takes_one_of_each_scene_for_every_strategy(film, tmp_path):
    for strategy in ("random.Random", "entropy.Entropy"):
        run_campaign(config(film, strategy, initial_by="cold_start"), tmp_path / strategy)
    first = bought(tmp_path / "random.Random", "initial")
    assert first == bought(tmp_path / "entropy.Entropy", "initial")
    scenes = [i.split("_")[0] for i in first]
    assert len(set(scenes)) == len(scenes) == 6 and "wreck" not in scenes
    rows = json.loads((tmp_path / "random.Random" / "initial" / "left_out.json").read_text())["left_out"]
    assert sum(r["reason"] == "near_copies" for r in rows) == SCENES * (COPIES - 1)
    assert [r["for_good"] for r in rows if r["reason"] == "unreadable"] == [True]
    assert not any(r["for_good"] for r in rows if r["reason"] == "near_copies")  # they can be bought later


def test_what_is_left_out_is_never_bought_and_the_run_ends_when_the_rest_is(film, tmp_path):
    reasons = ["unreadable", "dark", "near_copies"]
    result = run_campaign(config(film, "core_set.CoreSet", leave_out=reasons, initial=2, cycles=2), tmp_path / "run")
    assert result["status"] == "finished" and result["message"] == ""
    everything = bought(tmp_path / "run", "initial") + [
        i for c in range(2) for i in bought(tmp_path / "run", f"cycle_{c:02d}")
    ]
    assert len(everything) == 8 == SCENES + 4
    assert not {i for i in everything if "dark" in i or "wreck" in i}
    assert len({i.split("_")[0] for i in everything}) == 8
    with pytest.raises(ConfigError, match="the 8 of 30 images that are not left out, got 11"):
        run_campaign(config(film, leave_out=reasons, initial=2, cycles=3), tmp_path / "more")


def test_it_goes_on_shard_by_shard_and_is_made_again_when_lost(film, tmp_path, monkeypatch):
    settings = config(film, initial_by="cold_start")
    real, calls = survey.look, []

    def dies(run_dir, checkpoint, ids, out):
        calls.append(len(ids))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(run_dir, checkpoint, ids, out)

    monkeypatch.setattr(survey, "look", dies)
    with pytest.raises(KeyboardInterrupt):
        run_campaign(settings, tmp_path / "run")
    run_campaign(settings, tmp_path / "run")
    assert sum(calls) == 30 + calls[1]  # the first shard was not looked at twice
    assert not (tmp_path / "run" / "cycle_00" / "shards").exists()
    ledger = (tmp_path / "run" / "ledger.jsonl").read_text()
    first = bought(tmp_path / "run", "initial")
    (tmp_path / "run" / "initial" / "left_out.json").unlink()
    run_campaign(settings, tmp_path / "run")
    assert (tmp_path / "run" / "initial" / "left_out.json").is_file()
    assert (tmp_path / "run" / "ledger.jsonl").read_text() == ledger
    assert list(Ledger(tmp_path / "run" / "ledger.jsonl").entries)[:2] == ["00/survey", "00/initialize"]
    assert first == bought(tmp_path / "run", "initial")


@pytest.mark.slow
def test_a_second_run_takes_it_from_the_cache_and_notices_another_file(film, tmp_path):
    root = shutil.copytree(film, tmp_path / "film")
    settings = config(root, initial_by="cold_start")
    settings["runtime"]["cache_dir"] = str(tmp_path / "cache")
    Colors.seen.clear()
    run_campaign(settings, tmp_path / "a")
    assert sum(Colors.seen) == 29
    Colors.seen.clear()
    run_campaign(settings | {"seed": 1}, tmp_path / "b")
    assert Colors.seen == []
    assert bought(tmp_path / "a", "initial") == bought(tmp_path / "b", "initial")
    shutil.copyfile(root / "train" / "scene0_00.png", root / "train" / "single0_00.png")
    run_campaign(settings, tmp_path / "c")
    assert sum(Colors.seen) == 29


@pytest.mark.slow
def test_groups_are_kept_and_too_few_are_named(film, tmp_path):
    gap = {"group_by": "([a-z]+)[0-9]*_", "min_gap": "group"}  # scene, single, dark
    settings = config(film, dataset=gap, initial_by="cold_start", initial=3, per_cycle=2)
    run_campaign(settings, tmp_path / "run")
    assert sorted(i.split("/")[-1].rstrip("0123456789_") for i in bought(tmp_path / "run", "initial")) == [
        "dark", "scene", "single",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"4 images to begin with, got 3 .* set budget.initial=3"):
        run_campaign(config(film, dataset=gap, initial_by="cold_start", initial=4, per_cycle=2), tmp_path / "no")
    loose = config(film, dataset={"group_by": "([a-z]+[0-9]*)_"}, initial_by="cold_start", initial=9)
    run_campaign(loose, tmp_path / "loose")
    assert len({i.split("_")[0] for i in bought(tmp_path / "loose", "initial")}) == 9


def test_an_unreadable_image_is_said_before_it_stops_a_run(film, tmp_path, caplog):
    run_campaign(config(film, leave_out=["dark"]), tmp_path / "run")  # the stub looks at no image
    assert "budget.leave_out='[unreadable]' goes on without them" in caplog.text


def test_a_given_embedding_finds_near_copies_that_no_fingerprint_does(film, tmp_path):
    names = sorted(p.stem for p in (film / "train").glob("*.png"))
    vectors = np.eye(len(names), dtype=np.float32)
    vectors[names.index("single1_00")] = vectors[names.index("single0_00")]
    np.savez(tmp_path / "v.npz", images=np.array([f"{n}.png" for n in names]), embedding=vectors)
    settings = config(film, leave_out=["unreadable", "near_copies"], initial=4)
    without = settings | {"budget": settings["budget"] | {"limits": {"near_copies_cosine": None}}}
    for name, made in (("with", settings), ("without", without)):
        run_campaign(made | {"embedding": str(tmp_path / "v.npz")}, tmp_path / name)
    run_campaign(settings, tmp_path / "none")
    rows = {
        name: json.loads((tmp_path / name / "initial" / "left_out.json").read_text())["left_out"]
        for name in ("with", "without", "none")
    }
    (more,) = [r for r in rows["with"] if r["id"] not in {q["id"] for q in rows["none"]}]
    assert more["id"].endswith("single1_00") and more["like"].endswith("single0_00") and "cosine" in more["what"]
    assert rows["without"] == rows["none"]


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        ({"initial_by": "warm"}, "budget.initial_by: expected .*'warm'"),
        ({"leave_out": ["ugly"]}, "budget.leave_out"),
        ({"leave_out": "dark"}, "budget.leave_out"),
        ({"cold_start": {"by": "luck"}}, "budget.cold_start.by"),
        ({"cold_start": {"weigths": "x"}}, "did you mean 'weights'"),
        ({"cold_start": {"input_px": 8}}, "budget.cold_start.input_px"),
        ({"limits": {"dark": -1}}, "budget.limits.dark"),
        ({"limits": {"near_copies_bits": 99}}, "budget.limits.near_copies_bits"),
        ({"limits": {"near_copies_cosine": 1.5}}, "budget.limits.near_copies_cosine"),
        ({"limits": {"near_copies_cosine": "often"}}, "budget.limits.near_copies_cosine"),
    ],
)
def test_wrong_settings(film, tmp_path, budget, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run_campaign(config(film, **budget), tmp_path / "run")
