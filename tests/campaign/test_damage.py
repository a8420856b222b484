"""Any file of a run folder, harmed in any way, is healed or named; see `tests.campaign.damage`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.damage import STATES, TASKS, Matrix
from tests.stubs import quicken

_STEP = 43  # of the fast tests; coprime to the number of harms


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        yield


def try_cases(task: str, folder: Path, step: int) -> None:
    matrix = Matrix(task, folder)
    for state in STATES:
        for name, harm in list(matrix.cases(state))[::step]:
            assert matrix.verdict(state, name, harm) in ("same", "named"), f"{state}: {name} {harm}"


@pytest.mark.parametrize("task", TASKS)
def test_some_files_harmed_in_some_way(task: str, tmp_path: Path) -> None:
    try_cases(task, tmp_path, _STEP)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_file_harmed_in_every_way(task: str, tmp_path: Path) -> None:
    try_cases(task, tmp_path, 1)
