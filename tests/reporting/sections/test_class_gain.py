import csv

import pytest

from al_lab.reporting.judge.protocol import group_runs
from al_lab.reporting.read.find import read_run
from al_lab.reporting.sections.class_gain import gain_section

METRIC = "voc07_ap50"


def series(maker, ap, classes=("a", "b", "c")):
    """Make one run per (strategy, seed) with the given AP of each class in every cycle after the first:
    {cycle: [...]}."""
    runs = []
    for (strategy, seed), cycles in ap.items():
        folder = maker.run(strategy, seed, cycles=max(cycles))
        for cycle, values in cycles.items():
            with (folder / f"cycle_{cycle:02d}" / "per_class.csv").open("w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["class", "ap", "metric"])
                writer.writerows([c, v, METRIC] for c, v in zip(classes, values, strict=True))
        runs.append(read_run(folder))
    return group_runs(runs)


def rows(section, name):
    return next(t for t in [*section.tables, *section.files] if t.name == name).rows


def widths(section, panel=0):
    return [bar.get_width() for bar in section.pictures[0].figure.axes[panel].patches]


def test_gains_are_relative_and_points_stand_beside_them(maker):
    lines = series(
        maker,
        {
            ("entropy", 0): {1: [0.6, 0.1, 0.3], 2: [0.66, 0.4, 0.3]},
            ("entropy", 1): {1: [0.8, 0.1, 0.3], 2: [0.66, 0.4, 0.3]},
            ("random", 0): {1: [0.5, 0.2, 0.005], 2: [0.6, 0.4, 0.0]},
            ("random", 1): {1: [0.5, 0.2, 0.005], 2: [0.6, 0.4, 0.0]},
        },
    )
    section = gain_section(lines, METRIC)
    first = {row[1]: row for row in rows(section, "class_gain") if row[0] == 1}
    assert first["a"][2:] == ["entropy", *map(pytest.approx, (50, 70, 20, 10, 40, 2))]
    assert first["b"][7] == pytest.approx(-50)
    assert first["c"][5] == pytest.approx(29.5)
    assert str(first["c"][7]) == "nan"  # half a percent is not divided by
    assert widths(section) == pytest.approx([40, -50])
    assert widths(section, 1) == pytest.approx([10, 0], abs=1e-9)
    assert "random stays below one percent there: c" in section.pictures[0].caption
    assert [a.get_title(loc="left") for a in section.pictures[0].figure.axes] == ["cycle 1", "cycle 2"]


def test_only_paired_seeds_and_cycles_that_all_have_count(maker):
    lines = series(
        maker,
        {
            ("entropy", 0): {1: [0.5, 0.5, 0.5], 2: [0.9, 0.9, 0.9]},
            ("entropy", 5): {1: [0.9, 0.9, 0.9]},
            ("margin", 0): {1: [0.5, 0.5, 0.5]},
            ("random", 0): {1: [0.25, 0.25, 0.25], 2: [0.3, 0.3, 0.3]},
        },
    )
    section = gain_section(lines, METRIC)
    assert {row[0] for row in rows(section, "class_gain")} == {1}
    assert widths(section) == pytest.approx([100] * 6)


def test_many_classes_show_the_best_and_the_worst(maker):
    names = [f"c{k:02d}" for k in range(40)]
    ap = [0.9 - 0.02 * k for k in range(40)]
    section = gain_section(series(maker, {("entropy", 0): {1: ap}, ("random", 0): {1: ap}}, names), METRIC)
    shown = [t.get_text() for t in section.pictures[0].figure.axes[0].get_yticklabels()]
    assert shown == names[:8] + names[-8:]
    assert "8 best and the 8 worst of 40 classes" in section.pictures[0].caption
    assert len(rows(section, "class_gain")) == 40


def test_wins_average_seeds_first_then_cycles_and_ties_count_for_neither(maker):
    lines = series(
        maker,
        {
            ("entropy", 0): {1: [0.9, 0.2, 0.3], 2: [0.5, 0.5, 0.5]},
            ("entropy", 1): {1: [0.5, 0.2, 0.3], 2: [0.5, 0.5, 0.5]},
            ("margin", 0): {1: [0.6, 0.2, 0.4], 2: [0.4, 0.4, 0.4]},
            ("margin", 1): {1: [0.6, 0.2, 0.4], 2: [0.4, 0.4, 0.4]},
            ("random", 0): {1: [0.0, 0.0, 0.0], 2: [0.0, 0.0, 0.0]},
            ("random", 1): {1: [0.0, 0.0, 0.0], 2: [0.0, 0.0, 0.0]},
        },
    )
    section = gain_section(lines, METRIC)
    matrix = {
        row[0]: dict(zip(("entropy", "margin", "random"), row[1:], strict=True)) for row in rows(section, "class_wins")
    }
    assert matrix["entropy"]["margin"] == pytest.approx(100 * (1 / 3 + 1) / 2)  # cycle 1: a (0.7 > 0.6), b is a tie
    assert matrix["margin"]["entropy"] == pytest.approx(100 * (1 / 3 + 0) / 2)
    assert matrix["entropy"]["random"] == 100
    assert "averaged over cycles 1 to 2" in section.pictures[-1].caption
    assert [p.name for p in section.pictures] == ["class_wins"]  # nothing can be divided by zero


def test_before_a_query_or_without_others_there_is_nothing_to_gain(maker):
    alone = series(maker, {("entropy", 0): {1: [0.5, 0.5, 0.5]}})
    assert gain_section(alone, METRIC).is_empty
    begun = group_runs([read_run(maker.run(s, 3, done=1)) for s in ("entropy", "random")])
    assert gain_section(begun, METRIC).is_empty
    assert gain_section(begun, None).is_empty
