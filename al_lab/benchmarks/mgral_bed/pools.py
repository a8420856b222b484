"""The bed's photographs as features: the pool as it is, one of near copies, and one with a rare class.

Shapes: N images of the pool, V of validation, T of the test set, D features, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.files import atomic_path
from al_lab.core.rng import Rng
from al_lab.data.copied_pool import Recipe, write_copied_pool
from al_lab.data.datasets.voc_folder import VOCFolder
from al_lab.data.loading.datamodule import predict_batches
from al_lab.models.detectors.squeeze import SqueezeDetector

POOLS = ("base", "dup", "rare")
WEIGHTS = Path("weights") / "squeezenet1_1_imagenet_fp16.pth"
DATA = "voc5_320"
_INPUT_PX = 160
_RARE = "train"  # the class of which the pool `rare` keeps only a few images
_KEPT = 16  # of them


@dataclass(frozen=True)
class Bed:
    """One pool.

    Attributes:
        name: of `POOLS`.
        ids: (N,) of the pool.
        pool_ND, val_VD, test_TD: embeddings, float32.
        pool_NC, val_VC, test_TC: which classes an image shows, bool.
        kind_N: number of the photograph that an image is, or is a near copy of; -1 for a photograph nobody copied.
    """

    name: str
    ids: tuple[str, ...]
    pool_ND: np.ndarray
    pool_NC: np.ndarray
    val_VD: np.ndarray
    val_VC: np.ndarray
    test_TD: np.ndarray
    test_TC: np.ndarray
    kind_N: np.ndarray


def load_bed(name: str, data_dir: Path, cache_dir: Path) -> Bed:
    """Return a pool; embeddings are computed once and kept.

    Args:
        name: of `POOLS`.
        data_dir: holds ``voc5_320`` and ``weights``.
        cache_dir: for the copies and the embeddings.
    """
    copies = name == "dup"
    root = _copied(data_dir, cache_dir) if copies else data_dir / DATA
    dataset = VOCFolder(root=str(root))
    splits = {"pool": dataset.pool_ids, "val": dataset.val_ids, "test": dataset.test_ids}
    x = {k: _embedded(dataset, ids, data_dir, cache_dir / f"{'dup' if copies else 'base'}_{k}.npz")
         for k, ids in splits.items()}  # fmt: skip
    y = {k: _present(dataset, ids) for k, ids in splits.items()}
    ids = tuple(splits["pool"])
    kept: np.ndarray = np.arange(len(ids))
    if name == "rare":
        shows = np.flatnonzero(y["pool"][:, dataset.classes.index(_RARE)])
        dropped = shows[Rng(0, "rare").generator().permutation(len(shows))[_KEPT:]]
        kept = np.setdiff1d(kept, dropped)
    ids = tuple(ids[n] for n in kept)
    return Bed(name, ids, x["pool"][kept], y["pool"][kept], x["val"], y["val"], x["test"], y["test"], _kinds(ids))


def _copied(data_dir: Path, cache_dir: Path) -> Path:
    folder = cache_dir / "dup"
    if not folder.is_dir():
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_copied_pool(VOCFolder(root=str(data_dir / DATA)), folder, Recipe())
    return folder


def _kinds(ids: Sequence[str]) -> np.ndarray:
    sources = [i.split("_copy")[0] for i in ids]
    copied = sorted({s for s, i in zip(sources, ids, strict=True) if s != i})
    number = {s: k for k, s in enumerate(copied)}
    return np.array([number.get(s, -1) for s in sources])


def _present(dataset: Any, ids: Sequence[str]) -> np.ndarray:
    """Return which classes each image shows, (N, C)."""
    shown = np.zeros((len(ids), len(dataset.classes)), bool)
    for n, i in enumerate(ids):
        shown[n, dataset.truth(i).labels] = True
    return shown


def _embedded(dataset: Any, ids: Sequence[str], data_dir: Path, path: Path) -> np.ndarray:
    """Return the detector's embeddings (N, 512) of some images; kept in a file."""
    if path.is_file():
        z = load_arrays(path, {"ids": Column("U", ("N",)), "x": Column("f", ("N", "D"))})
        if z["ids"].tolist() == list(ids):
            return np.asarray(z["x"], np.float32)
    network = SqueezeDetector(len(dataset.classes), _INPUT_PX, weights=str(data_dir / WEIGHTS), frozen=13).eval()
    parts = []
    with torch.inference_mode():
        for batch in predict_batches(dataset, ids, network=network, batch_size=32):
            parts.append(network.embedding(network(batch.to("cpu").images).features).numpy())
    x = np.concatenate(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, ids=np.asarray(ids, dtype=np.str_), x=x)
    return x
