"""runtime.deterministic: a GPU's training runs under torch's deterministic operators, and nothing else does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from al_lab.objectives.supervised import Supervised
from tests.device.cases import NETS, detect_data
from tests.device.runtime import pretend_cuda


@pytest.mark.parametrize(("is_wanted", "has_gpu"), [(True, True), (False, True), (True, False)])
def test_a_gpus_training_is_repeatable_where_it_is_asked_for(
    is_wanted: bool, has_gpu: bool, guard: Any, tmp_path: Path
) -> None:
    from al_lab.learners.base import FitTask
    from al_lab.learners.detection import DetectionLearner
    from al_lab.learners.settings import TrainSettings

    seen: list[bool] = []

    class Looks(Supervised):
        def forward(self, *arguments: Any) -> dict[str, Tensor]:
            seen.append(torch.are_deterministic_algorithms_enabled())
            return super().forward(*arguments)

    data = detect_data(tmp_path)
    settings = TrainSettings(batch_size=2, max_iters=1, lr=0.01)
    learner = DetectionLearner(data, NETS["tiny"].make, Looks, settings, deterministic=is_wanted)
    task = FitTask(
        labeled=data.pool_ids, labels_dir=tmp_path, checkpoint=tmp_path / "a.ckpt", scratch_dir=tmp_path, seed=0
    )
    if has_gpu:
        with pretend_cuda(guard):
            learner.fit(task)
    else:
        learner.fit(task)
    assert seen == [is_wanted and has_gpu]
    assert not torch.are_deterministic_algorithms_enabled()
