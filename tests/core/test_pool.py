import numpy as np
import pytest

from al_lab.core.errors import ConfigError, DataError
from al_lab.core.pool import Apart, ApartRows, Pool, file_stem, load_region, purchase_dir, save_region
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


def test_rows_near_each_other_and_the_most_that_are_apart():
    rng = np.random.default_rng(0)
    for gap in (1, 3, 8):
        group, frame = rng.integers(0, 3, 30), rng.integers(0, 25, 30)
        rule = ApartRows(group, frame, gap)
        for row in range(30):
            wanted = np.flatnonzero((group == group[row]) & (abs(frame - frame[row]) < gap))
            assert sorted(rule.near(row)) == wanted.tolist()
        taken = rule.first(rng.permutation(30))
        assert all(set(rule.near(a)) & set(taken) == {a} for a in taken)
        assert set(range(30)) == {b for a in taken for b in rule.near(a)}
        assert rule.first(np.arange(30), 2).tolist() == rule.first(np.arange(30)).tolist()[:2]
    ids = [f"v/{n}" for n in range(10)]
    assert Apart(dict.fromkeys(ids, "v"), {i: int(i[2:]) for i in ids}, 3).most(ids) == 4
    assert Apart({i: i[2:] in "0123" and "a" or "b" for i in ids}).most(ids) == 2


def test_a_selection_with_two_of_a_group_is_named():
    with pytest.raises(ConfigError, match="one image of a group, got 'a1' and 'a2' of group 'a'"):
        Apart({"a1": "a", "a2": "a", "b1": "b"}).check([Query("b1"), Query("a1"), Query("a2")], "select")
