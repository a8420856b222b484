"""Which images are the pool, val and test: what people call their splits, and which one is used for what."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

from al_lab.core.errors import DataError, did_you_mean, explain

ABSENT = "none"  # a split somebody does not want, where null means "take it if it is there"
#: What people call their splits, and the name we give each.
SPLIT_WORDS = {
    "train": "train", "training": "train", "trainval": "trainval", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip


def split_of(path: PurePosixPath) -> str | None:
    """Return the split that a folder of a relative path names: the first one that is a split's word."""
    return next((SPLIT_WORDS[part.lower()] for part in path.parts[:-1] if part.lower() in SPLIT_WORDS), None)


def split_in_name(stem: str) -> str | None:
    """Return the split that a file's name tells: "instances_train2017" is train."""
    words = re.split(r"[^a-z]+", stem.lower())
    return next((SPLIT_WORDS[w] for w in words if w in SPLIT_WORDS), None)


def in_test_share(sample_id: str, fraction: float) -> bool:
    """Say whether an image belongs to the automatic test split.

    The id's hash decides alone, so photographs added later never move the others between splits.
    """
    draw = int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "big") / 2**64
    return draw < fraction


def choose_splits(present: set[str], wanted: dict[str, str | None], what: str, where: str) -> dict[str, str]:
    """Decide which of a folder's own splits are pool, val and test.

    train (else trainval) is the pool, val stays outside it, test is the test set; with train and val alone, val is the
    test set.

    Args:
        present: names of the splits there are.
        wanted: what the user said of "pool", "val" and "test": a name, None for the rule above, or `ABSENT`.
        what: a split is, for messages.
        where: they are, for messages.

    Returns:
        Role to name; roles without images are left out.

    Raises:
        DataError: if a split that was named is not there.
    """
    chosen = {split: stem for split, stem in wanted.items() if stem is not None and stem != ABSENT}
    for split, stem in chosen.items():
        if stem not in present:
            raise DataError(
                explain(
                    expected=f"{what} for {split}",
                    got=f"no {stem!r}",
                    where=f"{where} (dataset.{split}_split={stem})",
                    do=did_you_mean(stem, present),
                )
            )
    used = set(chosen.values())
    if "pool" not in chosen:
        for stem in ("train", "trainval"):
            if stem in present - used:
                chosen["pool"] = stem
                break
    if wanted["test"] is None and "test" in present - used:
        chosen["test"] = "test"
    # trainval contains val, so val stays apart only from a pool called train.
    if chosen.get("pool") == "train" and "val" in present - used:
        if wanted["test"] is None and "test" not in chosen:
            chosen["test"] = "val"
        elif wanted["val"] is None:
            chosen["val"] = "val"
    return chosen
