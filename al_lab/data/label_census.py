"""What `verify` notices in label maps: one that says next to nothing, and classes that a domain does not have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from al_lab.data.datasets.dataset import Finding
from al_lab.data.transforms.dense import VOID

_NEARLY_VOID = 0.95  # more void than this in one image is hardly meant


def strange_label(label_HW: np.ndarray, classes: Sequence[str]) -> list[tuple[str, str]]:
    """Return what looks like a wrongly read label, each with its remedy."""
    counts = np.bincount(label_HW.reshape(-1), minlength=VOID + 1)
    void, known = counts[VOID], np.flatnonzero(counts[:VOID])
    if void > _NEARLY_VOID * label_HW.size:
        return [
            (
                f"{100 * void / label_HW.size:.1f} % of the pixels are void",
                "check the label's encoding and the id of void",
            )
        ]
    if len(known) == 1:
        return [
            (
                f"every labeled pixel is {classes[known[0]]!r}",
                "check the label's encoding: a wrong reader sees zeros only",
            )
        ]
    return []


class LabelCensus:
    """Counts in how many labels of each role a class occurs."""

    def __init__(self, classes: Sequence[str]) -> None:
        """Begin with nothing seen."""
        self._classes = tuple(classes)
        self._images: dict[str, np.ndarray] = {}

    def add(self, role: str, label_HW: np.ndarray) -> None:
        """Count one label map of a role ("pool", "val", "test" or "source")."""
        present = np.bincount(label_HW.reshape(-1), minlength=VOID + 1)[: len(self._classes)] > 0
        self._images[role] = self._images.get(role, np.zeros(len(self._classes), np.int64)) + present

    def findings(self) -> list[Finding]:
        """Name the classes that occur nowhere, in one domain only, or not where they are measured."""
        nothing = np.zeros(len(self._classes), np.int64)
        source, test = self._images.get("source"), self._images.get("test")
        inside = [counts for role, counts in self._images.items() if role != "source"]
        target = sum(inside, nothing)
        found = []
        for k, name in enumerate(self._classes):
            in_source, in_target = source is not None and source[k] > 0, target[k] > 0
            two_domains = source is not None and len(inside) > 0
            if not in_source and not in_target:
                found.append(
                    Finding(
                        "warning", "", f"class {name!r} occurs in no label", "check the ids, or leave the class out"
                    )
                )
            elif two_domains and not in_source:
                found.append(
                    Finding(
                        "warning",
                        "",
                        f"class {name!r} occurs in the target's labels but in none of the source's",
                        "check the source's ids; if it is so, bought pixels alone teach this class",
                    )
                )
            elif two_domains and not in_target:
                found.append(
                    Finding(
                        "warning",
                        "",
                        f"class {name!r} occurs in the source's labels but in none of the target's",
                        "check the target's ids; if it is so, the class only costs: leave it out",
                    )
                )
            elif test is not None and in_target and not test[k]:
                found.append(
                    Finding(
                        "info",
                        "",
                        f"class {name!r} occurs in no test label",
                        "none needed: mIoU leaves it out of the mean",
                    )
                )
        return found
