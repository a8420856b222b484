"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real datasets; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("AL_LAB_SHARED_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}: set AL_LAB_SHARED_DATA to the folder that holds bccd/, voc5_320/, …")
    return path
