"""What a campaign will cost, before anything of it runs: trainings, steps, hours, disk and people's time."""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from al_lab.campaign.forecast_tables import Sizes
from al_lab.config.build import build
from al_lab.config.options import option
from al_lab.config.signatures import literal_of
from al_lab.core.budget import PARTS, Budget

_OPTIMIZER = 3  # a checkpoint to go on from has the weights and at most two numbers a weight besides
_RIVALS = 2  # what a table's best row and the agent's own batch are trained for beside the rows of `strategy.truth`
_SCRATCH = {
    "mode": "scratch",
    "length": 1.0,
    "lr_scale": 1.0,
    "early_stop": None,
    "calibrate": None,
    "reward": "training",
}
_MGRAL = "al_lab.strategies.detection.mgral.Mgral"
_ENSEMBLE = "al_lab.strategies.rivals.ensemble.Ensemble"


@dataclass(frozen=True)
class Training:
    """Trainings of one kind in one cycle.

    Attributes:
        what: for people.
        steps: of each.
        count: how many.
        recipe: ``campaign``, or ``rows`` for those of MGRAL's table.
        is_serial: one after the other, as each is asked for when the one before is done.
    """

    what: str
    steps: int
    count: int = 1
    recipe: str = "campaign"
    is_serial: bool = False


@dataclass(frozen=True)
class Look:
    """Images that a model predicts, once and in ``passes`` with dropout; cut into pieces, one a device."""

    what: str
    images: int
    passes: int = 0


Group = tuple[int, tuple[Training | Look, ...]]  # its cycle, and what can run side by side


class Speed(Protocol):
    """How fast a machine is."""

    def training_s(self, training: Training) -> float:
        """Return the seconds of one training, its start included."""

    def look_s(self, images: int, passes: int = 0) -> float:
        """Return the seconds in which one device predicts so many images, each in so many passes besides."""


def plan(parts: Any, sizes: Sizes) -> list[Group]:
    """Return what a campaign does, in order.

    Args:
        parts: of a checked configuration; neither torch nor the data are needed.
        sizes: of its data.
    """
    budget: Budget = parts.budget
    settings = _settings(parts.config["trainer"])
    done = 0
    groups: list[Group] = []
    for cycle in range(budget.cycles + 1):
        labeled = num_labeled(budget, sizes, cycle)
        end = settings.stop_step(cycle, labeled, budget.cycles)
        end = settings.schedule(labeled).total_steps if end is None else end
        steps = end - (done if settings.start == "continue" else 0)
        done = end
        groups.append((cycle, (Training("training", steps),)))
        twice = 2 if parts.config["dataset"].get("flip_test") else 1
        groups.append((cycle, (Look("test images", twice * sizes.test),)))
        if cycle == budget.cycles:
            break
        chosen = (tuple(filter(_is_any, group)) for group in _choosing(parts, sizes, cycle, labeled, steps))
        groups += [(cycle, group) for group in chosen if group]
    return groups


def _is_any(item: Training | Look) -> bool:
    return isinstance(item, Look) or item.count > 0


def num_labeled(budget: Budget, sizes: Sizes, cycle: int) -> int:
    """Return how many images have labels when a cycle's training begins; with pixels, all that were asked about."""
    initial = budget.initial_images(sizes.pool)
    bought = [budget.allowance(c, sizes.pool).amount for c in range(cycle)]
    if budget.unit == "image":
        return min(sizes.pool, (initial or 0) + sum(bought))
    if budget.unit == "box":
        return min(sizes.pool, (initial or 0) + round(sum(bought) / (sizes.boxes_per_image or 1)))
    return sizes.pool if cycle else initial or 0


def _looks(strategy: Mapping[str, Any]) -> tuple[int, int]:
    """Return how often an image is looked at (each member looks once), and in how many passes with dropout besides."""
    inner = [_looks(node) for node in strategy.values() if isinstance(node, Mapping) and "_target_" in node]
    return max([(_members(strategy), strategy.get("passes", 0)), *inner], key=sum)


def _members(strategy: Mapping[str, Any]) -> int:
    """Return how many models a cycle trains before it chooses."""
    return int(strategy["members"]) if strategy.get("_target_") == _ENSEMBLE else 1


def _choosing(parts: Any, sizes: Sizes, cycle: int, labeled: int, steps: int) -> Iterator[tuple[Training | Look, ...]]:
    """Yield what happens between two trainings, of which the first had so many steps."""
    strategy = parts.config["strategy"]
    yield (Training("member", steps, _members(strategy) - 1),)
    target, unit = strategy["_target_"], parts.budget.unit
    needs = literal_of(target, "needs", ()) or ()
    if unit in PARTS:
        needs = literal_of(target, "pixel_needs", None) or needs
    if needs:
        pool = sizes.pool if literal_of(target, "scores_labeled", False) or unit != "image" else sizes.pool - labeled
        looks, passes = _looks(strategy)
        yield (Look("images of the pool", pool * looks, passes),)
    if literal_of(target, "closer_needs", ()):
        open_images = sizes.pool - labeled
        listed = strategy.get("factor", math.inf) * parts.budget.allowance(cycle, sizes.pool).amount
        yield (Look("images of the list", math.ceil(min(listed, open_images))),)
    if target == _MGRAL:
        yield from _mgral(parts, strategy, cycle, labeled, sizes.pool)


def _mgral(
    parts: Any, strategy: Mapping[str, Any], cycle: int, labeled: int, pool: int
) -> Iterator[tuple[Training | Look, ...]]:
    lut, truth, settings = strategy["lut"], strategy["truth"], _settings(parts.config["trainer"])
    held_out = min(max(math.ceil(lut["fraction"] * labeled), lut["minimum"]), labeled // 2)
    is_part = lut["split"] in ("holdout", "kfold")
    kept = labeled - (labeled // lut["folds"] if lut["split"] == "kfold" else held_out if is_part else 0)
    bases = (lut["folds"] if lut["split"] == "kfold" else 1) if is_part else 0
    base = Training("row base", settings.schedule(kept).total_steps, bases)
    if lut["reward"] == "gradient":
        yield from ((base,), (Look("images of the pool", pool - labeled),))
    else:
        yield from _table(parts, strategy, cycle, kept, base)
    if truth["rows"]:
        count = (truth["rows"] + _RIVALS + len(truth["rivals"])) * truth["seeds"]
        whole = labeled + parts.budget.allowance(cycle, 0).amount
        yield (Training("truth", settings.schedule(whole).total_steps, count),)


def _table(
    parts: Any, strategy: Mapping[str, Any], cycle: int, kept: int, base: Training
) -> Iterator[tuple[Training, ...]]:
    """Yield the trainings of the rows and of the agent."""
    lut = strategy["lut"]
    steps = rows_steps(parts, lut, kept)
    again = lut["repeats"] * (lut["seeds"] - 1)
    if lut["calibrate"] is not None:
        yield (base,)
        yield from _by_halves(lut, steps, again)
    else:
        rows = Training("row", steps, lut["rows"] + again, "rows")
        yield from ((base,), (rows,)) if lut["mode"] == "finetune" else ((base, rows),)
    if lut["against_scratch"] and cycle == 0:
        whole = _settings(lut["trainer"] or parts.config["trainer"]).schedule(kept).total_steps
        yield (Training("row from scratch, to compare", whole, lut["against_scratch"], "rows"),)
    yield (Training("batch without a record (at most)", steps, strategy["learning"]["max_fall_backs"], "rows", True),)
    if lut["online"]:
        yield (Training("batch of the agent (at most)", steps, lut["online"], "rows", True),)
    if cycle == 0 and strategy["agent"]["controls"]:
        yield (Training("control", steps, strategy["agent"]["controls"] + 2, "rows"),)


def _by_halves(lut: Mapping[str, Any], steps: int, again: int) -> Iterator[tuple[Training, ...]]:
    """Yield the rows' trainings to the rung, and from there to the end, if the rung ranks them."""
    rung = max(1, round(lut["early_stop"] * steps))
    first = max(lut["calibrate"], lut["repeats"] if again else 0)
    yield (Training("row to its rung", rung, lut["rows"], "rows"), Training("row", steps, again, "rows"))
    yield (Training("row from its rung to the end", steps - rung, first, "rows"),)
    others = -(-(lut["rows"] - first) // 2)  # rounded up
    yield (Training("row of the better half, to the end", steps - rung, others, "rows"),)


def rows_steps(parts: Any, lut: Mapping[str, Any], kept: int) -> int:
    """Return the steps of one of MGRAL's rows, which trains on so many labeled images."""
    total = _settings(lut["trainer"] or parts.config["trainer"]).schedule(kept).total_steps * lut["length"]
    return max(1, round(total * ((lut["calibrate"] is None and lut["early_stop"]) or 1)))


def _settings(trainer: Mapping[str, Any]) -> Any:
    """Build a recipe without its augmentation, which alone would need torch."""
    return build({**trainer, "augmentation": None})


def device_seconds(groups: Sequence[Group], speed: Speed) -> float:
    """Return the seconds of all devices together."""
    return sum(
        speed.look_s(item.images, item.passes) if isinstance(item, Look) else item.count * speed.training_s(item)
        for _, group in groups
        for item in group
    )


def wall_seconds(groups: Sequence[Group], speed: Speed, devices: int) -> float:
    """Return the seconds until the end with so many devices, a training on each; groups come one after the other."""
    return sum(_wall(group, speed, devices) for _, group in groups)


def _wall(group: Sequence[Training | Look], speed: Speed, devices: int) -> float:
    serial = sum(t.count * speed.training_s(t) for t in group if isinstance(t, Training) and t.is_serial)
    jobs = [speed.training_s(t) for t in group if isinstance(t, Training) and not t.is_serial for _ in range(t.count)]
    jobs += [
        speed.look_s(look.images, look.passes) / devices
        for look in group
        if isinstance(look, Look)
        for _ in range(devices)
    ]
    ends = [0.0] * devices
    for seconds in sorted(jobs, reverse=True):  # the longest first, each to the device that is free first
        heapq.heapreplace(ends, ends[0] + seconds)
    return serial + max(ends)


def variants(parts: Any) -> dict[str, Any]:
    """Return MGRAL's ways to make its table; none for other strategies.

    Each is the overrides that the command lacks, and the parts they make.
    """
    strategy = parts.config["strategy"]
    if strategy["_target_"] != _MGRAL:
        return {}
    small = option("strategy", "mgral")["lut"]
    ways = {
        "rows from scratch": _SCRATCH,
        "finetuned rows": _SCRATCH | {k: small[k] for k in ("mode", "length", "lr_scale")},
        "stopped early": _SCRATCH | {"early_stop": 0.25},
        "halved at a rung": _SCRATCH | {"early_stop": 0.25, "calibrate": min(8, strategy["lut"]["rows"])},
        "gradients, no rows": _SCRATCH | {"reward": "gradient"},
    }
    found = {}
    for name, changes in ways.items():
        other = {k: v for k, v in changes.items() if strategy["lut"][k] != v}
        words = " ".join(f"strategy.lut.{k}={'null' if v is None else v}" for k, v in other.items())
        config = {**parts.config, "strategy": {**strategy, "lut": {**strategy["lut"], **changes}}}
        found[name] = (words, type(parts)(config))
    return found


@dataclass(frozen=True)
class Labels:
    """What people are asked for.

    Attributes:
        images: looked at.
        boxes: drawn; None: their number is not known before.
        clicks: pixels or squares that are named.
        maps: images of which every pixel is labeled.
        hours: by the oracle's rates; without boxes of unknown number.
    """

    images: int
    boxes: int | None
    clicks: int
    maps: int
    hours: float


def labels(parts: Any, sizes: Sizes) -> Labels:
    """Return what all purchases of a campaign cost people."""
    budget, rates = parts.budget, parts.config["oracle"]
    last = budget.cycles
    task = "detection" if parts.config.get("detector") else "segmentation"
    if budget.unit in ("image", "box"):
        images = num_labeled(budget, sizes, last) + budget.test
        boxes = round(images * sizes.boxes_per_image) if sizes.boxes_per_image and task == "detection" else None
        counts = Labels(images, boxes, 0, images if task == "segmentation" else 0, 0.0)
    else:
        side = int(parts.config["strategy"].get("radius_px") or 0)
        allowances = [budget.allowance(c, sizes.pool) for c in range(last)]
        each = [a.in_image(sizes.size_hw or (0, 0), side) for a in allowances]
        clicks = sum(n * (sizes.pool if a.per_image else 1) for n, a in zip(each, allowances, strict=True))
        whole = budget.initial_images(sizes.pool) or 0
        counts = Labels(whole + budget.test, None, clicks, whole, 0.0)
    seconds = counts.images * rates["seconds_per_image"] + (counts.boxes or 0) * rates["seconds_per_box"]
    seconds += counts.clicks * rates["seconds_per_pixel"] + counts.maps * rates["seconds_per_map"]
    return replace(counts, hours=seconds / 3600)


def disk_bytes(parts: Any, weights: int) -> int:
    """Return what a run folder needs at most for its models and a training's own checkpoint.

    There is one model a cycle; of an ensemble there are its members.

    Args:
        parts: of the campaign.
        weights: bytes of one model.
    """
    cycles = parts.budget.cycles
    return (cycles * _members(parts.config["strategy"]) + 1 + _OPTIMIZER) * weights
