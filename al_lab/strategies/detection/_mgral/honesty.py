"""What MGRAL's own numbers say about whether its agent can have learned anything.

Facts, each with its sentence for log and report.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import f as f_distribution

from al_lab.core.statistics.verdict import holm, plain, two_sided
from al_lab.strategies.detection._mgral.query import Query
from al_lab.strategies.detection._mgral.reinforce import Reinforce

_DEVIATIONS = 2.0  # from a mean, within which what chance does mostly falls
SIGNIFICANCE = 0.05  # a spread that noise makes more often than this proves nothing
_LARGEST = float(np.finfo(np.float32).max)  # stands for infinity, which JSON lacks


def spread_against_noise(rewards_M: np.ndarray, repeated: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """Compare the spread between rows with what is left to noise.

    All rows share one seed, and a seed moves all of them alike to some extent: that part blurs no comparison. What is
    left of the repetitions when each seed's mean is taken out does, so the spread is measured by it (with one repeated
    row, which can't tell the two apart, by the whole).

    Args:
        rewards_M: of the rows, in points of the metric.
        repeated: row -> its rewards with different seeds, points, the seeds in the same order.

    Returns:
        ``row_spread``, ``seed_noise`` (standard deviation over seeds of the same row), ``own_noise`` (the part of it
        that differs from row to row; None: can't be told), ``signal_to_noise``, ``p_value`` (how often noise alone
        makes so large a ratio, an F test); the last four only if rows were repeated; ``sentence``.
    """
    spread = float(np.std(rewards_M, ddof=1))
    values_RS = np.array([values for values in repeated.values() if len(values) > 1])
    if not len(values_RS):
        return {
            "row_spread": spread,
            "sentence": f"rows differ by {spread:.2f} points; no row was repeated, so how much of it is noise "
            f"is unknown",
        }
    r, s = values_RS.shape
    apart_RS = values_RS - values_RS.mean(1, keepdims=True)
    seed_noise = float(np.sqrt((apart_RS**2).sum() / (r * (s - 1))))
    freedom = (r - 1) * (s - 1) if r > 1 else s - 1
    own_noise = float(np.sqrt(((apart_RS - apart_RS.mean(0)) ** 2).sum() / freedom)) if r > 1 else None
    noise = seed_noise if own_noise is None else own_noise
    ratio = spread / noise if noise else _LARGEST if spread else 0.0
    chance = float(f_distribution.sf(min(ratio, 1e9) ** 2, len(rewards_M) - 1, freedom))
    if ratio <= 1:
        words = "which batch it is matters no more than noise: an agent that learns from this table learns noise"
    elif chance > SIGNIFICANCE:
        words = (
            f"that may be noise, which alone does so in {100 * chance:.0f} % of tables: an agent that learns "
            f"from this table may learn noise"
        )
    else:
        words = "which batch it is matters more than noise"
    part = "" if own_noise is None else f" ({own_noise:.2f} of that not alike for all rows)"
    return {
        "row_spread": spread,
        "seed_noise": seed_noise,
        "own_noise": own_noise,
        "signal_to_noise": ratio,
        "p_value": chance,
        "sentence": f"rows differ by {spread:.2f} points, the same row with other seeds by "
        f"{seed_noise:.2f}{part}: {words}",
    }


def p_value(signal: Mapping[str, Any]) -> float:
    """Return how often noise alone makes the ratio that `spread_against_noise` found; its key was ``luck`` once."""
    return float(signal["p_value"] if "p_value" in signal else signal["luck"])


def against_base(rewards_M: np.ndarray, reference: float, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Say, too, what unlabeled images are worth at all.

    Rows below their base reward the batch that does the least harm.

    Args:
        rewards_M: of the rows, points.
        reference: of the base, which saw no unlabeled image, points.
        facts: what `spread_against_noise` found.

    Returns:
        ``facts`` with ``above_base``, and its ``sentence`` longer if that is negative.
    """
    above = float(np.mean(rewards_M)) - reference
    more = (
        ""
        if above >= 0
        else (
            f"; rows are {-above:.2f} points below the base, which saw no unlabeled image: their training does harm, "
            f"and the reward is which "
            "batch does the least (a smaller strategy.lut.lr_scale, or a smaller weight of the rows' objective, "
            "does less)"
        )
    )
    return {**facts, "above_base": above, "sentence": f"{facts['sentence']}{more}"}


def leave_one_out_sentence(found: Mapping[str, Any], regressor: Mapping[str, Any], num_rows: int) -> str:
    """Say how well the table, and the regressor, predict its own rows."""
    words = "better" if found["is_better_than_mean"] else "no better"
    is_mean = regressor["rmse"] > 0.999 * found["rmse_of_mean"]  # ridge, shrunk to nothing
    ridge = f"error {regressor['rmse']:.2f}, " + (
        "no better than the mean" if is_mean else f"rank correlation {regressor['rank_correlation']:.2f}"
    )
    return (
        f"the table predicts its own rows {words} than their mean does (error {found['rmse']:.2f} against "
        f"{found['rmse_of_mean']:.2f} points, "
        f"rank correlation {found['rank_correlation']:.2f}, where chance alone gives up to about "
        f"±{_DEVIATIONS / np.sqrt(num_rows - 1):.2f}); "
        f"ridge regression on batch features: {ridge}"
    )


def chosen_sentence(told: Mapping[str, Mapping[str, Any]], name: str | None, asked: str) -> str:
    """Say which predictor answers, and how well each tells left-out rows."""
    each = ", ".join(f"{k} {t['rmse']:.2f} (rank correlation {t['rank_correlation']:.2f})" for k, t in told.items())
    mean = next(iter(told.values()))["rmse_of_mean"]
    who = "nobody is believed" if name is None else f"{name} answers"
    return f"{who} (strategy.lut.predictor={asked}): left-out errors are {each}, the mean's {mean:.2f} points"


def query_facts(query: Query, way: str) -> dict[str, Any]:
    """Say what the predictor expects of the batch that is bought, and whether it had to be held back."""
    words = (
        f"; the batch that was asked for lay above {query.ceiling:.2f}, which is beyond every record by more than the "
        "predictor's own error, so it was refused and held back to that"
        if query.is_refused
        else ""
    )
    return {
        "way": way,
        "estimate": query.estimate,
        "ceiling": query.ceiling,
        "is_refused": query.is_refused,
        "sentence": f"the batch is expected to give {query.estimate:.2f} points (strategy.agent.query={way}){words}",
    }


def learning(training: Reinforce) -> dict[str, Any] | None:
    """Sum up the agent's training: means over its first and its last tenth; None if it had no iteration.

    Returns:
        ``iterations``, ``reward_first``, ``reward_last``, ``gain`` (of the estimated reward, points), ``advantage``
        (mean of its size), ``entropy_first``, ``entropy_last``, ``entropy_flat`` (of a Plackett-Luce policy without
        preferences, else None), ``overlap_last``, ``neighbors`` (records an estimate averaged; None if something else
        than the table answered), ``fall_backs``, ``nearest_instead``, ``own`` (see `OwnBatch`), ``sentence``.
    """
    curves = training.curves
    if not curves:
        return None
    tenth = max(1, len(curves) // 10)

    def means(name: str) -> tuple[float, float]:
        values = [float(getattr(record, name)) for record in curves]
        return float(np.mean(values[:tenth])), float(np.mean(values[-tenth:]))

    reward, entropy, overlap = means("reward"), means("entropy"), means("overlap")
    is_table = any(record.distance_mean is not None for record in curves)
    left = np.arange(training.features_ND.shape[0], 0, -1)[: training.budget]
    facts: dict[str, Any] = {
        "iterations": len(curves),
        "reward_first": reward[0],
        "reward_last": reward[1],
        "gain": reward[1] - reward[0],
        "advantage": float(np.mean([abs(record.advantage) for record in curves])),
        "entropy_first": entropy[0],
        "entropy_last": entropy[1],
        "entropy_flat": float(np.log(left).mean()) if training.settings.policy == "pl" else None,
        "overlap_last": overlap[1],
        "neighbors": float(np.mean([record.neighbors for record in curves])) if is_table else None,
        "fall_backs": len(training.fall_backs),
        "nearest_instead": sum(record.nearest_instead for record in curves),
        "own": [{"iteration": r.iteration, "expected": r.expected, "reward": r.reward} for r in training.own],
    }
    return facts | {"sentence": _learning_sentence(facts)}


def _learning_sentence(facts: Mapping[str, Any]) -> str:
    flat = "" if facts["entropy_flat"] is None else f" (without any preference {facts['entropy_flat']:.2f})"
    how = (
        "a regressor's estimates"
        if facts["neighbors"] is None
        else f"estimates from {facts['neighbors']:.1f} records on average"
    )
    return (
        f"in {facts['iterations']} iterations the reward, by {how}, went from {facts['reward_first']:.2f} to "
        f"{facts['reward_last']:.2f} points, "
        f"the entropy from {facts['entropy_first']:.2f} to {facts['entropy_last']:.2f} nats a pick{flat}; the "
        f"advantage was "
        f"{facts['advantage']:.2f} in size, the overlap of one iteration's best images with the next's "
        f"{facts['overlap_last']:.2f} at the end; "
        f"batches trained as no record was near: {facts['fall_backs']}, batches that took the nearest record's worth: "
        f"{facts['nearest_instead']}" + _own_sentence(facts["own"])
    )


def _own_sentence(own: Sequence[Mapping[str, float]]) -> str:
    """Say what the agent's own batches were expected to reach, and what they did; "" if none was trained."""
    if not own:
        return ""
    expected, reached = (float(np.mean([r[k] for r in own])) for k in ("expected", "reward"))
    return (
        f"; {len(own)} of its own batches were trained on the way and joined the records: expected were "
        f"{expected:.2f} points on average, reached {reached:.2f}"
    )


def likeness(
    features_ND: np.ndarray, batch_B: np.ndarray, generator: np.random.Generator, draws: int = 20
) -> dict[str, Any] | None:
    """Tell whether a batch is of one kind.

    How far its images are from the nearest other one in it, against random batches.

    An agent that follows noise tends to such batches: images alike share their gradients, so they rise and fall
    together and are the ones whose scores chance moves most.

    Args:
        features_ND: of the pool.
        batch_B: positions.
        generator: draws the random batches.
        draws: how many.

    Returns:
        ``nearest`` (mean over the batch), ``random_nearest`` and ``random_deviation`` (mean and standard deviation over
        random batches), ``verdict`` (more | less | same), ``sentence``; None for a batch of one image, or of all.
    """
    num, size = len(features_ND), len(batch_B)
    if size < 2 or size >= num:  # noqa: PLR2004 - nothing to compare
        return None

    def nearest(batch: np.ndarray) -> float:
        features = torch.from_numpy(np.ascontiguousarray(features_ND[batch], np.float32))
        return float(torch.cdist(features, features).fill_diagonal_(torch.inf).amin(1).mean())

    own, random = nearest(batch_B), [nearest(generator.choice(num, size, replace=False)) for _ in range(draws)]
    mean, deviation = float(np.mean(random)), float(np.std(random, ddof=1))
    verdict = (
        "more" if own < mean - _DEVIATIONS * deviation else "less" if own > mean + _DEVIATIONS * deviation else "same"
    )
    words = "as much alike as by chance" if verdict == "same" else f"{verdict} alike than chance makes them"
    return {
        "nearest": own,
        "random_nearest": mean,
        "random_deviation": deviation,
        "verdict": verdict,
        "sentence": f"the images of the agent's batch are {words}: {own:.2f} to the nearest other one of it on "
        f"average, in random batches "
        f"{mean:.2f} ± {deviation:.2f}",
    }


def against_chance(
    agent: float, shuffled: float, random: Sequence[float], rewards_M: np.ndarray, noise: float | None
) -> dict[str, Any]:
    """Weigh the agent's batch against random batches and against that of an agent that learned from shuffled rewards.

    All of them were measured as rows are, by a training with their images, without labels.

    The yardstick is how much random batches differ, s: of the random ones here and of the table's rows, which are
    random, too, pooled. By chance the agent's batch is one more of them, so its difference from the mean of n has the
    standard error s sqrt(1 + 1/n), and that from another agent's batch s sqrt(2): Student's t, the two corrected for
    being two (Holm). It holds the noise of a training;
    ``noise`` says how much of s that is. All have one seed, which is not the table's.

    Args:
        agent: reward of its batch, points.
        shuffled: of the other agent's.
        random: of at least one random batch.
        rewards_M: of the table's rows, points.
        noise: standard deviation over seeds of one batch's reward, without what a seed does to all; None: unknown.
    """
    n, m = len(random), len(rewards_M)
    squares = sum(len(v) * float(np.var(v)) for v in (np.asarray(random), rewards_M))
    spread = float(np.sqrt(squares / (n + m - 2))) if n + m > 2 else 0.0  # noqa: PLR2004
    facts = {
        "agent": agent,
        "shuffled_rewards": shuffled,
        "random": list(random),
        "better_than_random": float(np.mean(agent > np.array(random))),
        "spread": spread,
        **judged(
            {
                "against_random": (agent - float(np.mean(random)), spread * np.sqrt(1 + 1 / n)),
                "against_shuffled": (agent - shuffled, spread * np.sqrt(2)),
            },
            n + m - 2,
        ),
    }
    return facts | {"sentence": _chance_sentence(facts, noise)}


def judged(differences: Mapping[str, tuple[float, float]], freedom: int) -> dict[str, dict[str, Any]]:
    """Judge differences, name -> (value, standard error), together; without any spread nothing is clear."""
    p = dict(zip(differences, holm([two_sided(*d, freedom) for d in differences.values()]), strict=True))
    return {
        name: {
            "difference": value,
            "standard_error": float(error),
            "p": p[name] if np.isfinite(p[name]) else None,
            "verdict": plain(value, p[name]) if np.isfinite(p[name]) else plain(value, 1.0),
        }
        for name, (value, error) in differences.items()
    }


def _chance_sentence(facts: Mapping[str, Any], apart: float | None) -> str:
    random, other, n = facts["against_random"], facts["against_shuffled"], len(facts["random"])
    noise = (
        "how much a seed alone moves one against the others is unknown, as too few rows were repeated"
        if apart is None
        else f"another seed alone moves one of these against the others by {apart:.2f}"
    )
    return (
        f"measured by a training without its labels, the agent's batch gives {facts['agent']:.2f} points: "
        f"{random['difference']:+.2f} ± {random['standard_error']:.2f} "
        f"against the mean of {n} random {'batch' if n == 1 else 'batches'} ({random['verdict']}; it is above "
        f"{round(n * facts['better_than_random'])} of {n}), {other['difference']:+.2f} ± "
        f"{other['standard_error']:.2f} against the batch of an "
        f"agent that learned from shuffled rewards ({other['verdict']}); ± is a standard error by how much random "
        f"batches differ, and {noise}"
    )


def sentences(honesty: Mapping[str, Any]) -> list[str]:
    """Return what was found out, in the order of its finding."""
    return [
        honesty[name]["sentence"]
        for name in ("signal", "kept", "leave_one_out", "gate", "learning", "query", "likeness", "controls")
        if honesty.get(name)
    ]
