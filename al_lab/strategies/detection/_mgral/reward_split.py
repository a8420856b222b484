"""Which images tell how good a training was.

Never those it trained on, never hidden labels unless somebody asks for it.
"""

import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.rng import Rng

log = logging.getLogger(__name__)

SplitName = Literal["holdout", "kfold", "val", "test"]


@dataclass(frozen=True)
class Fold:
    """One way to cut the labeled images.

    Attributes:
        train: ids to train on.
        measure: ids to measure on.
    """

    train: tuple[str, ...]
    measure: tuple[str, ...]


def reward_folds(
    kind: str,
    classes: Mapping[str, Collection[int]],
    dataset: Any,
    rng: Rng,
    *,
    fraction: float = 0.2,
    minimum: int = 50,
    folds: int = 5,
) -> list[Fold]:
    """Cut the labeled images into what rows train on and what they are measured on.

    MGRAL does not say which images give the mAP of its table (fact sheet 1.7). ``test`` is the literal reading and lets
    the choice of images depend on test labels; ``holdout`` is the default.

    Args:
        kind: ``holdout``: max(fraction |L|, minimum) labeled images, at most half of them; ``kfold``: row m is measured
            on part m mod k; ``val``: the dataset's validation images, labeled outside of the budget; ``test``: the test
            set.
        classes: of the labeled images, those each of them shows.
        dataset: gives ``val_ids`` and ``test_ids``.
        rng: of this cycle; the cut is another one each cycle.
        fraction: of the labeled images.
        minimum: images.
        folds: k.

    Raises:
        ConfigError: for an unknown kind, a dataset without such images, or too few labeled ones.
    """
    ids = tuple(classes)
    measured = measured_set(kind, dataset)
    if measured:
        log.warning(
            "rewards are measured on the %s set: %s",
            kind,
            "its labels are not part of the budget" if kind == "val" else "the choice of images depends on test labels",
        )
        return [Fold(ids, measured)]
    if len(ids) < 2:  # noqa: PLR2004 - one to train on, one to measure on
        raise ConfigError(
            explain(
                expected="at least two labeled images",
                got=str(len(ids)),
                where=f"strategy.lut.split={kind}",
                do="raise budget.initial",
            )
        )
    order = _by_rarest_class(classes, rng)
    count = min(max(math.ceil(fraction * len(ids)), minimum), len(ids) // 2) if kind == "holdout" else 0
    parts = (
        _parts_of_groups(order, dataset.grouping, count, folds)
        if getattr(dataset, "grouping", None) is not None
        else [order[:: max(1, len(order) // count)][:count]]
        if count
        else [order[k::folds] for k in range(min(folds, len(ids)))]
    )
    return [
        Fold(tuple(i for i in ids if i not in set(part)), tuple(i for i in ids if i in set(part))) for part in parts
    ]


def measured_set(kind: str, dataset: Any) -> tuple[str, ...]:
    """Return the images outside of the pool on which rewards are measured; empty if they are measured inside of it.

    Raises:
        ConfigError: for an unknown kind, or a dataset without such images.
    """
    if kind not in get_args(SplitName):
        raise ConfigError(
            explain(
                expected=" | ".join(get_args(SplitName)),
                got=repr(kind),
                where="strategy.lut.split",
                do=did_you_mean(str(kind), get_args(SplitName)),
            )
        )
    if kind not in ("val", "test"):
        return ()
    ids = tuple(dataset.val_ids if kind == "val" else dataset.test_ids)
    labeled = [i for i in ids if dataset.has_truth(i)]
    if not labeled:
        raise ConfigError(
            explain(
                expected=f"a labeled {kind} set",
                got=f"{len(ids)} images without labels" if ids else f"none in dataset {dataset.name!r}",
                where=f"strategy.lut.split={kind}",
                do="use strategy.lut.split=holdout",
            )
        )
    return ids


def _by_rarest_class(classes: Mapping[str, Collection[int]], rng: Rng) -> Sequence[str]:
    """Order images by their rarest class, shuffled within it: taking every n-th one gives every class its share."""
    counts = Counter(c for shown in classes.values() for c in set(shown))
    ids = list(classes)
    rarest = [min(((counts[c], c) for c in shown), default=(len(ids) + 1, -1)) for shown in classes.values()]
    place = np.empty(len(ids), np.int64)
    place[rng.generator("reward split").permutation(len(ids))] = np.arange(len(ids))
    return [ids[n] for n in sorted(range(len(ids)), key=lambda n: (rarest[n], place[n]))]


def _parts_of_groups(order: Sequence[str], grouping: Any, count: int, folds: int) -> list[list[str]]:
    """Return the parts to measure on, of whole groups: frames of a video on both sides would measure memory.

    Args:
        order: the labeled images.
        grouping: of them.
        count: images of a single part, nearly; 0: as many parts as ``folds``.
        folds: see `reward_folds`.

    Raises:
        ConfigError: if they are all of one group.
    """
    members: dict[str, list[str]] = {}
    for sample_id in order:
        members.setdefault(grouping.group(sample_id), []).append(sample_id)
    groups = list(members.values())
    if len(groups) < 2:  # noqa: PLR2004 - one to train on, one to measure on
        raise ConfigError(
            explain(
                expected="labeled images of at least two groups",
                got=f"{len(order)} of {next(iter(members))!r}",
                where="strategy.lut.split with dataset.group_by",
                do="raise budget.initial, or use strategy.lut.split=val",
            )
        )
    if not count:
        return [[i for group in groups[k::folds] for i in group] for k in range(min(folds, len(groups)))]
    step = max(1, len(order) // count)
    part: list[str] = []
    left = len(groups)
    for group in sorted(groups, key=lambda g: groups.index(g) % step):
        if left > 1 and len(part) < count and len(part) + len(group) <= max(count, len(order) // 2):
            part, left = part + group, left - 1
    return [part or min(groups, key=len)]
