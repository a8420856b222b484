"""The ensemble: V4 as an image, and members that are trained once each whatever happens in between."""

import json

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError
from al_lab.core.types import Detections, ImageView
from al_lab.strategies.rivals.ensemble import Ensemble
from tests.stubs import StubLearner, stub_config

NODE = {"_target_": "al_lab.strategies.rivals.ensemble.Ensemble"}


def test_v4_blad(context):
    means = np.array([0.660230, 0.610864, 0], np.float32)
    view = ImageView("a", (9, 9), Detections.none(3), extras={"member_entropy": means})
    strategy = Ensemble(score="member_entropy")
    assert strategy.propose(view, context()).utility.item() == pytest.approx(0.423698, abs=1e-6)
    assert strategy.explain(view, context(), (), 0).words == "its 3 detectors are unsure of what they find: 0.424 nats"
    assert strategy.needs_for("image") == ("class_probs", "member_entropy")
    with pytest.raises(TypeError, match="member_entropy"):
        strategy.propose(ImageView("a", (9, 9), Detections.none(3)), context())


def test_what_belongs_to_the_other_score_is_refused():
    with pytest.raises(ConfigError, match="score=member_entropy"):
        Ensemble(score="member_entropy", min_confidence=0.5)
    with pytest.raises(ConfigError, match=r"strategy\.members"):
        Ensemble(members=1)


@pytest.fixture
def fits(monkeypatch):
    """Checkpoints of the trainings that ran, in order; of one that ``fits.broken`` names, the first attempt dies."""

    class Fits(list):
        broken = ""

    found, fit = Fits(), StubLearner.fit

    def counted(self, task):
        name = "/".join(task.checkpoint.parts[-2:])
        found.append(name)
        if name == found.broken:
            found.broken = ""
            raise OSError("no room")
        return fit(self, task)

    monkeypatch.setattr(StubLearner, "fit", counted)
    return found


def test_a_member_that_was_trained_is_not_trained_again(tmp_path, fits):
    config = stub_config(NODE, cycles=1)
    undisturbed = run_campaign(config, tmp_path / "a")
    assert fits == ["cycle_00/model.ckpt", "members/member_1.ckpt", "members/member_2.ckpt", "cycle_01/model.ckpt"]
    fits.clear()
    fits.broken = "members/member_2.ckpt"
    with pytest.raises(Exception, match="no room"):
        run_campaign(config, tmp_path / "b")
    again = run_campaign(config, tmp_path / "b")
    assert sorted(fits) == sorted(
        ["cycle_00/model.ckpt", "members/member_1.ckpt", *["members/member_2.ckpt"] * 2, "cycle_01/model.ckpt"]
    )
    assert again["voc07_ap50"] == undisturbed["voc07_ap50"]
    for name in ("queries.json", "members/member_2.ckpt"):
        a, b = ((tmp_path / run / "cycle_00" / name).read_bytes() for run in "ab")
        assert a == b
    entries = [json.loads(line) for line in (tmp_path / "a" / "ledger.jsonl").read_text().splitlines()]
    (of_members,) = [e for e in entries if e["stage"] == "train_members"]  # none after the last query
    assert of_members["scalars"]["trainings"] == 2
    assert sorted(of_members["files"]) == [f"cycle_00/members/member_{n}.ckpt" for n in (1, 2)]


@pytest.mark.parametrize("start", ["continue", pytest.param("weights", marks=pytest.mark.slow)])
def test_members_go_on_from_themselves(tmp_path, start, monkeypatch):
    begun = {}
    fit = StubLearner.fit
    monkeypatch.setattr(StubLearner, "fit", lambda self, task: begun.update({task.checkpoint: task}) or fit(self, task))
    config = stub_config(NODE | {"members": 2}, cycles=2)
    stops = {"stop_at": [30, 60, 100]} if start == "continue" else {}
    run_campaign(config | {"trainer": config["trainer"] | {"start": start} | stops}, tmp_path)
    first, second = (tmp_path / f"cycle_0{c}" / "members" / "member_1.ckpt" for c in (0, 1))
    assert begun[first].start == "scratch" and begun[second].init_checkpoint == first
    assert (begun[second].seed == begun[first].seed) == (start == "continue")
    assert begun[second].seed != begun[tmp_path / "cycle_01" / "model.ckpt"].seed
