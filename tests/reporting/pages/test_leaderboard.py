import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from al_lab.cli.pages.leaderboard import main
from al_lab.config.options import changes_detector
from al_lab.core.errors import DataError
from al_lab.core.pool import purchase_dir
from al_lab.reporting.pages.leaderboard import _of_runs, write_leaderboard
from al_lab.reporting.read.find import find_runs

RESULTS = Path(__file__).parents[3] / "results"


def table(folder, name):
    return list(csv.DictReader(io.StringIO((folder / "tables" / f"{name}.csv").read_text())))


def test_run_folders_make_a_page_with_tables(family, tmp_path, capsys):
    assert main([str(family), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "leaderboard.html")
    html = (tmp_path / "leaderboard.html").read_text()
    assert "Leaderboard by VOC07 AP50" in html and html.count("<svg") == 4
    rows = {r["strategy"]: r for r in table(tmp_path, "leaderboard")}
    assert list(rows) == ["entropy", "core_set", "random"]  # without full data, the best first
    assert (rows["entropy"]["place"], rows["entropy"]["against its random"]) == ("1", "clearly better")
    assert float(rows["entropy"]["acquisition, min"]) == pytest.approx(3 * 9.5 / 60)  # score and select of three cycles
    assert {p.suffix for p in (tmp_path / "tables").iterdir()} == {".csv", ".tex"}
    assert r"\toprule" in (tmp_path / "tables" / "leaderboard.tex").read_text()


def test_files_of_points_make_one_too_and_say_what_seeds_cant_tell(tmp_path, capsys):
    assert main([*map(str, (RESULTS / "voc5_320.csv", RESULTS / "voc5_plain.csv")), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err.startswith(
        "With what you have seen you can't tell apart core_set on voc5_320 from random"
    )
    assert {r["data set"] for r in table(tmp_path, "leaderboard")} == {"voc5_320", "voc5_plain"}
    assert [r["strategy"] for r in table(tmp_path, "over_data_sets")] == ["random"]


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        (["voc5_320", "camvid_320"], [], "expected the metric voc_area_ap50 or voc07_ap50, as in voc5_320.csv"),
        (["voc5_320", "voc5_320"], [], "expected each data set once, got voc5_320 twice"),
        (["voc5_al_ssl"], [], "one seed (0) of entropy + csd"),
        (["voc5_320"], ["--column", "pixels"], "expected a column pixels"),
        (["nowhere"], [], "expected a file of points"),
    ],
)
def test_wrong_input_ends_in_a_sentence(files, options, words, tmp_path, capsys):
    assert main([*(str(RESULTS / f"{name}.csv") for name in files), "--out", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_runs_and_files_that_are_decided_otherwise_dont_share_a_page(family, tmp_path):
    with pytest.raises(DataError, match="expected one metric for all data sets, got voc_area_ap50 on voc5_320, voc07"):
        write_leaderboard([RESULTS / "voc5_320.csv", family], tmp_path)
    by_area = tmp_path / "s.csv"
    keys = [(name, seed, cycle) for name in ("a", "random") for seed in (0, 1) for cycle in (0, 1)]
    points = [f"{name},{seed},{cycle},{9 + cycle},0.{3 + cycle}{seed}" for name, seed, cycle in keys]
    by_area.write_text("\n".join(["strategy,seed,cycle,pixels,miou", *points]))
    with pytest.raises(DataError, match="expected one way to judge"):
        write_leaderboard([RESULTS / "camvid_320.csv", by_area], tmp_path)


def drawn(maker, images):
    for folder in (maker.root / "outputs").rglob("seed?"):
        values = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["voc07_ap50"]
        for cycle in range(4):
            noise = np.random.default_rng(cycle).normal(0, 0.01, 200)
            found = {"images": images(folder), "metrics": {"voc07_ap50": (values + noise).tolist()}}
            (purchase_dir(folder, cycle) / "resampled.json").write_text(json.dumps(found))


def test_test_images_are_drawn_again_where_all_runs_kept_the_same(maker):
    for strategy in ("random", "entropy"):
        for seed in (0, 1):
            maker.run(strategy, seed)
    runs = find_runs([maker.root / "outputs"])
    options = ((), None, None, None, False, lambda s: s == "entropy", print)
    assert not _of_runs(runs, *options)[0].has_drawn_images
    drawn(maker, lambda folder: "a")
    (contest,) = _of_runs(runs, *options)
    assert contest.has_drawn_images and contest.entries[0].drawn[0].shape == (4, 200)
    assert contest._drawn("boxes").shape == (2, 2, 200)
    assert [e.is_changed for e in contest.entries] == [True, False]
    drawn(maker, lambda folder: folder.name)
    assert not _of_runs(find_runs([maker.root / "outputs"]), *options)[0].has_drawn_images


def test_who_changes_the_detector_is_read_from_the_class():
    assert changes_detector("mc_dropout") and not changes_detector("entropy")
    assert not changes_detector("a line of somebody else's") and not changes_detector("../x")
