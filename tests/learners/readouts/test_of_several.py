"""Passes and members: averages before suppression, the same whatever the batch; where all agree there is nothing."""

import functools

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.settings import TrainSettings
from al_lab.models.detectors.looks.average import DISAGREEMENT, average, logits_of
from al_lab.models.detectors.settings import Postprocess
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.supervised import Supervised

NEEDS = ("class_probs", "box_mutual_information")


def tiny(dropout=None):
    postprocess = Postprocess(conf_min=0.05, max_per_image=20)
    return TinyDetector(2, 32, (8, 8, 16, 16, 16), postprocess=postprocess, dropout=dropout)


def learner_of(dataset, dropout=None, batch=4):
    recipe = TrainSettings(batch_size=4, max_iters=8, lr=0.01)
    return DetectionLearner(dataset, functools.partial(tiny, dropout), Supervised, recipe, predict_batch=batch)


@pytest.fixture
def trained(dataset, make_task):
    """Trains a detector and returns its checkpoint."""

    def train(seed=0, dropout=None):
        task = make_task(f"seed{seed}{'d' if dropout else ''}", seed=seed)
        learner_of(dataset, dropout).fit(task)
        return task.checkpoint

    return train


def views(learner, dataset, options, needs=NEEDS):
    return list(learner.views(dataset.pool_ids, needs, options))


def passes(seed=5, count=3):
    return {"passes": {"count": count, "as_released": False, "seed": seed}}


def disagreement(found):
    return np.concatenate([v.extras["box_mutual_information"] for v in found])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits_come_back_from_their_probabilities(activation):
    z = torch.tensor([[-200.0, 0, 3], [90, -90, 0.1], [-1, 2, 40]])
    p = z.softmax(-1) if activation == "softmax" else z.sigmoid()
    back = logits_of(p, activation)
    assert torch.isfinite(back).all()
    torch.testing.assert_close(back.softmax(-1) if activation == "softmax" else back.sigmoid(), p)


def test_the_average_is_of_probabilities_and_offsets_not_of_logits():
    network = tiny().eval()
    with torch.no_grad():
        one, other = (network.look(torch.randn(2, 3, 32, 32), torch.tensor([[32, 32]] * 2)) for _ in range(2))
        mean = average(network, [one, other])
    p, q = one.logits.softmax(-1), other.logits.softmax(-1)
    torch.testing.assert_close(network.probs(mean.logits), (p + q) / 2)
    torch.testing.assert_close(mean.deltas, (one.deltas + other.deltas) / 2)
    assert mean.extra[DISAGREEMENT].shape == (2, sum(network.level_sizes), 1)
    assert average(network, [one] * 3).extra[DISAGREEMENT].max() < 1e-6


def test_passes_do_not_depend_on_batches_but_on_the_seed(dataset, trained):
    checkpoint = trained(dropout={"p": 0.3})
    found = {}
    for batch in (1, 4):
        learner = learner_of(dataset, {"p": 0.3}, batch)
        learner.load(checkpoint)
        assert "box_mutual_information" in learner.provides
        found[batch] = views(learner, dataset, passes())
    assert [len(v.detections) for v in found[1]] == [len(v.detections) for v in found[4]]
    np.testing.assert_allclose(disagreement(found[1]), disagreement(found[4]), atol=1e-5)
    assert disagreement(found[1]).max() > 1e-3
    again, other = (views(learner, dataset, passes(seed)) for seed in (5, 6))
    assert np.array_equal(disagreement(again), disagreement(found[4]))
    assert not np.array_equal(disagreement(other)[:5], disagreement(again)[:5])
    for view in again:
        assert set(view.extras["box_level"]) <= {0, 1, 2} and len(view.extras["box_level"]) == len(view.detections)


def test_without_anything_to_drop_passes_agree_and_detections_are_the_plain_ones(dataset, trained):
    checkpoint = trained(dropout={"p": 0.3})
    learner = learner_of(dataset, {"p": 0.0})
    learner.load(checkpoint)
    found, plain = views(learner, dataset, passes()), views(learner, dataset, {}, ("class_probs",))
    assert disagreement(found).max() < 1e-6
    assert len(disagreement(found)) == sum(len(v.detections) for v in plain)
    np.testing.assert_allclose(found[0].detections.probs, plain[0].detections.probs, atol=1e-5)
    bare = learner_of(dataset)  # names of weights are the same: a network without the option reads them, too
    bare.load(checkpoint)
    same = views(bare, dataset, {}, ("class_probs",))
    assert all(np.array_equal(a.detections.probs, b.detections.probs) for a, b in zip(same, plain, strict=True))


def test_three_copies_agree_and_three_members_do_not(dataset, trained):
    members = [trained(seed) for seed in (0, 1, 2)]
    learner = learner_of(dataset)
    learner.load(members[0])
    alone = views(learner, dataset, {}, ("class_probs", "image_embedding"))
    learner.join([members[0]] * 2)
    copies = views(learner, dataset, {"members": {"as_released": False}}, (*NEEDS, "member_entropy"))
    assert disagreement(copies).max() < 1e-6
    entropies = np.stack([v.extras["member_entropy"] for v in copies])
    assert (entropies == entropies[:, :1]).all() and entropies.max() > 0
    learner.join(members[1:])
    found = views(learner, dataset, {}, (*NEEDS, "member_entropy", "image_embedding"))
    assert disagreement(found).max() > 1e-3
    assert np.array_equal(found[0].embedding, alone[0].embedding)  # of the campaign's own model
    assert found[0].extras["member_entropy"].shape == (3,)
    learner.load(members[0])
    with pytest.raises(ConfigError, match="needs among"):
        views(learner, dataset, {})


def test_passes_are_to_be_asked_for(dataset, trained):
    learner = learner_of(dataset, {"p": 0.3})
    learner.load(trained(dropout={"p": 0.3}))
    with pytest.raises(ConfigError, match="the option passes, or members"):
        views(learner, dataset, {})
    with pytest.raises(ConfigError, match="count"):
        views(learner, dataset, passes(count=0))
