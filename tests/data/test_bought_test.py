"""A test set that is drawn from the pool and bought: the same for every strategy, whole groups, never in the pool."""

import json

import numpy as np
import pytest
from PIL import Image

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError
from al_lab.core.rng import Rng
from al_lab.data.bought_test import BoughtTest, with_test
from al_lab.data.datasets.folder import Folder
from al_lab.data.formats import voc
from al_lab.data.formats.record import Record
from tests.stubs import StubDense, StubDetection, quicken, stub_config


@pytest.fixture
def quick(monkeypatch):
    quicken(monkeypatch)


def config(strategy="random", **changes):
    made = stub_config({"_target_": f"al_lab.strategies.general.{strategy}"}, cycles=1)
    made["dataset"] = {"_target_": "tests.stubs.StubDetection", "num_test": 0}
    made["budget"]["test"] = 7
    return made | changes


def test_it_is_bought_first_measured_on_and_booked(quick, tmp_path):
    for strategy in ("random.Random", "entropy.Entropy"):
        assert "voc07_ap50" in run_campaign(config(strategy), tmp_path / strategy)
    run = tmp_path / "random.Random"
    queries = json.loads((run / "test" / "queries.json").read_text())["queries"]
    test = {row["id"] for row in queries}
    assert queries == json.loads((tmp_path / "entropy.Entropy" / "test" / "queries.json").read_text())["queries"]
    assert len(test) == 7
    bought = (run / "selections.json").read_text()
    assert not [i for i in test if f'"{i}"' in bought]
    assert json.loads((run / "cycle_00" / "pool.json").read_text())["num_ids"] == 40 - 7
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(r["num_labeled"], r["spent_images"]) for r in rows] == [(6, 13), (11, 18)]
    other = run_campaign(config("random.Random", split_seed=1), tmp_path / "other")
    assert other and queries != json.loads((tmp_path / "other" / "test" / "queries.json").read_text())["queries"]


def test_whole_label_maps(quick, tmp_path):
    made = stub_config({"_target_": "al_lab.strategies.general.random.Random"}, dense=True, cycles=1)
    made["budget"] |= {"test": 3, "initial": 1}
    dataset = StubDense()
    dataset.test_ids = ()
    held = with_test(dataset, made, tmp_path / "run")
    assert len(held.pool_ids) == 5 and held.size_hw(held.test_ids[0]) == dataset.size_hw(held.test_ids[0])
    made["dataset"] = {"_target_": "tests.data.test_bought_test.Untested"}
    assert "miou" in run_campaign(made, tmp_path / "run")
    for i in held.test_ids:
        assert (held.truth(i) == dataset.truth(i)).all()


class Untested(StubDense):
    """No test set."""

    def __init__(self):
        super().__init__()
        self.test_ids = ()


def test_people_are_asked_and_the_same_command_goes_on(quick, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for n in range(12):
        Image.fromarray(np.full((20, 30, 3), 20 * n, np.uint8)).save(root / f"p{n}.png")
    made = config()
    made["strategy"] = {"_target_": "al_lab.strategies.general.random.Random"}
    made["dataset"] = {
        "_target_": "al_lab.data.datasets.folder.Folder", "root": str(root), "classes": ["a", "b", "c"],
        "metrics": ["voc07_ap50"],
    }  # fmt: skip
    made["oracle"] = {"_target_": "al_lab.labeling.folder.FolderOracle"}
    made["budget"] |= {"test": 4, "initial": 2, "per_cycle": 1, "cycles": 0}
    run = tmp_path / "run"
    for folder, count in (("test", 4), ("initial", 2)):
        result = run_campaign(made, run)
        assert result["status"] == "awaiting" and f"{count} of {count} images wait" in result["message"]
        asked = sorted((run / "to_label" / folder / "images").iterdir())
        assert len(asked) == count
        for path in asked:
            record = Record(path.name, np.array([[2.0, 2, 9, 9]]), ("b",), "", (20, 30))
            voc.write_record(run / "to_label" / folder / "labels" / f"{path.stem}.xml", record)
    result = run_campaign(made, run)
    assert result["status"] == "finished" and "voc07_ap50" in result


def dataset(tmp_path, **options):
    for v in range(8):
        for f in range(5):
            Image.fromarray(np.full((8, 8, 3), v, np.uint8)).save(tmp_path / f"v{v}_{f}.png")
    return Folder(str(tmp_path), classes=["a"], **options)


def test_no_group_is_split_and_several_are_in_the_test_set(tmp_path):
    data = dataset(tmp_path, group_by="(v[0-9])_")
    held = BoughtTest(data, 4, Rng(0, "test"))
    groups = [{data.grouping.group(i) for i in ids} for ids in (held.pool_ids, held.test_ids)]
    assert not groups[0] & groups[1] and len(groups[1]) == 2
    assert (len(held.test_ids), len(held.pool_ids)) == (4, 30)
    assert held.describe()["num_pool"] == 30 and held.splits()["test"] == held.test_ids
    with pytest.raises(ConfigError, match="all in the groups of 36 test images"):
        BoughtTest(data, 36, Rng(0, "test"))


def test_an_unlabeled_test_folder_is_what_it_is_drawn_from(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for n in range(6):
            Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(tmp_path / split / f"{n}.png")
    data = Folder(str(tmp_path), classes=["a"])
    held = BoughtTest(data, 4, Rng(0, "test"))
    assert len(held.pool_ids) == 6 and set(held.test_ids) < set(data.test_ids)


def test_where_it_makes_no_sense(tmp_path):
    with pytest.raises(ConfigError, match="8 labeled test images .* budget.test=0"):
        BoughtTest(StubDetection(), 4, Rng(0, "test"))
    with pytest.raises(ConfigError, match="fewer than the 40 images it is drawn from, got 40"):
        BoughtTest(dataset(tmp_path), 40, Rng(0, "test"))
    with pytest.raises(ConfigError, match="budget: expected a budget of at most the pool's 33 images, got 30"):
        made = config("random.Random")
        made["budget"] |= {"initial": 30, "per_cycle": 9}
        run_campaign(made, tmp_path / "run")
