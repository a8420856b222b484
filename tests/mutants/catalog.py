"""Every small mistake a line of code could hold: the mutants of a source file, each of them one changed node."""

import ast
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What is mutated; a package's tests are those in the folder of the same name under tests/.
PACKAGES = ("objectives", "acquisition", "metrics", "strategies", "core", "models/detectors")

_COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.LShift: (ast.RShift,),
}
_SWAPPED_CALLS = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"}
# A private constant of a module is a tuning constant if it says how much is done at once or how much rounding is
# borne: it moves time and memory, never (but for rounding) a result.
_TUNING = {
    *("BLOCK", "BLOCKS", "TILE", "ROWS", "PAIRS", "BYTES", "CHUNK", "SLICES", "STEP", "MANY", "DENSE", "AT", "ONCE"),
    *("EPS", "SAME", "TOLERANCE", "ULPS", "UNIT", "SPREAD", "CENTER"),
}
_SILENT_CALLS = {"explain", "did_you_mean", "warning", "info", "debug"}  # they make sentences
_SILENT_KEYWORDS = {"strict", "stacklevel", "indent", "device", "dtype", "where", "do"}


@dataclass(frozen=True)
class Mutant:
    """One changed node of one file.

    Attributes:
        path: of the file, relative to the repository.
        package: one of `PACKAGES`.
        kind: comparison | arithmetic | sign | constant | boolean | swap.
        scope: function or class the node is in; empty at the top of the module.
        lines: first and last line of the statement it is in (of a compound one: of its head).
        at_import: it runs when the module is imported, not when a test calls it.
        change: old and new source of the node.
        index: which mutation of the file, in order of `sites`.
        key: names it by package, scope, the scope's source and its place there, so that it survives moves.
    """

    path: str
    package: str
    kind: str
    scope: str
    lines: tuple[int, int]
    at_import: bool
    change: str
    index: int
    key: str


@dataclass
class _Site:
    node: ast.AST
    kind: str
    scope: tuple[ast.AST, ...]
    statement: ast.stmt
    at_import: bool
    apply: Callable[[], None]
    new: Callable[[], str]


def catalog(package: str) -> list[Mutant]:
    """Return all mutants of a package."""
    files = sorted((ROOT / "al_lab" / package).rglob("*.py"))
    return [mutant for path in files for mutant in mutants_of(path, package)]


def mutants_of(path: Path, package: str) -> list[Mutant]:
    """Return all mutants of a file."""
    tree = ast.parse(path.read_text())
    found, counts = [], dict[str, int]()
    for index, site in enumerate(_sites(tree)):
        scope = ".".join(getattr(node, "name", "") for node in site.scope)
        source = ast.dump(site.scope[-1] if site.scope else site.statement)
        place = hashlib.sha256(f"{package}\0{path.stem}\0{scope}\0{source}".encode()).hexdigest()[:16]
        counts[place] = counts.get(place, -1) + 1
        old = ast.unparse(site.node)
        found.append(
            Mutant(
                path=str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path),
                package=package,
                kind=site.kind,
                scope=scope,
                lines=_head(site.statement),
                at_import=site.at_import,
                change=f"{old[:100]} -> {site.new()[:100]}",
                index=index,
                key=f"{place}-{counts[place]}",
            )
        )
    return found


def mutated(path: Path, index: int) -> ast.Module:
    """Return the syntax tree of a file with one of its mutations."""
    tree = ast.parse(path.read_text())
    next(site for n, site in enumerate(_sites(tree)) if n == index).apply()
    return ast.fix_missing_locations(tree)


def _head(statement: ast.stmt) -> tuple[int, int]:
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if isinstance(body, list) and body else statement.end_lineno or statement.lineno
    return statement.lineno, max(statement.lineno, last)


def _sites(tree: ast.Module) -> Iterator[_Site]:
    for statement in tree.body:
        yield from _of_statement(statement, (), True)


def _of_statement(statement: ast.stmt, scope: tuple[ast.AST, ...], at_import: bool) -> Iterator[_Site]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        inner = (*scope, statement)
        defaults = [d for d in (*statement.args.defaults, *statement.args.kw_defaults) if d is not None]
        for default in defaults:
            yield from _of_expression(default, inner, statement, at_import)
        for child in statement.body:
            yield from _of_statement(child, inner, False)
    elif isinstance(statement, ast.ClassDef):
        for child in statement.body:
            yield from _of_statement(child, (*scope, statement), at_import)
    elif not _silent(statement, scope):
        for _, value in ast.iter_fields(statement):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.stmt):
                    yield from _of_statement(child, scope, at_import)
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    for inner_statement in child.body:
                        yield from _of_statement(inner_statement, scope, at_import)
                elif isinstance(child, ast.AST) and child is not getattr(statement, "annotation", None):
                    yield from _of_expression(child, scope, statement, at_import)
        yield from _dropped(statement, (scope, statement, at_import))
        if isinstance(statement, ast.AugAssign):
            yield from _operators(statement, "op", _ARITHMETIC, "arithmetic", scope, statement, at_import)


def _silent(statement: ast.stmt, scope: tuple[ast.AST, ...]) -> bool:
    """Docstrings, errors, imports, and tuning constants aren't mutated."""
    if isinstance(statement, ast.Raise | ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return True
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    name = targets[0].id if isinstance(targets[0], ast.Name) else ""
    return not scope and name.isupper() and bool(_TUNING & set(name.split("_")))


def _of_expression(node: ast.AST, scope: tuple[ast.AST, ...], statement: ast.stmt, at_import: bool) -> Iterator[_Site]:
    where = (scope, statement, at_import)
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and _name(node.func) in _SILENT_CALLS):
        return
    if isinstance(node, ast.Compare):
        for n in range(len(node.ops)):
            yield from _operators(node, "ops", _COMPARISONS, "comparison", *where, n=n)
    elif isinstance(node, ast.BinOp):
        yield from _operators(node, "op", _ARITHMETIC, "arithmetic", *where)
    elif isinstance(node, ast.BoolOp):
        yield from _operators(node, "op", {ast.And: (ast.Or,), ast.Or: (ast.And,)}, "boolean", *where)
    elif isinstance(node, ast.Constant):
        yield from _constant(node, where)
    elif isinstance(node, ast.Call) and _name(node.func) in _SWAPPED_CALLS:
        yield _swapped(node.func, where)
    yield from _dropped(node, where)
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            skipped = isinstance(child, ast.keyword) and child.arg in _SILENT_KEYWORDS
            if isinstance(child, ast.AST) and not skipped and field not in ("op", "ops", "ctx", "annotation"):
                yield from _of_expression(child, *where)


def _name(node: ast.AST) -> str:
    return getattr(node, "id", None) or getattr(node, "attr", "")


def _operators(
    node: ast.AST,
    field: str,
    table: dict[type, tuple[type, ...]],
    kind: str,
    scope: tuple[ast.AST, ...],
    statement: ast.stmt,
    at_import: bool,
    n: int | None = None,
) -> Iterator[_Site]:
    old = getattr(node, field) if n is None else getattr(node, field)[n]
    for new in table.get(type(old), ()):

        def apply(new: type = new) -> None:
            operator = new()
            if n is None:
                setattr(node, field, operator)
            else:
                getattr(node, field)[n] = operator

        def described(apply: Callable[[], None] = apply, old: ast.AST = old) -> str:
            apply()
            text = ast.unparse(node)
            if n is None:
                setattr(node, field, old)
            else:
                getattr(node, field)[n] = old
            return text

        yield _Site(node, kind, scope, statement, at_import, apply, described)


def _constant(node: ast.Constant, where: tuple[tuple[ast.AST, ...], ast.stmt, bool]) -> Iterator[_Site]:
    value = node.value
    if isinstance(value, bool):
        new: object = not value
    elif isinstance(value, int):
        new = value + 1
    elif isinstance(value, float):
        new = 2 * value if value else 1.0
    else:
        return
    yield _Site(node, "constant", *where, lambda: setattr(node, "value", new), lambda: repr(new))


def _swapped(function: ast.expr, where: tuple[tuple[ast.AST, ...], ast.stmt, bool]) -> _Site:
    field = "id" if isinstance(function, ast.Name) else "attr"
    new = _SWAPPED_CALLS[_name(function)]
    return _Site(function, "swap", *where, lambda: setattr(function, field, new), lambda: new)


def _dropped(node: ast.AST, where: tuple[tuple[ast.AST, ...], ast.stmt, bool]) -> Iterator[_Site]:
    """A minus or a not that is left out, and a condition that is turned around."""
    for field in ("test", "value", "left", "right", "operand", "elt", "body", "orelse"):
        child = getattr(node, field, None)
        if isinstance(child, ast.UnaryOp) and isinstance(child.op, ast.USub | ast.Not | ast.Invert):
            yield _replaced(node, field, child, child.operand, where)
    for field in ("args", "elts", "values"):
        children = getattr(node, field, None)
        for n, child in enumerate(children if isinstance(children, list) else ()):
            if isinstance(child, ast.UnaryOp) and isinstance(child.op, ast.USub | ast.Not | ast.Invert):
                yield _replaced(node, field, child, child.operand, where, n)
    test = getattr(node, "test", None)
    plain = not isinstance(test, ast.Compare | ast.UnaryOp | ast.BoolOp)
    if isinstance(node, ast.IfExp | ast.If | ast.While) and test is not None and plain:
        yield _replaced(node, "test", test, ast.UnaryOp(ast.Not(), test), where)


def _replaced(
    node: ast.AST,
    field: str,
    old: ast.AST,
    new: ast.AST,
    where: tuple[tuple[ast.AST, ...], ast.stmt, bool],
    n: int | None = None,
) -> _Site:
    def apply() -> None:
        if n is None:
            setattr(node, field, new)
        else:
            getattr(node, field)[n] = new

    kind = "sign" if isinstance(old, ast.UnaryOp) and isinstance(old.op, ast.USub) else "boolean"
    return _Site(old, kind, *where, apply, lambda: ast.unparse(new))
