"""The images that a model is asked about: links with names of their own, a list, and a COCO document of their ids."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from al_lab.core.files import write_json, write_text
from al_lab.data.convert import Images
from al_lab.data.predictions.names import ImageNames

_DONE = ".written"


@dataclass(frozen=True)
class Asked:
    """Some images, as files of a folder.

    Attributes:
        folder: that `write_asked` wrote.
        ids: the images, in order.
        files: of them, names below ``images/``.
        originals: the dataset's own files.
        known: what files may call any image of the dataset, also one that was not asked about: its name, or its stem.
        paths: the dataset's own file of each.
    """

    folder: Path
    ids: tuple[str, ...]
    files: tuple[str, ...]
    originals: tuple[Path, ...]
    known: Mapping[str, str]
    paths: Mapping[str, Path]

    @property
    def list_path(self) -> Path:
        """Text, a path a line."""
        return self.folder / "images.txt"

    @property
    def images_dir(self) -> Path:
        """All of them in one folder."""
        return self.folder / "images"

    @property
    def document_path(self) -> Path:
        """A COCO document with ``images`` and ``categories`` and no annotations."""
        return self.folder / "images.json"

    @cached_property
    def _names(self) -> tuple[ImageNames, ImageNames]:
        links = {i: self.images_dir / name for i, name in zip(self.ids, self.files, strict=True)}
        return ImageNames(links), ImageNames(self.paths)

    def find(self, name: str | int) -> str | None:
        """Return the image that a file calls ``name``: as it was handed out, or as it is called at home."""
        if name in self.known:
            return self.known[str(name)]
        handed_out, own = self._names
        return handed_out.find(name) or own.find(name)


def asked_of(folder: Path, dataset: Any, ids: Sequence[str]) -> Asked:
    """Name each image so that no two of the dataset have one stem, and none is in a folder of its own."""
    every = tuple(dict.fromkeys((*dataset.pool_ids, *dataset.val_ids, *dataset.test_ids, *ids)))
    paths = {i: Path(dataset.image_path(i)).absolute() for i in every}
    plain = {i: i.replace("/", "__").replace("\\", "__") for i in every}
    times = Counter(name.lower() for name in plain.values())  # some disks don't tell A.jpg from a.jpg
    stems = {
        i: name if times[name.lower()] == 1 else f"{name}_{hashlib.sha256(i.encode()).hexdigest()[:8]}"
        for i, name in plain.items()
    }
    files = {i: f"{stem}{paths[i].suffix}" for i, stem in stems.items()}
    known = {stem: i for i, stem in stems.items()} | {name: i for i, name in files.items()}
    return Asked(folder, tuple(ids), tuple(files[i] for i in ids), tuple(paths[i] for i in ids), known, paths)


def write_asked(folder: Path, dataset: Any, ids: Sequence[str], images: Images = "link") -> Asked:
    """Write the images of a folder, once: what is there already stays.

    Args:
        folder: the place.
        dataset: of the images.
        ids: what is asked about.
        images: "link" or "copy" them; "none": the list names the originals.
    """
    asked = asked_of(folder, dataset, ids)
    digest = hashlib.sha256("\n".join((images, *ids)).encode()).hexdigest()
    if (folder / _DONE).is_file() and (folder / _DONE).read_text() == digest:
        return asked
    shutil.rmtree(folder, ignore_errors=True)
    asked.images_dir.mkdir(parents=True)
    for name, path in zip(asked.files, asked.originals, strict=True):
        if images == "link":
            os.symlink(path.resolve(), asked.images_dir / name)
        elif images == "copy":
            shutil.copyfile(path, asked.images_dir / name)
    paths = asked.originals if images == "none" else [(asked.images_dir / name).absolute() for name in asked.files]
    write_text(asked.list_path, "".join(f"{path}\n" for path in paths))
    write_json(asked.document_path, _document(asked, dataset))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in dataset.classes))
    write_text(folder / _DONE, digest)
    return asked


def _document(asked: Asked, dataset: Any) -> dict[str, Any]:
    sizes = [dataset.size_hw(i) for i in asked.ids]
    rows = [
        {"id": n, "file_name": name, "height": h, "width": w}
        for n, (name, (h, w)) in enumerate(zip(asked.files, sizes, strict=True), 1)
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(dataset.classes, 1)]
    return {"images": rows, "annotations": [], "categories": categories}
