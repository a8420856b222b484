"""How a labeling server comes by the images: they are sent there, or it has them, or people's browsers fetch them."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.fields import optional, text
from al_lab.core.files import sha256
from al_lab.labeling.project import Project
from al_lab.labeling.request import Item, write_image

log = logging.getLogger(__name__)

WAYS = ("upload", "local_files", "url")
_FOR_BROWSERS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
_GONE = (404, 410)
_PATIENCE_S = 10.0


class Delivery:
    """One way for all images of a run.

    Args:
        way: of `WAYS`.
        base: see `LabelStudioOracle`.

    Raises:
        ConfigError: for a way without the base it needs.
    """

    def __init__(self, way: str, base: str | None) -> None:
        self.way = way
        self.base = optional(text)(base, "oracle.image_base") or ""
        if bool(self.base) == (way == "upload"):
            what = {
                "upload": "null: uploaded images have no folder or prefix",
                "local_files": "the folder that the server serves (its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT)",
                "url": "the prefix of the images' addresses, such as https://my.site/photos",
            }[way]
            got, do = repr(base), "set it, or choose another oracle.images"
            raise ConfigError(explain(expected=what, got=got, where=f"oracle.image_base (images={way})", do=do))
        self._root: str | None = None  # the folder that holds all images of the pool
        # Small batches of uploads: what a kill leaves on the server without a task is small, too.
        self.batch = 10 if way == "upload" else 100

    def check(self, project: Project, dataset: Any) -> None:
        """Refuse a folder or prefix under which the images are not.

        Raises:
            ConfigError: naming the first image.
            ServerAwayError: if the server does not answer.
        """
        if self.way == "upload":
            return
        paths = [dataset.image_path(i) for i in dataset.pool_ids]
        if self.way == "local_files":
            inside = [self._below_base(path) for path in paths]  # each must be there
            if loose := [p for p in inside if "/" not in p]:
                do = "give the folder above it: Label Studio serves subfolders of its document root only"
                got = f"{loose[0]} in the folder itself"
                expected = "images in subfolders of the served folder"
                raise ConfigError(explain(expected=expected, got=got, where="oracle.image_base", do=do))
            for top in sorted({Path(p).parts[0] for p in inside}):
                project.serve_files(Path(self.base).expanduser().absolute(), top)
            self._compare(project, paths[0])
        else:
            self._look_at(self._address(dataset, paths[0]))

    def address(self, project: Project, dataset: Any, item: Item) -> str:
        """Return what a task says of its image; with ``upload`` it is sent there first."""
        if self.way != "upload":
            return self._address(dataset, item.image)
        if not item.is_turned and item.image.suffix.lower() in _FOR_BROWSERS:
            return project.server.upload(project.id, item.file_name, item.image)
        with tempfile.TemporaryDirectory() as folder:  # upright, in a format that every browser shows
            path = Path(folder) / f"{item.stem}.png"
            write_image(path, dataset, item, as_png=True)
            return project.server.upload(project.id, path.name, path)

    def _address(self, dataset: Any, path: Path) -> str:
        if self.way == "local_files":
            return f"/data/local-files/?d={quote(self._below_base(path))}"
        if self._root is None:
            self._root = os.path.commonpath([dataset.image_path(i).absolute().parent for i in dataset.pool_ids])
        return f"{self.base.rstrip('/')}/{quote(path.absolute().relative_to(self._root).as_posix())}"

    def _below_base(self, path: Path) -> str:
        base = Path(self.base).expanduser()
        for folder, file in ((base.absolute(), path.absolute()), (base.resolve(), path.resolve())):
            if file.is_relative_to(folder):
                return file.relative_to(folder).as_posix()
        do = "give the folder that the server serves and that holds the dataset, or oracle.images=upload"
        expected, where = f"images below {base}", "oracle.image_base"
        raise ConfigError(explain(expected=expected, got=str(path), where=where, do=do))

    def _compare(self, project: Project, path: Path) -> None:
        """Fetch one image as people will get it: another file of that name would be labeled in its stead."""
        expected, where = f"{path} as it is here", f"what {project.server.url} shows at {self._address(None, path)}"
        do = "correct oracle.image_base (the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT), or oracle.images=upload"
        try:
            shown = project.server.read(self._address(None, path))
        except DataError as error:
            raise ConfigError(explain(expected=expected, got=f"a refusal ({error})", where=where, do=do)) from None
        if hashlib.sha256(shown).hexdigest() != sha256(path):
            raise ConfigError(explain(expected=expected, got="another file", where=where, do=do))

    @staticmethod
    def _look_at(address: str) -> None:
        """Refuse an address that says that there is nothing; one that only people's browsers reach can't be judged."""
        try:
            request = urllib.request.Request(address, method="HEAD")
            with urllib.request.urlopen(request, timeout=_PATIENCE_S):
                return
        except ValueError as error:
            got, do = str(error), "begin it with http:// or https://"
            raise ConfigError(explain(expected="an address", got=got, where="oracle.image_base", do=do)) from None
        except urllib.error.HTTPError as error:
            if error.code in _GONE:
                got, do = f"{error.code} {error.reason}", "correct oracle.image_base"
                raise ConfigError(explain(expected="an image", got=got, where=address, do=do)) from None
            log.warning("%s answers %d to this machine; people's browsers have to reach it", address, error.code)
        except OSError as error:
            log.warning("this machine can't reach %s (%s); people's browsers have to", address, error)
