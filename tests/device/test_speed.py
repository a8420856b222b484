"""What a training on a make-believe GPU has switched on, and that it is off again afterwards."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from al_lab.learners.base import FitTask
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.module import FitModule
from al_lab.learners.settings import TrainSettings
from al_lab.objectives.supervised import Supervised
from tests.device.cases import NETS, detect_data
from tests.device.runtime import pretend_cuda


def test_a_gpus_training_is_fast_by_default(guard: Any, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[Any] = []
    configure = FitModule.configure_optimizers

    def look(module: FitModule) -> torch.optim.Optimizer:
        optimizer = configure(module)
        seen.append([group["fused"] for group in optimizer.param_groups])
        return optimizer

    class Looks(Supervised):
        def forward(self, network: Any, *arguments: Any) -> dict[str, Tensor]:
            weight = next(p for p in network.parameters() if p.dim() == 4 and p.shape[2] > 1)
            layout = weight.inner.is_contiguous(memory_format=torch.channels_last)
            product = torch.backends.cudnn.conv.fp32_precision
            seen.append((layout, torch.get_autocast_dtype("cuda"), torch.backends.cudnn.benchmark, product))
            return super().forward(network, *arguments)

    monkeypatch.setattr(FitModule, "configure_optimizers", look)
    data = detect_data(tmp_path)
    settings = TrainSettings(batch_size=2, max_iters=1, lr=0.01, precision="auto", tf32=False)
    task = FitTask(
        labeled=data.pool_ids, labels_dir=tmp_path, checkpoint=tmp_path / "a.ckpt", scratch_dir=tmp_path, seed=0
    )
    before = torch.backends.cudnn.conv.fp32_precision
    with pretend_cuda(guard):
        DetectionLearner(data, NETS["tiny"].make, Looks, settings).fit(task)
    assert seen == [[True], (True, torch.bfloat16, True, "ieee")]
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision) == (False, before)
