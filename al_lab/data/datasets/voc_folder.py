"""A person's own photographs in VOC layout, labeled or not."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.data.datasets.dataset import Finding
from al_lab.data.datasets.voc import VOCLayout
from al_lab.data.formats.boxes import Outside
from al_lab.data.formats.images import IMAGE_SUFFIXES
from al_lab.data.formats.layout import SPLIT_WORDS, by_id, find_pictures, match_by_path, split_of, walk_files
from al_lab.data.formats.voc import read_class_list, read_name, read_split, read_xml

log = logging.getLogger(__name__)

ABSENT = "none"  # a split somebody does not want, where null means "take it if it is there"


def folder_name(root: str) -> str:
    """Return the name of a user's dataset: its root folder's name as a slug."""
    slug = re.sub(r"[^a-z0-9_]+", "-", Path(root).expanduser().resolve().name.lower()).strip("-")
    return slug or "folder"


def index_images(folder: Path) -> dict[str, Path]:
    """Find all images below a folder: id (relative path without suffix) to file; hidden files are skipped.

    Raises:
        DataError: if two files would get one id.
    """
    return by_id(folder, find_pictures(folder))


def in_test_share(sample_id: str, fraction: float) -> bool:
    """Say whether an image belongs to the automatic test split.

    The id's hash decides alone, so photographs added later never move the others between splits.
    """
    draw = int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "big") / 2**64
    return draw < fraction


class VOCFolder(VOCLayout):
    """Images with (some, all or no) VOC XML files.

    Lists in ``ImageSets/Main`` are used if there are any: train (else trainval) is the pool, val stays outside it, test
    is the test set; with train and val alone, val is the test set. Without lists every image is in the pool, and
    ``test_fraction`` of the annotated ones become the test set. Nothing annotated means no test set.
    """

    def __init__(
        self,
        root: str,
        classes: Sequence[str] | None = None,
        image_dir: str = "JPEGImages",
        annotation_dir: str = "Annotations",
        pool_split: str | None = None,
        val_split: str | None = None,
        test_split: str | None = None,
        test_fraction: float = 0.2,
        one_based: bool = True,
        outside: Outside = "error",
        metrics: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        """Index the folder.

        Args:
            root: the folder.
            classes: names in label order; None reads classes.txt, else the annotations.
            image_dir: below root; if absent, ``images`` and then root itself are tried.
            annotation_dir: below root; it need not exist.
            pool_split: a list in ImageSets/Main; None chooses as said above.
            val_split: the same for labeled images outside the pool; "none" for no such images.
            test_split: the same for the test set; "none" for no test set.
            test_fraction: of the annotated images, where there are no lists.
            one_based: whether coordinates count from 1, as VOC's do.
            outside: "error" or "clip", for boxes that leave the image.
            metrics: what evaluation computes, the main one first.
            name: of the dataset; None takes the root's name.

        Raises:
            DataError: if there are no images, no class names, or a list names an image that is missing.
        """
        base = Path(root).expanduser()
        image_base = _image_folder(base, image_dir)
        images = index_images(image_base)
        self._annotation_dir, annotations = _annotation_files(base, annotation_dir, image_base, images)
        self._list_dir = base / "ImageSets" / "Main"
        wanted = {"pool": pool_split, "val": val_split, "test": test_split}
        lists = _choose_lists(self._list_dir, wanted)
        if lists:
            how = f"lists {lists}"
            splits = {split: _listed(self._list_dir / f"{stem}.txt", images) for split, stem in lists.items()}
            if "pool" not in lists:
                taken = {i for ids in splits.values() for i in ids}
                splits["pool"] = [i for i in images if i not in taken]
        elif folders := _split_folders(images, base, wanted):
            splits, how = folders, "splits by folder"
        else:
            how = f"no lists; test_fraction {test_fraction:g} of the annotated"
            annotated = {i for i, file in annotations.items() if os.path.lexists(file)}
            test = [] if test_split == ABSENT else [i for i in annotated if in_test_share(i, test_fraction)]
            splits = {"pool": sorted(set(images) - set(test)), "test": test}
        self._unlisted = sorted(set(images) - {i for ids in splits.values() for i in ids})
        names = tuple(classes) if classes else _read_classes(base, self._annotation_dir)
        super().__init__(name or folder_name(root), names, images, annotations, splits, one_based, outside, metrics)
        log.info(
            "%s: pool %d, val %d, test %d (%s)",
            self.name,
            len(self.pool_ids),
            len(self.val_ids),
            len(self.test_ids),
            # fmt: skip
            how,
        )

    def _verify_whole(self) -> list[Finding]:
        findings = super()._verify_whole()
        if self._unlisted:
            findings.append(
                Finding(
                    "info",
                    str(self._list_dir),
                    f"{len(self._unlisted)} images are in none of the lists used and stay unused, first "
                    f"{self._unlisted[0]!r}",
                    "add them to a list, or choose others with dataset.pool_split",
                )
            )
        orphans = [path for path in sorted(set(self._annotation_dir.rglob("*.xml")) - set(self._annotations.values()))]
        findings += [
            Finding(
                "warning",
                str(path),
                f"{path.stem}: an annotation without an image",
                "restore the image or remove the file",
            )
            for path in orphans
        ]
        return findings


def _image_folder(base: Path, image_dir: str) -> Path:
    for folder in (base / image_dir, base / "images", base):
        if folder.is_dir() and any(index_images(folder)):
            return folder
    raise DataError(
        explain(
            expected=f"images ({', '.join(IMAGE_SUFFIXES[:4])}, …) in {image_dir}/, images/ or the folder itself",
            got="none" if base.is_dir() else "no such folder",
            where=f"dataset.root={base}",
            do="set dataset.root to the folder that holds your photographs",
        )
    )


def _annotation_files(
    base: Path, annotation_dir: str, image_base: Path, images: dict[str, Path]
) -> tuple[Path, dict[str, Path]]:
    """Return where annotations lie, and each image's file: in the folder that was named, else wherever they are."""
    folder = base / annotation_dir
    expected = {i: folder / f"{i}.xml" for i in images}
    if any(path.is_file() for path in expected.values()):
        return folder, expected
    found = match_by_path([p for p in walk_files(base) if p.suffix.lower() == ".xml"], images, image_base)[0]
    if found:
        log.info("%s: no annotations in %s/; those of %d images lie elsewhere, such as %s", base, annotation_dir,
                 len(found), next(iter(found.values())))  # fmt: skip
        folder = base
    return folder, expected | found


def _split_folders(images: dict[str, Path], base: Path, wanted: dict[str, str | None]) -> dict[str, list[str]] | None:
    """Return the splits that folders called train, valid, … tell; None if there are none."""
    splits: dict[str, list[str]] = {}
    for sample_id, path in images.items():
        if split := split_of(PurePosixPath(path.relative_to(base).as_posix())):
            splits.setdefault(split, []).append(sample_id)
    if len(splits) < 2:  # noqa: PLR2004 - one folder alone splits nothing
        return None
    chosen = choose_splits(
        set(splits), {k: SPLIT_WORDS.get(v, v) if v else v for k, v in wanted.items()}, "a split", str(base)
    )
    found = {role: splits[split] for role, split in chosen.items()}
    return found if "pool" in found else None


def _choose_lists(list_dir: Path, wanted: dict[str, str | None]) -> dict[str, str]:
    return choose_splits({path.stem for path in list_dir.glob("*.txt")}, wanted, "a list", f"{list_dir}/*.txt")


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


def _listed(list_path: Path, images: dict[str, Path]) -> list[str]:
    names = read_split(list_path)
    missing = [n for n in names if n not in images]
    if missing:
        raise DataError(
            explain(
                expected=f"an image for each of {len(names)} names",
                got=f"{len(missing)} missing, first {missing[0]!r}",
                where=str(list_path),
                do="restore the images or remove the names from the list",
            )
        )
    return names


def _read_classes(base: Path, annotation_dir: Path) -> tuple[str, ...]:
    listed = base / "classes.txt"
    if os.path.lexists(listed):
        return tuple(name for _, name in sorted(read_class_list(listed).items()))
    names = {
        read_name(item, f"{path}: object {number}")
        for path in annotation_dir.rglob("*.xml")
        for number, item in enumerate(read_xml(path).findall("object"), 1)
    }
    if not names:
        raise DataError(
            explain(
                expected="class names",
                got="neither dataset.classes, nor classes.txt, nor an annotated object",
                where=str(base),
                do="give dataset.classes='[cat,dog]' or write classes.txt, one name a line",
            )
        )
    return tuple(sorted(names))
