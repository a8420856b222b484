"""MGRAL's sections, from the files that its stages write: a campaign without networks, then damaged and changed."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.reporting.document.page import Section
from al_lab.reporting.judge.protocol import Series, group_runs
from al_lab.reporting.pages.compare import build_comparison
from al_lab.reporting.pages.run import build_page
from al_lab.reporting.read.find import read_run
from al_lab.reporting.read.lut import lut_cycles
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.mgral.of_run import mgral_sections
from al_lab.reporting.sections.mgral.seeds import compared_mgral_section
from al_lab.reporting.sections.run import utility_panel
from tests.strategies.detection.test_mgral import config, measured

KEYS = ["chance", "truth", "lut", "agent", "price"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two queries; the first with three controls. Read only."""
    folder = tmp_path_factory.mktemp("mgral") / "stub" / "mgral" / "default" / "seed0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("al_lab.campaign.publish._write_report", lambda *_: None)
        patch.setattr("al_lab.stages.jobs._measure", measured)
        node = config() | {"choices": {"strategy": "mgral", "dataset": "stub"}}
        node["strategy"]["truth"] = {"rows": 4}
        run_campaign(node, folder)
    return folder


@pytest.fixture
def folder(campaign: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(campaign, tmp_path / "mgral" / "default" / "seed0"))


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    node = json.loads(path.read_text())
    path.write_text(json.dumps(edit(node) or node))


def sections(folder: Path) -> dict[str, Section]:
    return {s.key: s for s in mgral_sections(read_run(folder))}


def table(section: Section, name: str) -> list[dict[str, str]]:
    return list(
        csv.DictReader(next(t for t in [*section.tables, *section.files] if t.name == name).to_csv().splitlines())
    )


def test_a_campaigns_files_fill_every_section(campaign: Path) -> None:
    run = read_run(campaign)
    found = sections(campaign)
    assert list(found) == KEYS
    assert [p.name for s in found.values() for p in s.pictures] == [
        "mgral_controls",
        "mgral_truth_00",
        "mgral_truth_01",
        "mgral_rows",
        "mgral_leave_one_out",
        "mgral_learning",
    ]
    facts = [json.loads((campaign / f"cycle_0{c}" / "agent.json").read_text()) for c in range(2)]
    rows = table(found["lut"], "mgral_table")
    assert [float(r["error of the table"]) for r in rows] == [f["leave_one_out"]["rmse"] for f in facts]
    assert [float(r["gain"]) for r in table(found["agent"], "mgral_learning")] == [f["learning"]["gain"] for f in facts]
    assert f"In cycle 1, {facts[1]['signal']['sentence']}." in found["lut"].text
    assert facts[1]["learning"]["sentence"] in found["agent"].text
    assert run.notes == []


def test_the_page_says_what_batches_are_worth_with_their_labels(folder: Path) -> None:
    facts = json.loads((folder / "cycle_01" / "truth.json").read_text())
    section = sections(folder)["truth"]
    assert facts["sentence"].replace(" -", " −") in section.text
    correlations = [float(r["rank correlation"]) for r in table(section, "mgral_truth")]
    assert correlations[1] == facts["rank_correlation"]["value"]
    worth = {row["batch"]: row for row in table(section, "mgral_worth_01")}
    assert float(worth["the agent's batch"]["minus random"]) == facts["against"]["agent"]["difference"]
    assert float(worth["the table's best row"]["voc07_ap50"]) == facts["batches"][-1]["values"][0]


@pytest.mark.parametrize(
    "edit",
    [
        lambda f: f.update(batches=[{"name": "row 0", "reward": 1.0, "values": ["x"]}]),
        lambda f: f.update(against={"agent": 3}),
        lambda f: f.pop("batches"),
        lambda f: f["batches"][0].update(values=[]),
    ],
)
def test_a_truth_that_makes_no_sense_is_left_out_with_a_note(folder: Path, edit: Callable[[Any], Any]) -> None:
    change(folder / "cycle_01" / "truth.json", lambda facts: edit(facts) and None)
    run = read_run(folder)
    assert [table(s, "mgral_truth") for s in mgral_sections(run) if s.key == "truth"][0][-1]["cycle"] == "0"
    assert any("truth.json" in note for note in run.notes)


def test_the_page_says_whether_the_agent_beat_chance(folder: Path) -> None:
    path = folder / "cycle_00" / "agent.json"
    facts = json.loads(path.read_text())["controls"]
    text = sections(folder)["chance"].text
    assert text.startswith(
        "The agent did not clearly beat random batches, and did not clearly beat an agent that learned from "
        "shuffled rewards."
    )
    assert f"{facts['against_random']['difference']:+.2f} ± ".replace("-", "−") in text

    def clear(facts: dict) -> None:
        facts["controls"]["against_random"].update(difference=9.0, standard_error=1.0, verdict="no clear difference")
        facts["controls"]["against_shuffled"].update(difference=-9.0, standard_error=1.0)

    change(path, clear)
    change(path, lambda f: f["signal"].update(own_noise=None))
    text = sections(folder)["chance"].text
    assert text.startswith(
        "The agent clearly beat random batches, and clearly lost to an agent that learned from shuffled rewards."
    )
    assert "Too few rows were repeated" in text


def test_without_controls_their_command_is_named(folder: Path) -> None:
    change(folder / "cycle_00" / "agent.json", lambda f: f.pop("controls") and f)
    words = ["strategy=mgral", "strategy.agent.controls=0", "name=a", "dataset=stub", "seed=3"]
    change(folder / "environment.json", lambda e: e | {"overrides": words})
    section = sections(folder)["chance"]
    assert section.missing[0][1] == "python run.py strategy=mgral dataset=stub seed=3 strategy.agent.controls=10"
    assert not section.pictures


def test_curves_of_the_run_are_drawn_and_of_the_shuffled_agent_gray(campaign: Path) -> None:
    figure = sections(campaign)["agent"].pictures[0].figure
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["cycle 0", "cycle 1", "cycle 0, shuffled rewards"]
    curves = lut_cycles(read_run(campaign))[0].curves
    assert len(curves["reward"]) == 12
    drawn = [line.get_ydata() for line in figure.axes[0].lines]
    assert any(np.array_equal(y, curves["reward"]) for y in drawn)


def test_the_papers_tables_come_from_the_runs_own_clock(folder: Path) -> None:
    def clock(table: dict) -> None:
        for row in table["rows"]:
            row["seconds"] = 90.0

    for c in range(2):
        change(folder / f"cycle_0{c}" / "lut" / "table.json", clock)
        for path in (folder / f"cycle_0{c}" / "lut").glob("*_*.json"):
            if not path.name.startswith("row"):
                change(path, lambda node: node["result"].update(seconds=30.0))
    entries = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    for e in entries:
        e["seconds"] = {"build_lut": 600.0, "score": 12.0}.get(e["stage"], 6.0)
        if e["stage"] == "train_agent":
            e["scalars"]["seconds_per_iteration"] = 0.5
    (folder / "ledger.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    section = sections(folder)["price"]
    minutes = {r[""]: r for r in table(section, "mgral_table_1")}
    assert float(minutes["without the table (reckoned)"]["10 iterations"]) == 15
    assert float(minutes["with the table"]["one cycle's"]) == pytest.approx(12 * 0.5 / 60)
    assert float(minutes["ratio"]["paper: 10 iterations"]) == 1600
    ours = table(section, "mgral_table_2")[0]
    assert (ours["training: the table"], float(ours["inference"])) == ("10.0", pytest.approx(18 / 60))
    hours = {r["stage"]: r for r in table(section, "mgral_stages")}
    # 6 rows, 2 repetitions, 1 base
    assert float(hours["build_lut"]["device-hours"]) == pytest.approx(2 * (8 * 90 + 30) / 3600)
    trained = [
        p
        for c in range(2)
        for p in (folder / f"cycle_0{c}" / "lut").glob("*_*.json")
        if p.name.startswith(("fallback", "control"))
    ]
    assert float(hours["train_agent"]["device-hours"]) == pytest.approx(30 * len(trained) / 3600)
    assert len(trained) >= 5


def test_before_the_agent_is_trained_the_table_is_there(folder: Path) -> None:
    shutil.rmtree(folder / "cycle_01")
    for name in ("agent.json", "rl_curves.csv", "agent_scores.npz"):
        (folder / "cycle_00" / name).unlink()
    found = sections(folder)
    assert [p.name for p in found["lut"].pictures] == ["mgral_rows"]
    assert "rows differ by" in found["lut"].text
    assert found["agent"].text == "The agent has not been trained yet."


def test_one_row_and_no_iteration_and_no_repetition(folder: Path) -> None:
    for c in range(2):
        lut = folder / f"cycle_0{c}" / "lut"
        change(lut / "table.json", lambda t: t.update(rows=t["rows"][:1]))
        change(
            folder / f"cycle_0{c}" / "agent.json",
            lambda f: f.update(leave_one_out=None, regressor=None, learning=None, signal={"sentence": "x"}),
        )
        (folder / f"cycle_0{c}" / "rl_curves.csv").write_text("iteration\n")
        for path in (*lut.glob("fallback_*"), *lut.glob("control_*"), *lut.glob("shuffled*")):
            path.unlink()
        (lut.parent / "truth.json").unlink()
    found = sections(folder)
    (why, command) = found["truth"].missing[0]
    assert "was not measured in this run" in why
    assert command.endswith("strategy.truth.rows=8")
    assert "Fewer than three different rows" in found["lut"].text
    assert [p.name for s in found.values() for p in s.pictures] == ["mgral_controls", "mgral_rows"]
    assert "0 batches were trained as no record was near" in found["price"].text
    assert {"–"} == {row[k] for row in found["lut"].tables[0].texts() for k in range(2, 14)}


@pytest.mark.parametrize(
    ("name", "text", "gone"),
    [
        ("lut/table.json", '{"rows": []}', "lut"),
        ("lut/table.json", "[1]", "lut"),
        ("lut/table.json", "{", "lut"),
        ("agent.json", "{", "facts"),
        ("agent_scores.npz", "no zip", "scores"),
    ],
)
def test_a_broken_file_is_named_and_left_out(folder: Path, name: str, text: str, gone: str) -> None:
    (folder / "cycle_00" / name).write_text(text)
    run = read_run(folder)
    cycles = lut_cycles(run)
    utility_panel(run, 0)
    assert any(f"cycle_00/{name}" in note for note in run.notes)
    assert [c.cycle for c in cycles] == ([1] if gone == "lut" else [0, 1])
    assert mgral_sections(run)


def test_the_literal_reading_of_the_paper_is_flagged(folder: Path) -> None:
    change(folder / "cycle_01" / "lut" / "table.json", lambda t: t.update(split="test"))
    assert "THE TEST SET" in sections(folder)["lut"].text


def test_the_utilities_are_the_agents_scores(campaign: Path) -> None:
    run = read_run(campaign)
    panel = utility_panel(run, 0)
    with np.load(campaign / "cycle_00" / "agent_scores.npz") as z:
        assert np.array_equal(panel.candidates, z["scores"])
    assert panel.bought.min() >= np.sort(panel.candidates)[-5]


def test_other_strategies_have_no_such_section(maker) -> None:
    run = read_run(maker.run("entropy", cycles=1))
    assert not set(KEYS) & {s.key for s in build_page(run, [run]).sections}
    assert compared_mgral_section(group_runs([run])).is_empty


def over_seeds(campaign: Path, tmp_path: Path, differences: list[float]) -> list[Run]:
    runs = []
    for seed, difference in enumerate(differences):
        path = Path(shutil.copytree(campaign, tmp_path / "mgral" / "default" / f"seed{seed}"))
        change(
            path / "cycle_00" / "agent.json",
            lambda f, d=difference: f["controls"]["against_random"].update(difference=d),
        )
        change(path / "cycle_00" / "agent.json", lambda f, k=seed: f["leave_one_out"].update(rmse=1.0 + k))
        (path / "config.yaml").write_text((path / "config.yaml").read_text().replace("\nseed: 0", f"\nseed: {seed}"))
        runs.append(read_run(path))
    return runs


def test_seeds_give_means_deviations_and_a_verdict(campaign: Path, tmp_path: Path) -> None:
    runs = over_seeds(campaign, tmp_path, [1.0, 1.2, 1.1])
    section = compared_mgral_section([Series("mgral", "mgral", tuple(runs))])
    assert [run.seed for run in runs] == [0, 1, 2]
    assert section.tables[0].rows[0][:4] == ["mgral", 0, 3, "2.00 ± 1.00"]
    assert section.tables[1].rows[0][:5] == [
        "mgral",
        3,
        pytest.approx(1.1),
        pytest.approx(0.1 / np.sqrt(3)),
        "clearly better",
    ]
    assert (
        "over 3 seeds, its agent's first batch gives +1.10 points against random batches (clearly better)"
        in section.text
    )
    assert len(section.files[0].rows) == 6
    assert "mgral" in {s.key for s in build_comparison(runs).sections}


def test_one_seed_or_no_controls_give_no_verdict(campaign: Path, tmp_path: Path) -> None:
    (run,) = over_seeds(campaign, tmp_path, [1.0])
    line = [Series("mgral", "mgral", (run,))]
    assert "one seed: no verdict" in compared_mgral_section(line).text
    change(run.path / "cycle_00" / "agent.json", lambda f: f.pop("controls") and f)
    section = compared_mgral_section(line)
    assert "strategy.agent.controls=10" in section.missing[0][1]
    assert [t.name for t in section.tables] == ["mgral_seeds_mean"]
