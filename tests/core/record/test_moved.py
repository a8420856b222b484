"""A class that has moved is found where an older configuration looks for it, and an experiment stays the same one."""

import importlib.util
from pathlib import Path

import pytest

from al_lab.campaign.precision import as_begun
from al_lab.config.load import compose, config_difference, fingerprint, load_config, save_config, validate
from al_lab.core.record import moved
from al_lab.core.record.moved import first_path, present_path, with_targets

# Configurations as version 0.1.0 wrote them into run folders, with the fingerprints it gave them.
WRITTEN = Path(__file__).parents[2] / "config" / "runs_of_0_1"
COMMANDS = {
    "detection": (
        "strategy=al_ssl",
        "detector=squeeze",
        "trainer=squeeze",
        "oracle=folder",
        "tracker=all",
    ),
    "segmentation": ("dataset=streets", "strategy=density"),
}
FINGERPRINTS = {"detection": "6e0951e8369d8a5c", "segmentation": "cae48232ed0a8070"}


@pytest.mark.parametrize("kind", COMMANDS)
def test_an_older_run_is_the_same_experiment(kind):
    old = load_config(WRITTEN / kind)
    new = as_begun(compose(COMMANDS[kind]), WRITTEN / kind)
    assert config_difference(old, new) == []
    assert fingerprint(old) == fingerprint(new) == FINGERPRINTS[kind]


@pytest.mark.parametrize("kind", COMMANDS)
def test_an_older_runs_classes_are_all_found(kind):
    validate(load_config(WRITTEN / kind))


def test_every_module_of_the_table_is_there():
    for old, new in moved._MOVED.items():
        assert importlib.util.find_spec(f"al_lab.{new}") is not None, new
        assert present_path(f"al_lab.{old}.Thing") == f"al_lab.{new}.Thing"
        assert first_path(f"al_lab.{new}.Thing") == f"al_lab.{old}.Thing"


@pytest.mark.parametrize(
    ("path", "present"),
    [
        ("al_lab.strategies.entropy.Entropy", "al_lab.strategies.general.entropy.Entropy"),
        ("al_lab.models.tiny.TinyDetector.large", "al_lab.models.detectors.tiny.TinyDetector.large"),
        ("al_lab.models.mmdet_network.build", "al_lab.models.mm.mmdet_network.build"),
        ("al_lab.data.transforms.SSDAugmentation", "al_lab.data.transforms.detection.SSDAugmentation"),
        ("mine.data.voc.VOC", "mine.data.voc.VOC"),
        ("al_lab.data.voc", "al_lab.data.voc"),
    ],
)
def test_only_a_moved_modules_classes_are_renamed(path, present):
    node = {"a": [{"_target_": path, "other": "al_lab.strategies.entropy.Entropy"}]}
    renamed = {"a": [{"_target_": present, "other": "al_lab.strategies.entropy.Entropy"}]}
    assert with_targets(node, present_path) == renamed


def test_an_own_yaml_that_names_the_old_place_works_with_one_warning(caplog):
    override = "strategy._target_=al_lab.strategies.margin.Margin"
    for _ in range(2):
        validate(compose(["strategy=margin", override]))
    said = [r.getMessage() for r in caplog.records]
    assert said == [
        "al_lab.strategies.margin.Margin has moved: write _target_: al_lab.strategies.general.margin.Margin"
    ]


def test_a_run_that_goes_on_keeps_its_file(tmp_path):
    config = load_config(WRITTEN / "segmentation")
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config


def test_a_setting_that_came_later_with_what_was_always_done_is_no_other_experiment():
    papers_way = ["strategy=mgral", "strategy.lut.reward=training", "strategy.agent.query=top"]
    new = compose(papers_way)
    old = {**new, "strategy": {**new["strategy"]}}
    old["strategy"]["lut"] = {
        k: "neighbors" if k == "predictor" else v
        for k, v in new["strategy"]["lut"].items()
        if k not in ("batches", "num_clusters", "rows_from")
    }
    old["strategy"]["agent"] = {k: v for k, v in new["strategy"]["agent"].items() if k != "query"}
    assert config_difference(old, new) == []
    assert fingerprint(old) == fingerprint(new)
    changed = compose([*papers_way, "strategy.lut.batches=clusters", "strategy.lut.predictor=ridge"])
    assert config_difference(old, changed) == [
        "strategy.lut.batches: was (absent), now 'clusters'",
        "strategy.lut.predictor: was 'neighbors', now 'ridge'",
    ]
    validate(old)  # and its own file can be run
