"""The compiled recurrence is the plain one: values and gradients."""

import math

import numpy as np
import pytest
import torch

from al_lab.strategies.detection._mgral import recurrence as module
from al_lab.strategies.detection._mgral.recurrence import Weights, plain, recurrence


def problem(
    num: int, width: int = 5, decoder: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[torch.Tensor, Weights]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    weights = Weights(
        draw(4 * width, width), draw(4 * width), draw(decoder, width), draw(decoder), draw(decoder), draw(1), draw()
    )
    return draw(num, 4 * width), weights


def values_and_gradients(
    backend: str, gates: torch.Tensor, weights: Weights, feedback: str, window: int
) -> list[torch.Tensor]:
    scores = recurrence(gates.clone(), weights, feedback, window, backend)
    upstream = torch.linspace(-1, 2, len(scores), dtype=scores.dtype)
    grads = torch.autograd.grad((scores * upstream).sum(), [gates, *weights], allow_unused=True)
    return [
        scores.detach(),
        *(torch.zeros_like(w) if g is None else g for g, w in zip(grads, [gates, *weights], strict=True)),
    ]


@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("feedback", ["sigmoid", "logit", "none"])
def test_equals_the_plain_loop(feedback, window):
    pytest.importorskip("numba")
    gates, weights = problem(11)
    names = ("scores", "gates", *Weights._fields)
    compiled = values_and_gradients("compiled", gates, weights, feedback, window)
    for name, ours, theirs in zip(
        names, compiled, values_and_gradients("plain", gates, weights, feedback, window), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10, msg=name)
    assert (compiled[3].abs().max() == 0) == (feedback == "none")  # the fed-back score's weights


def test_gradcheck():
    gates, weights = problem(6, width=3, decoder=2)
    assert torch.autograd.gradcheck(lambda g, *w: plain(g, Weights(*w)), (gates, *weights))


def test_a_second_backward_pass_is_refused():
    pytest.importorskip("numba")
    gates, weights = problem(3)
    total = recurrence(gates.clone(), weights, backend="compiled").sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="call forward again"):
        total.backward()


def test_float32_over_a_long_sequence():
    pytest.importorskip("numba")
    gates, weights = problem(700, width=33, decoder=17, dtype=torch.float32)
    weights = Weights(*(w.detach() * 0.3 for w in weights))
    exact = plain(gates.double(), Weights(*(w.double() for w in weights)))
    torch.testing.assert_close(recurrence(gates, weights, backend="compiled").double(), exact, rtol=0, atol=1e-5)


def test_without_numba_the_plain_loop_runs(monkeypatch):
    gates, weights = problem(3)
    expected = plain(gates, weights)
    monkeypatch.setattr(module, "numba", None)
    assert torch.equal(recurrence(gates, weights), expected)
    with pytest.raises(ImportError, match="expected numba"):
        recurrence(gates, weights, backend="compiled")


@pytest.mark.parametrize("num", [0, 1])
@pytest.mark.parametrize("backend", ["auto", "plain"])
def test_short_sequences(num, backend):
    gates, weights = problem(num)
    assert recurrence(gates, weights, backend=backend).shape == (num,)


def test_a_nan_stays_a_nan():
    gates, weights = problem(4, dtype=torch.float32)
    gates = gates.detach().clone()
    gates[2, 0] = math.nan
    assert recurrence(gates, weights).isfinite().tolist() == [True, True, False, False]


def test_tanh_of_eight_at_a_time():
    pytest.importorskip("numba")
    x = np.concatenate([np.linspace(-12, 12, 4001), [-np.inf, np.inf]]).astype(np.float32)
    out = x.copy()
    module._tanh(out)
    np.testing.assert_allclose(out, np.tanh(x.astype(np.float64)), atol=3e-7)
    assert np.abs(out).max() <= 1
