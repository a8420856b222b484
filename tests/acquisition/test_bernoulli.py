"""Sets of independent choices: fact sheet vector TV14's alternatives."""

import itertools

import numpy as np
import pytest
import torch

from al_lab.acquisition.bernoulli import FixedSize, log_prob

S = torch.tensor([2.0, 1.0, 0.0, -1.0], dtype=torch.float64)


def test_tv14():
    assert log_prob(S, np.array([0, 1])).item() == pytest.approx(-1.4465986, abs=1e-6)
    assert FixedSize(S.numpy(), 2).log_prob(S, np.array([0, 1])).item() == pytest.approx(-0.5345340, abs=1e-6)


def test_all_sets_of_the_size_sum_to_one_and_give_the_inclusion():
    s = torch.from_numpy(np.random.default_rng(0).normal(size=7) * 3)
    law = FixedSize(s.numpy(), 3)
    sets = list(itertools.combinations(range(7), 3))
    probability = np.array([law.log_prob(s, np.array(some)).exp().item() for some in sets])
    assert probability.sum() == pytest.approx(1)
    expected = [sum(p for p, some in zip(probability, sets, strict=True) if k in some) for k in range(7)]
    np.testing.assert_allclose(law.inclusion(), expected, atol=1e-12)


def test_gradients_equal_finite_differences():
    s = torch.from_numpy(np.random.default_rng(0).normal(size=9)).requires_grad_()
    some = np.array([1, 4, 5])
    assert torch.autograd.gradcheck(lambda x: FixedSize(x.detach().numpy(), 3).log_prob(x, some), (s,))
    assert torch.autograd.gradcheck(lambda x: log_prob(x, some), (s,))


def test_draws_have_the_size_and_the_inclusion_frequencies():
    law, generator = FixedSize(np.array([2.0, 1, 0, -1, -3]), 2), np.random.default_rng(0)
    draws = [law.draw(generator) for _ in range(20_000)]
    assert {len(d) for d in draws} == {2}
    np.testing.assert_allclose(np.bincount(np.concatenate(draws)) / 20_000, law.inclusion(), atol=0.015)


@pytest.mark.parametrize("scale", [1, 500])
@pytest.mark.parametrize("size", [0, 1, 4])
def test_nothing_and_everything(size, scale):
    s = np.array([2.0, 1, 0, -1]) * scale
    law = FixedSize(s, size)
    assert len(law.draw(np.random.default_rng(0))) == size
    assert law.inclusion().sum() == pytest.approx(size)
    if size == 4:
        assert law.log_prob(torch.from_numpy(s), np.arange(4)).item() == pytest.approx(0, abs=1e-9)


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="at most 4 items"):
        FixedSize(np.zeros(4), 5)
