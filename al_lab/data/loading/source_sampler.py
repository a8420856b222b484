"""Which source images a training step sees: rare classes as often as frequent ones, as a pure function of (seed, step).

The rule of the released RIPU code: in blocks of 3000 draws, class c is drawn with weight 1 / log(1.01 + n_c / sum n),
where n_c counts how often an image with c was taken in this block (0 at first); the next file of the class's shuffled
list is taken (shuffled anew when exhausted), and every class in that file counts one up. Then the list is shuffled.

Deviations: the released code shuffles 42 blocks together, here each block is shuffled by itself, so that a step's
images don't depend on how long the training is; a class that no file has is never drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.rng import Rng
from al_lab.data.loading.sampler import Stream

BLOCK = 3000


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Return 1 / log(1.01 + n_c / sum n) of each class, (C,) float64; n / sum n is 0 when nothing was counted."""
    share = counts / max(int(counts.sum()), 1)
    return 1.0 / np.log(1.01 + share)


class BalancedSource:
    """An endless sequence of source ids in which classes are balanced."""

    def __init__(self, source_classes: Mapping[str, Sequence[int]], num_classes: int, seed: int) -> None:
        """Take what is in each image.

        Args:
            source_classes: classes present in each source label, by id.
            num_classes: C.
            seed: of the training.

        Raises:
            DataError: if no label holds any class.
        """
        rng = Rng(seed, "source")
        self._present = {i: np.asarray(found, np.int64) for i, found in source_classes.items()}
        files = [[i for i, found in sorted(source_classes.items()) if c in found] for c in range(num_classes)]
        self._files = [Stream(ids, rng.child("files", c)) for c, ids in enumerate(files)]
        self._usable = np.array([len(ids) > 0 for ids in files])
        if not self._usable.any():
            raise DataError(
                explain(
                    expected="source labels with classes in them",
                    got="void everywhere",
                    where="source domain",
                    do="run 'al-lab data verify' on the dataset",
                )
            )
        self._rng = rng
        self._taken = np.zeros(num_classes, np.int64)  # how far each class's list was read
        self._blocks: list[list[str]] = []

    def ids(self, step: int, count: int) -> list[str]:
        """Return the images of a step, (count,) ids; steps may be asked for in any order."""
        return [self._at(position) for position in range(step * count, (step + 1) * count)]

    def _at(self, position: int) -> str:
        block, place = divmod(position, BLOCK)
        while len(self._blocks) <= block:  # a block goes on in the lists where the one before it stopped
            self._blocks.append(self._draw(len(self._blocks)))
        return self._blocks[block][place]

    def _draw(self, block: int) -> list[str]:
        generator = self._rng.generator("block", block)
        counts = np.zeros(len(self._files), np.int64)
        drawn = []
        for uniform in generator.random(BLOCK):
            upto = np.cumsum(class_weights(counts) * self._usable)
            c = int(np.searchsorted(upto, uniform * upto[-1], side="right"))
            drawn.append(self._files[c].at(int(self._taken[c])))
            self._taken[c] += 1
            counts[self._present[drawn[-1]]] += 1
        return [drawn[k] for k in generator.permutation(BLOCK)]


class PlainSource:
    """An endless sequence of source ids without balance: one shuffled pass after the other."""

    def __init__(self, source_ids: Sequence[str], seed: int) -> None:
        """Take the ids."""
        self._stream = Stream(source_ids, Rng(seed, "source"))

    def ids(self, step: int, count: int) -> list[str]:
        """Return the images of a step, (count,) ids; steps may be asked for in any order."""
        return [self._stream.at(position) for position in range(step * count, (step + 1) * count)]
