"""Two processes that share a batch minimize what one does, and keep the same state."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from al_lab.core.rng import Rng
from al_lab.data.loading.dense_batch import DenseBatch
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives.adapt import Adaptation
from al_lab.objectives.domains.adversarial import Adversarial
from al_lab.objectives.domains.fda import FDA
from al_lab.objectives.domains.multi_anchor import MultiAnchor


def batch() -> DenseBatch:
    g = torch.Generator().manual_seed(1)
    bought = torch.full((2, 40, 48), 255)
    bought[:, :9, :9] = 2
    return DenseBatch(
        torch.randn(2, 3, 40, 48, generator=g), torch.randint(0, 4, (2, 40, 48), generator=g),
        torch.randn(2, 3, 40, 48, generator=g), bought, ["source/0", "source/1", "t0", "t1"],
    )  # fmt: skip


def half(data: DenseBatch, rank: int) -> DenseBatch:
    some = slice(rank, rank + 1)
    ids = [data.sample_ids[rank], data.sample_ids[2 + rank]]
    return DenseBatch(data.source_images[some], data.source_labels[some], data.target_images[some],
                      data.target_labels[some], ids)  # fmt: skip


def stepped(data: DenseBatch) -> list[dict[str, torch.Tensor]]:
    """Gradients and buffers of each objective after one step."""
    found = []
    for make in (FDA, MultiAnchor, Adversarial):
        torch.manual_seed(0)
        net = TinySegmenter(4, widths=(8, 8, 8), branch={"dim": 6, "estimator": "none"})
        objective: Adaptation = make(**{FDA: {"beta": 0.1}, MultiAnchor: {"num_anchors": 2}, Adversarial: {}}[make])
        objective.attach(net)
        if isinstance(objective, MultiAnchor):
            objective.survey(net, [batch()], Rng(0))
            objective.target_anchors += 0.1
        objective(net, data, 0, 10)["loss"].backward()
        gradients = {n: p.grad for n, p in nn.ModuleList([net, objective]).named_parameters() if p.grad is not None}
        found.append(gradients | {f"buffer {n}": b for n, b in objective.named_buffers()})
    return found


def _one_of_two(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(stepped(half(batch(), rank)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_devices_minimize_what_one_does(tmp_path: Path) -> None:
    mp.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for whole, first, second in zip(stepped(batch()), *parts, strict=True):
        assert set(whole) == set(first)
        for name, value in whole.items():
            if name.startswith("buffer"):
                assert torch.equal(first[name], second[name])
            torch.testing.assert_close((first[name] + second[name]) / 2, value, rtol=1e-3, atol=1e-5)
