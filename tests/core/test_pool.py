import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.core.pool import Pool, file_stem, load_region, purchase_dir, save_region
from al_lab.core.types import Query, Region


def test_acquire_returns_a_new_pool_and_keeps_the_order_of_the_universe():
    pool = Pool(("c", "a", "b"))
    bought = pool.acquire([Query("b"), Query("c")], 0)
    assert pool.labeled() == () and bought.labeled() == ("c", "b") and bought.unlabeled() == ("a",)


@pytest.mark.parametrize(
    ("ids", "message"), [(["x"], "not in the pool"), (["a", "a"], "'a' twice"), (["b"], "bought whole in cycle 0")]
)
def test_acquire_refuses(ids, message):
    pool = Pool(("a", "b")).acquire([Query("b")], 0)
    with pytest.raises(DataError, match=message):
        pool.acquire([Query(i) for i in ids], 1)


def test_duplicate_ids_are_named():
    with pytest.raises(DataError, match="'a' more than once"):
        Pool(("a", "b", "a"))


def test_pixels_bought_in_two_cycles_are_one_mask_and_survive_json(tmp_path):
    pool = Pool(("img/1",), run_dir=tmp_path)
    for cycle, pixels in ((0, [0, 5]), (1, [5, 11])):
        region = Region(np.array(pixels), (3, 4))
        save_region(purchase_dir(tmp_path, cycle) / "masks" / f"{file_stem('img/1')}.npz", region)
        pool = pool.acquire([Query("img/1", region)], cycle)
    again = Pool.from_json(pool.to_json(), ("img/1",), tmp_path)
    assert np.flatnonzero(again.bought_mask("img/1")).tolist() == [0, 5, 11]
    assert again.unlabeled() == again.partial() == ("img/1",)
    assert again.labeled_hash() == pool.labeled_hash()


def test_pool_of_another_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match="2 sample ids this run began with"):
        Pool.from_json(Pool(("a", "b")).to_json(), ("a", "c"), tmp_path)


def test_region_round_trip(tmp_path):
    region = Region(np.array([1, 6, 14]), (3, 5))
    save_region(tmp_path / "m.npz", region)
    assert load_region(tmp_path / "m.npz").pixels.tolist() == [1, 6, 14]
    with pytest.raises(DataError, match="below 3x5"):
        Region(np.array([15]), (3, 5))


def test_file_stems_never_collide():
    assert len({file_stem(i) for i in ("a/b", "a%2Fb", "a__b", "a b")}) == 4
