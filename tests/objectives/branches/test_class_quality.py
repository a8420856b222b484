"""PPAL's training: what is counted, and that nothing else changes."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch, pad_boxes
from al_lab.models.detectors.boxes import iou
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.branches.class_quality import ClassQuality, box_quality, mean_quality
from al_lab.objectives.supervised import Supervised, targets_of

SIZE = 64


def network() -> TinyDetector:
    torch.manual_seed(0)
    return TinyDetector(3, input_px=SIZE, widths=(8, 8, 8, 8, 8), branches=["class_quality"])


def batch() -> Batch:
    boxes = [torch.tensor([[8.0, 8, 40, 40], [30, 30, 60, 60]]), torch.tensor([[10.0, 20, 30, 60]])]
    sizes = torch.full((2, 2), SIZE)
    padded = pad_boxes(boxes, [torch.tensor([0, 2]), torch.tensor([2])])
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return Batch(images, ["a", "b"], *padded, torch.ones(2, dtype=torch.long), sizes, sizes)


def test_qualities_are_the_sheets():
    q = box_quality(torch.tensor([0.8, 0.35]), torch.tensor([0.7, 0.9]))
    assert q.tolist() == pytest.approx([0.758391, 0.510667], abs=1e-6)


def test_what_is_counted_is_what_a_loop_over_positives_counts():
    net, data, objective = network().eval(), batch(), ClassQuality()
    with torch.no_grad():
        head = net(data.images)
    targets = targets_of(net, head, data.boxes, data.labels, data.valid_hw)
    total, count = objective.qualities(net, head, targets)
    expected = torch.zeros(2, 3)
    for image, anchor, label in zip(targets.image, targets.anchor, targets.label, strict=True):
        box = net.code.decode(head.deltas[image, anchor], head.priors[anchor])
        true = data.boxes[image, targets.assigned[image, anchor]] / SIZE
        p = head.logits[image, anchor].softmax(-1)[label + 1]
        expected[:, label] += torch.stack([p**0.6 * iou(box[None], true[None])[0, 0] ** 0.4, torch.tensor(1.0)])
    torch.testing.assert_close(torch.stack([total, count]), expected)
    assert count[1] == 0 < count[0]


def test_the_training_is_the_ordinary_one_and_the_branch_counts():
    nets, losses = [network(), network()], []
    with pytest.raises(ConfigError, match="objective=class_quality"):
        Supervised().attach(nets[0])
    ClassQuality().attach(nets[1])
    for net, objective in zip(nets, (Supervised(), ClassQuality()), strict=True):
        losses.append(objective(net, batch(), 0, 1))
        losses[-1]["loss"].backward()
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    branch = nets[1].branch("class_quality")
    assert branch.quality[0] > 0 == branch.quality[1] and not nets[0].branch("class_quality").quality.any()
    before = branch.quality.clone()
    ClassQuality()(nets[1].eval(), batch(), 0, 1)
    assert torch.equal(branch.quality, before)  # who only asks for a loss changes nothing


def test_a_step_without_labels_counts_as_one_without_boxes():
    net, objective = network(), ClassQuality(momentum=0.5, decay="released")
    objective.attach(net)
    net.branch("class_quality").quality.fill_(0.5)
    data = batch()
    data.kind.zero_()
    objective(net, data, 0, 1)
    assert net.branch("class_quality").quality.tolist() == [0.25] * 3
    assert net.branch("class_quality").momentum.tolist() == [0.25] * 3


def test_a_network_without_the_branch_is_refused():
    with pytest.raises(ConfigError, match=r"set detector.branches=\[class_quality\]"):
        ClassQuality().attach(TinyDetector(3, input_px=SIZE, widths=(8, 8, 8, 8, 8)))
    with pytest.raises(ConfigError, match=r"objective\.decay"):
        ClassQuality(decay="never")


def _half(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    sums, counts = torch.tensor([[0.5, 0.0], [1.3, 0.2]]), torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    torch.save(mean_quality(sums[rank], counts[rank]), Path(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # two processes import torch
def test_two_processes_count_what_one_counts(tmp_path: Path):
    mp.spawn(_half, args=(str(tmp_path),), nprocs=2)
    whole = mean_quality(torch.tensor([1.8, 0.2]), torch.tensor([3.0, 1.0]))
    assert all(torch.equal(torch.load(tmp_path / f"{rank}.pt"), whole) for rank in range(2))
