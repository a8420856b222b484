"""Every metric of a segmentation beside the others: the mean by cycle and by line, the classes at the end."""

import math
from pathlib import Path

import pytest

from al_lab.core.record.csv_file import csv_text
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.pixels.metrics import pixel_metrics_section

NAMES = ("miou", "dice", "boundary_iou", "hd95")
CLASSES = ("road", "car", "sky & <b>")


def run_of(folder: Path, scale: float = 1.0, names=NAMES, classes=CLASSES, task: str = "segmenter") -> Run:
    """Return a run of two cycles: class k of metric m is scale (0.1 + 0.1 m + 0.01 k) in cycle 1, its half before."""
    rows = []
    for cycle in range(2):
        where = folder / f"cycle_{cycle:02d}"
        where.mkdir(parents=True)
        values = {
            name: [scale * (cycle + 1) / 2 * (0.1 + 0.1 * m + 0.01 * k) for k in range(len(classes))]
            for m, name in enumerate(names)
        }
        table = [[c, v, 9, 9, name] for name, of in values.items() for c, v in zip(classes, of, strict=True)]
        (where / "per_class.csv").write_text(csv_text(["class", "ap", "num_gt", "num_det", "metric"], table))
        rows.append({"cycle": cycle, "spent_pixels": 9, **{name: sum(of) / len(of) for name, of in values.items()}})
    config = {task: {"_target_": "x"}, "dataset": {"metrics": list(names)}}
    return Run(folder, config=config, ledger=[], metrics=rows, image_folders=())


def line(label: str, *runs: Run) -> Series:
    return Series(label, label, runs)


def test_one_run_by_cycle_and_by_class(tmp_path):
    section = pixel_metrics_section([line("density", run_of(tmp_path))])
    means, classes = section.tables
    assert means.columns == [
        "cycle",
        "mIoU, %",
        "mean Dice, %",
        "mean boundary IoU, %",
        "95 % Hausdorff distance, px ↓",
    ]
    assert [row[0] for row in means.rows] == [0, 1]
    assert means.rows[1][1:] == pytest.approx([11, 21, 31, 0.41])  # of pixels a distance is no share
    assert [row[0] for row in classes.rows] == list(CLASSES)
    assert classes.rows[2][1:] == pytest.approx([12, 22, 32, 0.42])


def test_lines_are_means_over_seeds_and_a_class_that_one_lacks_is_a_dash(tmp_path):
    random = line("random", run_of(tmp_path / "a"), run_of(tmp_path / "b", 2.0))
    other = line("density", run_of(tmp_path / "c", classes=CLASSES[:2]))
    means, classes = pixel_metrics_section([random, other]).tables
    assert means.rows[0][:4] == ["random", 2, pytest.approx(16.5), pytest.approx(5.5)]  # 11 and 22
    assert means.rows[1][1] == 1 and math.isnan(means.rows[1][3])  # one seed has no error
    assert [row[:2] for row in classes.rows] == [[c, s] for c in CLASSES for s in ("random", "density")]
    assert classes.columns[2] == "IoU, %" and classes.rows[2][2] == pytest.approx(1.5 * 11)
    assert classes.texts()[5][2:] == ["–"] * 4


def test_a_class_without_value_is_left_out_of_the_mean_over_seeds(tmp_path):
    full, poor = run_of(tmp_path / "a"), run_of(tmp_path / "b")
    path = tmp_path / "b" / "cycle_01" / "per_class.csv"
    path.write_text("\n".join(r for r in path.read_text().splitlines() if not r.startswith("car") or "hd95" not in r))
    classes = pixel_metrics_section([line("random", full, poor)]).tables[1]
    assert classes.rows[1][-1] == pytest.approx(0.41)
    full.path.joinpath("cycle_01", "per_class.csv").write_text(path.read_text())
    classes = pixel_metrics_section([line("random", full, poor)]).tables[1]
    assert classes.text(classes.rows[1][-1], 4) == "–"


def test_many_rows_are_exported_not_shown(tmp_path):
    lines = [line(f"s{k}", run_of(tmp_path / str(k), classes=[f"c{n}" for n in range(9)])) for k in range(5)]
    section = pixel_metrics_section(lines)
    assert [t.name for t in section.tables] == ["metrics"] and len(section.files[0].rows) == 45


def test_detection_and_a_single_metric_have_no_such_section(tmp_path):
    assert pixel_metrics_section([line("random", run_of(tmp_path / "a", task="detector"))]).is_empty
    assert pixel_metrics_section([line("random", run_of(tmp_path / "b", names=("miou",)))]).is_empty
    both = [line("random", run_of(tmp_path / "c")), line("density", run_of(tmp_path / "d", names=("miou", "dice")))]
    assert [len(t.columns) for t in pixel_metrics_section(both).tables] == [6, 4]  # what all have
