"""k-center greedy against the loops everyone writes, and scikit-activeml's."""

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np
from threadpoolctl import threadpool_limits

from al_lab.acquisition.k_center import KCenter, k_center
from al_lab.benchmarks.measure import Row, best_of, peak_bytes

SIZES = ((16_551, 256, 1000), (16_551, 1024, 1000), (117_266, 256, 2345))  # points, dimensions, picks
FIRST_STEPS = 200  # of a peer whose every step costs the same
_SMALL = 5_000_000  # numbers in the features below which the NumPy loop runs to its end


def embeddings(num: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Return float32 features like a network's.

    20 latent dimensions, clusters, a long tail, rectified, far from the origin.
    """
    latent = 20
    centers = rng.normal(size=(60, latent))
    z = centers[rng.integers(60, size=num)] + 0.5 * rng.normal(size=(num, latent)) * rng.gamma(2, 0.5, size=(num, 1))
    mixing = (rng.normal(size=(latent, dim)) / np.sqrt(latent)).astype(np.float32)
    x = z.astype(np.float32) @ mixing + 0.3 + 0.1 * rng.standard_normal((num, dim), dtype=np.float32)
    return np.maximum(x, 0, out=x)


def gaussian(num: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Return float32 features without any structure: every point is about as far from every other."""
    return rng.standard_normal((num, dim), dtype=np.float32)


def numpy_loop(x: np.ndarray, steps: int) -> list[int]:
    """Greedy k-center by exact differences, row 0 labeled."""
    radius, order = ((x - x[0]) ** 2).sum(1), []
    for _ in range(steps):
        pick = int(radius.argmax())
        order.append(pick)
        radius = np.minimum(radius, ((x - x[pick]) ** 2).sum(1))
    return order


def matrix_vector_loop(x: np.ndarray, steps: int) -> list[int]:
    """The same by |x|^2 + |c|^2 - 2 x.c: faster, but its rounding decides near ties."""
    sq = np.einsum("nd,nd->n", x, x)
    radius, order = sq + sq[0] - 2 * (x @ x[0]), []
    for _ in range(steps):
        pick = int(radius.argmax())
        order.append(pick)
        radius = np.minimum(radius, sq + sq[pick] - 2 * (x @ x[pick]))
    return order


def scikit_activeml(x: np.ndarray, steps: int) -> list[int]:
    """Return scikit-activeml's picks, row 0 labeled."""
    from skactiveml.pool import k_greedy_center

    labels = np.full(len(x), np.nan)
    labels[0] = 0
    picks, _ = k_greedy_center(x, labels, batch_size=steps, random_state=0)
    return [int(p) for p in picks]


def run(full: bool = False, sizes: tuple[tuple[int, int, int], ...] = SIZES) -> Iterator[Row]:
    """Yield the rows; everything on one thread."""
    with threadpool_limits(1):
        for num, dim, budget in sizes:
            for kind, make in (("embeddings", embeddings), ("Gaussian", gaussian)):
                x = make(num, dim, np.random.default_rng(0))
                yield from _compare(x, budget, f"k-center {num:,}x{dim:,} B={budget:,} {kind}", full)


def _compare(x: np.ndarray, budget: int, task: str, full: bool) -> Iterator[Row]:
    is_small = x.size < _SMALL
    repeats = 3 if is_small else 1  # the same for everyone
    seconds, ours = best_of(lambda: k_center(x, budget, [0]), repeats)
    peers: list[tuple[str, str, Callable[[np.ndarray, int], list[int]], int]] = [
        ("NumPy ((X-x)**2).sum(1)", ">= 15", numpy_loop, budget if full or is_small else min(budget, FIRST_STEPS)),
        ("matrix-vector loop", "", matrix_vector_loop, budget if full or is_small else min(budget, FIRST_STEPS)),
    ]
    if importlib.util.find_spec("skactiveml"):
        peers.append(
            ("scikit-activeml k_greedy_center", "", scikit_activeml, budget if full else min(budget, FIRST_STEPS))
        )
    for name, target, peer, steps in peers:
        part, picks = best_of(lambda peer=peer, steps=steps: peer(x, steps), repeats)  # type: ignore[misc]
        note = "" if steps == budget else f"peer extrapolated from its first {steps} picks"
        same = _same(ours, picks)
        # Only exact differences are a reference: what the others' rounding does with near ties is their affair.
        yield Row(
            task,
            name,
            seconds,
            part * budget / steps,
            part * budget / steps / seconds,
            target,
            same if peer is numpy_loop else None,
            "; ".join(
                filter(
                    None,
                    [
                        f"same {steps:,} picks" if same else f"picks differ from pick {_first_difference(ours, picks)}",
                        note,
                    ],
                )
            ),
        )
    peak = peak_bytes(lambda: k_center(x, budget, [0]))
    yield Row(
        task,
        "peak memory, features = 1",
        seconds,
        None,
        1 + peak / x.nbytes,
        "<= 1.25",
        None,
        f"{peak / 1e6:.1f} MB beside {x.nbytes / 1e6:.0f} MB",
    )


def _same(ours: KCenter, picks: list[int]) -> bool:
    return ours.order[: len(picks)].tolist() == picks


def _first_difference(ours: KCenter, picks: list[int]) -> int:
    return next(n for n, (a, b) in enumerate(zip(ours.order.tolist(), picks, strict=False)) if a != b)
