"""How a configuration is composed: one test for each sentence of the protocol mechanism, and the published numbers."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from al_lab.config import load
from al_lab.config.checks import check_kinds
from al_lab.config.load import (
    CONF_DIR,
    build,
    check_sweep,
    check_targets,
    choose,
    compose,
    load_config,
    name_run,
    save_config,
    validate,
)
from al_lab.core.errors import ConfigError, LabError, ResumeError

GROUPS = ("detector", "segmenter", "objective", "budget", "trainer")
PROTOCOLS = (
    "mgral",
    "al_ssl",
    "al_ssl_rivals",
    "ll4al",
    "mial",
    "meh_hua",
    "pm",
    "ppal",
    "mc_dropout",
    "density",
    "none",
)


@functools.cache
def composed(*overrides: str) -> dict:
    return compose(overrides)


def leaf(group: str, option: str) -> dict:
    return yaml.safe_load((CONF_DIR / group / f"{option}.yaml").read_text())


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of conf/ with strategies that have a paper of their own and a segmentation dataset, for tests to read."""
    folder = tmp_path_factory.mktemp("own") / "conf"
    shutil.copytree(CONF_DIR, folder)
    for values in ("for", "by_budget"):  # of the real ones
        shutil.rmtree(folder / "strategy" / values)
    for paper in ("mgral", "al_ssl", "density"):
        write(folder, f"strategy/{paper}", {"_target_": "al_lab.strategies.general.random.Random"})
    write(folder, "dataset/streets", {"_target_": "tests.stubs.StubDense", "name": "streets"})
    write(folder, "dataset/mine", {"_target_": "tests.stubs.StubDetection", "name": "mine"})
    return folder


@pytest.fixture
def own_conf(conf: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test to write into."""
    return shutil.copytree(conf, tmp_path / "conf")


def write(folder: Path, name: str, content: dict, header: str = "") -> None:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + yaml.safe_dump(content))


# --- the command alone, and the papers' numbers -----------------------------------------------------------------------


def test_without_arguments_it_is_the_main_job_on_generated_data():
    config = composed()
    chosen = {
        k: config["choices"][k]
        for k in ("strategy", "dataset", "detector", "objective", "budget", "trainer", "protocol")
    }
    assert chosen == {
        "strategy": "mgral",
        "dataset": "shapes",
        "detector": "tiny",
        "objective": "supervised",
        "budget": "shapes",
        "trainer": "tiny",
        "protocol": "mgral",
    }
    validate(config)


def test_voc_prints_the_published_settings():
    config = composed("strategy=entropy", "dataset=voc")
    assert config["dataset"]["pool"] == ["VOC2007/trainval", "VOC2012/trainval"]  # 16,551 images
    assert {k: config["budget"][k] for k in ("unit", "initial", "per_cycle", "cycles")} == {
        "unit": "image",
        "initial": 1000,
        "per_cycle": 1000,
        "cycles": 9,
    }
    assert config["detector"]["input_hw"] == [300, 300]
    assert settings(config) == {
        "batch_size": 32,
        "max_epochs": 300,
        "max_iters": None,
        "optimizer": "sgd",
        "lr": 0.001,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "milestones": [240],
        "gamma": 0.1,
        "warmup_iters": 0,
        "grad_clip": None,
        "start": "scratch",
    }


def test_coco_prints_the_published_settings():
    config = composed("strategy=entropy", "dataset=coco")
    assert (config["dataset"]["year"], config["dataset"]["pool"]) == (2017, "annotated")  # 117,266 images
    assert {k: config["budget"][k] for k in ("unit", "initial", "per_cycle", "cycles")} == {
        "unit": "image",
        "initial": 0.02,
        "per_cycle": 0.02,
        "cycles": 4,
    }
    budget = build(config["budget"])
    assert [budget.initial_images(117266), budget.allowance(0, 117266).amount] == [2345, 2345]
    assert (config["detector"]["model"]["type"], config["detector"]["input_hw"]) == ("RetinaNet", [800, 1333])
    assert settings(config) == {
        "batch_size": 8,
        "max_epochs": 26,
        "max_iters": None,
        "optimizer": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 0.0001,
        "milestones": [20],
        "gamma": 0.1,
        "warmup_iters": 500,
        "grad_clip": 35.0,
        "start": "scratch",
    }


@pytest.mark.parametrize(
    ("dataset", "initial", "detector"), [("voc", 2000, "ssd300_voc"), ("coco", 5000, "ssd300_coco")]
)
def test_al_ssl_prints_the_published_settings(dataset, initial, detector):
    config = composed("protocol=al_ssl", "strategy=entropy", f"dataset={dataset}")
    assert {k: config["budget"][k] for k in ("initial", "per_cycle", "cycles")} == {
        "initial": initial,
        "per_cycle": 1000,
        "cycles": 5,
    }
    assert config["choices"]["detector"] == detector
    assert settings(config) == {
        "batch_size": 32,
        "max_epochs": None,
        "max_iters": 120000,
        "optimizer": "sgd",
        "lr": 0.001,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "milestones": [80000, 100000],
        "gamma": 0.1,
        "warmup_iters": 0,
        "grad_clip": None,
        "start": "scratch",
    }


# Fact sheet, 4.1 (sampler, schedule), 4.3 (acquisition), 4.4 (pseudo-labels), 2.2 (ramp), number by number.
@pytest.mark.parametrize(("dataset", "initial", "tau", "year"), [("voc", 2000, 0.99, None), ("coco", 5000, 0.75, 2014)])
def test_al_ssl_is_its_papers_protocol(dataset, initial, tau, year):
    config = composed("strategy=al_ssl", f"dataset={dataset}")
    assert config["protocol"] == "al_ssl"
    assert config["strategy"] == {
        "_target_": "al_lab.strategies.detection.al_ssl.AlSsl",
        "score": "product",
        "count_thresh": 0.5,
        "nms_acq": 0.5,
        "matching": "index",
        "prefilter_m": 3000,
        "ties": "hash",
    }
    objective = config["objective"]
    assert objective.pop("ramp") == {
        "kind": "up_down",
        "up": pytest.approx(32 / 120),
        "down": pytest.approx(100 / 120),
        "up_rate": 5.0,
        "down_rate": 12.5,
    }
    assert objective == {
        "_target_": "al_lab.objectives.csd.CSD",
        "weight": 1.0,
        "cons_cls": "symkl",
        "cons_detach": True,
        "be_mask": "orig",
        "cons_loc": "legacy",
        "labeled_ratio": 0.5,
        "tau": tau,
        "pl_loss": "positives_only",
        "supervised": None,
    }
    assert settings(config) == {
        "batch_size": 32,
        "max_epochs": None,
        "max_iters": 120000,
        "optimizer": "sgd",
        "lr": 0.001,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "milestones": [80000, 100000],
        "gamma": 0.1,
        "warmup_iters": 0,
        "grad_clip": None,
        "start": "scratch",
    }
    assert {k: config["budget"][k] for k in ("unit", "initial", "per_cycle", "cycles")} == {
        "unit": "image",
        "initial": initial,
        "per_cycle": 1000,
        "cycles": 5,
    }
    assert [config["trainer"]["augmentation"][k] for k in ("crop_iou", "unlabeled_crop")] == ["legacy", "free"]
    assert (config["dataset"].get("year"), config["choices"]["detector"]) == (year, f"ssd300_{dataset}")
    assert config["detector"]["postprocess"] in (None, {}) or config["detector"]["postprocess"]["nms_iou"] == 0.45


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("al_ssl_random", ("random", None, 1.0, None)),
        ("al_ssl_entropy", ("al_ssl", "entropy", 1.0, None)),
        ("al_ssl_inconsistency", ("al_ssl", "inconsistency", 1.0, None)),
        ("al_ssl_unified", ("al_ssl", "product", 1.0, None)),
        ("al_ssl_full", ("al_ssl", "product", 1.0, 0.75)),
        ("al_ssl_supervised", ("al_ssl", "inconsistency", None, None)),
        ("al_ssl_pseudo_labels", ("random", None, 0.0, 0.75)),
    ],
)
def test_the_arms_of_al_ssls_ablation(recipe, expected):
    config = composed(f"experiment={recipe}", "dataset=coco")
    objective = config["objective"]
    assert (
        config["choices"]["strategy"],
        config["strategy"].get("score"),
        objective.get("weight"),
        objective.get("tau"),
    ) == expected
    assert (config["budget"]["initial"], config["trainer"]["max_iters"], config["dataset"]["year"]) == (
        5000,
        120000,
        2014,
    )
    assert config["dataset"]["metrics"][0] == "coco_ap50"  # Sec. 4: mAP at an IoU of .5


@pytest.mark.parametrize("strategy", ["mc_dropout", "ensemble"])
@pytest.mark.parametrize(
    ("dataset", "detector", "initial", "year"), [("voc", "ssd300_voc", 2000, None), ("coco", "ssd300_coco", 5000, 2014)]
)
def test_what_al_ssl_compares_with_is_trained_on_labels_alone(strategy, dataset, detector, initial, year):
    config = composed(f"strategy={strategy}", f"dataset={dataset}")
    validate(config)
    assert (config["choices"]["detector"], config["choices"]["objective"]) == (detector, "supervised")
    assert [config["budget"][k] for k in ("initial", "per_cycle", "cycles")] == [initial, 1000, 5]
    assert {"max_iters": 120000, "batch_size": 32}.items() <= config["trainer"].items()
    assert config["dataset"].get("year") == year
    dropout = {"p": 0.1, "where": None} if strategy == "mc_dropout" else None
    assert config["detector"]["dropout"] == dropout
    control = composed("strategy=random", f"dataset={dataset}", f"protocol={config['protocol']}")
    assert all(control[k] == config[k] for k in ("detector", "objective", "budget", "trainer", "dataset"))


def test_passes_need_dropout_and_a_detector_that_can_have_none_is_told():
    with pytest.raises(ConfigError, match=r"set detector\.dropout \(p\) \(protocol=mc_dropout does\), or choose"):
        validate(composed("strategy=mc_dropout", "protocol=mgral", "dataset=shapes"))
    found = composed("strategy=mc_dropout", "dataset=voc", "detector=faster_rcnn")
    assert "dropout" not in found["detector"]
    with pytest.raises(ConfigError, match="provides box_mutual_information"):
        validate(found)
    kept = composed("strategy=mc_dropout", "dataset=shapes", "detector.dropout={p: 0.2, where: levels}")
    assert kept["detector"]["dropout"] == {"p": 0.2, "where": "levels"}


@pytest.mark.parametrize(
    ("overrides", "detector", "budget", "trainer"),
    [
        (
            ("strategy=meh_hua", "dataset=voc"),
            ("ssd300_voc", ["evidence"], "evidential"),
            (1000, 1000, 9),
            {"batch_size": 8, "max_epochs": 240, "milestones": [192], "lr": 1e-3, "weight_decay": 1e-4},
        ),
        (
            ("experiment=meh_hua_retinanet",),
            ("retinanet_r50_voc", ["evidence"], "evidential"),
            (827, 413, 6),
            {"batch_size": 2, "max_epochs": 18, "milestones": [16], "lr": 1e-3, "weight_decay": 1e-4},
        ),
        (
            ("strategy=pm", "dataset=voc"),
            ("ssd300_voc", ["mixture"], "mixture_density"),
            (2000, 1000, 5),
            {"batch_size": 32, "max_iters": 120000, "milestones": [80000, 100000], "warmup_power": 4},
        ),
        (
            ("strategy=pm", "dataset=coco"),
            ("ssd300_coco", ["mixture"], "mixture_density"),
            (5000, 1000, 5),
            {"batch_size": 32, "max_iters": 120000, "milestones": [80000, 100000], "warmup_power": 4},
        ),
    ],
)
def test_rivals_with_other_layers_have_their_papers_protocols(overrides, detector, budget, trainer):
    config = composed(*overrides)
    validate(config)
    chosen = config["choices"]
    assert (chosen["detector"], config["detector"]["branches"], chosen["objective"]) == detector
    assert tuple(config["budget"][k] for k in ("initial", "per_cycle", "cycles")) == budget
    assert trainer.items() <= config["trainer"].items()


@pytest.mark.parametrize(
    ("dataset", "size", "budget", "lr"),
    [("voc", [600, 1000], (827, 414, 6), 0.002), ("coco", [800, 1333], (2365, 2365, 4), 0.01)],
)
def test_ppal_is_its_papers_protocol(dataset, size, budget, lr):
    config = composed("strategy=ppal", f"dataset={dataset}")
    validate(config)
    assert config["protocol"] == "ppal" and config["detector"]["branches"] == ["class_quality"]
    assert config["detector"]["input_hw"] == size and config["detector"]["model"]["type"] == "RetinaNet"
    assert tuple(config["budget"][k] for k in ("initial", "per_cycle", "cycles")) == budget
    trainer = {
        "batch_size": 8, "max_epochs": 26, "milestones": [20], "gamma": 0.1, "lr": lr, "weight_decay": 1e-4,
        "warmup_iters": 500, "warmup_ratio": 0.001, "grad_clip": 35,
    }  # fmt: skip
    assert trainer.items() <= config["trainer"].items()
    numbers = {"alpha": 0.3, "beta": 0.2, "factor": 4, "min_confidence": 0.05, "min_side_px": 16, "max_ratio": 5}
    assert numbers.items() <= config["strategy"].items()
    assert [config["objective"][k] for k in ("power", "momentum")] == [0.6, 0.99]
    if dataset == "coco":  # 2 % of all 118,287 images
        assert (config["dataset"]["year"], config["dataset"]["pool"]) == (2017, "all")


@pytest.mark.parametrize("strategy", ["cdal", "ebal"])
def test_cdal_and_ebal_run_under_the_protocol_that_mgral_takes_from_them(strategy):
    for dataset in ("voc", "coco"):
        config, plain = composed(f"strategy={strategy}", f"dataset={dataset}"), composed(f"dataset={dataset}")
        validate(config)
        assert config["protocol"] == "mgral"
        assert all(config[group] == plain[group] for group in ("detector", "objective", "budget", "trainer"))


def test_a_class_quality_that_nobody_counts_is_refused():
    with pytest.raises(ConfigError, match="class_difficulty"):
        validate(composed("strategy=ppal", "protocol=mgral", "dataset=shapes"))


# What `--cfg job --resolve` prints, with its place in the paper; no number of the paper is left to be derived.
@pytest.mark.parametrize(
    ("dataset", "of_this_pair"),
    [
        (
            "voc",
            {
                "lut.rows": (200, "Sec. 4.1: M = 200 ISD-SSD runs"),
                "lut.objective": ("isd", "Sec. 4.1"),
                "lut.metric": ("voc07_ap50", "Fig. 3a: mAP; fact sheet 1.2: VOC07 test"),
                "learning.iterations": (2200, "Sec. 4.1: 2,200 (VOC)"),
                "budget.initial": (1000, "Sec. 4.1: VOC-1k labeled init"),
                "budget.per_cycle": (1000, "Sec. 4.1: +1k/cycle"),
                "budget.cycles": (9, "Sec. 4.1: 10 cycles, the last of which buys nothing"),
            },
        ),
        (
            "coco",
            {
                "lut.rows": (30, "Sec. 4.1: 30 SED-SSOD runs"),
                "lut.objective": ("sed", "Sec. 4.1"),
                "lut.metric": ("coco_ap", "Fig. 3b: AP (0.5:0.95)"),
                "learning.iterations": (800, "Sec. 4.1: 800 (COCO)"),
                "budget.initial": (0.02, "Sec. 4.1: COCO-2.0% init"),
                "budget.per_cycle": (0.02, "Sec. 4.1: +2.0%/cycle"),
                "budget.cycles": (4, "Sec. 4.1: to 10.0%"),
            },
        ),
    ],
)
def test_mgral_is_its_papers_protocol(dataset, of_this_pair):
    config = composed("strategy=mgral", f"dataset={dataset}")
    strategy = config["strategy"]
    assert config["protocol"] == "mgral"
    numbers = of_this_pair | {
        "agent.hidden": (257, "Sec. 4.1: 257-dimension hidden (256 image embedding + 1 prev-score)"),
        "agent.feedback": ("sigmoid", "Sec. 3.2: the preceding unit's decision; sheet 1.3"),
        "agent.ref0": ("base", "Fig. 1: performance at last cycle"),
        "agent.query": ("top", "Sec. 3.2: top-B"),
        "learning.lr": (3.5e-4, "Sec. 4.1: Adam (lr 3.5 x 10^-4)"),
        "learning.decay": (0.5, "Sec. 4.1: baseline decay lambda = 0.5"),
        "learning.reference": ("ema", "Sec. 3.4: moving average; sheet 1.6"),
        "learning.policy": ("pl", "UNSPECIFIED; sheet 1.5"),
        "learning.max_fall_backs": (5, "UNSPECIFIED; Sec. 3.5: we fall back to direct retraining"),
        "lut.mode": ("scratch", "Sec. 3.3: a new detector from scratch"),
        "lut.length": (1.0, "Sec. 3.3"),
        "lut.distance": ("perdim_w1", "Sec. 3.5: Wasserstein distance [22]; sheet 1.7"),
        "lut.threshold": ("pairwise_std", "Sec. 3.5: a preset threshold (mean minus one standard deviation)"),
        "lut.weight_power": (1.0, "Sec. 3.5: weights inversely proportional to distance"),
        "lut.predictor": ("table", "Sec. 3.5"),
        "lut.batches": ("uniform", "Sec. 3.5: a randomly selected batch"),
    }
    printed = {**strategy, "budget": config["budget"]}
    found = {name: functools.reduce(lambda node, key: node[key], name.split("."), printed) for name in numbers}
    assert found == {name: value for name, (value, _) in numbers.items()}
    assert strategy["lut"]["objectives"]["isd"]["ramp"]["kind"] == "up_only"
    assert (strategy["lut"]["trainer"] or {}).get("max_iters") == (120000 if dataset == "voc" else None)
    assert config["choices"]["objective"] == "supervised"  # the curve's own trainings


# Fact sheet of segmentation: 2.3 (sizes), 4 (schedule), 5.4 (budget), 6.4 (losses and branch), number by number.
@pytest.mark.parametrize(
    ("dataset", "num_classes", "metrics"),
    [("gtav_cityscapes", 19, ["miou"]), ("synthia_cityscapes", 16, ["miou", "miou13"])],
)
def test_density_is_its_papers_protocol(dataset, num_classes, metrics):
    config = composed("strategy=density", f"dataset={dataset}")
    assert (config["protocol"], config["choices"]["segmenter"], config["detector"]) == ("density", "deeplab_v2", None)
    assert [config["dataset"][k] for k in ("source_hw", "target_hw", "metrics", "flip_test")] == [
        [720, 1280],
        [640, 1280],
        metrics,
        True,
    ]
    assert config["dataset"]["target"]["num_classes"] == num_classes
    assert {k: config["budget"][k] for k in ("unit", "initial", "per_cycle", "cycles", "scope")} == {
        "unit": "pixel",
        "initial": 0,
        "per_cycle": 0.0044,
        "cycles": 5,
        "scope": "image",
    }
    assert settings(config) == {
        "batch_size": 4,
        "max_epochs": None,
        "max_iters": 62500,
        "optimizer": "sgd",
        "lr": 0.00025,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "milestones": [],
        "gamma": 0.1,
        "warmup_iters": 0,
        "grad_clip": None,
        "start": "continue",
    }
    assert [config["trainer"][k] for k in ("decay", "poly_power", "stop_at", "augmentation")] == [
        "poly",
        0.9,
        [10000, 12000, 14000, 16000, 18000, 40000],
        None,
    ]
    assert {
        k: config["objective"][k]
        for k in ("source_ce", "target_ce", "consistency", "negative", "margin", "aux", "density")
    } == {"source_ce": 1, "target_ce": 1, "consistency": 0.1, "negative": 1, "margin": 1, "aux": 1, "density": 1}
    assert [
        config["objective"][k] for k in ("negative_threshold", "stop_gradient_step", "source_ratio", "source_balance")
    ] == [0.05, 18000, 0.5, True]
    assert (config["segmenter"]["branch"], config["segmenter"]["head_lr"]) == ({"dim": 64, "estimator": "dmc5"}, 10.0)


# Fact sheet of rivals, section 4.
@pytest.mark.parametrize("dataset", ["gtav_cityscapes", "synthia_cityscapes"])
def test_mada_is_its_papers_protocol(dataset):
    config = composed("strategy=mada", f"dataset={dataset}")
    assert {k: config["budget"][k] for k in ("unit", "initial", "per_cycle", "cycles", "scope")} == {
        "unit": "image", "initial": 0, "per_cycle": int(0.05 * 2975), "cycles": 1, "scope": "pool",
    }  # fmt: skip
    assert {k: config["strategy"][k] for k in ("anchors", "min_pixels", "iterations")} == {
        "anchors": 10, "min_pixels": 10, "iterations": 20,
    }  # fmt: skip
    found = settings(config) | {k: config["trainer"][k] for k in ("weight_decay", "decay", "poly_power")}
    numbers = {
        "optimizer": "sgd", "lr": 0.0001, "momentum": 0.9, "weight_decay": 0.0002, "decay": "poly", "poly_power": 0.9,
        "max_iters": 90000, "batch_size": 4, "start": "weights",
    }  # fmt: skip
    assert {k: found[k] for k in numbers} == numbers
    assert config["segmenter"]["head"] == "v3plus" and config["segmenter"]["branch"] == {
        "dim": 256,
        "estimator": "none",
    }
    seen = config["trainer"]["augmentation"]
    assert (seen["size_hw"], [1280 * s for s in seen["scale"]]) == ([512, 896], [0.5 * 2200, 1.5 * 2200])
    weights = {k: config["objective"][k] for k in ("source_ce", "target_ce", "consistency", "negative", "margin")}
    assert weights == {"source_ce": 1, "target_ce": 1, "consistency": 0, "negative": 0, "margin": 0}
    check_targets({k: v for k, v in config.items() if k != "choices"})


# The same sheet, sections 2 and 3: 29 images of 2048 x 1024 are 1 %; ReDAL's port is trained as D2ADA.
@pytest.mark.parametrize(
    ("strategy", "dataset", "numbers"),
    [
        ("d2ada", "gtav_cityscapes", {"kept": 200, "alpha": 1, "beta": 1}),
        ("d2ada", "synthia_cityscapes", {}),
        ("redal", "gtav_cityscapes", {"edge_weight": 0.05, "decay": 0.95, "clusters": 500}),
        ("redal", "synthia_cityscapes", {}),
        ("badge_segments", "gtav_cityscapes", {}),
    ],
)
def test_d2ada_and_its_ports_are_their_papers_protocol(strategy, dataset, numbers):
    config = composed(f"strategy={strategy}", f"dataset={dataset}")
    assert {k: config["strategy"][k] for k in numbers} == numbers
    assert {k: config["budget"][k] for k in ("unit", "initial", "per_cycle", "cycles", "scope")} == {
        "unit": "pixel", "initial": 0, "per_cycle": 29 * 2048 * 1024, "cycles": 5, "scope": "pool",
    }  # fmt: skip
    found = settings(config) | {k: config["trainer"][k] for k in ("weight_decay", "decay", "poly_power")}
    expected = {
        "optimizer": "sgd", "lr": 0.00025, "weight_decay": 0.0005, "decay": "poly", "poly_power": 0.9,
        "max_iters": 120000, "batch_size": 2, "start": "weights",
    }  # fmt: skip
    assert {k: found[k] for k in expected} == expected and config["segmenter"]["head_lr"] == 10
    assert (config["segmenter"]["head"], config["segmenter"]["branch"]) == ("v2", {"dim": 256, "estimator": "none"})
    assert (config["dataset"]["target_hw"], config["dataset"]["flip_test"]) == ([1024, 2048], False)
    colors = ("jitter", "brightness", "contrast", "saturation", "hue", "blur")
    assert [config["trainer"]["augmentation"]["strong"][k] for k in colors] == [1, 0.5, 0.5, 0.5, 0, 0]
    cut = ("kind", "count", "compactness", "min_size_factor")
    assert [config["dataset"]["segments"][k] for k in cut] == ["slic", 40, 10, 0]
    check_targets({k: v for k, v in config.items() if k != "choices"})


def test_mics_numbers_around_density_matters_purchases():
    """Its released configuration, GTAV to Cityscapes."""
    config = composed("experiment=adapt_mic", "segmenter.weights=mit_b5.pth")
    expected = {
        "optimizer": "adamw", "lr": 6e-5, "batch_size": 4, "max_iters": 40000, "decay": "poly", "poly_power": 1,
        "warmup_iters": 1500, "warmup_ratio": 1e-6,
    }  # fmt: skip
    assert {k: config["trainer"][k] for k in expected} == expected and config["segmenter"]["head_lr"] == 10
    assert (config["dataset"]["source_hw"], config["dataset"]["target_hw"]) == ([1440, 2560], [1024, 2048])
    numbers = {"crop_hw": [1024, 1024], "threshold": 0.968, "ema": 0.999, "mask_ratio": 0.7, "mask_block_px": 64}
    assert {k: config["objective"][k] for k in numbers} == numbers
    assert config["objective"]["geometry"] == {"scale": [1, 1], "flip": 0.5}
    assert config["segmenter"]["model"]["backbone"]["num_layers"] == [3, 6, 40, 3]
    check_targets({k: v for k, v in config.items() if k != "choices"})


@pytest.mark.parametrize(
    ("words", "alpha"),
    [
        ("strategy=density", 20),
        ("strategy=density budget=40px", 20),
        ("strategy=density budget=5pct", 10),
        ("experiment=adapt_density segmenter=deeplab_v3plus budget=5pct", 10),
        ("strategy=density budget=5pct strategy.alpha=7", 7),
        ("strategy=density budget=20px", None),
        ("strategy=core_set", None),
    ],
)
def test_alpha_is_the_papers_number_for_the_papers_budgets(words, alpha):
    assert composed(*words.split(), "dataset=gtav_cityscapes")["strategy"]["alpha"] == alpha


# Section 7: a query before the first step and then every 2,000; the model it begins with, 20,000 steps on the source
# alone.
@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ("source_free", [2, 62500, 0.00025, "continue", [0, 2000, 4000, 6000, 8000, 30000]]),
        ("source_only", [2, 31250, 0.0005, "scratch", 20000]),
    ],
)
def test_other_trainings_of_a_segmenter(trainer, expected):
    config = composed("dataset=gtav_cityscapes", "strategy=density", f"trainer={trainer}", "trainer.init=m.ckpt")
    assert [config["trainer"][k] for k in ("batch_size", "max_iters", "lr", "start", "stop_at")] == expected


def test_source_free_training_asks_for_the_model_it_begins_with():
    with pytest.raises(ConfigError, match=r"expected a value for trainer.init, got none"):
        compose(("dataset=gtav_cityscapes", "strategy=density", "trainer=source_free"))


def test_al_ssl_as_released():
    config = composed("experiment=al_ssl_as_released")
    assert (
        config["strategy"]["score"],
        config["strategy"]["prefilter_m"],
        config["budget"]["initial"],
        config["trainer"]["batch_size"],
    ) == ("prefilter", 3000, 2011, 16)


def settings(config: dict) -> dict:
    keys = (
        "batch_size",
        "max_epochs",
        "max_iters",
        "optimizer",
        "lr",
        "momentum",
        "weight_decay",
        "milestones",
        "gamma",
        "warmup_iters",
        "grad_clip",
        "start",
    )
    return {k: config["trainer"][k] for k in keys}


# --- the protocol mechanism -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paper", ["mgral", "al_ssl"])
def test_a_strategy_on_a_dataset_is_its_papers_protocol(conf, paper):
    config = compose([f"strategy={paper}", "dataset=voc"], conf)
    assert config["protocol"] == config["choices"]["protocol"] == paper
    option = leaf("budget", {"mgral": "voc_1k", "al_ssl": "al_ssl_voc"}[paper])
    assert config["budget"] == load._EVERY_BUDGET | option


def test_auto_is_mgral_for_other_detection_strategies(conf):
    assert compose(["strategy=entropy", "dataset=voc"], conf)["protocol"] == "mgral"


def test_auto_is_density_for_segmentation(conf):
    assert compose(["strategy=random", "dataset=streets"], conf)["protocol"] == "density"
    assert compose(["strategy=density", "dataset=streets"], conf)["protocol"] == "density"


def test_protocol_none_picks_nothing():
    config = composed("protocol=none")
    assert [config["choices"].get(g) for g in GROUPS] == [None] * len(GROUPS)
    with pytest.raises(ConfigError, match=r"expected an option of detector, got none; choose one with detector=…"):
        validate(config)


def test_a_protocol_is_a_table_of_options_that_exist():
    for protocol in PROTOCOLS:
        for dataset, row in leaf("protocol", protocol).items():
            for group, option in row.items():
                folder = {"variant": "dataset/variant", "branches": "detector/branches"}.get(group, group)
                assert (CONF_DIR / folder / f"{option}.yaml").is_file(), f"{protocol}: {dataset}: {group}={option}"
            if row:
                assert {"objective", "budget", "trainer"} < set(row)
                assert ("segmenter" in row) != ("detector" in row), f"{protocol}: {dataset}"
                assert protocol != "density" or "segmenter" in row


def test_every_dataset_has_a_row_or_the_default(conf):
    assert compose(["dataset=mine"], conf)["choices"]["detector"] == leaf("protocol", "mgral")["default"]["detector"]


def test_options_are_picked_and_values_never_merged():
    """What is chosen on the command line comes out exactly as its file has it, whatever the protocol would
    have picked."""
    config = composed("dataset=voc", "detector=tiny", "trainer=tiny", "budget=shapes")
    assert config["detector"] == leaf("detector", "tiny")
    assert config["trainer"] == leaf("trainer", "tiny") | {"milestones": [210, 270]}
    assert config["budget"] == load._EVERY_BUDGET | leaf("budget", "shapes")


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (("detector", "mgral", "random", "voc"), "ssd300_voc"),
        (("segmenter", "mgral", "random", "voc"), "-"),
        (("branches", "mgral", "random", "voc"), "-"),
        (("branches", "auto", "ll4al", "voc"), "learning_loss"),
        (("detector", "auto", "ppal", "voc"), "retinanet_r50_voc"),
        (("budget", "auto", "ppal", "coco"), "ppal_coco"),
        (("segmenter", "mgral", "mgral", "segmentation_folder"), "squeeze"),
        (("detector", "mgral", "mgral", "segmentation_folder"), "-"),
        (("variant", "nonsense", "x", "y"), "-"),
        (("protocol", "auto", "nonsense", "nonsense"), "mgral"),
        (("protocol", "none", "x", "y"), "none"),
    ],
)
def test_choose_returns_an_option_whatever_comes(args, option):
    assert choose(*args) == option


def test_nothing_to_choose_is_a_dash():
    assert choose("segmenter", "mgral", "random", "voc") == "-"
    assert composed("dataset=voc")["segmenter"] is None


def test_the_resolver_is_registered_by_the_import_and_needs_no_torch():
    code = (
        "import sys; from al_lab.config.load import compose, validate; validate(compose(['strategy=entropy'])); "
        "print(*sys.modules)"
    )
    imported = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "al_lab.config.checks" in imported
    assert not {"torch", "mmdet", "pytorch_lightning"} & imported


def test_a_protocol_may_use_a_variant_of_the_dataset():
    assert composed("protocol=al_ssl", "strategy=entropy", "dataset=coco")["dataset"]["year"] == 2014
    assert composed("protocol=none", "dataset=coco")["dataset"]["pool"] == "all"


def test_a_strategy_has_values_of_its_own_on_a_dataset(own_conf):
    write(own_conf, "strategy/for/mgral_voc", {"tau": 0.7})
    assert compose(["strategy=mgral", "dataset=voc"], own_conf)["strategy"]["tau"] == 0.7
    assert "tau" not in compose(["strategy=mgral", "dataset=coco"], own_conf)["strategy"]
    assert compose(["strategy=mgral", "dataset=voc", "strategy.tau=0.1"], own_conf)["strategy"]["tau"] == 0.1


def test_the_command_line_wins():
    config = composed("dataset=voc", "budget=al_ssl_voc", "trainer.lr=0.5", "budget.cycles=1")
    assert (config["budget"]["initial"], config["budget"]["cycles"], config["trainer"]["lr"]) == (2000, 1, 0.5)


def test_an_experiment_wins(own_conf):
    write(
        own_conf,
        "experiment/mine",
        {
            "defaults": [
                {"override /strategy": "entropy"},
                {"override /dataset": "voc"},
                {"override /detector": "tiny"},
            ],
            "trainer": {"lr": 3.0},
            "seed": 7,
        },
        "# @package _global_\n",
    )
    config = compose(["experiment=mine"], own_conf)
    assert (config["choices"]["detector"], config["choices"]["budget"], config["trainer"]["lr"], config["seed"]) == (
        "tiny",
        "voc_1k",
        3.0,
        7,
    )
    over = compose(["experiment=mine", "detector=ssd300_voc", "trainer.lr=4"], own_conf)
    assert (over["choices"]["detector"], over["trainer"]["lr"]) == ("ssd300_voc", 4)


def test_debug_wins_over_the_experiment_and_the_command_line_over_both():
    config = composed("experiment=shapes_demo", "debug=smoke", "trainer.max_iters=2")
    assert (
        config["budget"]["initial"]
        == leaf("debug", "smoke")["budget"]["initial"]
        != leaf("budget", "shapes")["initial"]
    )
    assert config["trainer"]["max_iters"] == 2


def test_an_option_may_be_taken_away():
    assert composed("~detector")["detector"] is None


def test_the_two_seeds_are_two_numbers():
    config = composed("seed=3")
    assert (config["seed"], config["split_seed"]) == (3, 0)


def test_an_own_config_dir_is_seen_by_the_resolver(tmp_path):
    write(tmp_path, "dataset/streets2", {"_target_": "tests.stubs.StubDense", "name": "streets2"})
    write(tmp_path, "protocol/mine", {"default": {"detector": "tiny", "budget": "full"}})
    done = subprocess.run(
        [
            sys.executable,
            "run.py",
            "--config-dir",
            str(tmp_path),
            "dataset=streets2",
            "protocol=mine",
            "--cfg",
            "job",
            "--resolve",
        ],
        cwd=CONF_DIR.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    config = yaml.safe_load(done.stdout)
    assert (config["protocol"], config["detector"], config["budget"]["initial"]) == (
        "mine",
        leaf("detector", "tiny"),
        1.0,
    )


# --- sweeps that compare ----------------------------------------------------------------------------------------------


def sweep(conf: Path, *overrides: str, params: dict[str, str] | None = None) -> list[list[str]]:
    from hydra import initialize_config_dir

    with initialize_config_dir(str(conf), version_base="1.3"):
        return check_sweep(overrides, params)


def test_a_sweep_lists_its_jobs(conf):
    assert sweep(conf, "strategy=random,entropy", "seed=0,1") == [
        [f"strategy={s}", f"seed={k}"] for s in ("random", "entropy") for k in (0, 1)
    ]


def test_a_recipe_may_bring_its_sweep_and_the_command_line_narrows_it(conf):
    jobs = sweep(conf, "seed=5", params={"strategy": "random,entropy", "seed": "0,1"})
    assert jobs == [["strategy=random", "seed=5"], ["strategy=entropy", "seed=5"]]


def test_a_sweep_that_compares_strategies_pins_the_protocol(conf):
    with pytest.raises(
        ConfigError, match=r"random under mgral, al_ssl under al_ssl.*add protocol=mgral or protocol=al_ssl"
    ):
        sweep(conf, "strategy=random,al_ssl")
    assert len(sweep(conf, "strategy=random,al_ssl", "protocol=al_ssl")) == 2
    assert len(sweep(conf, "strategy=random", "protocol=al_ssl,mgral")) == 2


def test_a_key_of_what_a_sweep_chooses_is_there_for_its_jobs_alone(conf):
    assert len(sweep(conf, "strategy=random,al_ssl", "protocol=al_ssl", "++objective.tau=0.5")) == 2
    assert compose(["++objective.tau=0.5"])["strategy"]["_target_"].endswith("Mgral")  # what Hydra composes before
    with pytest.raises(ConfigError, match=r"objective\.tau: expected arguments of .*Supervised, got unknown key 'tau'"):
        sweep(conf, "strategy=mgral,random", "++objective.tau=0.5")


def test_one_wrong_job_stops_the_sweep_before_it_starts(conf):
    with pytest.raises(LabError, match="budget"):
        sweep(conf, "budget.initial=10,999999")


# --- milestones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "milestones"),
    [
        ((), [210, 270]),  # as run folders have always named them
        (("trainer.max_iters=25",), [18, 22]),
        (("trainer.max_iters=2",), [1]),
        (("trainer.max_iters=1",), []),
        (("trainer.milestones=[10,0.5]",), [10, 150]),
        (("trainer.milestones=[120]",), [120]),
        (("trainer=ssd_300ep",), [240]),
        (("trainer=ssd_120k",), [80000, 100000]),
        (("trainer=ssd_300ep", "trainer.max_epochs=3", "trainer.milestones=[0.5]"), [2]),
        (("trainer=ssd_300ep", "trainer.max_epochs=0.5", "trainer.milestones=[0.5]"), [0.25]),
        (("trainer=ssd_300ep", "trainer.max_epochs=null", "trainer.max_iters=ten", "trainer.milestones=[0.5]"), [0.5]),
    ],
)
def test_milestones_may_be_fractions_of_the_length(overrides, milestones):
    assert composed(*overrides)["trainer"]["milestones"] == milestones


# --- names and folders ------------------------------------------------------------------------------------------------


def folder_of(*overrides: str) -> str:
    config = compose(overrides)
    config["overrides"] = list(overrides)
    return str(name_run(config))


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        (
            ("strategy=entropy", "seed=2", "executor=inline", "restart=true", "budget.cycles=9"),
            "outputs/shapes/entropy/default/seed2",
        ),
        (
            ("trainer.on_divergence.retries=4", "trainer.on_divergence.lr_scale=0.5"),
            "outputs/shapes/mgral/default/seed0",
        ),
        (("trainer.max_iters=7", "detector=tiny"), "outputs/shapes/mgral/trainer.max_iters-7/seed0"),
        (("name=mine", "trainer.max_iters=7", "runtime.outputs_dir=o"), "o/shapes/mgral/mine/seed0"),
        (("oracle=folder",), "outputs/shapes/mgral/oracle-folder/seed0"),  # its labels are not the simulated ones
        (("oracle=simulated", "oracle.seconds_per_box=3"), "outputs/shapes/mgral/default/seed0"),
        (("oracle/rates@oracle=drawn",), "outputs/shapes/mgral/default/seed0"),
        (("debug=smoke",), "outputs/debug/shapes/mgral/debug-smoke/seed0"),
    ],
)
def test_the_run_folder_says_what_is_not_default(overrides, folder):
    assert folder_of(*overrides) == folder


def test_a_folder_named_by_the_first_version_is_gone_on_with(tmp_path):
    overrides = ("strategy=entropy", "trainer.max_iters=7", "trainer.lr=0.5", f"runtime.outputs_dir={tmp_path}")
    new = Path(folder_of(*overrides))
    assert new.parts[-2] == "trainer.lr-0.5-trainer.max_iters-7"
    old = new.parents[1] / "trainer.lr=0.5,trainer.max_iters=7" / "seed0"
    old.mkdir(parents=True)
    assert folder_of(*overrides) == str(old)
    assert folder_of(*overrides, "seed=1") == str(new.with_name("seed1"))
    new.mkdir(parents=True)
    assert folder_of(*overrides) == str(new)


def test_two_folders_of_one_name_are_two_datasets(tmp_path):
    names = {
        compose(["dataset=voc_folder", f"dataset.root={tmp_path}/{side}/photos"])["dataset"]["name"] for side in "ab"
    }
    assert len(names) == 2
    assert all(n.startswith("photos-") for n in names)
    assert (
        compose(["dataset=voc_folder", f"dataset.root={tmp_path}/a/photos", "dataset.name=mine"])["dataset"]["name"]
        == "mine"
    )


def test_config_survives_the_run_folder(tmp_path):
    config = composed("strategy=entropy")
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config


def test_a_lost_config_is_named(tmp_path):
    with pytest.raises(ResumeError, match=r"config\.yaml"):
        load_config(tmp_path)


# --- everything in conf/ ----------------------------------------------------------------------------------------------


LEAVES = sorted(
    p.relative_to(CONF_DIR).with_suffix("")
    for p in CONF_DIR.rglob("*.yaml")
    if p.parts[-2] in (*GROUPS, "dataset", "strategy", "oracle", "executor", "tracker")
)


@pytest.mark.parametrize("path", LEAVES, ids=str)
def test_every_leaf_fits_its_constructor(path):
    node = {k: "given" if v == "???" else v for k, v in leaf(str(path.parent), path.name).items() if k != "defaults"}
    for default in leaf(str(path.parent), path.name).get("defaults", ()):
        for key, option in default.items() if isinstance(default, dict) else ():
            group, _, argument = key.partition("@")
            if group == "/strategy" and "." not in argument:  # a strategy that is made of others
                node[argument] = leaf("strategy", option)
    check_targets({path.parts[0]: node})
    check_kinds({path.parts[0]: {k: v for k, v in node.items() if v != "given"}})


@pytest.mark.parametrize(
    ("recipe", "told", "expected"),
    [
        ("adapt_density", (), ("density", "2.2pct", "adapt_40k", "density")),
        ("adapt_density", ("segmenter=deeplab_v3plus", "budget=5pct"), ("density", "5pct", "adapt_40k", "density")),
        ("adapt_ripu", ("dataset=synthia_cityscapes",), ("ripu", "2.2pct_regions", "adapt_40k", "ripu")),
        ("adapt_k_center", (), ("core_set", "2.2pct", "adapt_40k", "density")),
        ("adapt_full", (), ("random", "full", "adapt_40k", "ripu")),
        ("adapt_source_only", (), ("random", "2.2pct", "source_only", "segment")),
        ("adapt_fda", (), ("random", "2.2pct", "source_only", "fda")),
        ("adapt_adversarial", (), ("random", "segments_1pct", "d2ada", "adversarial")),
    ],
)
def test_the_rows_of_density_matters_tables(recipe, told, expected):
    config = composed(f"experiment={recipe}", *told)
    assert tuple(config["choices"][k] for k in ("strategy", "budget", "trainer", "objective")) == expected
    check_targets(config)
    without = {"adapt_ripu", "adapt_full", "adapt_source_only", "adapt_fda"}
    assert (config["segmenter"]["branch"] is None) == (recipe in without)


@pytest.mark.parametrize("recipe", sorted(p.stem for p in (CONF_DIR / "experiment").glob("*.yaml")))
def test_every_recipe_composes_and_says_what_it_costs(recipe):
    text = (CONF_DIR / "experiment" / f"{recipe}.yaml").read_text()
    begun_with = [
        f"{key}={__file__}" for key in ("trainer.init", "strategy.path", "segmenter.weights") if f"{key}=<" in text
    ]
    check_targets(composed(f"experiment={recipe}", *begun_with))
    assert all(f"# {word}:" in text for word in ("command", "cost", "source"))


# --- building ---------------------------------------------------------------------------------------------------------


def test_build_shows_our_own_error_without_wrapping():
    with pytest.raises(ConfigError, match=r"^budget\.unit: expected") as caught:
        build({"_target_": "al_lab.core.budget.Budget", "unit": "dollar"})
    assert caught.value.__cause__ is None


def test_build_takes_what_only_the_program_knows():
    assert build({"_target_": "al_lab.core.budget.Budget", "unit": "image"}, cycles=3).cycles == 3


@pytest.mark.parametrize(
    ("words", "box_s", "map_s"),
    [
        ((), 7.0, 239.7),
        (("oracle=folder", "oracle/rates@oracle=drawn"), 35.0, 239.7),
        (("dataset=gtav_cityscapes", "strategy=density"), 7.0, 1.5 * 3600),  # not two seconds a pixel: 1,165 hours
        (("dataset=gtav_cityscapes", "strategy=density", "oracle.seconds_per_map=60"), 7.0, 60),
    ],
)
def test_rates_of_peoples_time_are_published_ones_of_the_dataset_or_ones_own(words, box_s, map_s):
    oracle = compose(words)["oracle"]
    assert (oracle["seconds_per_box"], oracle["seconds_per_map"]) == (box_s, map_s)


def test_the_keys_of_every_budget_are_shown_in_one_as_they_are():
    shown = leaf("budget", "folder")
    assert {key: shown[key] for key in load._EVERY_BUDGET} == load._EVERY_BUDGET
