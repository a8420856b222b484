"""Settings are held against the annotations of the arguments they become, without importing anything."""

import pytest

from al_lab.config.checks import check_kinds
from al_lab.config.kinds import kind_of
from al_lab.core.errors import ConfigError
from al_lab.core.fields import WrongValueError

NAN = float("nan")


@pytest.mark.parametrize(
    ("annotation", "taken", "refused"),
    [
        ("int", [0, -3], [1.5, "1", True, None, 10**30]),
        ("float", [1, 0.5], [NAN, float("inf"), "1", True, None, [1.0]]),
        ("bool", [True, False], [0, 1, "true", None]),
        ("str | Path", ["", "a"], [1, None, ["a"]]),
        ("float | None", [None, 2], ["", NAN]),
        ("Optional[int]", [None, 2], [2.5]),
        ("int | float | str", [1, 0.5, "annotated"], [None, [], NAN]),
        ("Sequence[float]", [[], [1, 2.5]], ["ab", 1, [None], {"a": 1}]),
        ("float | Sequence[float] | None", [1, [1], None], [["a"], "a"]),
        ("tuple[int, int]", [[1, 2]], [[1], [1, 2, 3], [1, "2"]]),
        ("tuple[str, ...]", [[], ["a"]], ["a", [1]]),
        ("Mapping[str, int]", [{}, {"a": 1}], [[], {"a": "b"}]),
        ("Literal['a', 'b']", ["a"], ["c", None, 1]),
        ("'int'", [1], ["1"]),
    ],
)
def test_what_annotations_allow(annotation, taken, refused):
    kind = kind_of(annotation)
    for value in taken:
        kind.read(value)
    for value in refused:
        with pytest.raises(WrongValueError):
            kind.read(value)


@pytest.mark.parametrize(
    "annotation", ["Any", "Filter", "Filter | None", "Mapping[str, Any]", "Callable[[int], int]", "list"]
)
def test_what_says_nothing_is_not_checked(annotation):
    assert kind_of(annotation) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": "fast"}, r"trainer\.lr: expected a finite number, got 'fast'"),
        ({"lr": NAN}, r"trainer\.lr: expected a finite number, got nan"),
        ({"max_iters": 2.5}, r"trainer\.max_iters: expected a whole number, or null, got 2\.5"),
        ({"milestones": [5, None]}, r"trainer\.milestones\[1\]: expected a finite number, got None"),
    ],
)
def test_the_key_is_named(change, message):
    node = {"_target_": "al_lab.learners.settings.TrainSettings", "batch_size": 2, "max_iters": 9, **change}
    with pytest.raises(ConfigError, match=message):
        check_kinds({"trainer": node})


def test_objects_that_are_built_for_an_argument_are_left_alone():
    target = "al_lab.learners.settings.TrainSettings"
    check_kinds({"trainer": {"_target_": target, "batch_size": 2, "stop_at": {"_target_": "fractions.Fraction"}}})
