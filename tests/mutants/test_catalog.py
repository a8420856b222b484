"""What is mutated and what is left alone, and that each mutant is one changed node of a file that still compiles."""

import ast
from pathlib import Path

import pytest

from tests.mutants.campaign import Sample
from tests.mutants.catalog import mutants_of, mutated
from tests.mutants.report import table, wilson

SOURCE = '''"""A module."""
import math

_BLOCK = 512
LIMIT = 3

def f(x: int, gain: float = 0.5) -> float:
    """Return 1 + 1."""
    if x < LIMIT and not math.isnan(x):
        raise ValueError(f"{x + 1}")
    total = -gain * x
    total += min(x, 2)
    return explain("no", 1) if total else 0.0
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    return file


def test_every_small_mistake_of_a_module(path: Path) -> None:
    found = {(m.kind, m.scope, m.change) for m in mutants_of(path, "core")}
    assert found == {
        ("constant", "", "3 -> 4"),
        ("constant", "f", "0.5 -> 1.0"),
        ("comparison", "f", "x < LIMIT -> x <= LIMIT"),
        ("comparison", "f", "x < LIMIT -> x >= LIMIT"),
        ("boolean", "f", "x < LIMIT and (not math.isnan(x)) -> x < LIMIT or not math.isnan(x)"),
        ("boolean", "f", "not math.isnan(x) -> math.isnan(x)"),
        ("arithmetic", "f", "-gain * x -> -gain / x"),
        ("sign", "f", "-gain -> gain"),
        ("arithmetic", "f", "total += min(x, 2) -> total -= min(x, 2)"),
        ("swap", "f", "min -> max"),
        ("constant", "f", "2 -> 3"),
        ("boolean", "f", "total -> not total"),
        ("constant", "f", "0.0 -> 1.0"),
    }


def test_a_mutant_differs_in_one_place_and_compiles(path: Path) -> None:
    whole = ast.unparse(ast.parse(SOURCE)).splitlines()
    for mutant in mutants_of(path, "core"):
        lines = ast.unparse(mutated(path, mutant.index)).splitlines()
        compile("\n".join(lines), "module", "exec")
        assert sum(a != b for a, b in zip(lines, whole, strict=True)) == 1, mutant.change


def test_keys_outlast_changes_elsewhere_in_the_file(path: Path) -> None:
    before = {m.key for m in mutants_of(path, "core") if m.scope == "f"}
    path.write_text(SOURCE.replace("LIMIT = 3\n", "LIMIT = 3\nOTHER = 4\n\n\ndef g(x):\n    return x + 1\n"))
    after = mutants_of(path, "core")
    assert before == {m.key for m in after if m.scope == "f"}
    assert len({m.key for m in after}) == len(after)


def test_a_sample_is_seeded_and_holds_every_kind_in_proportion() -> None:
    one, again, other = (Sample.draw(60, seed, ["metrics"]) for seed in (0, 0, 1))
    assert one == again
    assert len(one.mutants) == 60
    assert {m.key for m in one.mutants} != {m.key for m in other.mutants}
    shares = [sum(m.kind == "constant" for m in s.mutants) for s in (one, other)]
    assert shares[0] == shares[1] > 0


def test_the_interval_is_wilsons_and_survivors_are_listed(path: Path) -> None:
    assert wilson(37, 52) == pytest.approx((0.57733, 0.81666), abs=1e-4)
    assert wilson(0, 0) == (0, 1)
    mutants = mutants_of(path, "core")
    verdicts = {m.key: {"verdict": "survived" if m.kind == "swap" else "killed"} for m in mutants[:-1]}
    page = table(mutants, verdicts, {"core": 13})
    assert "| core | 13 | 12 | 11 | 91.7% |" in page
    assert "Survivors: 1\n" in page
    assert "`min -> max`" in page
