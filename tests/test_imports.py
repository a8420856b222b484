"""Imports point one way, and only the oracle reads the truth."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "al_lab").rglob("*.py"))

# layer -> the layers of al_lab it may import, besides itself
CORE = {"core"}
CONFIG = {"core", "config", "checks", "signatures"}
LAYERS: dict[str, set[str]] = {
    "core": set(), "acquisition": CORE, "metrics": CORE, "data": CORE, "execution": CORE, "reporting": CORE,
    "config": CONFIG, "checks": CONFIG, "signatures": CONFIG, "wrong_command": CONFIG,
    "models": {"core", "data", "acquisition"}, "objectives": {"core", "data", "models", "acquisition"},
    "learners": CONFIG | {"data", "models", "objectives"},
    "stages": CONFIG | {"data", "execution", "metrics", "acquisition", "learners"},
    "strategies": CONFIG | {"data", "execution", "metrics", "acquisition", "learners", "stages"},
    "rehearsal": CONFIG | {"data", "metrics", "models"}, "progress": CORE, "publish": CONFIG | {"reporting"},
}
EVERYTHING = {"campaign", "benchmarks", "sweep", "command"}  # the top of the house
THIRD_PARTY = {
    "hydra": {"config", "wrong_command", "sweep"}, "omegaconf": {"config", "wrong_command"},
    "mmdet": {"models", "benchmarks"}, "mmcv": {"models", "benchmarks"}, "mmengine": {"models", "benchmarks"},
    "mmseg": {"models"}, "wandb": {"reporting"},
    "pytorch_lightning": {"learners", "stages", "data"},
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
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
        if parts[0] == "al_lab" and len(parts) > 1 and parts[1] != "__version__" and mine not in EVERYTHING and parts[1] not in LAYERS[mine] | {mine}:
            wrong.append(f"line {line}: {mine} imports {name}")
        if parts[0] in THIRD_PARTY and mine not in THIRD_PARTY[parts[0]]:
            wrong.append(f"line {line}: {mine} imports {name}")
        if mine == "core" and parts[0] in ("torch", "torchvision", "yaml", "PIL"):
            wrong.append(f"line {line}: core imports {name}")
    assert not wrong


def test_every_layer_has_its_rule():
    assert {layer(p) for p in FILES} <= set(LAYERS) | EVERYTHING | {"__init__"}


def test_there_is_no_junk_drawer():
    assert not [p for p in FILES if p.name in ("utils.py", "helpers.py", "misc.py")]


# Who may call ``dataset.truth``: the oracle (pool), evaluation (test images only), and the checks of a dataset by its owner.
TRUTH = {"core/oracle.py", "stages/evaluate.py", "stages/jobs.py", "data/verify.py", "data/label_folder.py"}


def test_only_the_oracle_reads_the_truth():
    callers = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "truth" and isinstance(node.ctx, ast.Load):
                callers.add(str(path.relative_to(ROOT / "al_lab")))
    assert callers <= TRUTH


def test_checkpoints_load_safely():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True", f"{path}:{node.lineno}"


PUBLIC = [p for p in FILES if p.name != "__init__.py"]


@pytest.mark.parametrize("path", PUBLIC, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_public_is_documented(path):
    tree = ast.parse(path.read_text())
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
            missing.append(node.name)
    assert not missing
