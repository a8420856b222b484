"""What MkDocs can't read as it lies: pages from conf/, tutorials, help and changelog; formulas without a script."""

import html
import re
import sys
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from docs_pages import NOTEBOOKS, config_pages, help_page, notebook, tutorial_page  # noqa: E402

# Files beside docs/ that are pages, too.
_BESIDE = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave pages out of the navigation that nobody has written yet, and list the configuration groups."""
    made = generated()
    config.nav = [_present(item, set(made)) for item in config.nav]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files, and the numbers that result pages link to."""
    for uri, text in generated().items():
        files.append(File.generated(config, uri, content=text))
    boards = ROOT / "results" / "leaderboard"
    for path in sorted((ROOT / "results").rglob("*.csv")):
        if not path.is_relative_to(boards):
            files.append(File.generated(config, f"results/data/{path.name}", abs_src_path=str(path)))
    for path in sorted(p for p in boards.rglob("*.*") if p.is_file()):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to files of the repository that are no pages be plain text: a site has no such files."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def plain(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        is_beside = not target.is_relative_to(ROOT / "docs") and target.is_relative_to(ROOT)
        return (
            match[1]
            if is_beside and target.exists() or page.file.src_uri in _BESIDE and (ROOT / match[2]).exists()
            else match[0]
        )

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([\w./-]+)(?:#[\w-]*)?\)", plain, markdown)


def on_page_content(content: str, **_: Any) -> str:
    r"""Turn \(…\) and \[…\] into MathML, which browsers draw themselves, and keep a number and its ± on one line."""
    content = re.sub(r"(\d) ± (?=\d)", "\\1\u00a0±\u00a0", content)
    content = re.sub(
        r'<span class="arithmatex">\\\((.*?)\\\)</span>', lambda m: _mathml(m[1], "inline"), content, flags=re.S
    )
    return re.sub(
        r'<div class="arithmatex">\\\[(.*?)\\\]</div>',
        lambda m: f'<div class="formula">{_mathml(m[1], "block")}</div>',
        content,
        flags=re.S,
    )


def generated() -> dict[str, str]:
    """Return the pages that are made, by their address."""
    pages = {f"reference/config/{group}.md": text for group, text in config_pages(ROOT / "conf").items()}
    pages["reference/command.md"] = help_page()
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.py")):
        pages[f"tutorials/{path.stem}.md"] = tutorial_page(path)
        if path.stem in NOTEBOOKS:
            pages[f"tutorials/{path.stem}.ipynb"] = notebook(path)
    for uri, name in _BESIDE.items():
        if (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8")
            pages[uri] = text.replace("](docs/", "](")  # as seen from docs/
    return pages


def _present(item: Any, made: set[str]) -> Any:
    if isinstance(item, dict):
        return {title: _children(value, made) for title, value in item.items()}
    return item


def _children(value: Any, made: set[str]) -> Any:
    if value == "reference/config":
        pages = (uri for uri in made if uri.startswith("reference/config/"))
        return sorted(pages, key=lambda uri: (not uri.endswith("/root.md"), uri))
    if isinstance(value, list):
        kept = [i for i in value if not isinstance(i, str) or i in made or (ROOT / "docs" / i).is_file()]
        return [_present(i, made) for i in kept]
    return value


def _mathml(tex: str, display: str) -> str:
    return latex2mathml.converter.convert(html.unescape(tex), display=display)
