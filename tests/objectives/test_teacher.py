"""A slow teacher: what it labels, what is mixed and masked, and that the loss is what the formula says."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from al_lab.core.errors import ConfigError
from al_lab.data.loading.dense_batch import DenseBatch
from al_lab.data.transforms.scale_crop_flip import ScaleCropFlip
from al_lab.models.segmenters.segmenter import upsample
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives.mixing import class_mask, kept_blocks, mixed, pseudo_labels, weighted_cross_entropy
from al_lab.objectives.teacher import Teacher

STILL = {"geometry": {"scale": (1.0, 1.0), "flip": 0.0}, "strong": {"jitter": 0.0, "blur": 0.0}}


def network(seed: int = 0) -> TinySegmenter:
    torch.manual_seed(seed)
    return TinySegmenter(4, widths=(8, 8, 8))


def batch(source: int = 2, target: int = 2) -> DenseBatch:
    g = torch.Generator().manual_seed(1)
    bought = torch.full((target, 24, 32), 255)
    bought[:, :3, :5] = 2
    labels = torch.randint(0, 4, (source, 24, 32), generator=g)
    return DenseBatch(
        torch.randn(source, 3, 24, 32, generator=g) if source else None,
        labels if source else None,
        torch.randn(target, 3, 24, 32, generator=g) if target else None,
        bought if target else None,
        [f"source/{k}" for k in range(source)] + [f"t{k}" for k in range(target)],
    )


def test_bought_labels_count_fully_and_others_as_much_as_their_image_is_sure() -> None:
    probs = torch.tensor([[[[0.9, 0.6, 0.3, 0.98]], [[0.1, 0.4, 0.7, 0.02]]]])
    labels, weights = pseudo_labels(probs, torch.tensor([[[255, 255, 0, 255]]]), 0.85)
    assert labels.tolist() == [[[0, 0, 0, 0]]] and weights.tolist() == [[[0.5, 0.5, 1.0, 0.5]]]


def test_half_of_the_classes_are_mixed_in_and_void_never() -> None:
    label = torch.tensor([[0, 0, 1], [2, 255, 255]])
    for seed in range(8):
        mask = class_mask(label, np.random.default_rng(seed))
        chosen = torch.unique(label[mask])
        assert len(chosen) == 2 and 255 not in chosen and bool((torch.isin(label, chosen) == mask).all())
    assert not class_mask(torch.full((2, 2), 255), np.random.default_rng(0)).any()


def test_blocks_are_taken_out_as_a_whole() -> None:
    kept = kept_blocks((50, 70), 0.7, 16, np.random.default_rng(0))
    assert kept.shape == (50, 70) and 0.05 < kept.mean() < 0.6
    assert all(len(np.unique(kept[y : y + 16, x : x + 16])) == 1 for y in range(0, 50, 16) for x in range(0, 70, 16))
    assert kept_blocks((50, 70), 0.0, 16, np.random.default_rng(0)).all()


def test_a_mean_over_all_pixels_of_weighted_entropies() -> None:
    logits = torch.tensor([[[[0.0, 2.0, 5.0]], [[0.0, 0.0, 0.0]]]])
    found = weighted_cross_entropy(logits, torch.tensor([[[0, 0, 255]]]), torch.tensor([[[1.0, 0.5, 1.0]]]))
    assert float(found) == pytest.approx((np.log(2) + 0.5 * np.log(1 + np.exp(-2))) / 3)


def test_the_loss_is_what_the_formula_says() -> None:
    """At the first step the teacher is the student; nothing is turned or colored, one block covers the image."""
    net, data = network(), batch()
    objective = Teacher(mix=0.7, masked=0.3, threshold=0.26, mask_block_px=64, mask_ratio=0.0, **STILL)
    parts = objective(net, data, 0, 100)
    net.requires_grad_(False)
    logits = upsample(net(data.target_images).logits, (24, 32))
    y, w = pseudo_labels(logits.softmax(1), data.target_labels, 0.26)
    assert 0 < float(w[0, 10, 10]) < 1
    assert float(parts["masked"]) == pytest.approx(float(weighted_cross_entropy(logits, y, w)), rel=1e-5)
    candidates = []  # of four classes two are mixed in, in each of the two images
    for first in range(6):
        pair = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)][first]
        mask = torch.isin(data.source_labels, torch.tensor(pair))
        image = mixed(mask, data.source_images, data.target_images)
        loss = F.cross_entropy(
            upsample(net(image).logits, (24, 32)), mixed(mask, data.source_labels, y), reduction="none"
        )
        candidates.append((mixed(mask, torch.ones_like(w), w) * loss).sum((1, 2)) / (2 * 24 * 32))
    sums = [float(a[0] + b[1]) for a in candidates for b in candidates]
    assert min(abs(s - float(parts["mix"])) for s in sums) < 1e-5
    expected = parts["source_ce"] + parts["target_ce"] + 0.7 * parts["mix"] + 0.3 * parts["masked"]
    assert float(parts["loss"].detach()) == pytest.approx(float(expected), rel=1e-6)


def test_the_teacher_follows_slowly_and_gets_no_gradient() -> None:
    net, data = network(), batch()
    objective = Teacher(ema=0.9, ema_warmup=False)
    objective.attach(net)
    objective(net, data, 0, 10)["loss"].backward()
    teacher = objective.teacher
    assert teacher is not None and all(p.grad is None for p in teacher.parameters())
    before = [p.clone() for p in net.parameters()]
    with torch.no_grad():
        for p in net.parameters():
            p += 1
    objective(net, data, 1, 10)
    for old, new in zip(before, teacher.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old + 0.1)


def test_every_draw_follows_from_torchs_generator() -> None:
    net, data = network(), batch()
    losses = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        losses.append(float(Teacher()(net, data, 0, 10)["loss"]))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("data", [batch(source=0), batch(target=0)])
def test_one_domain_is_enough(data: DenseBatch) -> None:
    net = network()
    parts = Teacher()(net, data, 0, 10)
    assert torch.isfinite(parts["loss"]) and ("mix" in parts) == (data.target_images is not None)


def test_sources_of_another_size_are_brought_to_the_targets() -> None:
    g = torch.Generator().manual_seed(1)
    data = batch()
    large = DenseBatch(
        torch.randn(2, 3, 30, 44, generator=g), torch.randint(0, 4, (2, 30, 44), generator=g), data.target_images,
        data.target_labels, data.sample_ids,
    )  # fmt: skip
    assert torch.isfinite(Teacher()(network(), large, 0, 10)["loss"])


def test_a_crop_is_the_size_of_both_domains() -> None:
    seen = []
    net = network()
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    objective = Teacher(crop_hw=[16, 20], geometry={"scale": (1.0, 1.0)})
    assert torch.isfinite(objective(net, batch(), 0, 10)["loss"]) and set(seen) == {(16, 20)}
    with pytest.raises(ConfigError, match="objective.crop_hw"):
        Teacher(crop_hw=[16])


@pytest.mark.parametrize("scale", [(0.5, 0.6), (1.0, 1.0), (1.8, 2.0)])
def test_labels_go_with_their_pixels(scale: tuple[float, float]) -> None:
    label = torch.arange(24 * 32).reshape(24, 32) // 40
    image = label[None].expand(3, -1, -1).float() + 1
    for seed in range(5):
        view, turned = ScaleCropFlip(scale, 0.5)(image, label, (24, 32), np.random.default_rng(seed))
        assert view.shape == (3, 24, 32) and turned.shape == (24, 32)
        inside = turned != 255
        assert bool((view[0][~inside] < 1.01).any()) == bool((~inside).any())
        assert float((view[0] - turned - 1)[inside].abs().median()) < 0.6 and inside.float().mean() > 0.2


def half(data: DenseBatch, rank: int) -> DenseBatch:
    some = slice(rank, rank + 1)
    ids = [data.sample_ids[rank], data.sample_ids[2 + rank]]
    return DenseBatch(data.source_images[some], data.source_labels[some], data.target_images[some],
                      data.target_labels[some], ids)  # fmt: skip


def _one_of_two(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(9 * rank)  # the first one's draws count
    net = network()
    torch.manual_seed(9 * rank)
    Teacher(threshold=0.26, mask_block_px=8)(net, half(batch(), rank), 0, 100)["loss"].backward()
    torch.save([p.grad for p in net.parameters()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_devices_minimize_what_one_does(tmp_path: Path) -> None:
    mp.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    net = network()
    torch.manual_seed(0)
    Teacher(threshold=0.26, mask_block_px=8)(net, batch(), 0, 100)["loss"].backward()
    for p, a, b in zip(net.parameters(), first, second, strict=True):
        torch.testing.assert_close((a + b) / 2, p.grad, rtol=1e-3, atol=1e-5)


def test_no_weight_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a loss for the teacher's labels"):
        Teacher(mix=0, masked=0)
