"""Every rival in a small campaign with a real network, killed once, buys what it would have; of nothing, none."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from al_lab.campaign.loop import run_campaign
from al_lab.config.build import build
from al_lab.config.load import compose, validate
from al_lab.core.budget import Allowance
from al_lab.core.pool import Pool
from al_lab.core.record import ledger as ledger_module
from al_lab.core.rng import rng_for
from al_lab.core.types import Candidates
from al_lab.strategies.rivals._two_pass import FILE, Rows, TwoPass

ROOT = Path(__file__).parents[3]
RIVALS = sorted(
    path.stem
    for path in (ROOT / "conf" / "strategy").glob("*.yaml")
    if ".rivals." in yaml.safe_load(path.read_text())["_target_"]
)
PER_CYCLE, CYCLES, BEFORE_THE_KILL = 9, 2, 8  # commits: one of the initial set, five or more a cycle


class Killed(BaseException):
    """The process is gone."""


def kill_later(patch: pytest.MonkeyPatch) -> None:
    real, seen = ledger_module.Ledger.commit, []

    def commit(self: ledger_module.Ledger, *args: Any, **kwargs: Any) -> None:
        seen.append(args)
        if len(seen) > BEFORE_THE_KILL:
            raise Killed
        real(self, *args, **kwargs)

    patch.setattr(ledger_module.Ledger, "commit", commit)


def bought(run_dir: Path) -> list[list[str]]:
    files = sorted(run_dir.glob("cycle_*/queries.json"))
    return [[query["id"] for query in json.loads(path.read_text())["queries"]] for path in files]


@pytest.mark.parametrize("strategy", [*RIVALS, "al_ssl"])
def test_of_no_candidates_none_is_bought(strategy: str, tmp_path: Path) -> None:
    chooses = build(yaml.safe_load((ROOT / "conf" / "strategy" / f"{strategy}.yaml").read_text()))
    if isinstance(chooses, TwoPass):
        Rows.concat([]).save(tmp_path / FILE)
    chooses.restore(tmp_path)
    nothing = Candidates.concat([])
    assert chooses.select(nothing, Pool(()), Allowance("image", 2), rng_for(0, 0, "select")) == []


@pytest.fixture(params=["shapes", "bccd"])
def data(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Overrides that name generated images, and photographs of blood cells."""
    if request.param == "shapes":
        return "dataset=shapes", "dataset.num_pool=40", "dataset.num_test=4"
    root = request.getfixturevalue("shared_data") / "bccd"
    return "dataset=voc_folder", f"dataset.root={root}", "dataset.name=bccd", "detector=tiny", "trainer=tiny"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", RIVALS)
def test_a_campaign_that_is_killed_once(
    strategy: str, data: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = (f"strategy={strategy}", *data, "debug=smoke", f"runtime.data_dir={tmp_path / 'data'}")
    config = validate(compose(plan))
    run_campaign(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_later(patch)
        with pytest.raises(Killed):
            run_campaign(config, tmp_path / "cut")
    run_campaign(config, tmp_path / "cut")
    choices = bought(tmp_path / "whole")
    assert choices == bought(tmp_path / "cut")
    assert [len(ids) for ids in choices] == [PER_CYCLE] * CYCLES
    assert len({i for ids in choices for i in ids}) == PER_CYCLE * CYCLES
