"""How fast trainings go on a card of the table; torch is not needed."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from al_lab.campaign.forecast import Group, Training, device_seconds, wall_seconds
from al_lab.campaign.forecast_tables import BACKWARD, IMAGES_PER_CORE, PASSES, Card, Network, network_of
from al_lab.execution.machine import loaders_to_ask


@dataclass(frozen=True)
class CardSpeed:
    """A card of the table with a network of the table, and how fast cores can feed it.

    Attributes:
        card: the GPU.
        network: what is trained.
        scale: area of the inputs, in those of the table's.
        batch, passes: recipe to images a step and what the objective looks at for each.
        images_per_core: that a core prepares in a second.
        images_per_s: that the cores prepare for one device; None: they keep up.
    """

    card: Card
    network: Network
    scale: float
    batch: Mapping[str, int]
    passes: Mapping[str, float]
    images_per_core: float
    images_per_s: float | None

    def training_s(self, training: Training) -> float:
        """See `Speed`."""
        batch = self.batch[training.recipe]
        flop = self.network.gflop * self.scale * BACKWARD * self.passes[training.recipe] * batch
        feeding = 0.0 if self.images_per_s is None else batch / self.images_per_s
        return training.steps * max(flop / (1000 * self.card.tflops), feeding)

    def look_s(self, images: int, passes: int = 0) -> float:
        """See `Speed`; reading the images is left out."""
        looks = images * (1 + passes * self.network.share_of_pass)
        return looks * self.network.gflop * self.scale / (1000 * self.card.tflops)

    def shared(self, count: int) -> "CardSpeed":
        """Return the speed of each of so many trainings that share the card, each with its own cores."""
        return dataclasses.replace(self, card=dataclasses.replace(self.card, tflops=self.card.tflops / count))

    def fed(self) -> tuple[int, "CardSpeed"]:
        """Return how many cores a device needs so that it never waits for images, and the speed it has then."""
        fast = dataclasses.replace(self, images_per_s=None)
        wanted = max(self.batch[r] / fast.training_s(Training("", 1, recipe=r)) for r in self.batch)
        return math.ceil(wanted / self.images_per_core), fast


def card_speed(parts: Any, card: Card) -> CardSpeed | None:
    """Return the speed of a campaign on a card; None if its network or objective is in no table."""
    config = parts.config
    kind = "detector" if config.get("detector") else "segmenter"
    network = network_of(config)
    objectives = {"campaign": config["objective"], "rows": rows_changes(config).get("objective", config["objective"])}
    targets = {k: ".".join(v["_target_"].split(".")[-2:]) for k, v in objectives.items() if v}
    if network is None or len(targets) < len(objectives) or not all(t in PASSES for t in targets.values()):
        return None
    node, data = config[kind], config["dataset"]
    height, width = node.get("input_hw") or data.get("target_hw") or [node.get("input_px", network.input_hw[0])] * 2
    trainers = {"campaign": config["trainer"], "rows": rows_changes(config).get("trainer", config["trainer"])}
    # a segmenter's images are augmented on the card
    prepared = data if kind == "segmenter" else config["trainer"].get("augmentation") or data
    augmentation = str(prepared["_target_"]).rpartition(".")[2]
    rate, loaders = IMAGES_PER_CORE.get(augmentation), config["runtime"]["num_workers"]
    cores = max(1, loaders_to_ask(loaders))
    return CardSpeed(
        card,
        network,
        height * width / (network.input_hw[0] * network.input_hw[1]),
        {k: int(v["batch_size"]) for k, v in trainers.items()},
        {k: PASSES[t] for k, t in targets.items()},
        rate or math.inf,
        None if rate is None else rate * cores,
    )


def side_by_side(groups: Sequence[Group], speed: CardSpeed, devices: int, count: int) -> tuple[float, float]:
    """Return device seconds and seconds until the end with so many trainings on a card.

    Counted operations gain nothing by it; what a training waits for, its images, is waited for together. Work that
    would lose stays alone.
    """
    shared, each = speed.shared(count), [[group] for group in groups]
    work = sum(min(device_seconds(g, speed), device_seconds(g, shared) / count) for g in each)
    return work, sum(min(wall_seconds(g, speed, devices), wall_seconds(g, shared, devices * count)) for g in each)


def rows_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the groups in which trainings of MGRAL's rows differ from the campaign's; none for other strategies."""
    lut = config["strategy"].get("lut")
    if lut is None:
        return {}
    trainer = lut["trainer"] or config["trainer"]
    return {"objective": lut["objectives"][lut["objective"]], "trainer": trainer}
