"""Maps of pixels that a model wrote: class probabilities or labels, a file an image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError, ResumeError, explain
from al_lab.core.fields import anything, list_of, mapping_of, text
from al_lab.core.files import sha256, write_text
from al_lab.core.types import DenseView
from al_lab.data.formats.masks import read_ids
from al_lab.data.predictions import arrays
from al_lab.learners.foreign.asked import Asked
from al_lab.learners.foreign.said import Reader, Said, files_in
from al_lab.models.segmenters.segmenter import upsample

_SUFFIXES = {"probabilities": (".npy", ".npz"), "labels": (".png",)}
_WHAT = {
    "probabilities": "class probabilities, a file an image: <name>.npy of shape (C, h, w), or <name>.npz with 'probs'",
    "labels": "label maps, a file an image: <name>.png whose pixels are class numbers",
}
_DO = "write it again, or correct the program that writes it"
_ROUNDING = 2e-2  # by which probabilities may miss 1: half precision, or 255 steps
_STEPS = 255
_DIMS = 3
_SHOWN = 8


@dataclass(frozen=True)
class _Map:
    path: Path
    digest: str


class Maps(Said):
    """Maps of images; each is read when its image is looked at.

    Args:
        files: of the images.
        kind: probabilities | labels.
        dataset: for sizes and classes.
        vectors: an embedding of each image, where there are some.
    """

    def __init__(
        self, files: Mapping[str, _Map], kind: str, dataset: Any, vectors: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self._files, self._kind, self._dataset = dict(files), kind, dataset
        self._vectors = dict(vectors or {})

    def views(self, ids: Sequence[str], needs: Sequence[str]) -> Iterator[DenseView]:
        """See `Said.views`.

        Raises:
            ResumeError: naming a file that is gone, or another one.
            DataError: naming a map that makes no sense.
        """
        for i in ids:
            size_hw = tuple(self._dataset.size_hw(i))
            probs = None
            if {"dense_probs", "class_probs"} & set(needs):
                probs = self._probs(i, size_hw)
            vector = self._vectors.get(i) if "image_embedding" in needs else None
            yield DenseView(i, size_hw, probs, embedding=vector)

    def _probs(self, sample_id: str, size_hw: tuple[int, int]) -> torch.Tensor:
        found = self._files[sample_id]
        if not found.path.is_file() or sha256(found.path) != found.digest:
            got = "another file" if found.path.is_file() else "no such file"
            do = "restore it: the map is read where the model left it"
            expected = f"the map of {sample_id!r} as it was taken over"
            raise ResumeError(explain(expected=expected, got=got, where=str(found.path), do=do))
        classes = len(self._dataset.classes)
        if self._kind == "labels":
            return _one_hot(found.path, size_hw, classes)
        return upsample(torch.from_numpy(read_probabilities(found.path, classes))[None], size_hw)[0]

    def spoken_of(self, sample_id: str) -> bool:
        """See `Said.spoken_of`."""
        return sample_id in self._files

    def provides(self) -> tuple[str, ...]:
        """See `Said.provides`."""
        dense = ("dense_probs", "class_probs") if self._kind == "probabilities" else ()
        return (*dense, *(("image_embedding",) if self._vectors else ()))

    def save(self, path: Path, asked: Sequence[str]) -> None:
        """Write where each map is, and its digest: maps of a whole pool would fill the disk twice."""
        maps = {i: [str(m.path.absolute()), m.digest] for i, m in self._files.items()}
        vectors = {i: v.astype(float).tolist() for i, v in self._vectors.items()}
        content = {"kind": self._kind, "asked": list(asked), "maps": maps, "embedding": vectors}
        write_text(path, json.dumps(content))

    def counts(self) -> dict[str, float]:
        """See `Said.counts`."""
        return {"predicted_maps": float(len(self._files))}

    def same_as(self, other: Said) -> bool:
        """See `Said.same_as`."""
        assert isinstance(other, Maps)
        mine, theirs = ({i: m.digest for i, m in maps._files.items()} for maps in (self, other))
        both = set(mine) & set(theirs)
        return bool(both) and all(mine[i] == theirs[i] for i in both)


class MapReader(Reader):
    """Finds and checks maps: every image that was asked about must have one.

    Args:
        dataset: of the images.
        kind: probabilities | labels.
        embeddings: every image must have one, in an ``.npz`` with ``images`` and ``embedding``.
    """

    def __init__(self, dataset: Any, kind: Literal["probabilities", "labels"], embeddings: bool) -> None:
        super().__init__(dataset)
        self.kind, self.embeddings = kind, embeddings

    def read(self, folder: Path, asked: Asked, may_be_empty: bool) -> Maps | None:
        """See `Reader.read`; a map is opened here once, so that a wrong one is named before anything is chosen."""
        del may_be_empty  # there is no image without a map
        files = files_in(folder, _WHAT[self.kind])
        found: dict[str, Path] = {}
        others, wrong = [], []
        for path in files:
            is_map = path.suffix.lower() in _SUFFIXES[self.kind]
            sample_id = asked.find(path.stem) if is_map else None
            if sample_id is None:
                others += [path] if path.suffix.lower() == ".npz" else []
            elif sample_id in found:
                wrong.append(f"{path}: expected one map an image, got another one of {sample_id!r}: {found[sample_id]}")
            else:
                found[sample_id] = path
        if not files:
            return None
        for sample_id, path in found.items():
            try:
                self._check(path, tuple(self.dataset.size_hw(sample_id)))
            except DataError as error:
                wrong.append(str(error))
        lacking = [i for i in asked.ids if i not in found]
        if lacking:
            name = dict(zip(asked.ids, asked.files, strict=True))[lacking[0]]
            got = f"none for {len(lacking)} of {len(asked.ids)} images, the first {name}"
            wrong.append(explain(expected=_WHAT[self.kind], got=got, where=str(folder), do="add them"))
        vectors = self._vectors(others, asked, folder, wrong)
        if wrong:
            more = [f"… and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
            raise DataError("\n".join([*wrong[:_SHOWN], *more]))
        maps = {i: _Map(found[i], sha256(found[i])) for i in asked.ids}
        return Maps(maps, self.kind, self.dataset, vectors)

    def _check(self, path: Path, size_hw: tuple[int, int]) -> None:
        classes = len(self.dataset.classes)
        if self.kind == "labels":
            _one_hot(path, size_hw, classes)
        else:
            read_probabilities(path, classes)

    def _vectors(
        self, paths: Sequence[Path], asked: Asked, folder: Path, wrong: list[str]
    ) -> dict[str, np.ndarray] | None:
        if not self.embeddings:
            return None
        vectors: dict[str, np.ndarray] = {}
        for path in paths:
            try:
                read = arrays.read(path, len(self.dataset.classes))
            except DataError as error:
                wrong.append(str(error))
                continue
            if read.embedding is not None:
                rows = zip(read.images, read.embedding, strict=True)
                vectors |= {i: row for name, row in rows if (i := asked.find(name)) is not None}
        lacking = [i for i in asked.ids if i not in vectors]
        if lacking:
            got = f"none for {len(lacking)}, first {lacking[0]!r}"
            do = "write them as 'images' and 'embedding' of an .npz, or set embeddings: false"
            expected = f"an embedding for each of {len(asked.ids)} images"
            wrong.append(explain(expected=expected, got=got, where=str(folder), do=do))
        return vectors

    def nothing(self) -> Maps:
        """See `Reader.nothing`."""
        return Maps({}, self.kind, self.dataset)

    def open(self, path: Path) -> tuple[Maps, frozenset[str]]:
        """See `Reader.open`."""
        do = "restore the file, or start anew with restart=again"
        source = Source(path, "the maps of a model", do, ResumeError)
        entry = Entry(source.read_json(), source)
        pairs = entry.read("maps", mapping_of(list_of(text, length=2)))
        vectors = {
            i: np.asarray(v, np.float32) for i, v in entry.read("embedding", mapping_of(list_of(anything)), {}).items()
        }
        maps = {i: _Map(Path(where), digest) for i, (where, digest) in pairs.items()}
        asked: list[str] = entry.read("asked", list_of(text))
        kind = entry.read("kind", text)
        return Maps(maps, kind, self.dataset, vectors), frozenset(asked)


def read_probabilities(path: Path, num_classes: int) -> np.ndarray:
    """Read the probabilities of one image, (C, h, w) float32 that sum to 1; whole numbers 0..255 stand for 0..1.

    Raises:
        DataError: for another shape, and numbers that are no probabilities.
    """
    source = Source(path, _WHAT["probabilities"], _DO)
    if path.suffix.lower() == ".npz":
        value = load_arrays(path, {"probs": Column("fu")}, compressed=True, do=_DO, error=DataError)["probs"]
    else:
        source.check_regular()
        try:
            value = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise source.wrong(source.what, f"a damaged one ({error})") from error
    if value.ndim != _DIMS or value.shape[0] != num_classes or value.dtype.kind not in "fu":
        expected = f"({num_classes}, height, width), classes first"
        raise source.wrong(expected, f"{value.dtype} of shape {value.shape}")
    probs = value.astype(np.float32) / (_STEPS if value.dtype.kind == "u" else 1)
    total = probs.sum(0)
    if not ((probs >= 0).all() and np.isfinite(total).all() and (np.abs(total - 1) <= _ROUNDING).all()):
        got = f"numbers from {probs.min():g} to {probs.max():g} that sum to {total.min():g}..{total.max():g}"
        raise source.wrong("probabilities that sum to 1 over the classes", got, do="apply the softmax first")
    exact: np.ndarray = probs / total
    return exact


def _one_hot(path: Path, size_hw: tuple[int, int], num_classes: int) -> torch.Tensor:
    labels = read_ids(path)
    source = Source(path, _WHAT["labels"], _DO)
    if labels.shape != size_hw:
        raise source.wrong(f"a map of the image's size, {size_hw[0]} x {size_hw[1]}", f"{labels.shape}")
    if labels.max(initial=0) >= num_classes:
        raise source.wrong(f"class numbers 0..{num_classes - 1} in every pixel", str(labels.max()))
    return torch.from_numpy((labels[None] == np.arange(num_classes)[:, None, None]).astype(np.float32))
