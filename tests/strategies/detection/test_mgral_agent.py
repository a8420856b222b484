"""The agent is an LSTM cell that reads its last score, as the paper's Fig. 2 draws it."""

import numpy as np
import pytest
import torch

from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.agent import Agent, sequence_order


def features(num: int, dim: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(num, dim)).astype(np.float32))


def unrolled(agent: Agent, x: torch.Tensor) -> torch.Tensor:
    h = c = torch.zeros(1, agent.lstm.hidden_size)
    score, scores = agent.dummy.reshape(1, 1), []
    for row in x:
        h, c = agent.lstm(torch.cat([row[None], score.sigmoid()], 1), (h, c))
        score = agent.decoder(h)
        scores.append(score.reshape(()))
    return torch.stack(scores)


def test_equals_an_unrolled_lstm_cell_in_scores_and_gradients():
    agent, x = Agent(6, Rng(0)), features(30)
    agent.dummy.data.fill_(0.7)
    scores, expected = agent(x), unrolled(agent, x)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)
    weight = torch.linspace(-1, 1, 30)
    ours = torch.autograd.grad((scores * weight).sum(), list(agent.parameters()))
    theirs = torch.autograd.grad((expected * weight).sum(), list(agent.parameters()))
    for (name, _), a, b in zip(agent.named_parameters(), ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_size_of_the_paper():
    count = {name: p.numel() for name, p in Agent(256, Rng(0)).named_parameters()}
    assert sum(n for name, n in count.items() if name.startswith("lstm")) == 530_448
    assert sum(n for name, n in count.items() if name.startswith("decoder")) == 66_564
    assert sum(count.values()) == 530_448 + 66_564 + 1


def test_initial_weights_are_named_by_the_seed():
    first, same, other = (
        torch.cat([p.detach().flatten() for p in Agent(6, Rng(seed)).parameters()]) for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 0.1
    assert first.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.1)


def test_bptt_cuts_gradients_but_not_scores():
    x = features(12)
    whole, cut = Agent(6, Rng(0)), Agent(6, Rng(0), bptt=4)
    assert torch.equal(whole(x), cut(x))
    inputs = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cut(inputs)[-1], inputs)
    assert gradient.abs().amax(1).gt(0).tolist() == [False] * 8 + [True] * 4


def test_scores_depend_on_what_was_decided_before():
    agent, x = Agent(6, Rng(0)), features(8)
    assert not torch.allclose(agent(x).flip(0), agent(x.flip(0)))
    blind = Agent(6, Rng(0), feedback="none")
    blind.dummy.data.fill_(5.0)
    assert torch.equal(blind(x), Agent(6, Rng(0), feedback="none")(x))


def test_order_of_the_sequence_does_not_depend_on_how_the_pool_lists_it():
    ids = [f"image{k}" for k in range(50)]
    backwards = ids[::-1]
    order, again = sequence_order(ids, Rng(0, 1)), sequence_order(backwards, Rng(0, 1))
    assert [ids[k] for k in order] == [backwards[k] for k in again]
    assert order.tolist() != sequence_order(ids, Rng(0, 2)).tolist()
    assert sorted(order.tolist()) == list(range(50))
    assert sequence_order(ids, Rng(0, 1), "dataset").tolist() == list(range(50))
