"""Fixtures every test may use."""

import gc
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.remembered import remember

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Composing a configuration is what most tests begin with."""
    remember()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests may take three times as long as others before they count as hung."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(900))


def pytest_collection_finish() -> None:
    """Python's collector need not look again and again at torch and at the tests themselves: 5 % of all time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_seeds() -> None:
    """Start every test with the same global generators: its outcome must not hang on which tests ran before it in its
    process."""
    seed = int(os.environ.get("AL_LAB_TEST_SEED", "0"))  # other seeds show which tests pass by chance
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real datasets; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("AL_LAB_SHARED_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}: set AL_LAB_SHARED_DATA to the folder that holds bccd/, voc5_320/, …")
    return path
