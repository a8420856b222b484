import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.core.pool import purchase_dir
from al_lab.core.record.purchase import write_labels
from al_lab.core.types import Annotation, Candidates
from al_lab.reporting.document import page as page_module
from al_lab.reporting.pages.run import _family, build_page, write_report
from al_lab.reporting.read.find import read_run
from tests.run_folders import ANYWHERE


def page_of(folder, others=()):
    run = read_run(folder, ANYWHERE)
    return build_page(run, _family(run, [read_run(p) for p in others]))


def section(page, key):
    return next(s for s in page.sections if s.key == key)


def names(page):
    return {p.name for s in page.sections for p in s.pictures}


@pytest.fixture(scope="module")
def written(family) -> Path:
    """One page, drawn: the other tests look at pages before they are drawn, which takes seconds."""
    return write_report(family / "shapes" / "core_set" / "default" / "seed0", image_folders=ANYWHERE)


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(page_module, "to_svg", lambda figure, name, alt: "<svg></svg>")


def test_every_figure_is_filled(written):
    page = page_of(written.parent)
    assert names(page) == {
        "learning_curve_images",
        "learning_curve_boxes",
        "advice",
        "per_class",
        "per_class_by_cycle",
        "class_distribution",
        "lint",
        "utilities",
        "embedding",
        "cost",
        "stage_times",
    }
    assert [s.title for s in section(page, "images").sheets] == [
        "Bought first, as the initial set",
        *(f"Bought after cycle {c}" for c in range(3)),
    ]
    assert not section(page, "curve").missing
    assert page.notes == []


def test_trainings_that_began_again_are_noted(tmp_path, written):
    folder = tmp_path / "run"
    shutil.copytree(written.parent, folder)
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    train = next(entry for entry in lines if entry["stage"] == "train")
    train["scalars"] |= {"diverged": 2, "diverged_step": 120, "lr_factor": 0.25}
    lines.append(
        {"key": "00/build_lut", "cycle": 0, "stage": "build_lut", "seconds": 1, "scalars": {"diverged_rows": 3}}
    )
    (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    notes = " ".join(page_of(folder).notes)
    assert "cycle 0: training diverged 2 time(s), the last time at step 120" in notes
    assert "0.25 times the learning rate" in notes
    assert "cycle 0: 3 rows of the table diverged" in notes


def test_the_page_is_complete_in_itself(written):
    text = written.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert not re.search(r"url\((?!#|&quot;#)", text)
    assert "@import" not in text
    assert text.count("<svg") == 11
    assert len(text) < 5e6


def test_ids_of_figures_never_collide(written):
    text = written.read_text()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'xlink:href="#([^"]+)"', text)) <= set(ids)


def test_what_comes_from_the_data_is_escaped(written):
    text = written.read_text()
    assert "cross & <bar>" not in text
    assert "cross &amp; &lt;bar&gt;" in text


def test_figures_follow_light_and_dark(written):
    text = written.read_text()
    assert "var(--ink,#1c2127)" in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.slow
def test_figures_and_tables_are_exported(written, tmp_path):
    page, out = write_report(written.parent, exports_dir=tmp_path, image_folders=ANYWHERE), tmp_path
    shown, stamp = page.read_text().split("<!-- of ledger ")  # the run's own page says of which state it is
    assert (out / "report.html").read_text() == shown and stamp.endswith("-->\n")
    stems = {p.stem for p in (out / "figures").glob("*.png")}
    assert stems == {p.stem for p in (out / "figures").glob("*.pdf")}
    assert stems >= {"learning_curve_images", "per_class", "embedding", "selected_initial", "selected_cycle_02"}
    tables = {p.name for p in (out / "tables").iterdir()}
    assert tables >= {"learning_curve.csv", "learning_curve.tex", "labels_needed.csv", "cost.tex", "stage_times.csv"}
    assert (out / "figures" / "per_class.pdf").read_bytes().startswith(b"%PDF")


def test_the_verdict_compares_with_random_and_full_data(written):
    assert re.search(
        r"core_set reaches [\d.]+ % VOC07 AP50 with 80 images labeled, \d+ % of what full data gives\. "
        r"Against random, its area under the curve differs by \+[\d.]+ ± [\d.]+ points "
        r"\(3 paired seeds\): (clearly better|no clear difference)\.",
        page_of(written.parent).verdict,
    )


def test_missing_lines_name_their_commands(maker):
    page = page_of(maker.run("entropy"))
    assert [c for _, c in section(page, "curve").missing] == [
        "python run.py strategy=random protocol=mgral dataset=shapes seed=0",
        "python run.py strategy=random budget=full protocol=mgral dataset=shapes seed=0",
    ]
    maker.run("random", 0)
    assert len(section(page_of(maker.root / "outputs/shapes/entropy/default/seed0"), "curve").missing) == 1


def test_neighbours_of_another_protocol_are_left_alone_but_refused_when_named(maker):
    run, other = maker.run("entropy"), maker.run("random", trainer__lr=0.5)
    assert [s.path for s in _family(read_run(run), [])] == [run.resolve()]
    with pytest.raises(DataError, match="trainer.lr: 0.01 against 0.5"):
        write_report(run, [other])


def test_one_seed_proves_nothing(maker):
    run = maker.run("entropy")
    maker.run("random")
    assert "on one seed, which proves nothing" in page_of(run).verdict


@pytest.mark.parametrize("done", [0, 1])
def test_a_run_in_progress(maker, done):
    page = page_of(maker.run("entropy", done=done))
    assert page.status == f"in progress: {done} of 4 cycles evaluated"
    assert not page.is_done
    assert names(page) >= ({"learning_curve_images", "per_class", "cost"} if done else {"cost"})


def test_a_run_that_waits_for_people(maker):
    folder = maker.run("entropy", done=2, choices__oracle="folder")
    labels = (folder / "cycle_01" / "labels.jsonl").read_text().splitlines(keepends=True)
    for name in ("labels.jsonl", "cost.json"):  # written when all is there
        (folder / "cycle_01" / name).unlink()
    page = page_of(folder)
    assert page.status == "waiting for labels"
    assert page.verdict.startswith(
        f"This run waits for people: 20 images in {folder / 'to_label' / 'cycle_01'} have no"
    )
    assert [s.title for s in section(page, "images").sheets] == [
        "Bought first, as the initial set",
        "Bought after cycle 0",
    ]
    (folder / "cycle_01" / "accepted.jsonl").write_text("".join(labels[:5]))
    assert "15 images" in page_of(folder).verdict


def test_no_command_asks_people_to_label_again(maker):
    page = page_of(maker.run("entropy", choices__oracle="folder"))
    assert {c for s in page.sections for _, c in s.missing} == {""}
    assert "would ask people to label images again" in section(page, "curve").missing[0][0]


def test_what_was_used_stands_beside_what_people_were_asked_for(maker):
    folder = maker.run("entropy", choices__oracle="label_studio", oracle={"seconds_per_image": 2, "seconds_per_box": 7})
    for n, path in enumerate(sorted(folder.glob("*/cost.json"))):
        cost = json.loads(path.read_text())
        asked = {"asked_images": 3, "asked_boxes": 4, "asked_hours": 0.02} if n else {"asked_images": 0}
        path.write_text(json.dumps(cost | asked | ({"timed_images": 3, "timed_hours": 0.01} if n == 1 else {})))
    page = page_of(folder)
    purchases, bought = (
        len(list(folder.glob("*/cost.json"))),
        next(n.value for n in page.numbers if n.label == "images labeled"),
    )
    shown = section(page, "cost")
    table = {t.name: t for t in shown.tables}["asked"]
    last = dict(zip(table.columns, table.rows[-1], strict=True))
    assert (last["images used"], last["images asked for"], last["images timed"]) == (
        int(bought),
        3 * (purchases - 1),
        3,
    )
    assert last["boxes asked for"] == 4 * (purchases - 1)
    assert last["minutes assumed"] == pytest.approx((2 * 3 + 7 * 4) * (purchases - 1) / 60)
    assert last["minutes measured"] == pytest.approx(0.6)
    assert table.rows[0][-1] is None  # nobody was asked, nothing was measured
    assert f"people were asked for {3 * (purchases - 1)} of them, the other" in shown.text
    assert "the tool measured 36 s for 3 of them" in shown.text
    assert any("asked for in" in n.detail for n in page.numbers if n.label == "boxes labeled")


def test_time_is_in_units_that_suit_it(maker):
    columns = section(page_of(maker.run("entropy")), "cost").tables[0].columns
    assert columns[-1] == "minutes"
    assert "minutes of labeling" in names_of_axes(page_of(maker.run("margin")))


def names_of_axes(page):
    return section(page, "cost").pictures[0].svg


def test_a_single_cycle_without_queries(maker):
    page = page_of(maker.run("random", cycles=0))
    assert page.is_done
    assert "learning_curve_images" in names(page)
    assert "No candidates" in section(page, "utilities").text


def test_no_test_set(maker, undrawn):
    page = page_of(maker.run("entropy", metrics=False))
    assert "without a test set" in section(page, "curve").text
    assert names(page) >= {"class_distribution", "utilities", "cost", "stage_times"}
    assert page.verdict == "No evaluation has been written yet."
    assert "<svg" in page.html()


def test_no_embedding_no_objects_no_hidden_labels(maker):
    folder = maker.run("entropy")
    for cycle in (-1, 0, 1, 2):
        where = purchase_dir(folder, cycle)
        (where / "oracle_stats.json").write_text(json.dumps({"classes": ["a", "b"], "bought": [1, 0], "pool": None}))
        ids = [q["id"] for q in json.loads((where / "queries.json").read_text())["queries"]]
        write_labels(where, {i: Annotation.make([], []) for i in ids})
    page = page_of(folder)
    assert "No image embedding" in section(page, "embedding").text
    assert "Nobody knows the pool's own shares" in section(page, "bought").text
    assert all(t.picture is not None for s in section(page, "images").sheets for t in s.tiles)


def test_utilities_that_are_all_equal_are_not_drawn(maker):
    folder = maker.run("random")
    for cycle in range(3):
        ids = [f"i{k}" for k in range(9)]
        Candidates.images(ids, np.zeros(9)).save(folder / f"cycle_{cycle:02d}" / "candidates.npz")
        queries = json.loads((folder / f"cycle_{cycle:02d}" / "queries.json").read_text())
        queries["queries"] = [q | {"utility": 0.0} for q in queries["queries"]]
        (folder / f"cycle_{cycle:02d}" / "queries.json").write_text(json.dumps(queries))
    assert "All utilities are equal" in section(page_of(folder), "utilities").text


def test_a_joint_choice_shows_the_utilities_of_what_was_bought(maker):
    folder = maker.run("core_set", cycles=1)
    Candidates.images(["a", "b", "c"], np.zeros(3)).save(folder / "cycle_00" / "candidates.npz")
    page = page_of(folder)
    assert "only the bought ones have a utility" in section(page, "utilities").text
    assert "utilities" in names(page)


def test_missing_images_are_named_once(maker, undrawn):
    folder = maker.run("entropy")
    for path in folder.rglob("*queries.json"):
        path.write_text(path.read_text().replace(".jpg", ".gone"))
    page = page_of(folder)
    assert any("images to show could not be opened" in note for note in page.notes)
    assert "no image" in page.html()


def test_a_torn_metrics_file_is_said_on_the_page(maker, undrawn):
    folder = maker.run("entropy")
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"cyc')
    assert "metrics.jsonl: line 5" in page_of(folder).html()


def test_a_broken_neighbour_does_not_hurt(maker):
    run, other = maker.run("entropy"), maker.run("random")
    (other / "config.yaml").write_text("[")
    assert len(section(page_of(run), "curve").missing) == 2


def test_secrets_stay_hidden(maker):
    page = page_of(maker.run("entropy", tracker={"api_key": "abc-secret"}))
    assert "abc-secret" not in json.dumps([b for s in page.sections for b in s.blocks])


@pytest.mark.slow
def test_tsne_is_an_option(maker):
    run = read_run(maker.run("core_set", cycles=1))
    assert "t-SNE" in section(build_page(run, [run], "tsne"), "embedding").text


def test_a_large_pool_stays_small_on_the_page(maker):
    folder = maker.run("core_set", cycles=1)
    rng = np.random.default_rng(0)
    ids = [f"img_{k:06d}" for k in range(16_000)]
    Candidates.images(ids, rng.random(16_000), embedding=rng.random((16_000, 64), dtype=np.float32)).save(
        folder / "cycle_00" / "candidates.npz"
    )
    page = page_of(folder)
    assert len(section(page, "embedding").pictures[0].svg) < 1_000_000


def test_a_run_folder_can_be_moved(maker, tmp_path):
    folder = maker.run("entropy")
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert page_of(moved).title == "entropy on shapes"


def test_a_run_is_measured_against_both_random_lines(maker):
    csd = {"objective": {"_target_": "al_lab.objectives.csd.CSD"}}
    for seed in range(2):
        run = maker.run("entropy", seed, **csd)
        maker.run("random", seed, name="objective=csd", **csd)
        maker.run("random", seed, name="protocol=mgral")
        maker.run("random", seed, name="a-third", objective={"_target_": "al_lab.objectives.isd.ISD"})
    assert {r.name for r in _family(read_run(run), [])} == {"default", "objective=csd", "protocol=mgral"}
    page = page_of(run)
    assert re.search(
        r"Against random \(supervised\), .* Against random \(csd\), .* the second the choice of images alone\.",
        page.verdict,
    )
    supervised = read_run(maker.root / "outputs/shapes/random/protocol=mgral/seed0")
    assert {r.name for r in _family(supervised, [])} == {"protocol=mgral"}


def test_the_metric_that_was_asked_for(family):
    run = read_run(family / "shapes" / "entropy" / "default" / "seed0")
    page = build_page(run, [run], metric="voc_area_ap50")
    assert "VOC area AP50" in page.verdict
    with pytest.raises(DataError, match="expected the metric miou"):
        build_page(run, [run], metric="miou")
    with pytest.raises(DataError, match="larger is better, got hd95, a distance"):
        build_page(run, [run], metric="hd95")


def test_the_page_of_a_run_forecasts_it(family, maker):
    run = read_run(family / "shapes" / "entropy" / "default" / "seed0")
    advice = section(build_page(run, [run]), "advice")
    assert "with entropy? The next 20 images" in advice.text and [p.name for p in advice.pictures] == ["advice"]
    young = read_run(maker.run("margin", done=1))
    assert "One point is no curve yet" in section(build_page(young, [young]), "advice").text
