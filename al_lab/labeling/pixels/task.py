"""Label maps of people, for segmentation: whole images, all of them or in part, and the classes of single pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.documents import Entry
from al_lab.core.fields import flag, not_negative, optional, text
from al_lab.core.oracle import Oracle, check_region
from al_lab.core.record.pixel_labels import PixelLabels
from al_lab.core.record.purchase import Purchase
from al_lab.core.record.seal import seal
from al_lab.core.record.squares import squares_of_purchase
from al_lab.core.types import Query, Region
from al_lab.labeling.pixels.maps import read_maps
from al_lab.labeling.pixels.palette import color_table
from al_lab.labeling.pixels.points import Target, is_open, targets_of
from al_lab.labeling.pixels.request import write_pixel_request
from al_lab.labeling.reader import Answers
from al_lab.labeling.request import Item
from al_lab.labeling.store import StoredLabel
from al_lab.labeling.task import LabelTask, Taken

PIXEL_TOOLS = ("label_studio", "cvat", "labelme")


class PixelTask(LabelTask[PixelLabels]):
    """Whole images, or numbered points and squares of them.

    Attributes:
        targets: sample id to its questions, of images of which pixels were asked for.
    """

    def __init__(self, dataset: Any, purchase: Purchase) -> None:
        super().__init__(dataset, purchase)
        parts = [q for q in purchase.queries if q.region is not None]
        for query in parts:
            check_region(query, dataset.size_hw(query.sample_id))
        squares = squares_of_purchase(purchase) if parts else None
        self.targets: Mapping[str, tuple[Target, ...]] = {q.sample_id: targets_of(q, squares) for q in parts}

    def read(self, folder: Path, items: Sequence[Item], void_id: int | None) -> Answers[PixelLabels]:
        """Read what people handed in; see `read_maps`."""
        classes = self.dataset.classes
        return read_maps(folder, items, self.targets, classes, color_table(len(classes)), void_id)

    def known(self, stored: StoredLabel, query: Query) -> PixelLabels | None:
        """See `LabelTask.known`: single pixels are no answer for a whole image."""
        labels: PixelLabels = stored.seen_by(self.dataset.classes)
        if labels.map_HW.shape != self.dataset.size_hw(query.sample_id) or (
            query.region is None and not stored.is_whole
        ):
            return None
        labels = labels if query.region is None else labels.within(query.region)
        return labels if labels.num_answered else None

    def add_known(self, taken: Taken[PixelLabels], sample_id: str, label: PixelLabels) -> None:
        """See `LabelTask.add_known`: what this run took over stays."""
        before = taken.annotations.get(sample_id)
        taken.annotations[sample_id] = label if before is None else before.over(label)

    def kept_words(self, taken: Taken[PixelLabels]) -> str | None:
        """Say how much of the purchase is taken; None if nothing is."""
        if not taken.annotations:
            return None
        if not self.targets:
            return f"{len(taken.annotations)} images are labeled"
        still = sum(map(len, self._open_targets(taken).values()))
        return f"{self._num_targets - still} of {self._num_targets} {self._word} are named"

    def known_words(self, found: Mapping[str, PixelLabels]) -> str:
        """See `LabelTask.known_words`."""
        if not self.targets:
            return super().known_words(found)
        known = sum(not is_open(t, labels) for i, labels in found.items() for t in self.targets.get(i, ()))
        whole = sum(i not in self.targets for i in found)
        said = f"{known} of {self._num_targets} {self._word} were labeled before"
        return f"{said}, and {whole} images" if whole else said

    def add(self, taken: Taken[PixelLabels], sample_id: str, label: PixelLabels, seconds: float | None) -> None:
        """See `LabelTask.add`: of a whole image the newest answer counts, points are added to those before."""
        region = self.queries[sample_id].region
        said = label
        if region is not None:
            said = label.within(region)
            said = said.over(taken.said[sample_id]) if sample_id in taken.said else said
            label = said.over(taken.annotations[sample_id]) if sample_id in taken.annotations else said
            seconds = taken.seconds.get(sample_id) if seconds is None else seconds
        taken.annotations[sample_id], taken.said[sample_id], taken.seconds[sample_id] = label, said, seconds

    def is_answered(self, query: Query, taken: Taken[PixelLabels]) -> bool:
        """See `LabelTask.is_answered`: of a whole image a part is enough, of points all are awaited."""
        found = taken.annotations.get(query.sample_id)
        if found is None:
            return False
        return found.num_answered > 0 if query.region is None else found.covers(query.region)

    def to_row(self, taken: Taken[PixelLabels], sample_id: str) -> dict[str, Any]:
        """See `LabelTask.to_row`."""
        label, said = taken.annotations[sample_id], taken.said.get(sample_id)
        row = {"id": sample_id, "pixels": label.to_json(), "digest": _digest(sample_id, label)}
        asked = {"asked": said is not None, "seconds": taken.seconds.get(sample_id)}
        part = {"said": said.to_json()} if said is not None and not said.same_as(label) else {}
        return row | asked | part | {"open": sum(is_open(t, label) for t in self.targets.get(sample_id, ()))}

    def add_row(self, taken: Taken[PixelLabels], sample_id: str, row: Entry) -> None:
        """See `LabelTask.add_row`."""
        label = self._labels(row, "pixels")
        if row.read("digest", text) != _digest(sample_id, label):
            raise row.wrong("pixels", "what was taken over", "another: a letter or a digit was changed")
        taken.annotations[sample_id] = label
        if row.read("asked", flag):
            taken.said[sample_id] = self._labels(row, "said") if "said" in row else label
            taken.seconds[sample_id] = row.read("seconds", optional(not_negative), None)

    def _labels(self, row: Entry, key: str) -> PixelLabels:
        labels = PixelLabels.from_json(row.entry(key), len(self.dataset.classes))
        query = self.queries.get(row.read("id", text))
        if query is not None and labels.map_HW.shape != self.dataset.size_hw(query.sample_id):
            raise row.wrong(key, f"a map of {self.dataset.size_hw(query.sample_id)}", f"{labels.map_HW.shape}")
        return labels

    def ask(self, folder: Path, items: Sequence[Item], taken: Taken[PixelLabels], tool: str | None) -> None:
        """Write, or bring up to date, the folder in which people find what to label."""
        done = {q.sample_id for q in self.purchase.queries if self.is_answered(q, taken)}
        write_pixel_request(folder, self.dataset, items, done, self._open_targets(taken), tool)

    def _open_targets(self, taken: Taken[PixelLabels]) -> dict[str, list[Target]]:
        labels = taken.annotations
        return {i: [t for t in targets if is_open(t, labels.get(i))] for i, targets in self.targets.items()}

    def deliver(self, oracle: Oracle, queries: Sequence[Query], taken: Taken[PixelLabels]) -> tuple[Query, ...]:
        """See `LabelTask.deliver`: of a whole image what was labeled is bought."""

        def revealed() -> Iterator[tuple[Query, Region, np.ndarray]]:
            for query in queries:
                labels = taken.annotations[query.sample_id]
                region = query.region or Region.from_mask(labels.answered_HW)
                yield query, region, labels.label_map().reshape(-1)[region.pixels]

        clicks = self._num_targets if self.targets else None
        return oracle.deliver_pixels(self.dataset, self.purchase, revealed(), self._work(oracle, taken), clicks)

    def _work(self, oracle: Oracle, taken: Taken[PixelLabels]) -> dict[str, float]:
        """Return what people did for this purchase: real seconds where they are known, assumed ones elsewhere."""
        images = pixels = clicks = timed = 0
        known = assumed = maps = 0.0
        for sample_id, said in taken.said.items():
            pixels += said.num_answered
            if sample_id in self.targets:
                named = sum(not is_open(t, said) for t in self.targets[sample_id])
                clicks += named
                guess = named * oracle.seconds_per_pixel
            else:
                images += 1
                share = said.num_answered / said.map_HW.size
                maps += share
                guess = oracle.seconds_per_image + share * oracle.seconds_per_map
            seconds = taken.seconds[sample_id]
            timed += seconds is not None
            known += seconds or 0.0
            assumed += guess if seconds is None else 0.0
        return {
            "asked_images": images,
            "asked_maps": maps,  # whole ones, those labeled in part by their share
            "asked_pixels": pixels,
            "asked_clicks": clicks,
            "asked_hours": (known + assumed) / 3600,
            "timed_images": timed,
            "timed_hours": known / 3600,
        }

    @property
    def _num_targets(self) -> int:
        return sum(map(len, self.targets.values()))

    @property
    def _word(self) -> str:
        return "squares" if any(t.side > 1 for ts in self.targets.values() for t in ts) else "points"

    def open_words(self, items: Sequence[Item], taken: Taken[PixelLabels]) -> tuple[str, str | None]:
        """Return how much waits for labels, in words, and a hint."""
        whole = sum(i.sample_id not in self.targets and not self.is_answered(i.query, taken) for i in items)
        words = [f"{whole} of {len(items) - len(self.targets)} images"] if whole else []
        still = [len(targets) for targets in self._open_targets(taken).values() if targets]
        if still:
            words.append(f"{sum(still)} of {self._num_targets} {self._word} in {len(still)} images")
        hint = "open points.html, choose the classes, and put the table that it saves there, too" if still else None
        return " and ".join(words), hint

    def summary(self, answers: Answers[PixelLabels]) -> str | None:
        """See `LabelTask.summary`: what was labeled in part counts as it is."""
        whole = [a for i, a in answers.annotations.items() if i not in self.targets]
        shares = [a.num_answered / a.map_HW.size for a in whole if a.num_answered < a.map_HW.size]
        if not shares:
            return None
        mean = 100 * float(np.mean(shares))
        return f"{len(shares)} images are labeled in part, {mean:.1f} % of their pixels; the rest counts as void"


def _digest(sample_id: str, labels: PixelLabels) -> str:
    content = hashlib.sha256(np.ascontiguousarray(labels.map_HW).tobytes()).hexdigest()
    digest: str = seal({"id": sample_id, "map": content})["digest"]
    return digest
