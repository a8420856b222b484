"""Numbers that a forecast takes from elsewhere, each with its source; nothing here was measured on a GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from al_lab.config.options import option


@dataclass(frozen=True)
class Sizes:
    """How much data there is.

    Attributes:
        pool, test: images.
        size_hw: of an image, where pixels are bought; None: they differ.
        boxes_per_image: on average; None: nobody counted.
        origin: who says so.
    """

    pool: int
    test: int
    size_hw: tuple[int, int] | None = None
    boxes_per_image: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class Network:
    """What one forward of one image costs, counted with torch.utils.flop_counter (a multiply-add is two operations).

    Attributes:
        gflop: at ``input_hw``.
        params: with the published number of classes.
        onward: of it behind the trunk, which a pass with dropout repeats; None: a pass repeats all.
        branches: what a head beside its own adds: gflop, params.
    """

    gflop: float
    input_hw: tuple[int, int]
    params: int
    onward: float | None = None
    branches: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def share_of_pass(self) -> float:
        """Return what a pass with dropout costs, in looks without."""
        return 1.0 if self.onward is None else self.onward / self.gflop

    def with_branches(self, asked: Sequence[str] | Mapping[str, Any]) -> "Network | None":
        """Return the network with these heads; None if one was not counted, or has options that change its size."""
        settings = asked if isinstance(asked, Mapping) else dict.fromkeys(asked)
        if not settings.keys() <= self.branches.keys() or (settings.get("mixture") or {}).get("components", 4) != 4:  # noqa: PLR2004
            return None
        gflop, params = (sum(self.branches[name][k] for name in settings) for k in (0, 1))
        onward = None if self.onward is None else self.onward + gflop
        return replace(self, gflop=self.gflop + gflop, params=self.params + int(params), onward=onward)


@dataclass(frozen=True)
class Card:
    """A GPU by what it is expected to sustain in these trainings.

    Attributes:
        name: with the precision that it is for.
        tflops: operations a second, in 10^12.
        source: of the number.
    """

    name: str
    tflops: float
    source: str


# Official sizes; objects: the devkits' and annotation files' own counts, difficult ones left out.
_VOC_OBJECTS = 40_058 / 16_551
_COCO_OBJECTS = 860_001 / 118_287
_COCO14_OBJECTS = 604_907 / 82_783
PUBLISHED = {
    ("voc", None, None): Sizes(16_551, 4_952, None, _VOC_OBJECTS),
    ("coco", 2017, "all"): Sizes(118_287, 5_000, None, _COCO_OBJECTS),
    ("coco", 2017, "annotated"): Sizes(117_266, 5_000, None, 860_001 / 117_266),
    ("coco", 2014, "all"): Sizes(82_783, 5_000, None, _COCO14_OBJECTS),
    ("coco", 2014, "annotated"): Sizes(82_081, 5_000, None, 604_907 / 82_081),
    ("gtav_cityscapes", None, None): Sizes(2_975, 500, (1024, 2048)),
    ("synthia_cityscapes", None, None): Sizes(2_975, 500, (1024, 2048)),
}
_NOTHING = {"class_quality": (0.0, 0)}  # two numbers a class beside the weights
# Small networks are missing on purpose: a GPU spends their time on starting kernels, which counts of operations hide.
NETWORKS = {
    "ssd300_voc": Network(
        62.75,
        (300, 300),
        26_285_486,
        7.11,
        _NOTHING
        | {
            "learning_loss": (0.0, 361_985),
            "evidence": (0.10, 133_662),
            "mixture": (19.41, 26_064_090),
            "two_heads": (4.18, 5_613_804),
        },
    ),
    "ssd300_coco": Network(
        68.72,
        (300, 300),
        34_305_206,
        13.09,
        _NOTHING
        | {
            "learning_loss": (0.0, 361_985),
            "evidence": (0.10, 133_662),
            "mixture": (61.23, 82_202_130),
            "two_heads": (16.13, 21_653_244),
        },
    ),
    "retinanet_r50": Network(
        499.04,
        (800, 1333),
        37_968_692,
        288.13,
        _NOTHING
        | {
            "learning_loss": (0.0, 165_121),
            "evidence": (106.15, 2_381_067),
            "mixture": (569.69, 12_778_920),
            "two_heads": (358.42, 8_039_840),
        },
    ),
    "retinanet_r50_voc": Network(
        250.85,
        (600, 1000),
        36_723_992,
        131.21,
        _NOTHING
        | {
            "learning_loss": (0.0, 165_121),
            "evidence": (59.87, 2_381_067),
            "mixture": (102.23, 4_066_020),
            "two_heads": (139.56, 5_550_440),
        },
    ),
    "deeplab_v2": Network(1143.66, (640, 1280), 44_114_296),
    "deeplab_v3plus": Network(1578.02, (640, 1280), 60_388_591),
}
# Forward and backward of an image, in units of one image's: what an objective looks at for each image of the batch.
# Heads that it needs are counted with the network.
PASSES = {
    "supervised.Supervised": 1.0,
    "csd.CSD": 2.0,  # the image and its flip
    "isd.ISD": 3.0,  # … and the mixture
    "adapt.Adaptation": 1.0,
    "fda.FDA": 1.0,  # two transforms of an image beside it
    "class_quality.ClassQuality": 1.0,
    "learning_loss.LearningLoss": 1.0,
    "evidential.Evidential": 1.0,
    "mixture_density.MixtureDensity": 1.0,
    "mial.MultipleInstance": 2 / 3,  # two of three steps see half a batch
    "sed.SED": 1.3,  # unlabeled half: the student at full and half size, and the teacher's forward alone
}
BACKWARD = 3.0  # a step's forward and backward, in forwards
# 120,000 steps of an ISD-SSD (18 TFLOP each) in 7 hours and in 1.5: 55 % and 40 % of what the makers print.
_DERIVED = "estimate: a share of the peak that the maker prints, {share}; nobody has run it"
CARDS = (
    Card("A100, TF32", 86.0, _DERIVED.format(share="55 % of 156")),
    Card("H100, bf16 (trainer.precision=bf16-mixed)", 400.0, _DERIVED.format(share="40 % of 989")),
)
# Images that one core prepares in a second for a card (which finishes them), by the recipe or its dataset;
# measured on one slow core; of large images once they are kept (5.7 before).
IMAGES_PER_CORE = {"SSDAugmentation": 210.0, "DomainPair": 180.0}


def network_of(config: Mapping[str, Any]) -> Network | None:
    """Return the numbers of a campaign's network with the heads it has besides; None if it is in no table."""
    kind = "detector" if config.get("detector") else "segmenter"
    network = NETWORKS.get(str(config["choices"].get(kind)))
    return network and network.with_branches(config[kind].get("branches") or ())


def sizes_of(parts: Any) -> Sizes:
    """Return how much data a campaign has: as drawn, as published, or as found on the disk.

    Published ones are not opened, so they need not be there.

    Raises:
        LabError: if another dataset can't be opened.
    """
    node, choice = parts.config["dataset"], parts.config["choices"]["dataset"]
    if isinstance(node.get("num_pool"), int):
        side = node.get("size_hw") or [node.get("size_px", 0)] * 2
        return Sizes(node["num_pool"], node["num_test"], (int(side[0]), int(side[1])), None, "the configuration")
    year, pool = (node.get("year"), node.get("pool")) if choice == "coco" else (None, None)
    known = PUBLISHED.get((choice, year, pool))
    if known is not None and (choice == "coco" or _is_as(node, option("dataset", choice))):
        return replace(known, origin="the official counts")
    return Sizes(len(parts.dataset.pool_ids), len(parts.dataset.test_ids), origin="the files on this disk")


def _is_as(node: Any, published: Any) -> bool:
    """Whether a dataset's node has the parts of the published one."""
    return all(node.get(key) == published.get(key) for key in ("pool", "test"))
