"""The contract of a strategy: what it needs to see, what it proposes, what it selects."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from al_lab.core.budget import PARTS, Allowance, Budget
from al_lab.core.pool import ApartRows, Pool
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage
from al_lab.core.types import Annotation, Candidates, DenseView, ImageView, Query, Region

log = logging.getLogger(__name__)

STANDARD_STAGES = ("train", "evaluate", "score", "select", "annotate")


@dataclass(frozen=True)
class ProposeContext:
    """What `Strategy.propose` may use besides the view.

    Attributes:
        quota: the most pixels, regions or segments (``unit``) of this image that can be bought; None: whole images are.
        unit: the budget's unit.
        rng: derived from (seed, cycle, stage, sample id).
        is_labeled: the image is labeled already and is shown because of ``scores_labeled``.
        share: of the image's pixels that all cycles together may buy (``unit=pixel``, counted image by image).
        cycle: at whose end it is bought.
    """

    quota: int | None
    unit: str
    rng: Rng
    is_labeled: bool = False
    share: float = 0.0
    cycle: int = 0


def context_for(
    seed: int,
    cycle: int,
    sample_id: str,
    unit: str,
    *,
    quota: int | None = None,
    is_labeled: bool = False,
    share: float = 0.0,
) -> ProposeContext:
    """Return what `Strategy.propose` is told of one image, wherever its view comes from."""
    rng = Rng(seed, cycle, "score", sample_id)
    return ProposeContext(quota, unit, rng, is_labeled=is_labeled, share=share, cycle=cycle)


class Reason(NamedTuple):
    """Why an image has its utility: the numbers it is made of, by name, and a phrase for people."""

    parts: Mapping[str, float]
    words: str


class Strategy:
    """Decides what is bought next. Subclasses override `propose`, and `select` if taking the best is not enough.

    The class attributes are plain literals: the configuration check reads them without importing the file.

    Attributes:
        needs: what a learner must provide (``detections``, ``class_probs``, ``image_embedding``, ``dense_probs``, …);
            empty: the score stage runs no network at all.
        pixel_needs: what it needs instead when parts of images are bought; None: the same.
        data_needs: what of the dataset it is shown beside the view: ``segments`` (always with ``unit=segment``),
            ``image`` (the photograph).
        also: what else of a detector's candidates the report or the choice uses where a learner can give it.
        tasks: detection and/or segmentation.
        units: budget units it can spend.
        pixel_scopes: whether parts of images may be counted over the pool, image by image, or either.
        scores_labeled: `propose` is also called for labeled images.
        radius_px: a region is a square of side 2 r + 1.
        only_views: the choice follows from views and the pool alone: no stages of its own, nothing to restore.
        needs_labels: the choice depends on what labeled images show: see `restore` and `learn`.
        made_of: arguments that are strategies themselves, whose needs, tasks and units count, too.
        detector_changed: it needs a detector with other layers, whose first model is not that of a plain one: a fair
            comparison is with random images and the same detector.
        judges: names of what `judge` measures; empty: nothing.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    pixel_needs: ClassVar[tuple[str, ...] | None] = None
    data_needs: ClassVar[tuple[str, ...]] = ()
    also: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("detection",)
    units: ClassVar[tuple[str, ...]] = ("image", "box")
    pixel_scopes: ClassVar[tuple[str, ...]] = ("pool", "image")
    scores_labeled: bool = False
    only_views: ClassVar[bool] = True
    needs_labels: bool = False
    made_of: ClassVar[tuple[str, ...]] = ()
    judges: ClassVar[tuple[str, ...]] = ()
    detector_changed: ClassVar[bool] = False
    radius_px: int = 0
    ties: Literal["hash", "id"] = "hash"

    def stages(self) -> list[str | Stage]:
        """Return the stages of a cycle in order: standard ones by name, own ones as objects."""
        return list(STANDARD_STAGES)

    def check_budget(self, budget: Budget) -> None:
        """Refuse a plan that can't be spent, before a campaign begins; by default none.

        Raises:
            ConfigError: naming the amount.
        """

    def check_task(self, task: str) -> None:
        """Refuse settings that are another task's, before a campaign begins; by default none.

        Args:
            task: detection | segmentation, one of ``tasks``.

        Raises:
            ConfigError: naming the setting.
        """

    def check_dataset(self, dataset: Any) -> None:
        """Refuse a dataset that lacks what a later stage needs, before a campaign begins; by default none.

        Raises:
            ConfigError: naming the setting.
        """

    def check_model(self, network: Any) -> None:
        """Refuse a network that lacks what an own stage needs, before a campaign begins; by default none.

        Raises:
            ConfigError: naming the setting.
        """

    def initial(self, pool: Pool, count: int, rng: Rng) -> Sequence[str]:
        """Return the ids of the initial set; by default a uniform draw that is the same for every strategy."""
        order = rng.generator().permutation(len(pool.ids))
        if pool.left_out:
            order = np.array([k for k in order.tolist() if pool.ids[k] not in pool.left_out], np.int64)
        order = order[:count] if pool.apart is None else pool.apart.rows(pool.ids).first(order, count)
        return [pool.ids[k] for k in sorted(order)]

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the candidates of one image. Pure: the view is not changed, nothing is remembered."""
        raise TypeError(f"{type(self).__name__} does not say how it values an image: override propose()")

    def judge(self, view: ImageView | DenseView, ctx: ProposeContext) -> Mapping[str, float]:
        """Measure, for the report alone, how good the choice in one image is; asked of some images of each query.

        Returns:
            Values of ``judges``; one that is not there, or NaN, is unknown for this image.
        """
        return {}

    def needs_for(self, unit: str) -> tuple[str, ...]:
        """Return what a learner must provide when this unit is bought."""
        return self.pixel_needs if unit in PARTS and self.pixel_needs is not None else self.needs

    def shown_for(self, unit: str) -> tuple[str, ...]:
        """Return what of the dataset it is shown when this unit is bought, see ``data_needs``."""
        return tuple(dict.fromkeys((*self.data_needs, *(("segments",) if unit == "segment" else ()))))

    def view_options(self) -> dict[str, Any]:
        """Return the numbers a learner needs to answer ``needs``, as plain JSON; most needs have none."""
        return {}

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return what to buy, the most wanted first; by default the candidates of highest utility."""
        return take_best(candidates, pool, budget, rng, ties=self.ties)

    def restore(self, cycle_dir: Path) -> None:
        """Reload what own stages wrote; called before `select`, also after a restart."""

    def learn(self, labels: Mapping[str, Annotation]) -> None:
        """Take the labels of labeled images where no run folder has them; a campaign calls `restore` instead."""

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """Say why an image that was chosen has its utility; by default nothing is known but the number.

        Args:
            view: as `propose` saw it.
            ctx: the same.
            classes: names in label order.
            utility: with which it was chosen.
        """
        return Reason({}, f"utility {utility:.3g}")


def take_best(
    candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng, ties: Literal["hash", "id"] = "hash"
) -> list[Query]:
    """Buy the candidates of highest utility within the budget.

    Ties between images are broken by a hash of (seed, cycle, id), or by id with ``ties="id"``; inside an image the
    candidate that was proposed first goes first, so a greedy order that ends in equal utilities stays what it was.
    Pixels of one image become one query, and queries come in the order of their best candidate. A pixel budget pays for
    every pixel of a window or segment. An image too near a better one (``pool.apart``) is passed over, with all its
    pixels. With a box budget as many images are ranked as boxes may be bought: the oracle stops when it is spent.
    """
    open_ids = set(pool.unlabeled())
    is_open = np.fromiter((i in open_ids for i in candidates.sample_ids), bool, len(candidates.sample_ids))
    kept = np.flatnonzero(is_open[candidates.sample])
    utility, sample = candidates.utility[kept], candidates.sample[kept]
    _warn_of_ties(utility)
    cost, groups = _costs(candidates, kept, budget), _by_image(sample, utility)
    apart = None if pool.apart is None else pool.apart.rows(candidates.sample_ids)
    if budget.per_image:  # no candidate is compared with another image's, only the best ones are
        groups = _rank_groups(groups, utility, lambda rows: _tie_keys(candidates, kept[rows], rng, ties))
        if apart is not None:
            taken = set(apart.first([int(sample[group[0]]) for group in groups]).tolist())
            groups = [group for group in groups if sample[group[0]] in taken]
        amount_M = _amounts(candidates, budget)
        paid = [np.searchsorted(cost[group].cumsum(), amount_M[sample[group[0]]], side="right") for group in groups]
        return _queries(candidates, [kept[group[:num]] for group, num in zip(groups, paid, strict=True) if num])
    order = np.lexsort((_tie_keys(candidates, kept, rng, ties), -utility))
    # which image is next stays; of its equal candidates, the first
    order[np.argsort(sample[order], kind="stable")] = np.concatenate([np.zeros(0, np.int64), *groups])
    if apart is not None:
        order = order[_are_apart(sample[order], apart)]
    order = order[np.cumsum(cost[order]) <= budget.amount]
    return _queries(candidates, _by_best(candidates, kept[order]))


def _by_image(sample: np.ndarray, utility: np.ndarray) -> list[np.ndarray]:
    """Return each image's rows, the best first; inside an image, equal ones as proposed."""
    rows = np.argsort(sample, kind="stable")
    groups = np.split(rows, np.flatnonzero(np.diff(sample[rows])) + 1) if len(rows) else []
    return [group[np.argsort(-utility[group], kind="stable")] for group in groups]


def _rank_groups(
    groups: list[np.ndarray], utility: np.ndarray, keys_of: Callable[[np.ndarray], np.ndarray]
) -> list[np.ndarray]:
    """Return the images in the order of their best candidates; equal ones by the smallest key of those."""
    if not groups:
        return []
    equal = [group[: np.searchsorted(-utility[group], -utility[group[0]], side="right")] for group in groups]
    starts = np.cumsum([0, *map(len, equal[:-1])])
    key = np.minimum.reduceat(keys_of(np.concatenate(equal)), starts)
    return [groups[k] for k in np.lexsort((key, -utility[[group[0] for group in groups]]))]


def _are_apart(samples: np.ndarray, rule: ApartRows) -> np.ndarray:
    """Return which ranked candidates are of an image that may be taken: none near it has a better candidate."""
    images, first = np.unique(samples, return_index=True)
    return np.isin(samples, rule.first(images[np.argsort(first)]))


def _costs(candidates: Candidates, kept: np.ndarray, budget: Allowance) -> np.ndarray:
    """Return what each kept candidate costs in the budget's unit; a box budget pays when the boxes are known."""
    if candidates.cost is not None and budget.unit == "pixel":
        return candidates.cost[kept]
    if candidates.center is None or candidates.size_hw is None or budget.unit != "pixel" or not candidates.radius_px:
        return np.ones(len(kept), np.int64)
    size = candidates.size_hw[candidates.sample[kept]].astype(np.int64)
    y, x = np.divmod(candidates.center[kept], size[:, 1])
    r = candidates.radius_px
    height = np.minimum(y + r + 1, size[:, 0]) - np.maximum(y - r, 0)
    width = np.minimum(x + r + 1, size[:, 1]) - np.maximum(x - r, 0)
    return height * width


def _amounts(candidates: Candidates, budget: Allowance) -> np.ndarray:
    """Return what may be bought in each image, (M,)."""
    if candidates.size_hw is None:
        return np.full(len(candidates.sample_ids), budget.amount)
    return np.array([budget.in_image((int(h), int(w)), candidates.radius_px) for h, w in candidates.size_hw], np.int64)


def _by_best(candidates: Candidates, chosen: np.ndarray) -> list[np.ndarray]:
    """Return ranked candidates by image, in the order of each image's best one."""
    samples = candidates.sample[chosen]
    by_image = np.argsort(samples, kind="stable")
    grouped = np.split(chosen[by_image], np.flatnonzero(np.diff(samples[by_image])) + 1)
    best = np.unique(samples, return_index=True)[1]
    return [grouped[k] for k in np.argsort(best).tolist()]


def _queries(candidates: Candidates, groups: list[np.ndarray]) -> list[Query]:
    """Return a query for each image: some candidates of it, the best first."""
    queries = []
    for mine in groups:
        m, utility = int(candidates.sample[mine[0]]), float(candidates.utility[mine[0]])
        region = None
        if candidates.segment is not None:
            region = candidates.region_of_segments(mine)
        elif candidates.center is not None and candidates.size_hw is not None:
            size_hw = (int(candidates.size_hw[m, 0]), int(candidates.size_hw[m, 1]))
            region = Region(_window_pixels(candidates.center[mine], size_hw, candidates.radius_px), size_hw)
        queries.append(Query(candidates.sample_ids[m], region, utility))
    return queries


def _window_pixels(center: np.ndarray, size_hw: tuple[int, int], radius_px: int) -> np.ndarray:
    """Return the sorted pixels of the clipped squares around flat indices."""
    if radius_px == 0:
        return np.unique(center)
    y, x = np.divmod(center, size_hw[1])
    offset = np.arange(-radius_px, radius_px + 1)
    rows, columns = np.clip(y[:, None] + offset, 0, size_hw[0] - 1), np.clip(x[:, None] + offset, 0, size_hw[1] - 1)
    # what was clipped repeats a pixel of the same window
    return np.unique(rows[:, :, None] * size_hw[1] + columns[:, None, :])


def _tie_keys(candidates: Candidates, kept: np.ndarray, rng: Rng, ties: Literal["hash", "id"]) -> np.ndarray:
    keys = rng.tie_keys(candidates.sample_ids, ties)[candidates.sample[kept]]
    if candidates.center is None:
        return keys
    center = candidates.center[kept]
    return mix(keys, center) if ties == "hash" else (keys << np.uint64(40)) + center.astype(np.uint64)


def mix(keys: np.ndarray, pixels: Any) -> np.ndarray:
    """Scramble uint64 keys with pixel indices (the finalizer of splitmix64).

    Equal pixels then come in no spatial order.
    """
    z = keys + np.asarray(pixels).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _warn_of_ties(utility: np.ndarray) -> None:
    num = len(utility)
    if num < 5:  # noqa: PLR2004 - a fifth of fewer than five is no candidate
        return
    # What is equal to more than a fifth of all stands at one of these places of a sorted list, which isn't needed.
    places = np.arange(0, num, num // 5)
    most = max(int((utility == value).sum()) for value in np.unique(np.partition(utility, places)[places]))
    if most > num / 5 and most > 1:
        log.warning("%d of %d utilities are equal: among those the choice is arbitrary, but reproducible", most, num)
