"""MI-AOD: what is read of an image, what is bought, and its protocols."""

import numpy as np
import pytest
import torch

from al_lab.config.load import compose, validate
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import context_for
from al_lab.core.types import Candidates, ImageView, Query
from al_lab.learners.readouts.look import Look
from al_lab.learners.readouts.of_images import head_disagreement
from al_lab.strategies.rivals.mial import MIAL
from tests.objectives.heads import Row

IDS = tuple(f"i{k:02d}" for k in range(40))


def bought(strategy: MIAL, ids: tuple[str, ...] = IDS, amount: int = 4, cycle: int = 0) -> list[str]:
    views = [ImageView(i, extras={"head_disagreement": np.float32(int(i[1:]))}) for i in ids]
    parts = [strategy.propose(v, context_for(0, cycle, v.sample_id, "image")) for v in views]
    pool = Pool(ids).acquire([Query("i39"), Query("i00")], -1)
    queries = strategy.select(Candidates.concat(parts), pool, Allowance("image", amount), rng_for(0, cycle, "select"))
    return [q.sample_id for q in queries]


def test_the_largest_disagreements_are_bought() -> None:
    assert bought(MIAL()) == ["i38", "i37", "i36", "i35"]


def test_a_share_of_the_pool_is_drawn_first() -> None:
    chosen = [bought(MIAL(pool_share=0.2), cycle=c) for c in range(3)]
    assert all(len(set(c)) == 4 and "i39" not in c for c in chosen)
    assert len({tuple(c) for c in chosen}) > 1
    assert bought(MIAL(pool_share=0.2), tuple(reversed(IDS))) == chosen[0]
    assert all(c == sorted(c, reverse=True) for c in chosen)
    assert sorted(bought(MIAL(pool_share=0.01), amount=100)) == sorted(set(IDS) - {"i39", "i00"})
    assert len(bought(MIAL(pool_share=0.01), amount=7)) == 7


@pytest.mark.parametrize(
    ("options", "expected"), [({"top": 2}, 0.083420), ({}, 0.059350), ({"space": "softmax"}, None)]
)
def test_the_read_out_of_the_fact_sheet(options: dict, expected: float | None) -> None:
    network = Row(2, 3, "sigmoid")
    one = torch.tensor([[[2.0, -1], [0, 1], [-2, 0.5]]])
    two = torch.tensor([[[1.0, -1], [1, -1], [-2, 2]]])
    head = network.head(one.sigmoid())._replace(logits=one, extra={"logits2": two})
    look = Look(network, torch.zeros(1, 3, 10, 30), head, [], [(10, 30)], torch.tensor([[10, 30]]))
    expected = expected or (one.softmax(-1) - two.softmax(-1)).square().mean().item()
    assert head_disagreement(look, options)[0]["head_disagreement"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dataset", ["voc", "coco", "shapes", "folder"])
def test_its_protocol_brings_branch_and_objective_and_is_its_own_control(dataset: str) -> None:
    root = ["dataset.root=/tmp"] if dataset == "folder" else []
    own = compose([f"dataset={dataset}", "strategy=mial", *root])
    control = compose([f"dataset={dataset}", "strategy=random", "protocol=mial", *root])
    for key in ("detector", "objective", "budget", "trainer", "protocol"):
        assert own[key] == control[key]
    assert own["detector"]["branches"] == ["two_heads"]
    validate(own), validate(control)


PUBLISHED = {
    ("dataset=voc", "strategy=mial"): {
        "budget": [1000, 1000, 9],
        "passes": [80, 16, 16, 80, 16, 16, 80],
        "warmup": 500,
        "trainer": [16, 304, 0.001, 240, 0.0005],
        "detector": ("ssd300_voc", [300, 300]),
    },
    ("experiment=mial_retinanet",): {
        "budget": [827, 413, 6],
        "passes": [6, 2, 2, 6, 2, 2, 6],
        "warmup": 0,
        "trainer": [4, 26, 0.001, 24, 0.0005],
        "detector": ("retinanet_r50_voc", [600, 1000]),
    },
    ("dataset=coco", "strategy=mial"): {
        "budget": [0.02, 0.02, 4],
        "passes": [6, 2, 2, 6, 2, 2, 6],
        "warmup": 500,
        "trainer": [4, 26, 0.001, 24, 0.0005],
        "detector": ("retinanet_r50", [800, 1333]),
    },
}


@pytest.mark.parametrize("words", PUBLISHED, ids=" ".join)
def test_protocols_number_by_number(words: tuple[str, ...]) -> None:
    config, expected = compose(list(words)), PUBLISHED[words]
    assert [config["budget"][k] for k in ("initial", "per_cycle", "cycles")] == expected["budget"]
    assert (config["choices"]["detector"], config["detector"]["input_hw"]) == expected["detector"]
    assert [config["objective"][k] for k in ("passes", "warmup_iters", "weight")] == [
        expected["passes"],
        expected["warmup"],
        0.5,
    ]
    trainer = config["trainer"]
    labeled = config["objective"]["labeled_ratio"]  # an epoch counts images of a batch that is half unlabeled
    passes = [trainer["max_epochs"] * labeled, trainer["milestones"][0] * labeled]
    assert [trainer["batch_size"], passes[0], trainer["lr"], passes[1], trainer["weight_decay"]] == expected["trainer"]
    assert config["strategy"]["pool_share"] == (0.2 if "dataset=coco" in words else 1.0)
    assert config["strategy"]["top"] == 10_000


def test_another_detector_is_refused_before_anything_begins() -> None:
    with pytest.raises(ConfigError, match="a detector that provides head_disagreement"):
        validate(compose(["dataset=shapes", "strategy=mial", "protocol=mgral"]))
