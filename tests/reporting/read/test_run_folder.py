import json

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.core.pool import INITIAL
from al_lab.reporting.read.find import find_runs, read_run
from tests.run_folders import ANYWHERE


def test_a_run_is_read_whole(maker):
    run = read_run(maker.run("entropy", 3))
    assert (run.dataset, run.strategy, run.name, run.seed) == ("shapes", "entropy", "default", 3)
    assert run.is_complete
    assert not run.is_full
    assert run.metric_names == ("voc07_ap50", "voc_area_ap50")
    assert run.column("spent_images") == [20, 40, 60, 80]
    assert run.pool_size == 200
    assert len(run.labeled_ids(1)) == 40
    assert run.purchases == (INITIAL, 0, 1, 2)
    assert run.notes == []


def test_the_dataset_says_which_metric_is_the_curves(maker):
    run = read_run(maker.run("entropy", dataset__metrics=["voc_area_ap50", "voc07_ap50"]))
    assert run.metric_names[0] == "voc_area_ap50"


def test_bought_images_carry_their_labels_by_name(maker):
    run = read_run(maker.run("entropy"), ANYWHERE)
    choice = next(c for c in run.bought(0) if len(c.labels))
    path, truth = maker.truth[choice.sample_id]
    assert choice.image == path
    assert np.allclose(choice.boxes_xyxy, truth.boxes_xyxy)
    assert choice.labels == tuple(run.classes[k] for k in truth.labels)


def test_only_what_came_back_was_bought(maker):
    folder = maker.run("entropy")
    labels = folder / "cycle_00" / "labels.jsonl"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:5]))
    assert len(read_run(folder).bought(0)) == 5


def test_class_counts_add_up_over_purchases(maker):
    run = read_run(maker.run("entropy"))
    counts = run.class_counts()
    assert counts.bought.sum() == sum(run.cost(c)["boxes"] for c in run.purchases)
    assert counts.pool.sum() == sum(len(a.labels) for _, a in maker.truth.values())


def test_full_data_is_recognized(maker):
    assert read_run(maker.run("random", 0, 0, name="budget=full", initial=1.0)).is_full
    assert not read_run(maker.run("random", 0, 0, name="short", initial=20)).is_full


def test_a_torn_tail_is_named_and_the_rest_is_used(maker):
    folder = maker.run("entropy")
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"cycle": 4, "spent_im')
    run = read_run(folder)
    assert len(run.metrics) == 4
    assert any("metrics.jsonl: line 5" in note for note in run.notes)


def test_the_last_line_of_a_cycle_counts(maker):
    folder = maker.run("entropy")
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"cycle": 1, "spent_images": 40, "voc07_ap50": 0.99}) + "\n")
    assert read_run(folder).column("voc07_ap50")[1] == 0.99


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("cycle_00/candidates.npz", lambda run: run.candidates(0)),
        ("cycle_00/oracle_stats.json", lambda run: run.oracle_stats(0)),
        ("cycle_00/cost.json", lambda run: run.cost(0)),
        ("cycle_00/queries.json", lambda run: run.bought(0)),
    ],
)
def test_a_broken_file_is_named_and_left_out(maker, name, read):
    folder = maker.run("entropy")
    (folder / name).write_bytes(b"PK\x03\x04 not really {")
    run = read_run(folder)
    assert not read(run)
    assert any(name in note for note in run.notes)


def test_a_run_that_has_just_begun(maker):
    run = read_run(maker.run("entropy", done=0))
    assert run.last_cycle is None
    assert not run.is_complete
    assert run.metric_names == ()
    assert run.pool_size is None


def test_runs_are_found_below_a_folder_but_not_those_set_aside(maker):
    a, b = maker.run("entropy", 0), maker.run("random", 1)
    b.rename(b.with_name("seed1.before-restart-1"))
    assert [r.path for r in find_runs([maker.root / "outputs", a])] == [a.resolve()]


def test_no_run_there_is_said(tmp_path, maker):
    with pytest.raises(DataError, match="nothing there.*look in outputs"):
        find_runs([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="at least one run.*python run.py"):
        find_runs([tmp_path / "empty"])


def test_a_config_that_is_no_yaml_is_named(maker):
    folder = maker.run("entropy")
    (folder / "config.yaml").write_text("a: [1,")
    with pytest.raises(DataError, match="config.yaml: expected plain yaml"):
        read_run(folder)
    (folder / "config.yaml").write_text("just words")
    with pytest.raises(DataError, match="expected a mapping of settings, got str"):
        read_run(folder)
    with pytest.raises(DataError, match="no config.yaml"):
        read_run(folder.parent)


def test_yaml_cannot_build_objects(maker):
    folder = maker.run("entropy")
    (folder / "config.yaml").write_text("a: !!python/object/apply:os.getcwd []")
    with pytest.raises(DataError, match="expected plain yaml"):
        read_run(folder)
