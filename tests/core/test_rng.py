import numpy as np

from al_lab.core.rng import Rng, rng_for


def test_same_name_same_draw_other_name_other_draw():
    draws = {
        name: rng.generator().random()
        for name, rng in {
            "a": rng_for(0, 1, "score"),
            "seed": rng_for(1, 1, "score"),
            "cycle": rng_for(0, 2, "score"),
            "stage": rng_for(0, 1, "select"),
        }.items()
    }
    assert len(set(draws.values())) == 4
    assert Rng(0, 1, "score").generator().random() == draws["a"]
    assert Rng(0).child(1, "score").generator().random() == draws["a"]


def test_known_value_pins_the_derivation():
    """If this changes, no published selection can be repeated."""
    assert Rng(0, "initial").seed() == 5_512_798_300_108_621_637


def test_tie_keys_depend_on_the_id_alone():
    rng = rng_for(0, 0, "select")
    keys = dict(zip("abc", rng.tie_keys("abc"), strict=True))
    assert rng.tie_keys(["c", "a"]).tolist() == [keys["c"], keys["a"]]
    assert rng.tie_keys(list("abc")).dtype == np.uint64
    assert rng.tie_keys(["c", "a", "b"], "id").tolist() == [2, 0, 1] and not len(rng.tie_keys([], "id"))
