"""Write a generated dataset once: whole or not at all, and a folder of its own for each set of numbers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def generate_once(data_dir: Path, name: str, params: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Return the folder ``<name>-<hash of params>``, writing it first unless it is there.

    The folder appears by one rename, so it is whole if it exists; of two processes one wins and both return it.

    Args:
        data_dir: where generated data lives.
        name: of the dataset.
        params: everything the content depends on (JSON-able); kept in the folder as params.json.
        write: fills an empty folder.
    """
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:10]
    final = data_dir / f"{name}-{digest}"
    if final.is_dir():
        return final
    data_dir.mkdir(parents=True, exist_ok=True)
    log.info("generating %s in %s", name, final)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=data_dir))
    try:
        write(temporary)
        (temporary / "params.json").write_text(json.dumps(params, indent=1) + "\n")
        temporary.chmod(0o755)  # mkdtemp makes it private; other users may share a data folder
        try:
            os.rename(temporary, final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final
