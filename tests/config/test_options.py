"""What a strategy is made of counts, before anything is imported."""

from al_lab.config.options import every, strategies_in, union

GENERAL = "al_lab.strategies.general"
ENTROPY, CORE_SET = ({"_target_": f"{GENERAL}.{name}"} for name in ("entropy.Entropy", "core_set.CoreSet"))
POWER = {"_target_": f"{GENERAL}.power.Power", "of": ENTROPY}
SHORTLIST = {"_target_": f"{GENERAL}.shortlist.Shortlist", "of": POWER, "then": CORE_SET, "factor": 4.0}


def test_parts_of_parts_count():
    assert [t.rsplit(".", 1)[1] for t in strategies_in(SHORTLIST)] == ["Shortlist", "Power", "Entropy", "CoreSet"]
    assert union(SHORTLIST, "needs") == ("class_probs", "image_embedding")
    assert union(ENTROPY, "needs") == ("class_probs",)
    assert strategies_in({**SHORTLIST, "then": None})[-1].endswith("Entropy")  # not composed yet


def test_only_what_all_can_do_remains():
    assert every(ENTROPY, "tasks", ("detection",)) == ("detection", "segmentation")
    assert every(SHORTLIST, "tasks", ("detection",)) == ("detection",)
    assert every(SHORTLIST, "units", ("image", "box")) == ("image",)
    assert every(POWER, "units", ("image", "box")) == ("image", "box")
