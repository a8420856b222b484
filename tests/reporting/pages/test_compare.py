import csv
import io
import json
import re

import pytest

from al_lab.core.errors import DataError
from al_lab.reporting.pages.compare import build_comparison, write_comparison
from al_lab.reporting.read.find import find_runs, read_run


def section(page, key):
    return next(s for s in page.sections if s.key == key)


@pytest.fixture(scope="module")
def built(family):
    return build_comparison(find_runs([family]), levels=[0.45])


def table(page, name):
    made = next(t for s in page.sections for t in [*s.tables, *s.files] if t.name == name)
    return list(csv.DictReader(io.StringIO(made.to_csv())))


def test_the_page_has_every_section(built):
    page = built
    assert [s.key for s in page.sections if not s.is_empty] == [
        "curve",
        "summary",
        "levels",
        "advice",
        "classes",
        "gain",
        "bought",
        "images",
        "utilities",
        "embedding",
        "cost",
        "settings",
    ]
    assert page.status == "12 runs"
    assert not section(page, "curve").missing
    assert [s.title.split(":")[0] for s in section(page, "images").sheets] == ["core_set", "entropy", "random"]


@pytest.mark.slow
def test_page_figures_and_tables_are_written(family, tmp_path):
    text = write_comparison([family], tmp_path).read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert len(text) < 5e6
    assert {p.suffix for p in (tmp_path / "figures").iterdir()} == {".png", ".pdf"}
    assert (tmp_path / "tables" / "summary.csv").exists()


def test_the_summary_says_who_is_better(built):
    rows = {r["strategy"]: r for r in table(built, "summary")}
    assert rows["entropy"]["against random"] == "clearly better (3 seeds)"
    assert float(rows["entropy"]["area difference"]) > float(rows["entropy"]["± interval"])
    assert float(rows["entropy"]["p"]) < 0.05
    assert rows["random"]["against random"] == "baseline"
    assert rows["full data"]["seeds"] == "3"
    assert {"area over labeled images", "area over labeled boxes", "area over hours of labeling"} <= set(rows["random"])
    assert "entropy" in built.verdict and "better than random" in built.verdict
    assert [(r["strategy"], r["against"]) for r in table(built, "pairs")] == [("core_set", "entropy")]
    wins = {r["row"]: r for r in table(built, "wins")}
    assert wins["entropy"]["random"] == "3 of 3" and wins["random"]["entropy"] == "0 of 3"


def test_what_could_be_seen_is_said(built):
    power = {r["seeds"].split(" ")[0]: float(r["visible difference, points"]) for r in table(built, "power")}
    assert list(power) == ["3", "5", "8"] and power["3"] > power["5"] > power["8"] > 0
    assert "3 (here)" in {r["seeds"] for r in table(built, "power")}
    assert "With these 3 seeds a true difference" in section(built, "summary").text


def test_the_first_screen_has_no_jargon(built):
    assert built.subtitle == "core_set, entropy, random · 3 seeds each"


def test_one_seed_is_no_verdict_and_nothing_could_be_seen(maker):
    page = build_comparison([read_run(maker.run("entropy")), read_run(maker.run("random"))])
    assert page.verdict.startswith("One seed proves nothing: on it, entropy +")
    assert not any("seen" in number.label for number in page.numbers)
    assert [r["against random"] for r in table(page, "summary")] == ["one seed: no verdict", "baseline"]


def test_test_images_drawn_again_speak_of_two_models_only(maker):
    for strategy, shift in (("entropy", 0.02), ("random", 0.0)):
        folder = maker.run(strategy)
        values = [0.5 + shift + 0.001 * k for k in range(20)]
        (folder / "cycle_03" / "resampled.json").write_text(
            json.dumps({"images": "a", "metrics": {"voc07_ap50": values}})
        )
    page = build_comparison(find_runs([maker.root / "outputs"]))
    (row,) = table(page, "models")
    assert (row["model of"], row["against that of"], row["seed"]) == ("entropy", "random", "0")
    assert float(row["from"]) == pytest.approx(2.0) == float(row["to"])
    (folder / "cycle_03" / "resampled.json").write_text(json.dumps({"images": "b", "metrics": {"voc07_ap50": values}}))
    page = build_comparison(find_runs([maker.root / "outputs"]))
    assert "models" not in {t.name for s in page.sections for t in s.tables}


def test_a_tiny_test_set_is_warned_of(built):
    assert "The test set is tiny: 140 objects." in section(built, "summary").text


def test_every_point_is_in_a_file(built):
    assert len(table(built, "learning_curve")) == 3 * 3 * 4 + 3


def test_labels_needed_are_measured_against_random(built):
    rows = section(built, "levels").tables[0].rows
    need = {row[2]: row[3] for row in rows if row[0] == "45 %"}
    saved = {row[2]: row[4] for row in rows if row[0] == "45 %"}
    assert need["entropy"] < need["random"]
    assert saved["entropy"] == pytest.approx(100 * (1 - need["entropy"] / need["random"]))
    assert "Nobody reaches" in section(built, "levels").text


def test_protocols_are_not_mixed(maker):
    maker.run("entropy")
    maker.run("random", trainer__max_iters=7)
    with pytest.raises(DataError, match="trainer.max_iters: 100 against 7"):
        write_comparison([maker.root / "outputs"], maker.root / "report")
    assert not (maker.root / "report").exists()


def test_what_is_missing_is_said_with_its_command(maker):
    page = build_comparison([read_run(maker.run("entropy"))])
    commands = [c for _, c in section(page, "curve").missing]
    assert commands == [
        "python run.py strategy=random protocol=mgral dataset=shapes seed=0",
        "python run.py strategy=random budget=full protocol=mgral dataset=shapes seed=0",
        "python run.py -m strategy=entropy,random protocol=mgral dataset=shapes seed=0,1,2",
    ]


def test_runs_in_progress_and_without_metrics(maker):
    runs = [
        read_run(maker.run("entropy", done=1)),
        read_run(maker.run("random", done=0)),
        read_run(maker.run("margin", metrics=False)),
    ]
    page = build_comparison(runs)
    assert page.status == "1 of 3 runs complete"
    assert section(page, "curve").text.startswith("VOC07 AP50")


def objectives(maker):
    csd = {"objective": {"_target_": "al_lab.objectives.csd.CSD"}}
    for seed in range(2):
        maker.run("random", seed)
        maker.run("random", seed, name="objective=csd", **csd)
        maker.run("entropy", seed, name="objective=csd", **csd)
    maker.run("random", 0, 0, name="budget=full", initial=1.0)
    maker.run("random", 0, 0, name="budget=full,objective=csd", initial=1.0, **csd)
    return maker.root / "outputs"


def test_training_methods_are_compared_with_their_difference_shown(maker):
    page = build_comparison(find_runs([objectives(maker)]))
    assert "random (supervised)" in page.verdict.split(". ")[0]
    text = section(page, "curve").text
    assert "only two lines trained alike tell" in text
    assert "The baseline of every comparison below is random (supervised)" in text
    assert "Not drawn: full data (csd)" in text
    assert [(r["line"], r["objective"]) for r in table(page, "methods")] == [
        ("entropy (csd)", "csd"),
        ("random (supervised)", "supervised"),
        ("random (csd)", "csd"),
        ("full data (supervised)", "supervised"),
        ("full data (csd)", "csd"),
    ]
    rows = {r["strategy"]: r for r in table(page, "summary")}
    assert rows["random (supervised)"]["against random (supervised)"] == "baseline"
    alike, both = (float(rows["entropy (csd)"][name]) for name in ("difference", "area difference"))
    assert alike == pytest.approx(both - float(rows["random (csd)"]["area difference"]))
    assert rows["random (csd)"]["difference"] == ""


def test_one_way_to_train_needs_no_words_about_it(built):
    assert "trained" not in section(built, "curve").text
    assert not section(built, "settings").tables


def test_one_training_is_judged_by_its_last_model(maker):
    for seed in range(2):
        for strategy in ("entropy", "random"):
            maker.run(strategy, seed, trainer__start="continue")
        maker.run("random", seed, 0, name="source_only", initial=0, trainer__start="continue")
        maker.run("margin", seed, done=2, trainer__start="continue")
    page = build_comparison(find_runs([maker.root / "outputs"]))
    assert "at the last point" in page.verdict and "margin" not in page.verdict and section(page, "levels").is_empty
    rows = {r["strategy"]: r for r in table(page, "summary")}
    entropy, random = (float(rows[name]["last point"]) for name in ("entropy", "random"))
    assert float(rows["entropy"]["last point difference"]) == pytest.approx(entropy - random, abs=0.011)
    assert rows["margin"]["against random"] == "no common seed" and rows["no target label"]["seeds"] == "2"
    assert "no target label (2 seeds)" in section(page, "curve").pictures[0].svg


def test_the_metric_that_was_asked_for_comes_first(family):
    runs = find_runs([family])
    page = build_comparison(runs, metric="voc_area_ap50")
    assert "VOC area AP50" in page.verdict and "VOC area AP50" not in build_comparison(runs).verdict
    assert section(page, "curve").text.startswith("VOC area AP50")
    with pytest.raises(DataError, match=r"expected the metric voc_ap50, got voc07_ap50, voc_area_ap50; .*did you mean"):
        build_comparison(runs, metric="voc_ap50")


def test_the_page_says_whether_going_on_is_worth_it(built, maker):
    text = section(built, "advice").text
    assert text.startswith("Is it worth going on with entropy? The next 20 images are expected to gain")
    rows = {r["strategy"]: r for r in table(built, "advice")}
    assert set(rows) == {"core_set", "entropy", "random"} and rows["entropy"]["images next"] == "100.0"
    low, high = map(float, rows["entropy"]["next evaluation, %: 95 %"].split(" to "))
    assert low < float(rows["entropy"]["next evaluation, %"]) < high
    page = build_comparison([read_run(maker.run(name, seed)) for name in ("other", "random") for seed in (0, 1)])
    (row,) = table(page, "more_seeds")
    assert (row["strategy"], row["against"]) == ("other", "random") and int(row["more seeds that would"]) >= 1
    assert "you can't tell apart other from random" in section(page, "advice").text


def test_a_strategy_that_changes_the_detector_is_marked(family):
    runs = find_runs([family])
    page = build_comparison(runs, is_changed=lambda strategy: strategy == "entropy")
    assert "entropy: the strategy changes the detector" in section(page, "curve").text
    assert "changes the detector" not in section(build_comparison(runs), "curve").text
