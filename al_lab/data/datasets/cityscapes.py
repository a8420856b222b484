"""Cityscapes (Cordts et al., CVPR 2016) in its official layout.

2,975 train and 500 val frames of German-speaking cities.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.data.datasets.domains import CITYSCAPES_IDS, SHARED_16, Domain, to_train_ids
from al_lab.data.formats.masks import read_ids

_COUNTS = {"train": 2975, "val": 500}
_IDS = (*range(34), 255)  # all there are (255: license plate, -1); those that no class has are void on purpose
_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"
_LARGEST_TRAIN_ID = 18


class Cityscapes(Domain):
    """Cityscapes' own folders, of images of any size.

    ``leftImg8bit/<split>/<city>/*_leftImg8bit.png`` and ``gtFine/<split>/<city>/*_gtFine_labelIds.png``.

    Ids look like "train/aachen/aachen_000000_000019".
    """

    def __init__(
        self, root: str, num_classes: int = 19, pool: str = "train", test: str = "val", check_counts: bool = True
    ) -> None:
        """Index the folder.

        Args:
            root: folder with leftImg8bit/ and gtFine/.
            num_classes: 19, or the 16 that SYNTHIA has too.
            pool: split whose pixels are bought.
            test: split that is measured; the labels of the official test split are not public.
            check_counts: refuse another number of images than the official one.

        Raises:
            ConfigError: for another number of classes.
            DataError: if images are missing.
        """
        if num_classes not in (len(CITYSCAPES_IDS), len(SHARED_16)):
            raise ConfigError(
                explain(
                    expected="19 or 16 classes",
                    got=str(num_classes),
                    where="dataset.target.num_classes",
                    do="correct it",
                )
            )
        base = Path(root).expanduser()
        names = tuple(CITYSCAPES_IDS) if num_classes == len(CITYSCAPES_IDS) else SHARED_16
        self._train_ids = {CITYSCAPES_IDS[name]: k for k, name in enumerate(names)}
        splits = {role: _frames(base, split, check_counts) for role, split in (("pool", pool), ("test", test))}
        ids = [i for found in splits.values() for i in found]
        images = {i: base / "leftImg8bit" / f"{i}{_IMAGE}" for i in ids}
        super().__init__(names, images, {i: base / "gtFine" / f"{i}{_LABEL}" for i in ids}, splits)

    def label_rule(self) -> str | None:
        """Return the ids of this benchmark and the number of classes."""
        return f"{type(self).__qualname__} {len(self.classes)}"

    def read_label(self, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read a gray image of ids; one that looks like train ids is noted."""
        raw_HW = read_ids(path)
        label_HW, notes = to_train_ids(raw_HW, self._train_ids, _IDS)
        known = raw_HW[raw_HW != 255]  # noqa: PLR2004 - void
        if len(known) and known.max() <= _LARGEST_TRAIN_ID and len(known) < raw_HW.size:
            notes = (*notes, "only ids 0..18 and 255: is this a labelTrainIds file under the name of a labelIds file?")
        return label_HW, notes


def _frames(base: Path, split: str, check_counts: bool) -> list[str]:
    folder = base / "leftImg8bit" / split
    found = sorted(
        path.relative_to(base / "leftImg8bit").as_posix().removesuffix(_IMAGE) for path in folder.glob(f"*/*{_IMAGE}")
    )
    count = _COUNTS.get(split)
    if not found or (check_counts and count is not None and len(found) != count):
        raise DataError(explain(expected=f"the official {count} frames" if count else f"frames *{_IMAGE} in "
                                                                                      f"folders of cities",
                                got=str(len(found)) if folder.is_dir() else "no such folder", where=str(folder),
                                do="'al-lab data download cityscapes' says how to get it; for a part of it, "
                                   "dataset.target.check_counts=false"))  # fmt: skip
    return found
