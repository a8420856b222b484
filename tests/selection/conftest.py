"""A detector's predictions of images that are names only."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.strategy import Strategy
from al_lab.core.types import ImageView
from al_lab.data.predictions.table import Predictions
from al_lab.data.predictions.views import Views
from al_lab.labeling.store import LabelStore
from al_lab.selection.choose import Choice, Order, choose
from al_lab.selection.labeled import Known
from tests.stubs import StubDetection, StubLearner


@pytest.fixture(scope="session")
def views() -> list[ImageView]:
    """What a trained learner says of the stub's pool: whole distributions and embeddings."""
    learner = StubLearner(3)
    learner.state = "trained"
    return list(learner.views(StubDetection().pool_ids, learner.provides))


def columns(views: Sequence[ImageView]) -> Predictions:
    """The same as files would say it."""
    found = [v.detections for v in views]
    return Predictions(
        tuple(v.sample_id for v in views),
        np.cumsum([0, *(len(d) for d in found)]),
        np.concatenate([d.boxes_xyxy for d in found]),
        np.zeros(sum(map(len, found)), bool),
        np.concatenate([d.confidence for d in found]),
        np.concatenate([d.labels for d in found]),
        3,
        np.concatenate([d.probs for d in found]),
        "softmax",
        embedding=np.stack([v.embedding for v in views]),
        embedded={v.sample_id: n for n, v in enumerate(views)},
    )


@pytest.fixture(scope="session")
def predictions(views) -> Predictions:
    return columns(views)


@pytest.fixture
def chosen(predictions, tmp_path) -> Callable[..., Choice]:
    def call(
        strategy: Strategy,
        amount: int = 5,
        labeled: Sequence[str] = (),
        dataset: StubDetection | None = None,
        known: Known | None = None,
        **changes: object,
    ) -> Choice:
        dataset = dataset or StubDetection()
        known = known or Known(LabelStore(Path(tmp_path) / "store"), dataset)
        order = Order(amount, **changes)  # type: ignore[arg-type]
        seen = Views(predictions, dataset, strategy.needs_for(order.unit))
        return choose(strategy, seen, predictions, dataset, set(labeled), known, order)

    return call
