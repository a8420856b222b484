"""The part of the agent that can't be one call: an LSTM that reads its own last decision, over the whole pool.

A fused LSTM needs all inputs beforehand, but step k here reads the score of step k - 1. So the half of the gates that
depends on the images is one matrix product over the sequence (the caller's), the rest is this file: a compiled loop
with its own backward pass. The loop is bound by how fast 1.3 MB of weights stream from the cache, so recurrent and
decoder weights are stacked: both multiply the same h_k. Gradients of weights wait until the loop is over and are matrix
products again.

Shapes: N images, H width of the LSTM, G = 4 H gates (input, forget, cell, output, as `torch.nn.LSTMCell` orders them),
K width of the decoder.

| symbol | here | meaning |
|---|---|---|
| W_x Phi(I_k) + b | ``gates_NG`` | image half of the gates, both biases included |
| p_k | ``fed_N`` | what is fed back: phi(s_{k-1}), phi = sigmoid, identity or 0; s_0 is the dummy head |
| h_k, c_k | ``h_NH``, ``c_NH`` | state; h_0 = c_0 = 0 |
| u_k | ``u_NK`` | tanh(W_1 h_k + b_1), the decoder's hidden layer |
| s_k | ``scores_N`` | w_2 u_k + b_2, the selection score |
"""

import math
from itertools import zip_longest
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

try:
    import numba
except ImportError:  # `plain` does the same, slowly
    numba = None  # type: ignore[assignment]

Feedback = Literal["sigmoid", "logit", "none"]
Backend = Literal["auto", "compiled", "plain"]


class Weights(NamedTuple):
    """What the recurrence multiplies with."""

    recurrent_GH: Tensor
    feedback_G: Tensor
    decoder_KH: Tensor
    decoder_bias_K: Tensor
    out_K: Tensor
    out_bias: Tensor
    dummy: Tensor


def recurrence(
    gates_NG: Tensor, weights: Weights, feedback: Feedback = "sigmoid", window: int = 0, backend: Backend = "auto"
) -> Tensor:
    """Return the scores (N,) of the whole sequence; differentiable by everything, once.

    Args:
        gates_NG: float32 or float64; compiled loops write into it, so that 64 MB at VOC's size are no fresh memory.
        weights: of the same type.
        feedback: what of the last score is fed back.
        window: cut gradients (of h, c and the fed score) every so many steps; 0 lets them through the whole sequence.
        backend: ``auto`` compiles if numba is there and the tensors are on the CPU.
    """
    if backend == "plain" or (backend == "auto" and (numba is None or gates_NG.device.type != "cpu")):
        return plain(gates_NG, weights, feedback, window)
    if numba is None:
        raise ImportError(
            "recurrence: expected numba for backend 'compiled', got none installed; pip install numba, or use "
            "backend='auto'"
        )
    return _Compiled.apply(gates_NG, get_args(Feedback).index(feedback), window, *weights)


def plain(gates_NG: Tensor, weights: Weights, feedback: Feedback = "sigmoid", window: int = 0) -> Tensor:
    """`recurrence` as one would write it: torch operators, one image at a time. On any device."""
    w = weights
    h = c = torch.zeros_like(w.recurrent_GH[0])
    score = w.dummy.reshape(())
    scores = []
    for k, image_G in enumerate(gates_NG):
        if window and k and k % window == 0:
            h, c, score = h.detach(), c.detach(), score.detach()
        fed = (
            torch.sigmoid(score) if feedback == "sigmoid" else score if feedback == "logit" else torch.zeros_like(score)
        )
        i, f, g, o = (image_G + w.recurrent_GH @ h + w.feedback_G * fed).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        score = torch.dot(
            w.out_K, torch.tanh(functional.linear(h, w.decoder_KH, w.decoder_bias_K))
        ) + w.out_bias.reshape(())
        scores.append(score)
    return torch.stack(scores) if scores else gates_NG.new_zeros(0)


class _Compiled(torch.autograd.Function):
    """The compiled loops as one differentiable operator."""

    @staticmethod
    def forward(ctx: Any, gates_NG: Tensor, feedback: int, window: int, *weights: Tensor) -> Tensor:
        w = Weights(*(tensor.detach() for tensor in weights))
        stack_RH = torch.cat([w.recurrent_GH, w.decoder_KH])
        num, width = len(gates_NG), stack_RH.shape[1]
        acted_NG = gates_NG.detach().contiguous()
        c_NH, h_NH = (gates_NG.new_empty(num, width) for _ in range(2))
        u_NK, fed_N, scores_N = (
            gates_NG.new_empty(num, len(w.decoder_KH)),
            gates_NG.new_empty(num),
            gates_NG.new_empty(num),
        )
        _forward(
            acted_NG.numpy(),
            stack_RH.numpy(),
            w.feedback_G.contiguous().numpy(),
            w.decoder_bias_K.contiguous().numpy(),
            w.out_K.contiguous().numpy(),
            w.out_bias.reshape(1).numpy(),
            w.dummy.reshape(1).numpy(),
            feedback,
            c_NH.numpy(),
            h_NH.numpy(),
            u_NK.numpy(),
            fed_N.numpy(),
            scores_N.numpy(),
        )
        ctx.save_for_backward(acted_NG, c_NH, h_NH, u_NK, fed_N, scores_N, *weights)
        ctx.feedback, ctx.window, ctx.is_spent = feedback, window, False
        return scores_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        acted_NG, c_NH, h_NH, u_NK, fed_N, scores_N, *weights = ctx.saved_tensors
        w = Weights(*weights)
        if ctx.is_spent:
            raise RuntimeError(
                "recurrence: expected one backward pass, got a second; the first one's gradients lie where the gates "
                "were: call forward again"
            )
        ctx.is_spent = True
        stack_HR = torch.cat([w.recurrent_GH, w.decoder_KH]).T.contiguous()
        d_decoder_NK, d_scores_N = torch.empty_like(u_NK), grad_N.clone().contiguous()
        d_dummy = grad_N.new_zeros(1)
        _backward(
            acted_NG.numpy(),
            stack_HR.numpy(),
            w.feedback_G.contiguous().numpy(),
            w.out_K.contiguous().numpy(),
            c_NH.numpy(),
            u_NK.numpy(),
            fed_N.numpy(),
            ctx.feedback,
            ctx.window,
            d_decoder_NK.numpy(),
            d_scores_N.numpy(),
            d_dummy.numpy(),
        )
        d_gates_NG = acted_NG
        d_weights = Weights(
            recurrent_GH=d_gates_NG[1:].T @ h_NH[:-1],
            feedback_G=d_gates_NG.T @ fed_N,
            decoder_KH=d_decoder_NK.T @ h_NH,
            decoder_bias_K=d_decoder_NK.sum(0),
            out_K=u_NK.T @ d_scores_N,
            out_bias=d_scores_N.sum().reshape(w.out_bias.shape),
            dummy=d_dummy.reshape(w.dummy.shape),
        )
        return d_gates_NG, None, None, *d_weights


def _tanh_fraction(depth: int) -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
    """Return P, Q with tanh(x) = x P(x^2) / Q(x^2), lowest power first.

    Lambert's x / (1 + x^2 / (3 + x^2 / (5 + ...))), cut at ``depth``.
    """
    upper, lower = [2 * depth + 1], [1]
    for odd in range(2 * depth - 1, 0, -2):
        upper, lower = [odd * a + b for a, b in zip_longest(upper, [0, *lower], fillvalue=0)], upper
    return tuple(np.float32(b / lower[0]) for b in lower), tuple(np.float32(a / upper[0]) for a in upper)


_P, _Q = _tanh_fraction(12)  # off by less than 4e-8 up to 9, where tanh rounds to 1 in float32

if numba is not None:
    # Sums may be reordered (that is what vectorizes a dot product), but NaN and infinity keep their meaning.
    _compile = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

    @_compile
    def _tanh(x_M):  # noqa: ANN001, ANN202
        # libm takes one number at a time; this takes eight.
        if x_M.itemsize == 4:  # noqa: PLR2004
            for m in range(len(x_M)):
                x = min(max(x_M[m], np.float32(-9)), np.float32(9))
                y = x * x
                p = ((((((_P[6] * y + _P[5]) * y + _P[4]) * y + _P[3]) * y + _P[2]) * y + _P[1]) * y + _P[0]) * x
                q = (((((_Q[6] * y + _Q[5]) * y + _Q[4]) * y + _Q[3]) * y + _Q[2]) * y + _Q[1]) * y + _Q[0]
                t = min(max(p / q, np.float32(-1)), np.float32(1))
                x_M[m] = t if x_M[m] == x_M[m] else x_M[m]  # min and max would hide a NaN
        else:
            for m in range(len(x_M)):
                x_M[m] = math.tanh(x_M[m])

    @_compile
    def _matvec(weight_RH, x_H, out_R):  # noqa: ANN001, ANN202
        # Four rows at a time: x is read a fourth as often. What remains is the weights' way from the cache.
        rows, width = weight_RH.shape
        zero, whole = weight_RH.dtype.type(0), rows - rows % 4
        for r in range(0, whole, 4):
            a, b, c, d = zero, zero, zero, zero
            for j in range(width):
                x = x_H[j]
                a += weight_RH[r, j] * x
                b += weight_RH[r + 1, j] * x
                c += weight_RH[r + 2, j] * x
                d += weight_RH[r + 3, j] * x
            out_R[r], out_R[r + 1], out_R[r + 2], out_R[r + 3] = a, b, c, d
        for r in range(whole, rows):
            total = zero
            for j in range(width):
                total += weight_RH[r, j] * x_H[j]
            out_R[r] = total

    @_compile
    def _forward(
        acted_NG, stack_RH, feedback_G, bias_K, out_K, out_bias, dummy, feedback, c_NH, h_NH, u_NK, fed_N, scores_N
    ):  # noqa: ANN001, ANN202
        num, width = h_NH.shape
        one, half, zero = scores_N.dtype.type(1), scores_N.dtype.type(0.5), scores_N.dtype.type(0)
        z_R, t_H = stack_RH[:, 0] * zero, stack_RH[0] * zero
        c_H = t_H.copy()
        score = dummy[0]
        for k in range(num):
            fed = one / (one + math.exp(-score)) if feedback == 0 else score if feedback == 1 else zero
            fed_N[k] = fed
            a_G = acted_NG[k]
            for r in range(4 * width):
                a_G[r] += z_R[r] + feedback_G[r] * fed
            for r in range(width):  # sigmoid(x) = 1/2 + 1/2 tanh(x / 2)
                a_G[r], a_G[width + r], a_G[3 * width + r] = (
                    half * a_G[r],
                    half * a_G[width + r],
                    half * a_G[3 * width + r],
                )
            _tanh(a_G)
            for r in range(width):
                a_G[r], a_G[width + r] = half + half * a_G[r], half + half * a_G[width + r]
                a_G[3 * width + r] = half + half * a_G[3 * width + r]
                c_H[r] = a_G[width + r] * c_H[r] + a_G[r] * a_G[2 * width + r]
                t_H[r] = c_H[r]
            c_NH[k] = c_H
            _tanh(t_H)
            h_H = h_NH[k]
            for j in range(width):
                h_H[j] = a_G[3 * width + j] * t_H[j]
            _matvec(stack_RH, h_H, z_R)
            u_K = u_NK[k]
            for m in range(len(bias_K)):
                u_K[m] = z_R[4 * width + m] + bias_K[m]
            _tanh(u_K)
            score = out_bias[0]
            for m in range(len(bias_K)):
                score += out_K[m] * u_K[m]
            scores_N[k] = score

    @_compile
    def _backward(
        acted_NG,
        stack_HR,
        feedback_G,
        out_K,
        c_NH,
        u_NK,
        fed_N,
        feedback,
        window,
        d_decoder_NK,
        d_scores_N,
        d_dummy,
    ):  # noqa: ANN001, ANN202
        # Leaves the gradients of the gates in `acted_NG`.
        num, width = c_NH.shape
        gates = 4 * width
        one, zero = d_scores_N.dtype.type(1), d_scores_N.dtype.type(0)
        later_R = stack_HR[0] * zero  # d gates of step k + 1, then d decoder of step k
        d_h, d_c, start_H = stack_HR[:, 0] * zero, stack_HR[:, 0] * zero, stack_HR[:, 0] * zero
        t_H = start_H.copy()
        for k in range(num - 1, -1, -1):
            if k + 1 < num:
                if window > 0 and (k + 1) % window == 0:
                    later_R[:gates] = zero
                    d_c[:] = zero
                else:
                    d_fed = zero
                    for r in range(gates):
                        d_fed += feedback_G[r] * later_R[r]
                    p = fed_N[k + 1]
                    d_scores_N[k] += d_fed * (p * (one - p) if feedback == 0 else one if feedback == 1 else zero)
            for m in range(len(out_K)):
                d = d_scores_N[k] * out_K[m] * (one - u_NK[k, m] * u_NK[k, m])
                later_R[gates + m] = d
                d_decoder_NK[k, m] = d
            _matvec(stack_HR, later_R, d_h)
            a_G, before_H = acted_NG[k], c_NH[k - 1] if k else start_H
            t_H[:] = c_NH[k]
            _tanh(t_H)
            for j in range(width):
                i, f, g, o = a_G[j], a_G[width + j], a_G[2 * width + j], a_G[3 * width + j]
                d = d_c[j] + d_h[j] * o * (one - t_H[j] * t_H[j])
                d_c[j] = d * f
                later_R[j] = d * g * i * (one - i)
                later_R[width + j] = d * before_H[j] * f * (one - f)
                later_R[2 * width + j] = d * i * (one - g * g)
                later_R[3 * width + j] = d_h[j] * t_H[j] * o * (one - o)
            a_G[:] = later_R[:gates]
        if num:
            p = fed_N[0]
            slope = p * (one - p) if feedback == 0 else one if feedback == 1 else zero
            for r in range(gates):
                d_dummy[0] += feedback_G[r] * acted_NG[0, r] * slope
