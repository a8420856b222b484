"""A wrong command is answered with one sentence that says what could have been meant."""

import shutil

import pytest

from al_lab.cli.mistakes import readable
from al_lab.config.load import CONF_DIR, compose, validate


def said(*overrides: str) -> str:
    try:
        validate(compose(overrides))
    except Exception as error:
        return readable(error, overrides) or f"unreadable {error!r}"
    return "nothing"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["dataset=shape"], "expected an option of dataset, got 'shape'; did you mean 'shapes'?"),
        (["stratgy=random"], "expected a key of the configuration, got 'stratgy'; did you mean 'strategy'?"),
        (["sede=1"], "did you mean 'seed'?"),
        (["+sede=1"], "got 'sede'; did you mean 'seed'?"),
        (["trainer.max_itres=5"], "did you mean 'max_iters'?"),
        (["+trainer.max_itres=5"], "did you mean 'max_iters'?"),
        (["seed=abc"], "Value 'abc' of type 'str' could not be converted to Integer"),
        (["detector=null"], "write ~detector to have no detector at all"),
        (["dataset=voc_folder"], "expected a value for dataset.root, got none; add dataset.root=… to the command"),
        (["strategy=random", "seed"], "seed"),
    ],
)
def test_a_wrong_command_is_answered_with_a_sentence(overrides, sentence):
    assert sentence in said(*overrides)


def test_a_misspelt_key_fails_inside_a_recipe_too(tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF_DIR, conf)
    (conf / "experiment" / "mine.yaml").write_text("# @package _global_\nsede: 1\n")
    with pytest.raises(Exception, match="sede") as caught:
        compose(["experiment=mine"], conf)
    assert "did you mean 'seed'?" in readable(caught.value)


def test_a_bug_keeps_its_traceback():
    assert readable(ZeroDivisionError("x")) is None
