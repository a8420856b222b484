"""GTAV (Richter et al., "Playing for Data", ECCV 2016).

24,966 frames of a computer game with labels in Cityscapes' ids.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from al_lab.data.datasets.domains import CITYSCAPES_IDS, Domain, paired_names, to_train_ids
from al_lab.data.formats.masks import read_ids

_COUNT = 24_966
_TRAIN_IDS = {raw: k for k, raw in enumerate(CITYSCAPES_IDS.values())}
_IDS = range(35)  # all there are; those that no class has are void on purpose


class GTAV(Domain):
    """``images/00001.png`` and ``labels/00001.png``; labels are palette images whose indices are ids.

    Sizes differ a little.
    """

    def __init__(self, root: str, list_file: str | None = None, check_counts: bool = True) -> None:
        """Index the folder.

        Args:
            root: folder with images/ and labels/.
            list_file: names one a line; None takes every image.
            check_counts: refuse another number of images than the official one, where there is no list.

        Raises:
            DataError: if images are missing.
        """
        base = Path(root).expanduser()
        names = paired_names(base / "images", base / "labels", list_file, _COUNT if check_counts else None,
                             "run 'al-lab data download gtav'")  # fmt: skip
        images, labels = ({n: base / folder / f"{n}.png" for n in names} for folder in ("images", "labels"))
        super().__init__(tuple(CITYSCAPES_IDS), images, labels, {"pool": names})

    def label_rule(self) -> str | None:
        """Return the ids of this benchmark and the number of classes."""
        return f"{type(self).__qualname__} {len(self.classes)}"

    def read_label(self, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read a palette image of ids (19 classes)."""
        return to_train_ids(read_ids(path), _TRAIN_IDS, _IDS)
