"""A wrong command is answered with one sentence that says what could have been meant."""

import shutil

import pytest

from al_lab.cli.mistakes import readable
from al_lab.config.checks import check_data
from al_lab.config.load import CONF_DIR, compose, validate


def said(*overrides: str) -> str:
    try:
        check_data(validate(compose(overrides)))
    except Exception as error:
        return readable(error, overrides) or f"unreadable {error!r}"
    return "nothing"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["dataset=shape"], "expected an option of dataset, got 'shape'; did you mean 'shapes'?"),
        (["stratgy=random"], "expected a key of the configuration, got 'stratgy'; did you mean 'strategy'?"),
        (["sede=1"], "did you mean 'seed'?"),
        (["++segmenter.lr=1"], "expected a key of the configuration, got 'segmenter.lr'; segmenter has no keys"),
        (["+sede=1"], "got 'sede'; did you mean 'seed'?"),
        (["trainer.max_itres=5"], "did you mean 'max_iters'?"),
        (["+trainer.max_itres=5"], "did you mean 'max_iters'?"),
        (["seed=abc"], "seed: expected a whole number, got 'abc'; e.g. seed=0"),
        (["restart=perhaps"], "restart"),
        (["strategy=entrpy"], "expected an option of strategy, got 'entrpy'; did you mean 'entropy'?"),
        (["strategy.foo=1"], "got 'strategy.foo'; choose one of: agent, learning, lut"),
        (["budget.cycels=3"], "got 'budget.cycels'; did you mean 'cycles'?"),
        (["dataset=voc_folder", "dataset.root=/nope"], "dataset.root=/nope: expected images"),
        (["dataset=voc", "dataset.root=/nope"], "/nope/VOC2007/ImageSets/Main/trainval.txt: expected the list"),
        (["budget.cycles=-1"], "budget.cycles: expected a whole number in 0..10000, got -1; e.g. budget.cycles=5"),
        (["budget.cycles=ten"], "budget.cycles: expected a whole number in 0..10000, got 'ten'"),
        (["budget.initial=1000000"], "budget: expected a budget of at most the pool's 1200 images, got 1000000 + 3"),
        (["budget.initial=some"], "budget.initial: expected a count, a fraction between 0 and 1, or annotated"),
        (["trainer.max_iters=ten"], "trainer.max_iters: expected a whole number >= 1, or null, got 'ten'"),
        (["trainer.max_iters=25"], "nothing"),
        (["trainer=ssd_120k", "trainer.max_iters=25"], "e.g. to fractions of it: trainer.milestones=[0.7,0.9]"),
        (["detector=yolo"], "detector=yolo: expected an option of detector, got 'yolo'; choose one of: atss"),
        (["experiment=nope"], "experiment=nope: expected an option of experiment, got 'nope'; choose one of"),
        (["budget=image"], "budget=image: expected an option of budget, got 'image'; write budget.unit=image"),
        (["budget=shape"], "did you mean 'shapes'?"),
        (["strategy=density"], "got 'density', for segmentation; use dataset=streets (or "),
        (["strategy=al_ssl", "dataset=streets"], "got 'al_ssl', for detection; use dataset=shapes (or "),
        (
            ["strategy=mgral", "dataset=streets", "objective=csd"],
            "expected an objective for segmentation, got 'csd', for",
        ),
        (["runtime.device=cuda"], "got 'runtime.device'; did you mean 'devices'?"),
        (["budget.unit=foo"], "budget.unit: expected one of image, which strategy 'mgral' can spend, got 'foo'"),
        (
            ["tracker=mlflow"],
            "expected an option of tracker, got 'mlflow'; choose one of: all, csv, tensorboard, wandb",
        ),
        (["Strategy=random"], "got 'Strategy'; did you mean 'strategy'?"),
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
