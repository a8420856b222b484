"""The last stage of a segmentation's campaign: what the report is told of bought pixels, and that nothing else hears of
it."""

import json
from pathlib import Path

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.oracle import Oracle
from al_lab.core.pool import load_mask
from al_lab.core.rng import Rng
from al_lab.core.types import Candidates
from al_lab.metrics.coverage import coverage
from al_lab.metrics.miou import IGNORE
from al_lab.stages.look import look
from al_lab.strategies.segmentation.density import Density
from tests.stubs import FakeSegmenter, StubDense, quicken, stub_config

RANDOM = {"_target_": "al_lab.strategies.general.random.Random"}
DENSITY = {"_target_": "al_lab.strategies.segmentation.density.Density"}


class BareSegmenter(FakeSegmenter):
    """No branch: probabilities alone."""

    provides = ("dense_probs",)

    def views(self, ids, needs, options=None):
        for view in super().views(ids, needs, options):
            view.extras.clear()
            yield type(view)(view.sample_id, view.size_hw, view.probs)


def settings(strategy: dict, images: int = 3, initial: int = 0, **changes: object) -> dict:
    config = stub_config(strategy, dense=True, **changes)
    config["budget"] |= {"initial": initial}
    config["runtime"] |= {"analyze_images": images}
    return config


def analysis(run_dir: Path) -> dict:
    return json.loads((run_dir / "cycle_02" / "analysis.json").read_text())


def bought(run_dir: Path, sample_id: str) -> np.ndarray:
    name = sample_id.replace("/", "%2F") + ".npz"
    return np.logical_or.reduce([load_mask(p) for p in run_dir.glob(f"cycle_*/masks/{name}")])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture(scope="module")
def density(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with its report."""
    run_dir = tmp_path_factory.mktemp("density") / "run"
    run_campaign(settings(DENSITY), run_dir)
    return run_dir


def test_numbers_are_those_of_the_last_model(density):
    facts, data = analysis(density), StubDense()
    learner = FakeSegmenter(3)
    learner.load(density / "cycle_02" / "model.ckpt")
    pooled, chosen = [], []
    for view, row in zip(learner.views([r["id"] for r in facts["images"]], ()), facts["images"], strict=True):
        truth, mask = data.truth(row["id"]), bought(density, row["id"])
        loss = -np.log(np.take_along_axis(view.probs.numpy(), truth[None].astype(int), 0)[0])
        pooled.append(loss.reshape(-1))
        chosen.append(loss[mask])
        assert (row["bought"], row["valid"], row["pixels"]) == (20, 24 * 32, 24 * 32)
        # Upsampled with corners aligned by hand.
        y, x = (np.linspace(0, n - 1, m) for n, m in ((6, 24), (8, 32)))
        f = view.features.numpy().astype(float)
        f = np.stack([[np.interp(x, np.arange(8), line) for line in channel] for channel in f])
        f = (
            np.stack([np.stack([np.interp(y, np.arange(6), column) for column in channel.T], 1) for channel in f])
            .reshape(5, -1)
            .T
        )
        whole = coverage(f / np.linalg.norm(f, axis=1, keepdims=True), np.flatnonzero(mask))
        assert row["radius"] == pytest.approx(whole.radius) and row["largest_radial"] == pytest.approx(
            whole.largest_radial
        )
        assert (
            row["largest_radial"] <= row["radius"]
            and set(row["one_purchase"]) == {"k_center", "density"}
            and -1 <= row["neighbor_rank"] <= 1
        )
    assert facts["loss"]["core_set"] == pytest.approx(
        abs(np.concatenate(pooled).mean() - np.concatenate(chosen).mean()), rel=1e-5
    )
    shares = facts["classes"]
    assert shares["pixels"] == 8 * 20 and shares["wasted"] == 0 and sum(shares["bought"]) == pytest.approx(1)


def test_pictures_are_kept(density):
    facts = analysis(density)
    with np.load(density / "cycle_02" / "analysis.npz") as arrays:
        assert arrays["error_0"].shape == arrays["density_0"].shape == (6, 8) and arrays["predicted_1"].shape == arrays[
            "truth_1"
        ].shape == (24, 32)
        assert (
            len(arrays["tsne_points"]) == len(arrays["tsne_labels"]) == 3 * 60 and arrays["tsne_bought"].sum() == 3 * 20
        )
    assert {row["id"] for row in facts["predictions"]} == set(StubDense().test_ids)
    page = (density / "report.html").read_text()
    # the report reads what the stage writes
    assert all(f'id="{key}"' in page for key in ("coverage", "maps", "features"))
    assert 0 < facts["predictions"][0]["accuracy"] < 1
    assert facts["calibration"]["centers"] == facts["calibration_random"]["centers"] == 3 * 20
    assert facts["calibration"]["radial"] != facts["calibration_random"]["radial"]


def test_a_query_says_how_good_its_densities_were(density):
    rows = [json.loads(line) for line in (density / "ledger.jsonl").read_text().splitlines()]
    scored = [row["scalars"] for row in rows if row["key"].endswith("/score")]
    assert len(scored) == 2 and all(set(Density.judges) <= set(row) for row in scored)
    assert not any("judged" in name for name in Candidates.load(density / "cycle_01" / "candidates.npz").info)


def test_void_pixels_that_were_bought_are_no_centers():
    (view,) = FakeSegmenter(3).views(["a"], ())
    truth, bought = np.zeros((24, 32), np.uint8), np.zeros((24, 32), bool)
    bought[3, 4] = bought[5, 6:9] = True
    rng, scaled = Rng(0), {"beta": 1.0, "tau": 0.25, "scale": "minmax"}
    everything = look(view, truth, bought, rng, scaled)
    truth[5, 6:9] = IGNORE
    void = look(view, truth, bought, rng, scaled)
    alone = np.zeros_like(bought)
    alone[3, 4] = True
    one = look(view, truth, alone, rng, scaled).row
    assert void.row["bought"] == 4 and void.row["radius"] == one["radius"] > everything.row["radius"]
    assert void.row["largest_radial"] == one["largest_radial"] and len(void.density) == len(void.density_random) == 1
    truth[3, 4] = IGNORE
    assert "radius" not in look(view, truth, bought, rng, scaled).row


def test_whole_segments_are_judged_by_a_sample_of_their_pixels(monkeypatch):
    monkeypatch.setattr("al_lab.stages.look.MOST_CENTERS", 50)
    monkeypatch.setattr("al_lab.stages.look._DISTANCES", 5_000)
    (view,) = FakeSegmenter(3).views(["a"], ())
    truth, bought = np.zeros((24, 32), np.uint8), np.zeros((24, 32), bool)
    bought[:12] = True
    densities = {"beta": 1.0, "tau": 0.25, "scale": "minmax"}
    row = look(view, truth, bought, Rng(0), densities).row
    assert (row["bought"], row["centers_of"], row["centers"]) == (384, 384, 50)
    assert 100 <= row["population"] <= 150 and 0 < row["mean_distance"] < row["radius"]
    few = np.zeros_like(bought)
    few[0, :20] = True
    row = look(view, truth, few, Rng(0), densities).row
    assert row["centers"] == row["centers_of"] == 20 and 250 <= row["population"] <= 270


def test_same_images_for_every_strategy_and_an_old_run_catches_up(density, tmp_path):
    """A run that finished without an analysis gets it by the same command, and nothing else is done again."""
    run_dir = tmp_path / "run"
    run_campaign(settings(RANDOM, images=0), run_dir)
    before = (run_dir / "ledger.jsonl").read_text()
    assert "analyze" not in before
    assert run_campaign(settings(RANDOM), run_dir)["status"] == "finished"
    after = (run_dir / "ledger.jsonl").read_text()
    assert after.startswith(before) and [json.loads(line)["key"] for line in after[len(before) :].splitlines()] == [
        "02/analyze"
    ]
    assert [r["id"] for r in analysis(run_dir)["images"]] == [r["id"] for r in analysis(density)["images"]]
    assert run_campaign(settings(RANDOM), run_dir)["status"] == "already finished"


def test_without_branch_and_without_truth(tmp_path, monkeypatch):
    """No features: losses and classes alone. Nobody knows the pool's labels: no losses, every pixel counts."""
    monkeypatch.setattr("al_lab.core.oracle.SimulatedOracle.peek", Oracle.peek)
    run_campaign(settings(RANDOM, segmenter={"_target_": f"{__name__}.BareSegmenter"}), tmp_path / "run")
    facts = analysis(tmp_path / "run")
    assert (
        facts["loss"] is None
        and facts["calibration"] is None
        and "radius" not in facts["images"][0]
        and not facts["maps"]
    )
    with np.load(tmp_path / "run" / "cycle_02" / "analysis.npz") as arrays:
        assert "tsne_points" not in arrays and {"truth_0", "predicted_0"} <= set(arrays.files)


def test_whole_images_and_nothing_bought(tmp_path):
    """Full data covers itself; without any purchase only predictions are shown."""
    full = settings(RANDOM, images=2)
    full["budget"] |= {"initial": 1.0, "cycles": 0}
    run_campaign(full, tmp_path / "full")
    facts = json.loads((tmp_path / "full" / "cycle_00" / "analysis.json").read_text())
    assert len(facts["images"]) == 2 and "radius" not in facts["images"][0] and facts["loss"]["core_set"] == 0
    empty = settings(RANDOM)
    empty["budget"] |= {"initial": 0, "cycles": 0}
    run_campaign(empty, tmp_path / "empty")
    facts = json.loads((tmp_path / "empty" / "cycle_00" / "analysis.json").read_text())
    assert not facts["images"] and facts["classes"] is None and facts["loss"] is None and len(facts["predictions"]) == 2
