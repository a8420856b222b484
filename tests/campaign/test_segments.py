"""A campaign of segments, and its list bought again."""

from pathlib import Path

import pytest

from al_lab.campaign.loop import run_campaign
from tests.campaign.runs import CONFIGS, finished
from tests.stubs import quicken, stub_config


def test_a_replayed_list_buys_the_same_segments_by_the_click(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    first = finished("segments")
    replay = {
        "_target_": "al_lab.strategies.general.replay.Replay",
        "path": str(first / "selections.json"),
    }
    config = CONFIGS["segments"]() | {"strategy": replay}
    run_campaign(config, tmp_path / "again")
    for cycle in ("cycle_00", "cycle_01"):
        for name in ("cost.json", "oracle_stats.json"):
            assert (tmp_path / "again" / cycle / name).read_bytes() == (first / cycle / name).read_bytes()
        bought = sorted((first / cycle / "pixel_labels").iterdir())
        assert bought and all(
            p.read_bytes() == (tmp_path / "again" / cycle / "pixel_labels" / p.name).read_bytes() for p in bought
        )


def test_an_oracle_of_segments_needs_segments(tmp_path: Path) -> None:
    config = stub_config(
        {"_target_": "al_lab.strategies.general.random.Random"},
        dense=True,
        oracle={"_target_": "al_lab.labeling.pixels.dominant.DominantOracle"},
    )
    with pytest.raises(ValueError, match="expected segments, of which each gets one class, got budget.unit=pixel"):
        run_campaign(config, tmp_path / "run")
