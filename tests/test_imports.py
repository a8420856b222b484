"""Imports point one way, and only the oracle reads the truth."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "al_lab").rglob("*.py"))

# floor -> the floors of al_lab it may import, besides itself
CORE = {"core"}
CONFIG = {"core", "config"}
LAYERS: dict[str, set[str]] = {
    "core": set(),
    "acquisition": CORE,
    "metrics": CORE,
    "data": CORE,
    "execution": CORE,
    "reporting": {"core", "data"},
    "config": CORE,
    "labeling": {"core", "data"},
    "trackers": {"core", "data", "reporting"},
    "models": {"core", "data", "acquisition"},
    "objectives": {"core", "data", "models", "acquisition"},
    "learners": CONFIG | {"data", "models", "objectives", "acquisition"},
    "stages": CONFIG | {"data", "execution", "metrics", "models", "acquisition", "learners"},
    "strategies": CONFIG | {"data", "execution", "metrics", "acquisition", "learners", "stages"},
    "campaign": CONFIG | {"data", "execution", "metrics", "models", "stages", "reporting"},
    "selection": CONFIG | {"data", "labeling", "acquisition", "metrics", "reporting"},
    "cli": CONFIG | {"data", "labeling", "campaign", "reporting", "execution", "selection"},
}
EVERYTHING = {"benchmarks", "api", "__main__"}
# floor -> room -> the rooms beside it that it may import: no two rooms need each other
ROOMS: dict[str, dict[str, set[str]]] = {
    "data": {
        "formats": set(),
        "predictions": {"formats"},
        "lint": {"predictions"},
        "transforms": set(),
        "segments": {"formats"},
        "datasets": {"formats", "transforms", "segments"},
        "generated": {"formats", "datasets", "transforms"},
        "loading": {"formats", "datasets", "transforms"},
    },
    "labeling": {"pixels": set()},
    "models": {"detectors": set(), "segmenters": set(), "mm": {"detectors", "segmenters"}, "adapters": {"detectors"}},
    "strategies": {
        "general": set(),
        "detection": {"general"},
        "rivals": {"general"},
        "segmentation": {"general"},
    },
    "reporting": {
        "read": set(),
        "judge": {"read"},
        "figures": {"read", "judge"},
        "document": {"read", "figures"},
        "sections": {"read", "judge", "figures", "document"},
        "pages": {"read", "judge", "figures", "document", "sections"},
    },
}
THIRD_PARTY = {
    "hydra": {"config", "cli"},
    "omegaconf": {"config", "cli"},
    "mmdet": {"models", "benchmarks"},
    "mmcv": {"models", "benchmarks"},
    "mmengine": {"models", "benchmarks"},
    "mmseg": {"models"},
    "wandb": {"trackers"},
    "pytorch_lightning": {"learners", "stages", "data"},
}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "al_lab":
                yield from ((f"al_lab.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


def layer(path: Path) -> str:
    part = path.relative_to(ROOT / "al_lab").parts[0]
    return part.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layers(path):
    mine = layer(path)
    if mine == "__init__":
        return
    wrong = []
    for name, line in imports(path):
        parts = name.split(".")
        if (
            parts[0] == "al_lab"
            and len(parts) > 1
            and parts[1] != "__version__"
            and mine not in EVERYTHING
            and parts[1] not in LAYERS[mine] | {mine}
        ):
            wrong.append(f"line {line}: {mine} imports {name}")
        if parts[0] in THIRD_PARTY and mine not in THIRD_PARTY[parts[0]]:
            wrong.append(f"line {line}: {mine} imports {name}")
        is_config_file = parts[0] == "yaml" and path.name == "config_file.py"
        if mine == "core" and parts[0] in ("torch", "torchvision", "yaml", "PIL") and not is_config_file:
            wrong.append(f"line {line}: core imports {name}")
    assert not wrong


def room(parts: tuple[str, ...]) -> str:
    return parts[1].removesuffix(".py") if len(parts) > 1 else ""


@pytest.mark.parametrize("path", [p for p in FILES if layer(p) in ROOMS], ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_need_each_other_one_way(path):
    floor, mine = layer(path), room(path.relative_to(ROOT / "al_lab").parts)
    if mine not in ROOMS[floor]:
        return  # a loose module: whoever may import it is decided by its floor
    theirs = [
        (parts[2], line)
        for name, line in imports(path)
        if (parts := name.split("."))[:2] == ["al_lab", floor] and len(parts) > 2
    ]
    wrong = [
        f"line {line}: {mine} imports {other}"
        for other, line in theirs
        if other in ROOMS[floor] and other not in ROOMS[floor][mine] | {mine}
    ]
    assert not wrong


def test_every_room_has_its_rule():
    for floor, rooms in ROOMS.items():
        assert {p.name for p in (ROOT / "al_lab" / floor).iterdir() if (p / "__init__.py").is_file()} == set(rooms)


def test_no_room_is_crowded():
    rooms = {p.parent for p in FILES} | {ROOT / "scripts"}
    assert {str(r): n for r in rooms if (n := len([p for p in r.glob("*.py") if p.name != "__init__.py"])) > 14} == {}


def modules_needed(path: Path) -> set[str]:
    tree = tree_of(path)
    return {
        f"{name}.{alias}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for name in [node.module]
        for alias in ["", *(a.name for a in node.names)]
    }


def test_no_two_modules_need_each_other():
    """Not for types either: what two files need of each other belongs into a third."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in FILES}
    needs = {name: {n.rstrip(".") for n in modules_needed(path)} & set(names) for name, path in names.items()}
    assert [(a, b) for a in needs for b in needs[a] if a < b and a in needs[b]] == []


def test_every_layer_has_its_rule():
    assert {layer(p) for p in FILES} <= set(LAYERS) | EVERYTHING | {"__init__"}


def test_there_is_no_junk_drawer():
    assert not [p for p in FILES if p.name in ("utils.py", "helpers.py", "misc.py")]


# Who may call ``dataset.truth``: the oracle (pool), evaluation and what is checked before people are asked (test images
# only), and the checks of a dataset by its owner.
TRUTH = {
    "core/oracle.py",
    "stages/evaluate.py",
    "stages/jobs.py",
    "campaign/readiness.py",
    "data/verify.py",
    "data/bought_test.py",  # hands on
    "data/convert.py",
    "data/copied_pool.py",
    "labeling/folder.py",
    "labeling/store.py",
    "selection/labeled.py",  # of images that are labeled
    "benchmarks/detectors.py",  # of eight labeled images
    "benchmarks/mgral_bed/pools.py",  # no campaign: it knows everything
}


def test_only_the_oracle_reads_the_truth():
    callers = set()
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and node.attr == "truth" and isinstance(node.ctx, ast.Load):
                callers.add(str(path.relative_to(ROOT / "al_lab")))
    assert callers <= TRUTH


def test_checkpoints_load_safely():
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True", (
                    f"{path}:{node.lineno}"
                )


PUBLIC = [p for p in FILES if p.name != "__init__.py"]


@pytest.mark.parametrize("path", PUBLIC, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_public_is_documented(path):
    tree = tree_of(path)
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            missing.append(node.name)
    assert not missing
