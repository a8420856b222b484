"""The hierarchical pool: the agent reads clusters, and the query gives each the share it has in a draw."""

import numpy as np
import torch
from torch import nn

from al_lab.acquisition import plackett_luce
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.clusters import Clustered
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.reinforce import Reinforce


class ByFirstFeature(nn.Module):
    """Scores = first feature, scaled by a learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x[:, 0]


def three_groups() -> np.ndarray:
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0.0], [1.0, 8.0], [2.0, -8.0]])
    return np.concatenate(
        [c + 0.1 * rng.standard_normal((n, 2)) for c, n in zip(centers, (50, 30, 20), strict=True)]
    ).astype(np.float32)


def test_images_of_a_cluster_share_its_score_and_gradients_reach_the_agent() -> None:
    x = three_groups()
    model = Clustered(ByFirstFeature(), x, 3, Rng(0))
    scores = model(torch.from_numpy(x))
    assert model.num_clusters == 3
    assert len(scores[:50].unique()) == len(scores[50:80].unique()) == len(scores[80:].unique()) == 1
    scores[90].backward()
    assert model.agent.scale.grad is not None
    assert abs(float(model.agent.scale.grad) - x[80:, 0].mean()) < 1e-5


def test_the_query_shares_the_budget_as_draws_do() -> None:
    x = three_groups()
    model = Clustered(ByFirstFeature(), x, 3, Rng(0))
    with torch.no_grad():
        scores = model(torch.from_numpy(x))
        utilities = model.utilities(scores).numpy()
    taken = np.bincount(np.repeat([0, 1, 2], [50, 30, 20])[plackett_luce.top(utilities, 10)], minlength=3)
    generator = np.random.default_rng(1)
    draws = [
        plackett_luce.top(scores.double().numpy(), 10, plackett_luce.gumbel_noise(100, generator)) for _ in range(400)
    ]
    drawn = [np.bincount(np.repeat([0, 1, 2], [50, 30, 20])[draw], minlength=3) for draw in draws]
    assert np.abs(taken - np.mean(drawn, 0)).max() < 1.0


def test_within_a_cluster_the_image_nearest_its_center_comes_first_then_the_farthest() -> None:
    x = three_groups()
    utilities = Clustered(ByFirstFeature(), x, 3, Rng(0)).utilities(torch.zeros(100)).numpy()
    group = x[:50]
    order = np.argsort(-utilities[:50])
    assert order[0] == ((group - group.mean(0)) ** 2).sum(1).argmin()
    assert order[1] == ((group - group[order[0]]) ** 2).sum(1).argmax()


def test_the_agent_learns_which_cluster_pays() -> None:
    x = three_groups()
    training = Reinforce(
        Clustered(nn.Linear(2, 1), x, 3, Rng(0)), torch.from_numpy(x), 10, ReinforceSettings(iterations=0), Rng(0)
    )
    # Weights of zero: all batches are as likely at first. Others put it beside one cluster, from where it sees no
    # other.
    linear = nn.Linear(2, 1)
    nn.init.zeros_(linear.weight)
    training.agent.agent = nn.Sequential(linear, nn.Flatten(0))  # (K, 1) -> (K,)
    training.optimizer = torch.optim.Adam(training.agent.parameters(), lr=0.05)
    for _ in range(150):
        training.step(lambda batch: float((batch >= 80).mean()))
    assert (training.query() >= 80).mean() > 0.8
