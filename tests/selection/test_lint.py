"""What a judgment is made of: a detector's words or people's, the validation set's or the test set's."""

import dataclasses

import numpy as np
import pytest

from al_lab.core.errors import ConfigError, DataError
from al_lab.data.near_copies import fingerprint
from al_lab.data.predictions.table import no_predictions
from al_lab.labeling.store import LabelStore
from al_lab.selection.lint import Judged, judge
from tests.stubs import StubDetection


@pytest.fixture
def judged(predictions, tmp_path):
    dataset = StubDetection()

    def call(chosen=dataset.pool_ids[:6], labeled=(), given=predictions, **changes):
        candidates = [i for i in dataset.pool_ids if i not in labeled]
        store = LabelStore(tmp_path / "store")
        base = Judged(changes.pop("dataset", dataset), given, list(chosen), candidates, set(labeled), store, look=0)
        return judge(dataclasses.replace(base, **changes))

    return call


def keys(found):
    return {m.key for m in found.measures}


def test_predicted_objects_beside_labels_of_the_test_set(judged, predictions):
    found = judged()
    dataset = StubDetection()
    assert not dataset.val_ids and (found.target, found.seen) == ("the test set", "as it is labeled")
    assert not found.is_known and found.num_pool == len(dataset.pool_ids)
    assert found.cost[0].value == pytest.approx(predictions.expected(dataset.pool_ids[:6]).sum())
    assert {"classes", "counts", "sides", "mmd", "copies"} <= keys(found)
    assert sum(c.target_share for c in found.classes) == pytest.approx(1)


def test_a_test_set_that_the_detector_saw_counts_as_it_saw_it(judged, predictions):
    dataset = StubDetection()
    dataset.test_ids = dataset.pool_ids[30:]
    found = judged(dataset=dataset)
    assert found.seen == "as the detector sees it"
    expected = predictions.expected(dataset.test_ids, 1).sum() / predictions.expected(dataset.test_ids).sum()
    assert found.classes[1].target_share == pytest.approx(expected)
    assert "nearest" in keys(found)  # its embeddings are in the file, too


def test_damaged_labels_of_the_test_set_are_a_note(judged):
    class Damaged(StubDetection):
        def truth(self, sample_id):
            if sample_id in self.test_ids:
                raise DataError(f"{sample_id}: no box")
            return super().truth(sample_id)

    found = judged(dataset=Damaged())
    assert "Nothing is compared with the test set" in found.notes[0] and "no box" in found.notes[0]
    assert found.cost and not {"classes", "counts"} & keys(found)


def test_without_predictions_labels_speak_only_where_they_may(judged):
    dataset, none = StubDetection(), no_predictions(3)
    silent = judged(given=none)
    assert not silent.classes and not silent.cost and "Give --predictions" in silent.notes[0]
    found = judged(given=none, may_know=True)
    count = sum(len(dataset.truth(i).labels) for i in dataset.pool_ids[:6])
    assert found.is_known and found.cost[0].value == count


def test_copies_of_labeled_images_by_embedding_and_by_print(judged, predictions, monkeypatch):
    ids = predictions.ids
    vectors = np.eye(len(ids), dtype=np.float32)
    vectors[predictions.embedded[ids[0]]] = vectors[predictions.embedded[ids[9]]]
    monkeypatch.setitem(vars(predictions), "embedding", vectors)
    pictures = {i: np.random.default_rng(n).integers(0, 255, (40, 40, 3), np.uint8) for n, i in enumerate(ids[:6])}
    pictures[ids[2]] = pictures[ids[1]]
    found = judged(labeled=[ids[9]], prints={i: fingerprint(p) for i, p in pictures.items()})
    assert [(c.sample_id, c.like, c.is_labeled) for c in found.copies.found] == [
        (ids[0], ids[9], True), (ids[2], ids[1], False)
    ]  # fmt: skip
    assert judged(near_cosine=None).copies.min_cosine is None


def test_shares_are_compared_with_shares(judged, predictions):
    boxes = predictions.boxes / 1000
    given = dataclasses.replace(predictions, boxes=boxes, is_fraction=np.ones(len(boxes), bool))
    found = judged(given=given)
    side = next(m for m in found.measures if m.key == "side")
    assert side.unit == "%" and "sides" in keys(found)


def test_an_empty_selection_is_refused(judged):
    with pytest.raises(ConfigError, match="at least one chosen image"):
        judged(chosen=[])
