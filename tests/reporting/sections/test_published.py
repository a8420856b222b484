"""Published numbers: every command quoted with one composes, and pages show them beside their own."""

import shlex

import pytest
import yaml

from al_lab.config.load import compose
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read.find import read_run
from al_lab.reporting.sections.published import published_rows, published_section

COMMANDS = sorted({(row["dataset"], row["command"]) for row in published_rows() if row["command"]})
# Recipes alone are composed by another test, and the second dataset's commands are the first's with another dataset.
QUICK = [c for c in COMMANDS if c[0] == "gtav_cityscapes" and " " in c[1] and "strategy=" not in c[1]]


def check(dataset: str, command: str) -> None:
    config = compose(tuple(shlex.split(command.replace("…", __file__))))
    assert config["choices"]["dataset"] == dataset
    assert config["choices"]["segmenter"] == ("deeplab_v3plus" if "v3plus" in command else "deeplab_v2")


@pytest.mark.parametrize(("dataset", "command"), QUICK, ids=[command for _, command in QUICK])
def test_every_command_is_one(dataset, command):
    check(dataset, command)


@pytest.mark.slow
def test_all_of_them_are():
    for dataset, command in COMMANDS:
        check(dataset, command)


def test_numbers_are_the_papers():
    values = {
        (row["dataset"], row["metric"], row["method"], row["labels"], row["network"]): float(row["percent"])
        for row in published_rows()
    }
    assert values["gtav_cityscapes", "miou", "Density Matters", "2.2 %", "V2"] == 71.1
    assert values["synthia_cityscapes", "miou13", "Density Matters", "5 %", "V3+"] == 78.5
    assert values["gtav_cityscapes", "miou", "BADGE", "2.2 %", "V2"] == 66.1


def test_a_page_shows_them_below_its_own(maker):
    path = maker.run("entropy")
    config = yaml.safe_load((path / "config.yaml").read_text())
    line = [Series("entropy", "entropy", (read_run(path),))]
    assert published_section(line).is_empty
    config["dataset"]["name"] = "gtav_cityscapes"
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = (path / "metrics.jsonl").read_text().replace('"voc07_ap50"', '"miou"')
    (path / "metrics.jsonl").write_text(metrics)
    line = [Series("entropy", "entropy", (read_run(path),))]
    (table,) = published_section(line).tables
    own, source_only = table.rows[:2]
    assert (
        own[0] == "entropy"
        and own[3] == pytest.approx(100 * line[0].runs[0].column("miou")[-1])
        and own[4] == "this page"
    )
    assert source_only == ["source only", "V2", "none", 36.6, "Table 1", "python run.py experiment=adapt_source_only"]
    assert ["ReDAL", "V2", "2.2 %", 66.2, "Table 5", "not built"] in table.rows
