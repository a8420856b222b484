import json
import math

import pytest

from al_lab.reporting.judge.protocol import group_runs
from al_lab.reporting.pages.compare import build_comparison
from al_lab.reporting.pages.run import build_page
from al_lab.reporting.read.find import read_run
from al_lab.reporting.sections.pseudo import pseudo_labels, pseudo_section


def stats(folder, cycle, **changes):
    path = folder / f"cycle_{cycle:02d}" / "pseudo_stats.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(maker):
    return maker.run("al_ssl", cycles=2, pseudo=True)


def test_what_a_training_used_is_weighed_against_its_human_labels(folder):
    stats(folder, 0, images=60, boxes=80, unlabeled=160, precision=0.95)
    (folder / "cycle_00" / "cost.json").write_text(json.dumps({"boxes": 30}))
    initial = json.loads((folder / "initial" / "cost.json").read_text())["boxes"]
    first = pseudo_labels(read_run(folder))[0]
    assert (first.cycle, first.human_images, first.tau, first.precision) == (1, 40, 0.99, 0.95)
    assert first.share_of_images == 60 / (60 + 40)
    assert first.share_of_boxes == 80 / (80 + 30 + initial)
    assert first.per_unlabeled == 80 / 160


def test_without_the_oracles_count_the_boxes_left_after_the_purchase_count(folder):
    counted = pseudo_labels(read_run(folder))
    for cycle in range(2):
        (folder / f"cycle_{cycle:02d}" / "pseudo_stats.json").unlink()
    own = pseudo_labels(read_run(folder))
    assert [(p.cycle, p.images, p.boxes, p.unlabeled) for p in own] == [
        (p.cycle, p.images, p.boxes, p.unlabeled) for p in counted
    ]
    assert math.isnan(own[0].precision)


def test_unknown_truth_leaves_precision_out(folder):
    for cycle in range(2):
        stats(folder, cycle, precision=None, per_class={"star": {"boxes": 4, "correct": None}})
    run = read_run(folder)
    section = pseudo_section(group_runs([run]))
    assert [t.name for t in section.tables] == ["pseudo_labels", "pseudo_per_class"]
    assert {row[-1] for row in section.tables[0].texts()} == {"–"}
    assert section.tables[1].texts() == [["star", "4", "–", "–"]]
    assert "correct boxes" not in section.pictures[0].alt


@pytest.mark.parametrize(
    ("name", "text"),
    [("pseudo_stats.json", "[1]"), ("pseudo_stats.json", '{"images": "many"}'), ("pseudo.npz", "no zip")],
)
def test_a_broken_file_is_named_and_left_out(folder, name, text):
    where = folder / "cycle_00"
    for path in where.glob("pseudo*"):
        path.unlink()
    (where / name).write_text(text)
    run = read_run(folder)
    assert [p.cycle for p in pseudo_labels(run)] == [2]
    assert any(f"cycle_00/{name}" in note for note in run.notes)


def test_a_run_without_pseudo_labels_has_no_such_section(maker):
    run = read_run(maker.run("entropy"))
    assert next(s for s in build_page(run, [run]).sections if s.key == "pseudo").is_empty


def test_methods_are_compared_over_seeds_and_against_the_line_without(maker):
    def csd(**more):
        return {"objective": {"_target_": "al_lab.objectives.csd.CSD", **more}}

    runs = [
        read_run(p)
        for seed in range(2)
        for p in (
            maker.run("al_ssl", seed, name="pl", pseudo=True, **csd(tau=0.99)),
            maker.run("al_ssl", seed, name="no", **csd(tau=None)),
            maker.run("al_ssl", seed, name="supervised"),
            maker.run("random", seed, **csd(tau=None)),
        )
    ]
    section = next(s for s in build_comparison(runs).sections if s.key == "pseudo")
    mean = section.tables[0]
    assert [row[:3] for row in mean.rows] == [["al_ssl (csd, tau=0.99)", cycle, 2] for cycle in (1, 2, 3)]
    seeds = [row for row in section.files[0].rows if row[2] == 1]
    assert mean.rows[0][4] == (seeds[0][4] + seeds[1][4]) / 2
    assert "al_ssl (csd, tau=0.99) against al_ssl (csd, tau=null)" in section.pictures[1].caption
