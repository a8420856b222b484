"""Values that only the objects can judge are refused before a run folder exists, and nothing is refused that would
train."""

import functools
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from al_lab.campaign.assemble import check_parts
from al_lab.campaign.loop import run_campaign
from al_lab.config import parts as parts_module
from al_lab.config.load import compose, validate
from al_lab.config.parts import Parts
from al_lab.config.signatures import literal_of
from al_lab.core.errors import ConfigError, LabError, WeightsError
from al_lab.core.strategy import Strategy
from al_lab.models.detectors.tiny import TinyDetector
from tests.stubs import StubDetection, quicken, stub_config
from tests.trees import voc_tree

__all__ = ["voc_tree"]

INLINE = "executor=inline"
ROOT = Path(__file__).parents[2]


@functools.cache
def composed(*overrides: str) -> dict:
    return compose(overrides)


def check_values(config: dict) -> None:
    check_parts(Parts(config))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer.lr=-1"], "trainer.lr: expected a finite number > 0, got -1"),
        (
            ["trainer=ssd_300ep", "trainer.augmentation.crop_iou=foo"],
            "trainer.augmentation.crop_iou: expected legacy | caffe",
        ),
        (
            [
                "~trainer.augmentation",
                "+trainer.augmentation={_target_: al_lab.data.transforms.dense_view.DenseAugmentation}",
            ],
            "trainer.augmentation: expected null or an augmentation of al_lab.data.transforms.detection, got Dense",
        ),
        (
            ["trainer.milestones=[late]"],
            "trainer.milestones[0]: expected a finite number > 0, got 'late'",
        ),
        (["trainer.stop_at=[100,200]"], "trainer.stop_at: expected an entry for cycle 2, got 2 entries"),
        (
            ["detector.widths=[16,32]"],
            "detector: expected arguments that al_lab.models.detectors.tiny.TinyDetector can be built with, "
            "got ValueError",
        ),
        (
            ["detector.input_px=large"],
            "detector: expected arguments that al_lab.models.detectors.tiny.TinyDetector can be built with, got",
        ),
        (["detector=squeeze", "detector.frozen=40"], "detector.frozen: expected frozen in 0..13, got 40"),
        (
            ["detector=ssd300_voc", "detector.embedding_from=9"],
            "detector.embedding_from: expected a level in 0..5, got 9",
        ),
        (["detector=ssd300_voc", "detector.postprocess.nms_iou=7"], "detector.postprocess.nms_iou: expected"),
        (
            ["detector=ssd300_voc", "detector.model.neck.type=SSDNek"],
            "detector.model (SingleStageDetector): expected a model dict mmdet can build",
        ),
        (
            ["detector=squeeze", "detector.weights=nowhere/w.pth"],
            "nowhere/w.pth: expected a file with pretrained weights, got no such file",
        ),
        (
            [
                "detector=retinanet_r50",
                "detector.weights=null",
                "+detector.model.backbone.init_cfg={type: Pretrained, checkpoint: nowhere.pth}",
            ],
            "nowhere.pth: expected a file with pretrained weights, got no such file",
        ),
        (["embedding=nowhere.npz"], "embedding: nowhere.npz: expected a file, got no such file"),
        (
            ["embedding=resnet19"],
            "embedding: expected a classifier of torchvision",
        ),
        (
            ["detector=faster_rcnn_small", "strategy=al_ssl", "objective=supervised"],
            "strategy.matching: expected a detector with anchors for strategy.matching=index, got TorchvisionDetector; "
            "set strategy.matching=iou",
        ),
        (
            ["detector=faster_rcnn_small", "strategy=random", "runtime.devices=2"],
            "runtime.devices: expected runtime.devices=1 for TorchvisionDetector, got 2",
        ),
        (
            ["detector=faster_rcnn_small", "strategy=random", "objective.gamma=3"],
            "objective.gamma: expected a detector whose loss is the objective's",
        ),
        (
            [
                "detector=faster_rcnn_small",
                "strategy=mgral",
                "strategy.lut.reward=training",
                "strategy.agent.query=top",
            ],
            "strategy.lut.objective: expected a detector with anchors, which the rows' objective compares",
        ),
        (
            ["detector=faster_rcnn_small", "strategy=mgral"],
            "detector: expected a detector whose last class layers are known, got TorchvisionDetector",
        ),
    ],
)
def test_a_value_that_no_training_could_use_creates_no_folder(overrides, sentence, tmp_path):
    with pytest.raises(LabError) as caught:
        run_campaign(composed(INLINE, *overrides), tmp_path / "shapes" / "run")
    assert sentence in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> tuple[str, ...]:
    """Overrides of a campaign on a few small streets, generated once."""
    return (
        "dataset=streets",
        "strategy=random",
        INLINE,
        f"runtime.data_dir={tmp_path_factory.mktemp('streets')}",
        "dataset.num_source=2",
        "dataset.num_pool=2",
        "dataset.num_test=1",
        "dataset.size_hw=[24,32]",
        "budget=full",
        "budget.initial=0",
        "budget.cycles=5",
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["trainer.stop_at=[200,240,280,320,320,700]"],
            "trainer.stop_at with start=continue: expected rising numbers up to max_iters=900",
        ),
        (
            ["trainer.stop_at=[200,240,280,320,360,901]"],
            "expected rising numbers up to max_iters=900, one for each of 6 trainings",
        ),
        (["trainer.stop_at=700"], "expected rising numbers"),
        (["trainer.stop_at=901", "trainer.start=scratch"], "expected numbers up to max_iters=900"),
        (
            ["trainer.augmentation={_target_: al_lab.data.transforms.detection.FlipAugmentation}"],
            "trainer.augmentation: expected null or a DenseAugmentation, got FlipAugmentation",
        ),
        (
            [
                "objective=teacher_small",
                "trainer.augmentation={_target_: al_lab.data.transforms.dense_view.DenseAugmentation}",
            ],
            "got DenseAugmentation beside Teacher, which turns every image itself; set objective.geometry",
        ),
        (
            ["strategy=ripu", "budget=20px", "budget.per_cycle=8"],
            "budget.per_cycle: expected a budget of at least one region (9 pixels) an image and cycle, got 8 pixels; "
            "raise budget.per_cycle",
        ),
        (
            ["trainer.init=nowhere/m.ckpt"],
            "trainer.init=nowhere/m.ckpt: expected a checkpoint of an earlier training, got no such file",
        ),
        (["segmenter.branch=null"], "expected a network with what objective.aux=1 trains, got segmenter.branch=null"),
        (
            ["segmenter.widths=[8]"],
            "segmenter: expected arguments that al_lab.models.segmenters.tiny.TinySegmenter can be built with, "
            "got ValueError",
        ),
        (
            ["dataset.source=null", "objective=segment"],
            "training: expected images to train on, got no source images and no target images",
        ),
        (
            [
                "strategy._target_=tests.campaign.test_assemble.Foreseeing",
                "segmenter.branch.estimator=none",
                "objective.density=0",
            ],
            "expected a segmenter that provides pixel_error (the strategy needs it), got one that provides dense_probs",
        ),
    ],
)
def test_a_segmenters_campaign_is_checked_as_well(overrides, sentence, streets, tmp_path):
    with pytest.raises(LabError) as caught:
        run_campaign(composed(*streets, *overrides), tmp_path / "run")
    assert sentence in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("budget.initial=1", "budget.cycles=0"),
        ("dataset.source=null", "trainer.stop_at=[0,1,2,3,4,5]", "objective=segment", "segmenter.branch=null"),
    ],
    ids=str,
)
def test_what_would_segment_passes(overrides, streets, offline):
    check_values(composed(*streets, *overrides))


def every_strategy_on_generated_data() -> list[tuple[str, str]]:
    """Pairs of strategy and dataset that fit; replay needs a path."""
    task_of, files = (
        {"shapes": "detection", "streets": "segmentation"},
        sorted((ROOT / "conf" / "strategy").glob("*.yaml")),
    )
    tasks = {
        p.stem: literal_of(OmegaConf.load(p)["_target_"], "tasks", ("detection",)) for p in files if p.stem != "replay"
    }
    return [
        (strategy, dataset) for strategy, solved in tasks.items() for dataset, task in task_of.items() if task in solved
    ]


@pytest.mark.parametrize(("strategy", "dataset"), every_strategy_on_generated_data())
def test_debug_smoke_needs_no_other_word(strategy, dataset, tmp_path, offline):
    config = composed(f"strategy={strategy}", f"dataset={dataset}", "debug=smoke", f"runtime.data_dir={tmp_path}")
    if dataset == "streets":
        config["dataset"] |= {"num_source": 2, "num_pool": 30, "num_test": 1, "size_hw": [24, 32]}
    validate(config)
    check_values(config)


@pytest.fixture
def offline(monkeypatch):
    """Nothing may be downloaded or read as weights."""
    for name in ("torch.hub.download_url_to_file", "torch.hub.load_state_dict_from_url", "torch.load"):
        monkeypatch.setattr(name, lambda *_, name=name, **__: pytest.fail(name))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("detector=squeeze",),
        ("detector=ssd300_voc",),
        (
            "detector=retinanet_r50",
            "+detector.model.backbone.init_cfg={type: Pretrained, checkpoint: 'torchvision://resnet50'}",
            "+detector.model.neck.init_cfg={type: Pretrained, checkpoint: 'https://localhost/neck.pth'}",
        ),
    ],
    ids=str,
)
def test_what_would_train_passes_and_leaves_no_trace(overrides, offline):
    config = composed(INLINE, *overrides)
    before = str(config), torch.random.get_rng_state()
    check_values(config)
    assert str(config) == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


def test_a_weights_file_that_exists_is_not_read(tmp_path, offline):
    path = tmp_path / "w.pth"
    path.touch()
    check_values(composed(INLINE, "detector=squeeze", f"detector.weights={path}"))


def test_a_network_whose_default_is_a_download_gets_none(offline):
    check_values(composed(INLINE, "detector=squeeze", "~detector.weights"))


def test_the_number_of_classes_is_the_datasets(monkeypatch):
    seen = []
    real = TinyDetector.__init__
    monkeypatch.setattr(TinyDetector, "__init__", lambda self, **k: seen.append(k["num_classes"]) or real(self, **k))
    config = composed(INLINE, "strategy=random")
    check_values(config)
    check_values(config | {"dataset": {**config["dataset"], "classes": ["a", "b", "c"]}})
    assert seen == [2, 3]


def test_a_folder_with_a_single_class_is_refused_where_background_is_none(voc_tree):
    pytest.importorskip("mmdet")
    root = voc_tree({f"i{n}": [("cat", 5, 5, 30, 30)] for n in range(30)}, classes=("cat",))
    plan = (INLINE, "dataset=voc_folder", f"dataset.root={root}", "budget.initial=4", "budget.cycles=1")
    small = ("detector=retinanet_r50", "detector.input_hw=[64,64]", "detector.model.backbone.depth=18")
    small = (*small, "detector.model.neck.in_channels=[64,128,256,512]")
    with pytest.raises(ConfigError, match="two classes or more"):
        check_values(compose((*plan, "protocol=meh_hua", "strategy=random", *small)))


def test_nothing_is_built_twice_from_the_command_to_its_last_stage(tmp_path, monkeypatch):
    """Counted over the checks, the campaign, and the jobs it runs in this process; when it goes on, too."""
    quicken(monkeypatch)
    built: list[str] = []
    real = StubDetection.__init__
    monkeypatch.setattr(StubDetection, "__init__", lambda self, **k: built.append("in all") or real(self, **k))
    build = parts_module.build
    monkeypatch.setattr(parts_module, "build", lambda node, **k: built.append(node["_target_"]) or build(node, **k))
    config = stub_config({"_target_": "al_lab.strategies.general.margin.Margin"})
    config["dataset"]["name"] = "stub"
    targets = sorted(config[g]["_target_"] for g in ("dataset", "strategy", "budget", "trainer", "oracle", "executor"))
    for cycles in (1, 2):
        built.clear()
        config["budget"]["cycles"] = cycles
        run_campaign(validate(config), tmp_path / "run")
        assert sorted(built) == sorted([*targets, "in all"])


class Picky:
    """A learner of somebody else's, which only its own machine can build."""

    provides = ("detections",)

    def __init__(self, num_classes: int) -> None:
        raise ZeroDivisionError

    fit = views = load = None


class Foreseeing(Strategy):
    """Needs what not every branch has."""

    tasks, needs = ("segmentation",), ("pixel_error",)

    def __init__(self, **_: object) -> None: ...


def test_a_network_from_elsewhere_is_left_alone():
    check_values(
        stub_config({"_target_": "al_lab.strategies.general.random.Random"})
        | {"detector": {"_target_": "tests.campaign.test_assemble.Picky"}}
    )


def test_a_cluster_may_have_what_this_machine_lacks(monkeypatch):
    def without_mmdet(*_: object) -> None:
        try:
            raise ImportError("no mmcv here")
        except ImportError as error:
            raise ConfigError("no mmdet") from error

    monkeypatch.setattr("al_lab.models.mm.mmdet_network.build_detector", without_mmdet)
    overrides = ("detector=ssd300_voc", "detector.weights=on/the/node.pth")
    check_values(composed("executor=ray", *overrides))
    with pytest.raises(WeightsError, match=r"on/the/node\.pth"):
        check_values(composed(INLINE, *overrides))
    with pytest.raises(ConfigError, match="no mmdet"):
        check_values(composed(INLINE, "detector=ssd300_voc"))


def test_somebody_elses_bug_is_named_with_its_group(tmp_path: Path):
    config = stub_config({"_target_": "tests.campaign.test_assemble.Picky", "num_classes": 1})
    with pytest.raises(
        ConfigError,
        match=r"strategy: expected arguments that tests.campaign.test_assemble.Picky can be built with, got "
        r"ZeroDivisionError",
    ):
        run_campaign(config, tmp_path / "run")
    assert not any(tmp_path.iterdir())
