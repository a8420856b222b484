"""A person's own photographs in VOC layout, labeled or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from al_lab.data.datasets.folder import Folder
from al_lab.data.formats.boxes import Outside
from al_lab.data.formats.layout import AnnotationFiles, find_images, walk_files


class VOCFolder(Folder):
    """`Folder` where VOC's layout is expected: XML files are VOC's and nothing else is read.

    Lists in ``ImageSets/Main`` (or split folders) say everything if there are any: with a pool's list alone there is no
    test set. ``classes.txt`` is believed: then no annotation is read before somebody asks for it.
    """

    metrics = ("voc_area_ap50",)
    _single_split_is_cut = False
    _reads_all = False

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
        group_by: str | None = None,
        min_gap: int | str | None = None,
    ) -> None:
        """Look at the folder.

        Args:
            root: the folder.
            classes: names in label order; None reads classes.txt, else the annotations.
            image_dir: below root; if absent, ``images`` and then root itself are tried.
            annotation_dir: below root; where it holds no annotation of an image, those that lie elsewhere are taken.
            pool_split: a list in ImageSets/Main (any name) or a split folder; None: train, else trainval.
            val_split: the same for labeled images outside the pool; "none" for no such images.
            test_split: the same for the test set; "none" for no test set.
            test_fraction: of the annotated images, where there are no splits.
            one_based: whether coordinates count from 1, as VOC's do.
            outside: "error" or "clip", for boxes that leave the image.
            metrics: what evaluation computes, the main one first.
            name: of the dataset; None takes the root's name.
            group_by: images of one group (video, patient, camera) have one role: a regular expression, see `Grouping`.
            min_gap: how far apart the numbers of a group's images in one purchase are; "group": one image of a group.

        Raises:
            DataError: if there are no images, no class names, or annotations of none of the images.
        """
        self._annotation_dir = annotation_dir
        splits = (pool_split, val_split, test_split)
        super().__init__(
            root, classes, None, image_dir, *splits, test_fraction, one_based, outside, metrics, name, group_by, min_gap
        )

    def _find_images(self, base: Path, image_dir: str | None) -> tuple[Path, dict[str, Path]]:
        return find_images(base, usual=(image_dir or "", "images"))

    def _find_annotations(self, base: Path) -> AnnotationFiles:
        found = AnnotationFiles()
        folder = base / self._annotation_dir
        usual = [path for path in walk_files(folder) if path.suffix.lower() == ".xml"]
        # A folder of an annotation's name counts, too: who reads it says so, where an image "without" would hide it.
        usual += [path for i in self._images if (path := folder / f"{i}.xml").is_dir()]
        stems = {path.stem for path in self._images.values()}
        if not any(path.stem in stems for path in usual):
            usual = [path for path in walk_files(base) if path.suffix.lower() == ".xml"]
        if usual:
            found.by_format["voc"] = usual
        return found
