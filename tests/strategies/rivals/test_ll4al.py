"""LL4AL: a campaign whose detector predicts its own loss, and what is bought by that."""

import numpy as np
import pytest

from al_lab.config.load import compose, validate
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import context_for
from al_lab.core.types import Candidates, ImageView, Query
from al_lab.strategies.rivals.ll4al import LL4AL


def test_the_largest_predicted_losses_are_bought() -> None:
    ids = tuple("abcde")
    views = [
        ImageView(i, extras={"predicted_loss": np.float32(v)}) for i, v in zip(ids, (9, -3, 2, -7, 1), strict=True)
    ]
    strategy = LL4AL()
    parts = [strategy.propose(v, context_for(0, 0, v.sample_id, "image")) for v in views]
    pool = Pool(ids).acquire([Query("a")], -1)
    queries = strategy.select(Candidates.concat(parts), pool, Allowance("image", 3), rng_for(0, 0, "select"))
    assert [(q.sample_id, q.utility) for q in queries] == [("c", 2.0), ("e", 1.0), ("b", -3.0)]


@pytest.mark.parametrize("dataset", ["voc", "coco", "shapes", "folder"])
def test_its_protocol_brings_branch_and_objective_and_is_its_own_control(dataset: str) -> None:
    root = ["dataset.root=/tmp"] if dataset == "folder" else []
    own = compose([f"dataset={dataset}", "strategy=ll4al", *root])
    control = compose([f"dataset={dataset}", "strategy=random", "protocol=ll4al", *root])
    for key in ("detector", "objective", "budget", "trainer", "protocol"):
        assert own[key] == control[key]
    assert own["detector"]["branches"] == ["learning_loss"]
    assert own["choices"]["objective"] == "learning_loss"
    validate(own), validate(control)
    assert (
        compose([f"dataset={dataset}", "strategy=ll4al", "detector.branches=[]", *root])["detector"]["branches"] == []
    )


def test_voc_is_the_papers() -> None:
    config = compose(["dataset=voc", "strategy=ll4al"])
    assert [config["budget"][k] for k in ("initial", "per_cycle", "cycles")] == [1000, 1000, 9]
    assert config["choices"]["detector"] == "ssd300_voc"
    trainer = config["trainer"]
    assert [trainer[k] for k in ("batch_size", "max_epochs", "lr", "milestones")] == [32, 300, 0.001, [240]]
    assert [config["objective"][k] for k in ("weight", "margin", "detach_from")] == [1.0, 1.0, 0.8]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["protocol=mgral"], "a detector that provides predicted_loss"),
        (["detector=ssdlite"], "a detector with anchors"),
        (["detector=ssdlite", "objective=supervised"], "a detector that provides predicted_loss"),
    ],
)
def test_another_detector_is_refused_before_anything_begins(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(compose(["dataset=shapes", "strategy=ll4al", *words]))
