"""The tuner of densities: every way is Algorithm 1 on the same candidates, and what is said follows from numbers."""

from pathlib import Path

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.campaign.tune_density import Trial, Tuning, tune
from al_lab.cli.tuning import density as command
from al_lab.core.record.labels import read_bought_pixels
from al_lab.core.strategy import context_for
from al_lab.core.types import DenseView
from al_lab.metrics.coverage import coverage
from al_lab.stages.estimator import unit_features
from al_lab.strategies.general._filtered import FilteredGreedy
from al_lab.strategies.segmentation.density import Density
from tests.stubs import FakeSegmenter, quicken, stub_config


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        folder = tmp_path_factory.mktemp("tune") / "run"
        config = stub_config({"_target_": "al_lab.strategies.segmentation.density.Density"}, dense=True)
        run_campaign(config, folder)
    return folder


def test_every_way_buys_as_the_strategy_would(run_dir):
    """Of the second model: its own candidates, with what the first query bought."""
    found = tune(run_dir, cycle=1, images=2, taus=(0.3,), scales=("relative",))
    assert [(t.scale, t.tau) for t in found.trials] == [(None, None), ("relative", 0.3)] and found.pixels == [10, 10]
    learner = FakeSegmenter(3)
    learner.load(run_dir / "cycle_01" / "model.ckpt")
    context = context_for(0, 1, "x", "pixel", quota=10)
    for n, view in enumerate(learner.views(found.ids, ())):
        mask = read_bought_pixels(run_dir, view.sample_id, 1)[1]
        seen = DenseView(view.sample_id, view.size_hw, view.probs, view.features, view.extras, mask)
        for trial, strategy in zip(found.trials, (None, Density(scale="relative", tau=0.3, beta=1.0)), strict=True):
            d = None if strategy is None else strategy._density(seen)
            picks = FilteredGreedy("margin", 10, "informative", "id")(seen, context, d).center  # 2.6 % in all: 10
            centers = np.union1d(picks, np.flatnonzero(mask))
            whole = coverage(unit_features(seen, np.arange(24 * 32)), centers)
            assert trial.bound["image"][n] == pytest.approx(whole.largest_radial)


def test_the_command(run_dir, tmp_path, capsys):
    assert command.main([str(run_dir), "--images", "3", "--tau", "0.5", "2"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("model of cycle 2, 3 images, 10 pixels bought in each")
    assert page.count("minmax, tau") == 2 + ("minmax, tau" in page.splitlines()[-2]) and "relative, tau 2" in page
    assert page.splitlines()[-1].startswith(("write: strategy.scale=", "k-center on the same candidates"))
    assert command.main([str(run_dir), "--cycle", "7"]) == 2
    assert "expected a trained model, got none" in capsys.readouterr().err


def test_pixels_must_be_bought_and_densities_estimated(tmp_path, monkeypatch):
    quicken(monkeypatch)
    run_campaign(
        stub_config({"_target_": "al_lab.strategies.general.random.Random"}, dense=True, unit="image"), tmp_path / "run"
    )
    with pytest.raises(ValueError, match="buys pixels of each image, got unit=image"):
        tune(tmp_path / "run")


def test_what_is_said_follows_from_the_numbers():
    def trial(scale, bound):
        return Trial(
            scale,
            scale and 0.5,
            0.5,
            2.0,
            dict.fromkeys(("image", "candidates"), np.array(bound)),
            {"image": 1, "candidates": 1},
        )

    center, wide, near = trial(None, [0.2, 0.4]), trial("minmax", [0.3, 0.52]), trial("relative", [0.1, 0.29])
    assert command.page(Tuning([center, wide], ["a", "b"], 1, [5, 5]), "image")[-2:] == [
        "no densities lower the bound over the image's pixels: k-center's is smallest, minmax, tau 0.5 is "
        "0.11 ± 0.01 above it",
        "k-center on the same candidates: strategy.weighted=false",
    ]
    assert command.page(Tuning([center, wide, near], ["a", "b"], 1, [5, 5]), "candidates")[-2:] == [
        "smallest bound over the candidates: relative, tau 0.5, 0.105 ± 0.005 below k-center's",
        "write: strategy.scale=relative strategy.tau=0.5",
    ]
    shaky = trial("robust", [0.2, 0.3])
    assert "look at more" in command.page(Tuning([center, shaky], ["a", "b"], 1, [5, 5]), "image")[-2]
