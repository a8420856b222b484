"""From a predictor to a batch: an agent is trained and asked, or sets are searched. Knows nothing of files."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from al_lab.core.fields import at_least, check_fields, one_of, optional, positive
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.agent import Agent, Order
from al_lab.strategies.detection._mgral.clusters import Clustered
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.predictor.choice import Chosen, Images, Predictor, Records
from al_lab.strategies.detection._mgral.query import Judge, Query, Way
from al_lab.strategies.detection._mgral.recurrence import Feedback
from al_lab.strategies.detection._mgral.reinforce import Reinforce

log = logging.getLogger(__name__)

Gate = Literal["warn", "random"]


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """The agent's form, and the checks of its honesty; the numbers of ``strategy.agent``.

    Attributes:
        hidden, decoder_hidden, feedback, bptt, init: see `Agent`.
        order: in which the agent reads the pool, see `sequence_order`.
        clusters: read so many clusters of the pool instead of its images, see `Clustered`; None: every image (the
            paper).
        standardize: every dimension of the embedding to mean 0 and deviation 1 over the candidates.
        ref0: mAP_ref,0: of the cycle's row base (``base``), or the first reward (``first``).
        controls: random batches that are trained for comparison with the agent's at the first query (with its own batch
            and that of an agent whose rewards were shuffled, this many + 2 trainings); 0: no control.
        gate: what a table does whose rows differ by no more than noise, or are predicted from each other no better than
            by their mean: ``warn``, and the agent learns from it all the
            same (the paper), or ``random``: no agent is trained, and the batch is a random one (beyond the paper). An
            agent that follows noise does worse than chance where the pool repeats itself: images alike rise and fall
            together, and its best batch is one kind of them. With ``lut.reward=gradient`` it asks instead whether the
            pool repeats itself, see `al_lab.strategies.detection._mgral.gradient.copies`.
        query: what is bought: the ``top`` B scores (the paper), ``annealed`` | ``set``, see
            `al_lab.strategies.detection._mgral.query`.
    """

    hidden: int | None = None
    decoder_hidden: int | None = None
    feedback: Feedback = "sigmoid"
    bptt: int | None = None
    init: float = 0.1
    order: Order = "perm"
    clusters: int | None = None
    standardize: bool = True
    ref0: Literal["base", "first"] = "base"
    controls: int = 10
    gate: Gate = "warn"
    query: Way = "top"

    def __post_init__(self) -> None:
        check_fields(
            vars(self),
            {
                "feedback": one_of("sigmoid", "logit", "none"),
                "order": one_of("perm", "dataset", "reshuffle"),
                "ref0": one_of("base", "first"),
                "gate": one_of(*get_args(Gate)),
                "query": one_of(*get_args(Way)),
                "controls": at_least(0),
                "init": positive,
                "clusters": optional(at_least(2)),
            },
            "strategy.agent",
        )


@dataclass(frozen=True)
class Decision:
    """A batch, and how it came about.

    Attributes:
        batch: positions, best first.
        utilities: of all candidates; the batch has the largest.
        agent: None if a search over sets decided.
        query: what the predictor says of the batch; None for the paper's query, which nobody asks.
    """

    batch: np.ndarray
    utilities: np.ndarray
    agent: Reinforce | None
    query: Query | None


def decide(
    images: Images,
    chosen: Chosen,
    records: Records,
    budget: int,
    way: Way,
    train: Callable[[Predictor], Reinforce],
    rng: Rng,
) -> Decision:
    """Return what is bought.

    Args:
        images: the candidates and what is labeled.
        chosen: has a predictor.
        records: it learned from these.
        budget: B.
        way: see `al_lab.strategies.detection._mgral.query`.
        train: returns an agent that learned from a predictor.
        rng: of the cycle's agent.
    """
    assert chosen.predictor is not None
    if way == "top":
        agent = train(chosen.predictor)
        return Decision(agent.query(), agent.utilities(), agent, None)
    judge = Judge(chosen, records, images.num, budget, rng.generator("judge"))
    if way == "set":
        query, utilities = judge.search(), rng.generator("rest").random(images.num)
        return Decision(query.batch, on_top(utilities, query.batch), None, query)
    agent = train(chosen.predictor)
    query = judge.accept(agent.query())
    return Decision(query.batch, on_top(agent.utilities(), query.batch), agent, query)


def make_training(
    features_ND: np.ndarray,
    budget: int,
    settings: AgentSettings,
    learning: ReinforceSettings,
    rng: Rng,
    reference: float | None,
) -> Reinforce:
    """Return an agent for these candidates, untrained, with what trains it.

    Args:
        features_ND: of the candidates, in reading order.
        budget: B.
        settings: of the agent.
        learning: of its training.
        rng: of the cycle's agent.
        reference: mAP_ref,0, points; None: the first reward.
    """
    s = settings
    agent: nn.Module = Agent(
        features_ND.shape[1], rng.child("agent"), s.hidden, s.decoder_hidden, s.feedback, s.bptt, s.init
    )
    if s.clusters:
        agent = Clustered(agent, features_ND, s.clusters, rng.child("clusters"))
        log.info("the agent reads %d clusters of the pool's %d images", agent.num_clusters, len(features_ND))
    features = torch.from_numpy(features_ND)
    return Reinforce(agent, features, budget, learning, rng.child("train"), reference, s.query == "annealed")


def on_top(utility_N: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return utilities by which the images of the batch come first, in its order, and the others in theirs."""
    lifted = np.empty(len(utility_N))
    lifted[np.argsort(utility_N, kind="stable")] = np.arange(len(utility_N)) - float(len(utility_N))
    lifted[batch] = np.arange(len(batch), 0, -1)
    return lifted
