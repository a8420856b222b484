"""One iteration of MGRAL's agent against what one would write.

An LSTM cell in a loop, and scipy's distance dimension by dimension.
"""

import resource
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from threadpoolctl import threadpool_limits
from torch import Tensor

from al_lab.acquisition import plackett_luce
from al_lab.benchmarks.measure import Row, best_of
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.agent import Agent
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.predictor.inputs import SetInputs
from al_lab.strategies.detection._mgral.predictor.ridge import Regressor
from al_lab.strategies.detection._mgral.predictor.table import Table, TableSettings, estimate
from al_lab.strategies.detection._mgral.query import LEAST_GAIN, SWEEPS, search
from al_lab.strategies.detection._mgral.reinforce import Reinforce

VOC = (15_551, 256, 1000, 200)  # images, features, budget, records
COCO = (115_000, 256, 2345, 30)
SETS = (1000, 128, 20, 16)
FIRST_STEPS = 500  # of the peer's loop over images
FIRST_PAIRS = 1024  # of the peer's M x D calls of scipy
_LEARNING_RATE = 3.5e-4


def problem(size: tuple[int, int, int, int], seed: int = 0) -> tuple[Tensor, Table]:
    """Return standardized features, and a table of random batches with made-up rewards."""
    num, dim, budget, rows = size
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num, dim), dtype=np.float32)
    batches = np.stack([rng.choice(num, budget, replace=False) for _ in range(rows)])
    return torch.from_numpy(x), Table(x, batches, 50 + rng.normal(size=rows), TableSettings(), Rng(0))


def unrolled(agent: Agent, x_ND: Tensor) -> Tensor:
    """Return the scores (N,) as one would write the agent: `torch.nn.LSTMCell` once an image."""
    h = c = torch.zeros(1, agent.lstm.hidden_size)
    score, scores = agent.dummy.reshape(1, 1), []
    for k in range(len(x_ND)):
        h, c = agent.lstm(torch.cat([x_ND[k : k + 1], score.sigmoid()], 1), (h, c))
        score = agent.decoder(h)
        scores.append(score)
    return torch.cat(scores).reshape(-1)


def scipy_distances(table: Table, batch: np.ndarray, pairs: int) -> np.ndarray:
    """Return the first ``pairs`` of the M D distances, record by record.

    A loop over `scipy.stats.wasserstein_distance` finds them.
    """
    dim = table.features_ND.shape[1]
    mine = table.features_ND[batch]
    found = np.empty(pairs)
    for n in range(pairs):
        record, d = divmod(n, dim)
        found[n] = wasserstein_distance(mine[:, d], table.features_ND[table.batches[record], d])
    return found


def run(
    full: bool = False,
    voc: tuple[int, int, int, int] = VOC,
    coco: tuple[int, int, int, int] = COCO,
    sets: tuple[int, int, int, int] = SETS,
) -> Iterator[Row]:
    """Yield the rows; everything on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield from _voc(voc, full)
            yield _search(sets, full)
            yield _memory(coco, "COCO size")
    finally:
        torch.set_num_threads(threads)


def _voc(size: tuple[int, int, int, int], full: bool) -> Iterator[Row]:
    num, dim, budget, rows = size
    x, table = problem(size)
    training = Reinforce(
        Agent(dim, Rng(0)), x, budget, ReinforceSettings(iterations=10, lr=_LEARNING_RATE), Rng(0), 50.0
    )
    training.step(table)  # compiles
    name = f"N={num:,}x{dim} B={budget:,} M={rows}"

    steps = num if full else min(num, FIRST_STEPS)
    agent = cast(Agent, training.agent)
    with torch.no_grad():
        ours = agent(x)
        same_scores = bool((ours[:steps] - unrolled(agent, x[:steps])).abs().max() <= 1e-5)
    agent_s, agent_peer_s = _agent(agent, x, budget, steps)
    note = "CPU seconds" if steps == num else f"CPU seconds; peer extrapolated from its first {steps} images"
    yield Row(
        f"MGRAL agent, forward and backward, {name}",
        "nn.LSTMCell, once an image",
        agent_s,
        agent_peer_s,
        agent_peer_s / agent_s,
        "",
        same_scores,
        _join("same scores to 1e-5", note),
    )

    batch = training.query()
    pairs = rows * dim if full else min(rows * dim, FIRST_PAIRS)
    table_s, _ = _best_of(lambda: table(batch), 10)
    table_peer_s, same = _table(table, batch, pairs)
    yield Row(
        f"MGRAL table estimate, {name}",
        "scipy.stats, once a dimension",
        table_s,
        table_peer_s,
        table_peer_s / table_s,
        ">= 200",
        same,
        _join(
            "same distances to 1e-6" if pairs < rows * dim else "same estimate to 1e-6",
            "" if pairs == rows * dim else f"peer extrapolated from its first {pairs:,} of {rows * dim:,} calls",
        ),
    )

    whole_s, _ = _best_of(lambda: training.step(table), 3)
    peer_s = agent_peer_s + table_peer_s
    yield Row(
        f"MGRAL iteration, {name}",
        "both loops",
        whole_s,
        peer_s,
        peer_s / whole_s,
        ">= 20",
        same_scores and same,
        "scores, draw, estimate, backward, step",
    )
    yield _memory(size, "VOC size")


def _agent(agent: Agent, x: Tensor, budget: int, steps: int) -> tuple[float, float]:
    """Return seconds of scores, draw and gradient.

    Ours over the whole pool, the peer's extrapolated from its first steps.
    """

    def one(scores_N: Tensor) -> None:
        noise = plackett_luce.gumbel_noise(len(scores_N), np.random.default_rng(0))
        batch = plackett_luce.top(scores_N.detach().numpy(), min(budget, len(scores_N) // 2), noise)
        agent.zero_grad(set_to_none=True)
        (-plackett_luce.log_prob(scores_N, batch) / len(batch)).backward()

    ours, _ = _best_of(lambda: one(agent(x)), 3)
    part, _ = _best_of(lambda: one(unrolled(agent, x[:steps])), 1 if steps == len(x) else 3)
    return ours, part * len(x) / steps


def _table(table: Table, batch: np.ndarray, pairs: int) -> tuple[float, bool]:
    dim = table.features_ND.shape[1]
    whole = len(table) * dim
    part, found = _best_of(lambda: scipy_distances(table, batch, pairs), 1 if pairs == whole else 3)
    records = pairs // dim
    distance = found[: records * dim].reshape(records, dim).mean(1)
    same = bool(np.abs(table.distances(batch)[:records] - distance).max() <= 1e-6)
    if pairs == whole:
        ours, theirs = table(batch).value, estimate(distance, table.rewards_M, table.settings).value
        same = same and (ours == theirs if ours is None or theirs is None else abs(ours - theirs) <= 1e-6)
    return part * whole / pairs, same


def _best_of(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the fewest CPU seconds.

    All of this runs on one thread, and takes so long at a time that other processes would be timed, too.
    """
    return best_of(function, repeats, time.process_time)


def _memory(size: tuple[int, int, int, int], label: str) -> Row:
    """One iteration in this process: how far the process's high-water mark rises above what it held before."""
    num, dim, budget, rows = size
    before = _resident_bytes()
    x, table = problem(size)
    training = Reinforce(
        Agent(dim, Rng(0)), x, budget, ReinforceSettings(iterations=1, lr=_LEARNING_RATE), Rng(0), 50.0
    )
    _forget_peak()
    start = time.process_time()
    training.step(table)
    seconds = time.process_time() - start
    peak = _peak_bytes() - before
    return Row(
        f"MGRAL iteration, {label} N={num:,} B={budget:,} M={rows}",
        "memory, 8 GB = 1",
        seconds,
        None,
        peak / 8e9,
        "<= 1",
        None,
        f"{peak / 1e9:.2f} GB at most, features and table included",
    )


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _forget_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")  # Linux: the high-water mark starts anew
    except OSError:
        pass


def _peak_bytes() -> int:
    try:
        with open("/proc/self/status") as stream:
            return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _join(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _search(size: tuple[int, int, int, int], full: bool) -> Row:
    """Compare the greedy part; with ``full`` the swaps, too."""
    num, dim, budget, rows = size
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num, dim), dtype=np.float32)
    batches = [rng.choice(num, budget, replace=False) for _ in range(rows)]
    inputs = SetInputs(x, {"entropy": rng.random(num)}, 16, Rng(0))
    none = np.zeros(0, np.int64)
    rewards = np.array([50 + 5 * x[b, 0].mean() for b in batches])
    predictor = Regressor(inputs, [none] * rows, batches, rewards, none)
    value, sweeps = predictor.value(), SWEEPS if full else 0
    ours, found = _best_of(lambda: search(value, none, num, budget, sweeps=sweeps), 3)
    theirs, expected = _best_of(lambda: searched_by_loop(predictor, num, budget, sweeps), 1)
    return Row(
        f"MGRAL search over sets, N={num:,} B={budget}",
        "every set described and predicted",
        ours,
        theirs,
        theirs / ours,
        ">= 20",
        found.tolist() == expected,
        f"CPU seconds; same {budget} picks, greedy{' and swaps' if full else ''}",
    )


def searched_by_loop(predictor: Regressor, num: int, budget: int, sweeps: int = SWEEPS) -> list[int]:
    """Return the batch that `query.search` finds, as one would write it: every batch is described and predicted."""

    def best(batch: list[int], place: int) -> tuple[int, float]:
        open_ = [i for i in range(num) if i not in batch]
        values = [predictor(np.array([*batch[:place], i, *batch[place:]])) for i in open_]
        k = int(np.argmax(np.round(values, 9)))
        return open_[k], values[k]

    batch: list[int] = []
    value = -np.inf
    while len(batch) < budget:
        image, value = best(batch, len(batch))
        batch.append(image)
    for _ in range(sweeps):
        before = value
        for place in range(budget):
            image = batch.pop(place)
            other, found = best(batch, place)
            if found > value + LEAST_GAIN:
                image, value = other, found
            batch.insert(place, image)
        if value <= before:
            break
    return batch
