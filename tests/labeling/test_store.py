"""Labels belong to the images: nobody is asked twice, nothing is lost, nothing of a machine enters."""

import threading

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.core.types import Annotation
from al_lab.labeling.store import LabelStore

A, B = "a" * 64, "b" * 64
CAT = Annotation.make([[1.25, 2, 30, 40.1]], [0], [True], [False])
BOTH = Annotation.make([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 1])


@pytest.fixture
def store(tmp_path):
    return LabelStore(tmp_path / ".labels")


def test_an_answer_comes_back_exactly(store):
    assert store.find(A, ("cat",)) is None
    assert store.add(A, ("cat", "dog"), CAT, seconds=12.5, origin="a.xml")
    found = store.find(A, ("cat", "dog"))
    assert found.seen_by(("cat", "dog")).to_json() == CAT.to_json()
    assert (found.version, found.seconds, found.origin) == (1, 12.5, "a.xml")
    assert store.find(B, ("cat", "dog")) is None


def test_classes_are_matched_by_name_and_a_class_nobody_was_asked_for_is_missing(store):
    store.add(A, ("cat", "dog"), BOTH)
    assert store.find(A, ("dog", "cat")).seen_by(("dog", "cat")).labels.tolist() == [1, 0]
    only = store.find(A, ("dog",)).seen_by(("dog",))
    assert (only.labels.tolist(), only.boxes_xyxy.tolist()) == ([0], [[5, 6, 7, 8]])
    assert store.find(A, ("dog", "bird")) is None
    store.add(A, ("bird",), Annotation.make([], []))
    assert store.find(A, ("dog", "bird")) is None
    assert len(store.find(A, ("bird",)).seen_by(("bird",)).labels) == 0


def test_a_correction_is_a_version_and_the_same_again_is_none(store):
    assert store.add(A, ("cat",), CAT)
    assert not store.add(A, ("cat",), CAT)
    assert store.add(A, ("cat",), Annotation.make([[1, 2, 3, 4]], [0]))
    assert [s.version for s in store.versions(A)] == [1, 2]
    assert store.find(A, ("cat",)).version == 2
    assert store.versions(A)[0].label.to_json() == CAT.to_json()


def test_forgetting_removes_all_versions_of_one_image(store):
    store.add(A, ("cat",), CAT)
    store.add(B, ("cat",), CAT)
    assert list(store.digests()) == [A, B]
    assert store.forget(A) == 1
    assert list(store.digests()) == [B] and store.forget(A) == 0


def test_a_line_that_was_never_finished_is_dropped_and_a_damaged_one_named(store):
    store.add(A, ("cat",), CAT)
    (path,) = store.folder.rglob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert len(store.versions(A)) == 1
    store.add(A, ("cat",), BOTH.__class__.make([[0, 0, 1, 1]], [0]))
    assert len(store.versions(A)) == 2
    path.write_bytes(whole.replace(b'"names": ["cat"]', b'"names": ["cow"]'))
    with pytest.raises(DataError, match=r"jsonl: line 1.*al-lab labels forget"):
        store.find(A, ("cat",))


def test_many_at_once_lose_nothing(store):
    def work(k: int) -> None:
        for n in range(10):
            store.add(A, ("cat",), Annotation.make([[0, 0, k + 1, n + 1]], [0]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = store.versions(A)
    assert [s.version for s in versions] == list(range(1, 41))
    assert len({tuple(np.ravel(s.label.boxes_xyxy)) for s in versions}) == 40
