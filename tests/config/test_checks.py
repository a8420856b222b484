"""A configuration whose parts don't fit is refused with a sentence, before anything is created."""

import copy
from pathlib import Path

import pytest

from al_lab.config.checks import check_data
from al_lab.config.load import compose, validate
from al_lab.core.errors import ConfigError, DataError, LabError
from tests.stubs import stub_config


@pytest.fixture(scope="module")
def shapes() -> dict:
    return compose(["strategy=random"])


@pytest.fixture
def config(shapes) -> dict:
    return copy.deepcopy(shapes)


def change(config: dict, **changes: object) -> dict:
    """Set dotted keys, written with two underscores."""
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    return config


def test_the_default_configuration_is_right_and_left_as_it_is():
    config = compose()
    before = copy.deepcopy(config)
    validate(config)
    assert config == before


@pytest.mark.parametrize("strategy", ["random.Random", "entropy.Entropy", "core_set.CoreSet", "margin.Margin"])
def test_a_foreign_learner_needs_no_objective(strategy):
    stub = stub_config({"_target_": f"al_lab.strategies.general.{strategy}"}, name="x")
    stub["dataset"]["name"] = "stub"
    stub["choices"]["protocol"] = "none"
    assert stub["objective"] is None
    validate(stub)
    with pytest.raises(ConfigError, match="expected an option of objective, got none"):
        # trained by us, it needs one
        validate(stub | {"detector": {"_target_": "al_lab.models.detectors.tiny.TinyDetector"}})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sede": 1}, "expected a key of the configuration's root, got 'sede'; did you mean 'seed'?"),
        ({"seed": -1}, "seed: expected a whole number >= 0 (0 is a seed), got -1"),
        ({"split_seed": None}, "split_seed: expected a whole number"),
        ({"name": "a/b"}, "name: expected a word that can be a folder's name, got 'a/b'"),
        ({"dataset__name": ".."}, "dataset.name: expected a word that can be a folder's name"),
        ({"trainer": None}, "expected an option of trainer, got none; choose one with trainer=…"),
        ({"objective": None}, "expected an option of objective, got none"),
        ({"detector": None}, "expected an option of detector, got none"),
        (
            {"segmenter": {"_target_": "tests.stubs.FakeSegmenter"}},
            "expected a detector or a segmenter, got both; a detection dataset needs a detector",
        ),
        ({"dataset": {"_target_": "tests.stubs.StubDense", "name": "stub"}}, "use segmenter=… and ~detector"),
        (
            {"trainer__max_itres": 3},
            "trainer.max_itres: expected arguments of al_lab.learners.settings.TrainSettings, got unknown key "
            "'max_itres'; did",
        ),
        ({"trainer__augmentation__flop": 0.5}, "trainer.augmentation.flop"),
        (
            {"budget___partial_": True, "budget__cylces": 1},
            "budget.cylces: expected arguments of al_lab.core.budget.Budget",
        ),
        (
            {"strategy__ties": "id"},
            "arguments of al_lab.strategies.general.random.Random, got unknown key 'ties'; choose one of: radius_px",
        ),
        ({"strategy___target_": "al_lab.strategies.general.entropyy.Entropy"}, "did you mean 'entropy'?"),
        ({"dataset___target_": "al_lab.data.generated.shapes.Shape"}, "did you mean 'Shapes'?"),
        ({"tracker": {"_target_": "nopackage.Tracker"}}, "expected an installed package, got 'nopackage'"),
        ({"trainer__max_epochs": 3}, "trainer: expected exactly one of max_epochs and max_iters, got both"),
        ({"trainer__start": "scratsh"}, "did you mean 'scratch'?"),
        ({"trainer__milestones": [900]}, "trainer.milestones: expected rising numbers below"),
        (
            {"budget__initial": 1.5},
            "budget.initial: expected a count, a fraction between 0 and 1, or annotated, got 1.5",
        ),
        ({"budget__per_cycle": -3}, "budget.per_cycle: expected a count"),
        ({"budget__initial": 1000, "budget__cycles": 9}, "budget: expected a budget of at most the pool's 1200 images"),
        ({"budget__unit": "pixel"}, "pixels, regions and segments are bought with a segmenter"),
        ({"budget__unit": "images"}, "budget.unit: expected one of image, box"),
        ({"runtime__devices": 0}, "runtime.devices: expected a whole number >= 1, got 0; e.g. runtime.devices=1"),
        ({"runtime__checkpoint_minutes": "often"}, "runtime.checkpoint_minutes: expected a number >= 0, got 'often'"),
        (
            {"runtime__deterministic": 1},
            "runtime.deterministic: expected true or false, got 1; e.g. runtime.deterministic=true",
        ),
        (
            {"runtime__num_workers": "all"},
            "runtime.num_workers: expected auto, or a whole number >= 0, got 'all'; e.g. ",
        ),
        ({"runtime__device": 2}, "runtime.device: expected a key of runtime, got 'device'; did you mean 'devices'?"),
    ],
)
def test_what_does_not_fit_is_refused(config, changes, sentence):
    with pytest.raises(LabError) as caught:
        validate(change(config, **changes))
    assert sentence in str(caught.value)


def test_a_strategy_gets_the_budget_it_can_spend(config):
    change(config, strategy={"_target_": "tests.config.test_checks.Costly"}, budget__unit="box")
    with pytest.raises(
        ConfigError, match=r"budget.unit: expected one of image, which strategy 'random' can spend, got 'box'"
    ):
        validate(config)


def test_a_strategy_gets_the_task_it_knows(config):
    change(
        config,
        strategy={"_target_": "tests.config.test_checks.Costly"},
        detector=None,
        segmenter={"_target_": "tests.stubs.FakeSegmenter"},
        dataset={"_target_": "tests.stubs.StubDense", "name": "s"},
    )
    with pytest.raises(ConfigError, match="expected a strategy for segmentation, .* got 'random', for detection"):
        validate(config)


def test_a_strategy_gets_what_it_needs(config):
    change(config, strategy={"_target_": "tests.config.test_checks.Greedy"})
    with pytest.raises(
        ConfigError, match=r"provides dense_depth \(strategy 'random' needs it\), got 'tiny', which provides detections"
    ):
        validate(config)


def test_a_pool_without_labels_needs_people(config, tmp_path):
    photos(tmp_path)
    change(
        config,
        dataset={
            "_target_": "al_lab.data.datasets.voc_folder.VOCFolder",
            "root": str(tmp_path),
            "classes": ["cat"],
            "name": "photos",
        },
        budget__initial=1,
        budget__per_cycle=1,
        budget__cycles=1,
    )
    with pytest.raises(DataError, match="use oracle=folder"):
        check_data(validate(config))
    check_data(validate(change(config, oracle={"_target_": "al_lab.labeling.folder.FolderOracle"})))


def test_a_budget_is_held_against_a_real_pool(config, tmp_path):
    photos(tmp_path)
    change(
        config,
        dataset={
            "_target_": "al_lab.data.datasets.voc_folder.VOCFolder",
            "root": str(tmp_path),
            "classes": ["cat"],
            "name": "photos",
        },
    )
    with pytest.raises(ConfigError, match="at most the pool's 3 images"):
        check_data(validate(config))


def test_a_dataset_folder_that_is_missing_is_named(config, tmp_path):
    change(
        config, dataset={"_target_": "al_lab.data.datasets.voc.VOC", "root": str(tmp_path / "VOCdevkit"), "name": "voc"}
    )
    with pytest.raises(DataError, match=r"VOCdevkit/VOC2007.*no such file; run 'al-lab data download voc'"):
        check_data(validate(config))


def photos(folder: Path) -> None:
    from PIL import Image

    (folder / "JPEGImages").mkdir()
    for n in range(3):
        Image.new("RGB", (8, 6)).save(folder / "JPEGImages" / f"{n}.jpg")


def test_an_objective_that_compares_anchors_needs_some(config):
    config["detector"] = {"_target_": "al_lab.models.adapters.torchvision_detector.TorchvisionDetector"}
    config["detector"] |= {"model": "fcos_resnet50_fpn", "input_hw": [96, 96]}
    config["choices"] |= {"detector": "fcos", "objective": "isd"}
    for target in ("isd.ISD", "sed.SED", "csd.CSD"):
        config["objective"] = {"_target_": f"al_lab.objectives.{target}"}
        with pytest.raises(ConfigError) as caught:
            validate(config)
        assert str(caught.value) == (
            "objective: expected a detector with anchors (objective 'isd' needs it), got 'fcos', which has none; "
            "what remains: objective=supervised; or choose another detector=…"
        )


class Costly:
    """A strategy that only buys images; read from source by the checks."""

    units = ("image",)


class Greedy:
    """A strategy that needs what no detector has."""

    needs = ("detections", "dense_depth")


@pytest.mark.parametrize(("batch", "devices"), [(1, 1), (4, 4), (2, 2)])
def test_an_objective_that_ranks_images_needs_two_on_each_device(batch, devices):
    words = ["strategy=ll4al", "dataset=shapes", f"trainer.batch_size={batch}", f"runtime.devices={devices}"]
    with pytest.raises(
        ConfigError, match=rf"trainer.batch_size: expected 2 labeled .*set trainer.batch_size={2 * devices}"
    ):
        validate(compose(words))
    validate(compose([*words[:2], f"trainer.batch_size={2 * devices}", words[3]]))
