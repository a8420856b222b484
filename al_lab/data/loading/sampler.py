"""Which images a training step sees: a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from al_lab.core.errors import ConfigError, explain
from al_lab.core.rng import Rng


class Draw(NamedTuple):
    """One place in a batch.

    Attributes:
        step: global training step.
        sample_id: the image.
        copy: how often this image came earlier in the same global batch (0 unless the set is smaller than a batch), so
            that copies are augmented differently.
    """

    step: int
    sample_id: str
    copy: int


class Stream:
    """An endless sequence of ids: permutation 0, permutation 1, … of a set.

    Any position can be asked for at once, so a resumed training needs no state. The order of ``ids`` doesn't matter.
    """

    def __init__(self, ids: Sequence[str], rng: Rng) -> None:
        """Take the set and its source of permutations."""
        self._ids = sorted(ids)
        self._rng = rng
        self._epoch = -1
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._ids)

    def at(self, position: int) -> str:
        """Return the id at a position."""
        epoch, place = divmod(position, len(self._ids))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._rng.generator(epoch).permutation(len(self._ids)).tolist()
        return self._ids[self._order[place]]


def _check_some(name: str, ids: Sequence[str], count: int, do: str) -> None:
    if count and not ids:
        raise ConfigError(
            explain(expected=f"{count} {name} images a step", got=f"no {name} images at all", where="training", do=do)
        )


class StepSampler:
    """Batches of draws for steps ``first_step`` to ``stop_step - 1``; a torch batch sampler.

    Labeled and unlabeled places alternate (labeled first) as long as both last, or lie in a new order every step. With
    several devices each takes its part of the one global batch, so their number changes nothing: the same stretch of
    both halves, so that an objective that pairs image i with image i + B/2 finds the same pairs on every number of
    devices.
    """

    def __init__(
        self,
        labeled: Sequence[str],
        batch_size: int,
        *,
        seed: int,
        stop_step: int,
        first_step: int = 0,
        unlabeled: Sequence[str] = (),
        unlabeled_per_batch: int = 0,
        shuffle_places: bool = False,
        labeled_only: Callable[[int], bool] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Check that the batch can be cut.

        Args:
            labeled: ids, in any order.
            batch_size: labeled images a step, over all devices.
            seed: of the training.
            stop_step: the step before which to stop.
            first_step: the step to begin with.
            unlabeled: ids, in any order.
            unlabeled_per_batch: unlabeled images a step, over all devices.
            shuffle_places: put each global batch into an order drawn from (seed, step).
            labeled_only: steps whose unlabeled images nobody looks at, so they are left out; not of places that are
                shuffled. A device that would have none keeps its own.
            rank: of this device.
            world: number of devices.

        Raises:
            ConfigError: if a batch is no multiple of ``world``, or a set that is needed is empty.
        """
        self._size = batch_size + unlabeled_per_batch
        if self._size % world:
            raise ConfigError(
                explain(
                    expected=f"a batch that {world} devices can share equally",
                    got=f"{self._size} images",
                    where="trainer.batch_size",
                    do="change trainer.batch_size or runtime.devices",
                )
            )
        _check_some("labeled", labeled, batch_size, "label some first")
        _check_some("unlabeled", unlabeled, unlabeled_per_batch, "use an objective without unlabeled images")
        rng = Rng(seed, "order")
        self._streams = (Stream(labeled, rng.child("labeled")), Stream(unlabeled, rng.child("unlabeled")))
        self._pattern = _alternate(batch_size, unlabeled_per_batch)
        self._counts = (batch_size, unlabeled_per_batch)
        self._steps = range(first_step, stop_step)
        self._places = _places(self._size, rank, world)
        self._shuffling = rng.child("places") if shuffle_places else None
        self._labeled_only = None if shuffle_places else labeled_only

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield one list of draws a step."""
        for step in self._steps:
            batch, places = self.batch(step), self._places
            if self._labeled_only is not None and self._labeled_only(step):
                places = [place for place in places if self._pattern[place][0] == 0] or places
            yield [batch[place] for place in places]

    def batch(self, step: int) -> list[Draw]:
        """Return the global batch of a step."""
        seen: dict[str, int] = {}
        draws = []
        for source, n in self._pattern:
            sample_id = self._streams[source].at(step * self._counts[source] + n)
            draws.append(Draw(step, sample_id, seen.get(sample_id, 0)))
            seen[sample_id] = seen.get(sample_id, 0) + 1
        if self._shuffling is not None:
            return [draws[n] for n in self._shuffling.generator(step).permutation(len(draws))]
        return draws


def _alternate(labeled: int, unlabeled: int) -> list[tuple[int, int]]:
    """Return (stream, number within it) of each place: L, U, L, U, … and then what is left of the longer one."""
    places = []
    for n in range(max(labeled, unlabeled)):
        if n < labeled:
            places.append((0, n))
        if n < unlabeled:
            places.append((1, n))
    return places


def _places(size: int, rank: int, world: int) -> list[int]:
    """Return which places of the global batch a device takes."""
    share = size // world
    if share % 2:
        return list(range(rank * share, (rank + 1) * share))
    half = share // 2
    return [start + rank * half + n for start in (0, size // 2) for n in range(half)]
