"""A campaign's purchases beside random selections, from the run folder alone."""

import json

import numpy as np
import pytest
import yaml

from al_lab.core.pool import INITIAL
from al_lab.data.near_copies import fingerprint
from al_lab.reporting.document.page import Page
from al_lab.reporting.read import purchase_lint
from al_lab.reporting.read.find import read_run
from al_lab.reporting.read.purchase_lint import lint_of, prints_of, why_not
from al_lab.reporting.sections.lint import purchases_section
from tests.run_folders import ANYWHERE


@pytest.fixture
def run(maker):
    return read_run(maker.run("core_set"), ANYWHERE)


def test_a_purchase_beside_draws_from_the_initial_set(run):
    found = lint_of(run, 1, lambda _: None)
    labels = [len(c.labels) for c in run.bought(1)]
    assert found.is_known and found.cost[0].value == sum(labels)
    first = np.mean([len(c.labels) for c in run.bought(INITIAL)])
    assert found.cost[0].mean == pytest.approx(20 * first, rel=0.1) and found.num_pool == 20 and found.is_sample
    assert found.classes[0].target_share == pytest.approx(50 / 140)  # of per_class.csv: 50, 40, 30, 20 objects
    assert {"mmd", "classes"} <= {m.key for m in found.measures}


def test_copies_by_embedding_are_looked_for_if_it_is_not_the_detectors_own(run):
    assert lint_of(run, 1, lambda _: None).copies.min_cosine is None
    run.config["embedding"] = "vectors.npz"
    found = lint_of(run, 1, lambda _: None)
    assert found.copies.min_cosine is not None and "copies" in {m.key for m in found.measures}


def test_the_section_has_a_line_a_purchase_and_the_last_in_full(run):
    section = purchases_section(run)
    tables = {t.name: t for t in section.tables}
    assert [row[0] for row in tables["lint_purchases"].rows] == [0, 1, 2]
    assert tables["lint_purchases"].rows[2][1] == 20 and "bought after cycle 2" in section.text
    assert len(tables["lint_classes"].rows) == 4 and section.pictures
    assert "cross &amp; &lt;bar&gt;" in Page("", "", "", True, sections=[section]).html()


def test_fingerprints_come_from_the_images_or_from_the_survey(run):
    of = prints_of(run)
    choice = run.bought(1)[0]
    assert of(choice.sample_id) is not None and of("nobody") is None
    print_ = np.arange(16, dtype=np.uint16)
    np.savez(run.path / "initial" / "survey.npz", ids=np.array(["a", "b"]), prints=np.stack([print_, print_]),
             has_print=np.array([True, False]))  # fmt: skip
    of = prints_of(run)
    assert of("a").tolist() == print_.tolist() and of("b") is None
    hidden = read_run(run.path)  # whose images nobody may show
    assert prints_of(hidden)(choice.sample_id) is None
    assert fingerprint(np.zeros((9, 9, 3), np.uint8)) is None


def test_copies_of_what_was_bought_before_are_counted(run, monkeypatch):
    monkeypatch.setattr(purchase_lint, "_LOOK", 100)
    prints = prints_of(run)  # 200 images of 40 pictures: every picture is there five times
    found = lint_of(run, 2, prints)
    seen = {c.sample_id: int(c.sample_id[4:]) % 40 for p in (INITIAL, 0, 1, 2) for c in run.bought(p)}
    before = {seen[i] for i in run.labeled_ids(2)}
    again = [c.sample_id for c in run.bought(2) if seen[c.sample_id] in before]
    assert {c.sample_id for c in found.copies.found if "bits" in c.what and c.is_labeled} >= set(again) - {
        i for i in again if prints(i) is None
    }


@pytest.mark.parametrize(
    ("change", "word"),
    [({"initial": "annotated"}, "not drawn at random"), ({"initial_by": "cold_start"}, "not drawn at random")],
)
def test_without_a_random_initial_set_nothing_is_claimed(maker, change, word):
    folder = maker.run("entropy")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["budget"] |= change
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = read_run(folder)
    section = purchases_section(run)
    assert word in section.text and not section.tables and not [n for n in run.notes if "budget.initial" in n]


def test_few_initial_images_segmenters_and_damage(maker):
    few = read_run(maker.run("margin", initial=3))
    assert "fewer than 5" in why_not(few) and not purchases_section(few).tables
    folder = maker.run("entropy", done=2)
    path = folder / "cycle_01" / "labels.jsonl"
    path.write_text(path.read_text().replace('"labels"', '"lables"', 1) + "no line\n")
    rows = [json.loads(line) for line in path.read_text().splitlines()[:-1]]
    damaged = read_run(folder)
    assert lint_of(damaged, 1, lambda _: None).num_chosen <= len(rows) and damaged.notes
    pixels = read_run(folder)
    pixels.config["segmenter"] = {"_target_": "x"}
    assert purchases_section(pixels).is_empty
