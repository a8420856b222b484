"""Pages of the documentation that are made from other files: configuration groups, tutorials, the command's help."""

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A part of a comment that says where a value comes from, not what it means.
_SOURCE = re.compile(
    r"\b(UNSPECIFIED|DEVIATION|papers?('s)?|released|code('s)?|Sec\.|Eq\.|Table|Alg\.|Fig\.|beyond|as published|ours"
    r"|(AL-SSL|MGRAL|RIPU|CSD|ISD|SSD|Density Matters|mmdet|mmseg|Caffe|RetinaNet|SegFormer|DeepLab)('s)?)\b"
)
NOTEBOOKS = ("own_photographs", "compare_strategies")  # tutorials that are notebooks, too
_NO_PAGE = ("hydra",)  # Hydra's own groups


@dataclass(frozen=True)
class Key:
    """One key of a yaml file: its dotted name, its value as written, its comment."""

    name: str
    value: str
    comment: str


# --- configuration ----------------------------------------------------------------------------------------------------


def config_pages(conf: Path) -> dict[str, str]:
    """Return one page a group, with a table of keys for each option.

    The tables come from the yaml and the docstring of the class it names.
    """
    groups = sorted(p.name for p in conf.iterdir() if p.is_dir() and p.name not in _NO_PAGE)
    pages = {group: _group_page(conf, group) for group in groups}
    pages["_root"] = _option(
        conf / "config.yaml",
        "# root\n\n`conf/config.yaml`: which option each group has by default, and the campaign's own values.",
    )
    return {group.lstrip("_"): text for group, text in pages.items()}


def _group_page(conf: Path, group: str) -> str:
    paths = sorted((conf / group).rglob("*.yaml"), key=lambda p: (len(p.parts), p))
    parts = [
        f"# {group}\n\nFrom `conf/{group}/`. Choose with `{group}=OPTION`; change a key with "
        f"`{_prefix(group)}KEY=VALUE`."
    ]
    for path in paths:
        name = str(path.relative_to(conf / group).with_suffix(""))
        parts.append(_option(path, f"## {name}"))
    return "\n\n".join(parts) + "\n"


def _prefix(group: str) -> str:
    return "" if group in ("experiment", "debug", "protocol") else f"{group}."


def _option(path: Path, heading: str) -> str:
    text = path.read_text(encoding="utf-8")
    about, commands = _header(text)
    keys = list(yaml_keys(text))
    target = next((k.value for k in keys if k.name == "_target_"), None)
    documented, sources = _docstring(target) if target else ({}, {})
    parts = [heading]
    if about:
        parts.append(about)
    if commands:
        parts.append("```text\n" + commands + "\n```")
    if target:
        parts.append(f"Builds `{target}`.")
    rows = []
    for key in keys:
        if key.name == "_target_" or key.name.split(".")[0] == "defaults":
            continue
        meaning, source = _split(key.comment)
        argument = key.name.split(".")[-1]
        meaning = meaning or documented.get(argument, "")
        rows.append(
            (f"`{key.name}`", f"`{key.value}`" if key.value else "", meaning, source or sources.get(argument, ""))
        )
    if rows:
        parts.append("\n".join(["| key | default | meaning | source |", "|---|---|---|---|", *map(_row, rows)]))
    return "\n\n".join(parts)


def _row(cells: tuple[str, ...]) -> str:
    return (
        "| "
        + " | ".join(
            c.replace("|", "\\|").replace("<", "&lt;") if not c.startswith("`") else c.replace("|", "\\|")
            for c in cells
        )
        + " |"
    )


def _header(text: str) -> tuple[str, str]:
    """Split the comment above a file's first key into sentences and the block of commands and costs."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").removeprefix(" "))
    start = next((i for i, line in enumerate(lines) if re.match(r"(command|data|cost|source):", line)), len(lines))
    words = " ".join(lines[:start]).strip().replace("<", "&lt;")
    return words, "\n".join(lines[start:]).rstrip()


def yaml_keys(text: str) -> Iterator[Key]:
    """Yield the keys of a yaml file with their trailing comments, which no yaml parser keeps."""
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = re.match(r"( *)([\w@/.-]+):(?: +(.*))?$", line)
        if match is None:
            continue
        indent, name = len(match[1]), match[2]
        while parents and parents[-1][0] >= indent:
            parents.pop()
        value, comment = _cut(match[3] or "")
        parents.append((indent, name))
        if value or comment or name == "_target_":
            yield Key(".".join(n for _, n in parents), value, comment)


def _cut(rest: str) -> tuple[str, str]:
    value, _, comment = rest.partition(" #") if not rest.startswith("#") else ("", "", rest[1:])
    return value.strip(), comment.strip(" #")


def _split(comment: str) -> tuple[str, str]:
    """Split a comment at its semicolons into what a key means and where its value comes from."""
    parts = [p.strip() for p in comment.split(";")]
    source = [p for p in parts[1:] if _SOURCE.search(p)] if len(parts) > 1 else []
    if len(parts) == 1 and _SOURCE.search(comment) and len(comment) < 60:
        return "", comment
    return "; ".join(p for p in parts if p not in source), "; ".join(source)


def _docstring(target: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a class of ours says of its arguments: meanings (``Args:``) and sources (the table's ``where``)."""
    module, _, name = target.rpartition(".")
    path = ROOT / (module.replace(".", "/") + ".py")
    if not path.is_file():
        return {}, {}
    node = next(
        (
            n
            for n in ast.parse(path.read_text()).body
            if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name
        ),
        None,
    )
    text = ast.get_docstring(node) if node else None
    if not text:
        return {}, {}
    meanings = {}
    block = re.search(r"^Args:\n((?: +.*\n?|\n)+)", text, flags=re.M)
    if block:
        for names, words in re.findall(r"^    ([\w, ]+): (.*(?:\n {6,}.*)*)", block[1], flags=re.M):
            for one in names.split(","):
                meanings[one.strip()] = " ".join(words.split()).replace("``", "`")
    sources = {}
    for row in re.findall(r"^\|(.+)\|$", text, flags=re.M):
        cells = [c.strip().replace("``", "") for c in row.split("|")]
        if len(cells) == 4:
            sources[cells[1]] = cells[3]
    return meanings, sources


# --- tutorials and help -----------------------------------------------------------------------------------------------


def tutorial_page(path: Path) -> str:
    """Turn a script in cells (``# %%``) into a page: prose, commands as a shell has them, Python as it stands."""
    parts = []
    for kind, body in tutorial_cells(path.read_text(encoding="utf-8")):
        if kind == "markdown":
            parts.append(body)
            continue
        command = shell_command(body)
        parts.append(f"```bash\n{command}\n```" if command else f"```python\n{body}\n```")
    where = (
        f"This page is `docs/tutorials/{path.name}`, a script: `python {path.name}` runs it from an empty "
        f"folder, and so do the tests."
    )
    book = f" As a notebook: [{path.stem}.ipynb]({path.stem}.ipynb)." if path.stem in NOTEBOOKS else ""
    return "\n\n".join([*parts, f"---\n\n{where}{book}"]) + "\n"


def notebook(path: Path) -> str:
    """Return a tutorial as a notebook, without outputs."""
    import jupytext

    book = jupytext.read(path)
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number}"  # else random: a notebook made twice should be the same
    return jupytext.writes(book, fmt="ipynb")


def tutorial_cells(text: str) -> list[tuple[str, str]]:
    """Split a script at its ``# %%`` lines; cells marked ``hide`` are no part of the page."""
    cells = []
    for head, body in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", text, flags=re.M):
        if "hide" in head:
            continue
        if "[markdown]" in head:
            cells.append(
                ("markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines()).strip())
            )
        elif body.strip():
            cells.append(("code", body.strip()))
    return cells


def shell_command(cell: str) -> str | None:
    """Return the command of a cell that is nothing but ``sh("…")``, as one types it."""
    tree = ast.parse(cell).body
    texts = []
    for node in tree:
        call = node.value if isinstance(node, ast.Expr) else None
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "sh"):
            return None
        texts.append(str(ast.literal_eval(call.args[0])))
    return (
        "\n".join(" \\\n  ".join(textwrap.wrap(t, 96, break_long_words=False, break_on_hyphens=False)) for t in texts)
        or None
    )


def help_page() -> str:
    """Return what ``al-lab --help`` prints, as a page."""
    from al_lab.cli.command import help_page as text

    return f"# The command\n\n`al-lab --help` (in a checkout also `python run.py --help`):\n\n```text\n{text()}\n```\n"
