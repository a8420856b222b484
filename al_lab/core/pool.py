"""Who is in the pool, and what of it was bought when."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.documents import Entry, Source
from al_lab.core.errors import ConfigError, DataError, ResumeError, did_you_mean, explain
from al_lab.core.fields import at_least, list_of, mapping_of, shown, text
from al_lab.core.files import atomic_path
from al_lab.core.types import Query, Region

INITIAL = -1  # the "cycle" in which the initial set was bought, before cycle 0
TEST = -2  # … and a test set before that
_CYCLE = at_least(INITIAL)


def purchase_dir(run_dir: Path, cycle: int) -> Path:
    """Return the folder that holds what was bought at the end of ``cycle`` (or as the initial or the test set)."""
    return run_dir / {INITIAL: "initial", TEST: "test"}.get(cycle, f"cycle_{cycle:02d}")


def file_stem(sample_id: str) -> str:
    """Return a file name for a sample id; ids may hold slashes, and two ids never share a name."""
    return quote(sample_id, safe="")


def save_region(path: Path, region: Region) -> None:
    """Write a region as a packed bit mask, atomically, with the segment of each of its pixels if it has segments."""
    arrays: dict[str, Any] = {"bits": np.packbits(region.mask()), "size_hw": np.asarray(region.size_hw, np.int32)}
    if region.segments is not None:
        arrays["segments"] = region.segments.astype(np.int16)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_mask(path: Path) -> np.ndarray:
    """Read what `save_region` wrote, as an (H, W) bool mask."""
    return _read_region(path)[0]


def _read_region(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    columns = {
        "bits": Column("u", (None,)),
        "size_hw": Column("iu", (2,)),
        "segments": Column("i", (None,), required=False),
    }
    z = load_arrays(path, columns, compressed=True)
    bits, (height, width) = z["bits"], (int(v) for v in z["size_hw"])
    if bits.dtype != np.uint8 or min(height, width) < 1 or len(bits) != -(-height * width // 8):
        raise ResumeError(
            explain(
                expected="a bit for each pixel",
                got=f"{bits.nbytes} bytes for {height} x {width} pixels",
                where=str(path),
                do="restore the file, or start anew with restart=again",
            )
        )
    mask = np.unpackbits(bits, count=height * width).view(bool).reshape(height, width)
    return mask, z.get("segments")


def load_region(path: Path) -> Region:
    """Read what `save_region` wrote."""
    mask, segments = _read_region(path)
    region = Region.from_mask(mask)
    return region if segments is None else Region(region.pixels, region.size_hw, segments.astype(np.int16))


@dataclass(frozen=True)
class Apart:
    """Which images one purchase may not take together: members of a group that are too near each other.

    Attributes:
        groups: sample id -> its group (a video, a patient, a camera).
        frames: sample id -> its number in the group; None: a purchase takes one member of a group.
        min_gap: the least difference of two numbers of one purchase.
    """

    groups: Mapping[str, str]
    frames: Mapping[str, int] | None = None
    min_gap: int = 1

    def rows(self, ids: Sequence[str]) -> "ApartRows":
        """Return the rule for a list of N samples, by their positions in it."""
        code: dict[str, int] = {}
        group_N = np.fromiter((code.setdefault(self.groups[i], len(code)) for i in ids), np.int64, len(ids))
        frames = self.frames or dict.fromkeys(ids, 0)
        frame_N = np.fromiter((frames[i] for i in ids), np.int64, len(ids))
        return ApartRows(group_N, frame_N, self.min_gap)

    def most(self, ids: Sequence[str]) -> int:
        """Return how many of some samples one purchase may take at most."""
        rows = self.rows(ids)
        # of numbers that must be apart, taking the smallest that is left each time takes most
        return len(rows.first(np.lexsort((rows.frame_N, rows.group_N))))

    def check(self, queries: Sequence[Query], where: str) -> None:
        """Refuse a selection with two images that are too near.

        Raises:
            ConfigError: naming them.
        """
        rows = self.rows([q.sample_id for q in queries])
        for n in range(len(queries)):
            near = [int(m) for m in rows.near(n) if m != n]
            if near:
                pair = f"{queries[n].sample_id!r} and {queries[near[0]].sample_id!r}"
                gap = "one image of a group" if self.frames is None else f"numbers {self.min_gap} apart in a group"
                raise ConfigError(
                    explain(
                        expected=f"queries with {gap}",
                        got=f"{pair} of group {self.groups[queries[n].sample_id]!r}",
                        where=where,
                        do="ask pool.apart in the strategy's select(); to replay a list use dataset.min_gap=null",
                    )
                )


@dataclass(frozen=True)
class ApartRows:
    """`Apart` for the rows 0..N-1 of something.

    Attributes:
        group_N: (N,) int64.
        frame_N: (N,) int64, the number in the group; all alike where a group gives one image.
        min_gap: rows of a group whose numbers differ by less are too near.
    """

    group_N: np.ndarray
    frame_N: np.ndarray
    min_gap: int

    def __post_init__(self) -> None:
        order = np.lexsort((self.frame_N, self.group_N))
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_group", self.group_N[order])
        object.__setattr__(self, "_frame", self.frame_N[order])

    def near(self, row: int) -> np.ndarray:
        """Return the rows that may not be taken beside ``row``, itself included."""
        order, group, frame = (getattr(self, name) for name in ("_order", "_group", "_frame"))
        start, stop = (int(np.searchsorted(group, self.group_N[row], side)) for side in ("left", "right"))
        mine = frame[start:stop]
        first = start + int(np.searchsorted(mine, self.frame_N[row] - self.min_gap, "right"))
        last = start + int(np.searchsorted(mine, self.frame_N[row] + self.min_gap, "left"))
        found: np.ndarray = order[first:last]
        return found

    def first(self, ranked: Sequence[int] | np.ndarray, count: int | None = None) -> np.ndarray:
        """Return the rows that are taken when ``ranked`` ones are gone through in order, each if none near it was.

        Args:
            ranked: rows, the most wanted first.
            count: stop after so many.
        """
        is_closed = np.zeros(len(self.group_N), bool)
        taken: list[int] = []
        for row in np.asarray(ranked, np.int64).tolist():
            if count is not None and len(taken) >= count:
                break
            if not is_closed[row]:
                taken.append(row)
                is_closed[self.near(row)] = True
        return np.array(taken, np.int64)


@dataclass(frozen=True)
class Pool:
    """The universe of sample ids and the purchases made in it.

    Only `acquire` changes who is labeled, and it returns a new pool.

    Attributes:
        ids: every sample, in a fixed order.
        whole: sample id -> the cycle in which the whole image was bought.
        parts: sample id -> the cycles in which pixels of it were bought; the masks are files of the run folder.
        run_dir: where those masks are.
        apart: which images one purchase may not take together; None: any.
        left_out: samples that are never bought (see `Budget.leave_out`).
    """

    ids: tuple[str, ...]
    whole: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    run_dir: Path | None = None
    apart: Apart | None = None
    left_out: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            twice = next(i for i, count in Counter(self.ids).items() if count > 1)
            raise DataError(
                explain(
                    expected="unique sample ids",
                    got=f"{twice!r} more than once",
                    where="Pool",
                    do="remove the repeated line from the dataset's split file",
                )
            )

    def __len__(self) -> int:
        return len(self.ids)

    def labeled(self) -> tuple[str, ...]:
        """Return the samples bought whole or in part, in pool order."""
        return tuple(i for i in self.ids if i in self.whole or i in self.parts)

    def unlabeled(self) -> tuple[str, ...]:
        """Return the samples from which something can still be bought as a whole image, in pool order."""
        return tuple(i for i in self.ids if i not in self.whole and i not in self.left_out)

    def in_use(self) -> tuple[str, ...]:
        """Return the samples that are labeled or can be bought, in pool order."""
        return tuple(i for i in self.ids if i not in self.left_out or i in self.whole or i in self.parts)

    def partial(self) -> tuple[str, ...]:
        """Return the samples of which only pixels were bought."""
        return tuple(i for i in self.ids if i in self.parts and i not in self.whole)

    def bought_mask(self, sample_id: str) -> np.ndarray | None:
        """Return the (H, W) bool mask of the pixels bought in an image over all cycles; None if there are none."""
        cycles = self.parts.get(sample_id, ())
        masks = [
            load_mask(purchase_dir(self.run_dir or Path(), c) / "masks" / f"{file_stem(sample_id)}.npz") for c in cycles
        ]
        return np.logical_or.reduce(masks) if masks else None

    def acquire(self, queries: Sequence[Query], cycle: int) -> "Pool":
        """Return the pool after a purchase.

        Raises:
            DataError: for a stranger, a sample named twice, or one that is labeled already.
        """
        whole, parts = dict(self.whole), dict(self.parts)
        universe, seen = set(self.ids), set()
        for query in queries:
            i = query.sample_id
            problem = (
                f"{i!r}, which is not in the pool ({did_you_mean(i, list(universe)[:2000])})"
                if i not in universe
                else f"{i!r} twice"
                if i in seen
                else f"{i!r}, bought whole in cycle {whole[i]}"
                if i in whole
                else None
            )
            if problem:
                raise DataError(
                    explain(
                        expected="unlabeled samples of the pool, each once",
                        got=problem,
                        where=f"purchase of cycle {cycle}",
                        do="fix the strategy's select() or the list being replayed",
                    )
                )
            seen.add(i)
            if query.region is None:
                whole[i] = cycle
            else:
                parts[i] = (*parts.get(i, ()), cycle)
        return replace(self, whole=whole, parts=parts)

    def labeled_hash(self) -> str:
        """Return a hash of what is labeled, whatever the order in which it was bought."""
        content = [
            f"{i}:{sorted(self.parts[i]) if i in self.parts and i not in self.whole else ''}"
            for i in sorted(self.labeled())
        ]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain data for ``pool.json``."""
        return {
            "num_ids": len(self.ids),
            "ids_sha256": ids_hash(self.ids),
            "num_labeled": len(self.labeled()),
            **({"num_left_out": len(self.ids) - len(self.in_use())} if self.left_out else {}),
            "whole": dict(self.whole),
            "parts": {k: list(v) for k, v in self.parts.items()},
        }

    @classmethod
    def from_json(
        cls,
        value: Mapping[str, Any],
        ids: Sequence[str],
        run_dir: Path,
        apart: Apart | None = None,
        left_out: frozenset[str] = frozenset(),
    ) -> "Pool":
        """Rebuild a pool over the dataset's ids.

        Raises:
            DataError: if the dataset's ids are no longer those the run began with.
            ResumeError: if it makes no sense, naming the field.
        """
        do = "restore the pool.json of this cycle, or start anew with restart=again"
        entry = Entry(value, Source(run_dir, "a pool", do, ResumeError), "pool.json")
        whole, parts = (
            entry.read("whole", mapping_of(_CYCLE)),
            entry.read("parts", mapping_of(list_of(_CYCLE, least=1))),
        )
        if entry.read("ids_sha256", text) != ids_hash(ids):
            raise DataError(
                explain(
                    expected=f"the {entry.read('num_ids', at_least(0))} sample ids this run began with",
                    got=f"{len(ids)} ids that differ",
                    where=f"dataset of {run_dir}",
                    do="restore the dataset's images and split files, or use name=… for a new run",
                )
            )
        strangers = (whole.keys() | parts.keys()) - set(ids)
        if strangers:
            raise entry.wrong("", "samples of the dataset", shown(min(strangers)))
        return cls(tuple(ids), whole, {k: tuple(v) for k, v in parts.items()}, run_dir, apart, left_out)


def ids_hash(ids: Iterable[str]) -> str:
    """Return a hash of a list of ids, order included."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
