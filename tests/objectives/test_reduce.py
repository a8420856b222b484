"""The normalizer with and without several processes."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from al_lab.objectives.reduce import global_positives


def test_one_process_divides_by_its_own_count_and_never_by_zero() -> None:
    assert global_positives(torch.tensor([3, 4])).item() == 7
    assert global_positives(torch.tensor([0])).item() == 1


def _share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    share = global_positives(torch.tensor([2, 8][rank]))
    Path(folder, f"{rank}.txt").write_text(str(share.item()))
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # two processes import torch
def test_two_processes_share_the_global_count(tmp_path: Path) -> None:
    mp.spawn(_share, args=(str(tmp_path),), nprocs=2)
    assert [float((tmp_path / f"{r}.txt").read_text()) for r in range(2)] == [5.0, 5.0]
