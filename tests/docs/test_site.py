"""The site: what it must have, and that it builds without a warning and needs nothing from elsewhere."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.docs_pages import NOTEBOOKS, config_pages, notebook, shell_command, tutorial_cells, tutorial_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_links_of_the_front_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_every_strategy_has_a_page_with_the_same_parts():
    for option in (ROOT / "conf" / "strategy").glob("*.yaml"):
        text = (DOCS / "methods" / f"{option.stem}.md").read_text()
        assert text.startswith(f"# {option.stem}\n")
        for part in ("**Here**", "**What was left open**", "**What we found**"):
            assert part in text or part == "**Here**" and "| here |" in text, f"{option.stem}: {part}"


def test_every_page_is_in_the_navigation():
    in_navigation = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")} <= in_navigation


def test_every_block_of_python_runs_somewhere():
    """Those of docs/extending.md in test_extending.py, tutorials in test_tutorials.py."""
    with_python = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md") if "```python" in p.read_text()}
    assert with_python <= {"extending.md", "api.md"}


def test_the_reference_has_every_group_option_and_key():
    pages = config_pages(ROOT / "conf")
    for path in (ROOT / "conf").rglob("*.yaml"):
        group, *option = path.relative_to(ROOT / "conf").with_suffix("").parts
        if group == "hydra":
            continue
        page = pages[group if option else "root"]
        assert not option or f"## {'/'.join(option)}\n" in page + "\n"
        for key in yaml.safe_load(path.read_text()) or {}:
            assert key in ("defaults", "_target_", "hydra") or f"`{key}" in page, f"{path}: {key}"
    assert "| `count_thresh` | `0.5` | boxes below it don't count | released code |" in pages["strategy"]


def test_a_tutorial_is_a_page_a_script_and_a_notebook(tmp_path):
    path = tmp_path / "one.py"
    path.write_text('# %% [markdown]\n# # One\n\n# %% hide\nx = 1\n\n# %%\nsh("al-lab "\n   "a=1")\n\n# %%\nprint(2)\n')
    assert tutorial_cells(path.read_text()) == [
        ("markdown", "# One"),
        ("code", 'sh("al-lab "\n   "a=1")'),
        ("code", "print(2)"),
    ]
    page = tutorial_page(path)
    assert "```bash\nal-lab a=1\n```" in page
    assert "```python\nprint(2)\n```" in page
    assert "x = 1" not in page
    assert shell_command("print(2)") is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_the_cells_of_its_script(name):
    pytest.importorskip("jupytext")
    path = DOCS / "tutorials" / f"{name}.py"
    book = json.loads(notebook(path))
    code = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    assert not any(c.get("outputs") for c in book["cells"])
    assert ast.dump(ast.parse("\n".join(code))) == ast.dump(ast.parse(path.read_text()))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the docs extra is not installed")
def test_the_site_builds_strictly_and_needs_no_network(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr + done.stdout
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)="(https?:)?//', text), page
        for formula in re.findall(r"<math.*?</math>", text, flags=re.S):
            assert "\\" not in formula, f"{page}: a formula that was not understood: {formula}"
        assert 'class="arithmatex"' not in text, page
    assert (tmp_path / "reference" / "config" / "strategy.html").is_file()
    assert (tmp_path / "tutorials" / f"{NOTEBOOKS[0]}.ipynb").is_file()
