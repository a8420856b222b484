import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.generated.streets import Streets
from al_lab.data.generated.streets_draw import CLASSES, PERSON, POLE, ROAD, SIGN, draw_street

SMALL = {"num_source": 8, "num_pool": 8, "num_test": 6}
SIZE = (96, 160)


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return Streets(str(tmp_path_factory.mktemp("data")), **SMALL)


def test_it_is_a_pair_of_domains_without_errors(streets):
    assert streets.task == "segmentation"
    assert streets.classes == CLASSES
    assert [len(ids) for ids in streets.splits().values()] == [8, 0, 6, 8]
    assert streets.load_image(streets.pool_ids[0]).shape == (*SIZE, 3)
    assert [f for f in streets.verify() if f.severity == "error"] == []


def test_files_hold_what_was_drawn(streets):
    street = draw_street(0, "target", "test", 3, SIZE)
    assert np.array_equal(streets.load_image("test/00003"), street.image)
    assert np.array_equal(streets.truth("test/00003"), street.label)
    assert np.array_equal(streets.source_label("source/train/00002"), draw_street(0, "source", "train", 2, SIZE).label)


def test_a_street_is_a_function_of_its_arguments():
    first, again, other = (draw_street(seed, "target", "train", 3, SIZE) for seed in (0, 0, 1))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.label, again.label)
    assert not np.array_equal(first.label, other.label)


def test_it_is_generated_once_and_other_numbers_go_elsewhere(streets):
    data_dir = streets.image_path(streets.pool_ids[0]).parents[4]
    stamp = streets.image_path(streets.pool_ids[0]).stat().st_mtime_ns
    assert Streets(str(data_dir), **SMALL).image_path(streets.pool_ids[0]).stat().st_mtime_ns == stamp
    Streets(str(data_dir), **SMALL | {"num_test": 1}, size_hw=(32, 48))
    assert len(list(data_dir.glob("streets-*"))) == 2
    assert not [p for p in data_dir.iterdir() if p.name.startswith(".")]


def test_source_free(streets):
    data_dir = streets.image_path(streets.pool_ids[0]).parents[4]
    alone = Streets(str(data_dir), source=None, **SMALL)
    assert alone.source_ids == ()
    assert alone.pool_ids == streets.pool_ids
    with pytest.raises(DataError, match="flat, or null for none, got 'drawn'"):
        Streets(str(data_dir), source="drawn", **SMALL)


def test_there_is_a_gap_and_small_classes():
    drawn = {domain: [draw_street(0, domain, "train", n, SIZE) for n in range(16)] for domain in ("source", "target")}
    for streets_ in drawn.values():
        share = np.bincount(np.concatenate([s.label.reshape(-1) for s in streets_]), minlength=256) / (
            16 * SIZE[0] * SIZE[1]
        )
        assert share[: len(CLASSES)].min() > 0.001
        assert max(share[POLE], share[SIGN], share[PERSON]) < 0.05
    assert not any((s.label == 255).any() for s in drawn["source"])
    assert any((s.label == 255).any() for s in drawn["target"])
    colors = {
        domain: np.concatenate([s.image[s.label == ROAD] for s in streets_]) for domain, streets_ in drawn.items()
    }
    assert len(np.unique(colors["source"], axis=0)) <= 5 * 16  # flat: the road and four markings, one color each
    assert len(np.unique(colors["target"], axis=0)) > 5000
