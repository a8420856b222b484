"""What all models that are trained elsewhere have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from al_lab.core.fields import flag, one_of, optional
from al_lab.learners.base import Learner
from al_lab.learners.foreign.boxes import BoxReader
from al_lab.learners.foreign.maps import MapReader
from al_lab.learners.foreign.said import Reader


class ForeignModel(Learner):
    """A model whose training is its own: no objective and no recipe of ours.

    Class attributes are plain literals: the configuration check reads them without importing the file.

    Attributes:
        is_foreign: the objective is left out, and the trainer is ``own``.
        is_awaited: people hand in its predictions: it is not fitted by a job.
        provides_with: setting -> value -> what it adds to ``provides``.
    """

    is_foreign: ClassVar[bool] = True
    is_awaited: ClassVar[bool] = False
    provides_with: ClassVar[dict[str, dict[Any, tuple[str, ...]]]] = {}
    reader: Reader
    dataset: Any

    def views(
        self, ids: Sequence[str], needs: Sequence[str], options: Mapping[str, Any] | None = None
    ) -> Iterator[Any]:
        """See `Learner.views`; what is asked for beyond predictions (a flipped image) can't be had and is left out."""
        del options
        return self._views(ids, needs)

    def _views(self, ids: Sequence[str], needs: Sequence[str]) -> Iterator[Any]:
        raise NotImplementedError

    def load(self, checkpoint: Path) -> None:
        """See `Learner.load`."""
        raise NotImplementedError


def box_reader(dataset: Any, embeddings: bool, distributions: bool, first_category: int | None) -> BoxReader:
    """Check the settings that say what predictions of boxes hold."""
    optional(one_of(0, 1))(first_category, "detector.first_category", do="null: the files tell")
    return BoxReader(
        dataset,
        flag(embeddings, "detector.embeddings"),
        flag(distributions, "detector.distributions"),
        first_category,
    )


def map_reader(dataset: Any, maps: Literal["probabilities", "labels"], embeddings: bool) -> MapReader:
    """Check the settings that say what predictions of pixels hold."""
    one_of("probabilities", "labels")(maps, "segmenter.maps")
    return MapReader(dataset, maps, flag(embeddings, "segmenter.embeddings"))
