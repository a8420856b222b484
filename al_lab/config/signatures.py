"""What a ``_target_`` accepts, read from its source file without importing it (importing torch takes five seconds)."""

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from al_lab.core.errors import ConfigError, did_you_mean, explain

# What Hydra itself reads from a node with `_target_`.
HYDRA_KEYS = frozenset({"_target_", "_partial_", "_recursive_", "_convert_", "_args_"})
_MAX_HOPS = 8  # re-exports or base classes followed before giving up


@dataclass(frozen=True)
class Signature:
    """Keyword arguments of a function or constructor.

    Attributes:
        names: accepted keywords, in order.
        required: those without a default.
        is_open: takes any keyword besides.
        annotations: of those that have one, as they stand in the source.
    """

    names: tuple[str, ...]
    required: frozenset[str]
    is_open: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    """A definition and the file it stands in."""

    node: ast.ClassDef | ast.FunctionDef
    module: str
    is_method: bool = False


ANYTHING = Signature((), frozenset(), is_open=True)


def check_call(
    target: str, keys: Iterable[str], *, where: str, injected: Iterable[str] = (), is_partial: bool = False
) -> None:
    """Check the keys of one config node against the signature of its ``_target_``.

    Args:
        target: dotted path of a class, function or classmethod.
        keys: the node's keys without Hydra's own.
        where: place in the config, for the message.
        injected: arguments the program itself passes when it builds the object.
        is_partial: the rest is passed later, so nothing can be missing.

    Raises:
        ConfigError: for a target that does not exist, an unknown key, a missing one.
    """
    signature = signature_of(target, where=where)
    if signature is None:
        return
    given = list(keys)
    unknown = [k for k in given if k not in signature.names]
    if unknown and not signature.is_open:
        free = [n for n in signature.names if n not in given] or signature.names
        raise ConfigError(
            explain(
                expected=f"arguments of {target}",
                got=f"unknown key {unknown[0]!r}",
                where=f"{where}.{unknown[0]}",
                do=did_you_mean(unknown[0], free) if free else "it takes none",
            )
        )
    missing = [n for n in signature.names if n in signature.required and n not in given and n not in set(injected)]
    if missing and not is_partial:
        raise ConfigError(
            explain(
                expected=f"a value for {target}'s argument {missing[0]!r}",
                got="none",
                where=where,
                do=f"set {where}.{missing[0]}=…",
            )
        )


def signature_of(target: str, *, where: str = "_target_") -> Signature | None:
    """Return what ``target`` accepts; None if its source can't be read or understood (then importing it will tell).

    Raises:
        ConfigError: if the module, or the name in it, certainly does not exist.
    """
    found = _find(target, where)
    return None if found is None else _signature(found)


def literal_of(target: str, attribute: str, default: Any = None) -> Any:
    """Return a class attribute of ``target`` that is a plain literal, its own or inherited; else ``default``."""
    found = _find(target, "_target_")
    if found is None or not isinstance(found.node, ast.ClassDef):
        return default
    for cls in _lineage(found):
        for statement in cls.node.body:
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
                continue
            names = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(n, ast.Name) and n.id == attribute for n in names):
                try:
                    return ast.literal_eval(statement.value)
                except ValueError:
                    return default
    return default


def defines(target: str, method: str) -> bool:
    """Say whether the class ``target`` (or a base we can read) defines ``method``."""
    found = _find(target, "_target_")
    return (
        found is not None
        and isinstance(found.node, ast.ClassDef)
        and any(isinstance(s, ast.FunctionDef) and s.name == method for cls in _lineage(found) for s in cls.node.body)
    )


# --- from a dotted path to a definition -------------------------------------------------------------------------------


def _find(target: str, where: str) -> _Found | None:
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(
            explain(
                expected="a dotted path such as al_lab.strategies.general.random.Random",
                got=repr(target),
                where=where,
                do="correct the _target_",
            )
        )
    top = target.split(".", maxsplit=1)[0]
    if _top_package(top) is None and top not in sys.builtin_module_names:
        raise ConfigError(
            explain(
                expected="an installed package",
                got=f"{top!r}",
                where=where,
                do=f"install it or correct the path ({did_you_mean(top, ['al_lab', 'torch', 'mmdet'])})",
            )
        )
    module, names = _split(target)
    if module is None:
        return None
    found = _lookup(module, names)
    if found is None and top == "al_lab":
        raise ConfigError(
            explain(
                expected=f"a class or function of {module}", got=repr(target), where=where, do=_nearest(module, names)
            )
        )
    return found


@cache
def _top_package(name: str) -> Path | None:
    if name == "al_lab":
        return Path(__file__).parents[1]
    try:
        spec = importlib.util.find_spec(name)  # of a top-level name: imports nothing
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return None if spec.origin is None else Path(spec.origin)


def _split(target: str) -> tuple[str | None, list[str]]:
    """Split a dotted path into the longest module that has a source file, and the names inside it."""
    parts = target.split(".")
    for n in range(len(parts), 0, -1):
        if _source(".".join(parts[:n])) is not None:
            return ".".join(parts[:n]), parts[n:]
    return None, parts


@cache
def _source(module: str) -> Path | None:
    top, *rest = module.split(".")
    base = _top_package(top)
    if base is None:
        return None
    if base.is_file():
        return base if not rest and base.suffix == ".py" else None
    path = base.joinpath(*rest)
    for candidate in (path.with_suffix(".py") if rest else None, path / "__init__.py"):
        if candidate is not None and candidate.is_file():
            return candidate
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    path = _source(module)
    if path is None:
        return None
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return None


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, those inside ``if`` and ``try`` at the top included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements([*statement.body, *statement.orelse])


def _lookup(module: str, names: list[str], hops: int = 0) -> _Found | None:
    tree = _tree(module)
    if tree is None or not names or hops > _MAX_HOPS:
        return None
    first, *rest = names
    for statement in _statements(tree.body):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == first:
            return _inside(_Found(statement, module), rest)
    origin = _imported(module, tree, first)
    if origin is None:
        return None
    next_module, next_names = _split(origin)
    return None if next_module is None else _lookup(next_module, [*next_names, *rest], hops + 1)


def _inside(found: _Found, names: list[str]) -> _Found | None:
    if not names:
        return found
    if len(names) > 1 or not isinstance(found.node, ast.ClassDef):
        return None
    for cls in _lineage(found):
        for statement in cls.node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == names[0]:
                return _Found(statement, cls.module, is_method=True)
    return None


def _imported(module: str, tree: ast.Module, name: str) -> str | None:
    """Return the dotted path that ``name`` was imported from, or None."""
    path = _source(module)
    is_package = path is not None and path.name == "__init__.py"
    for statement in _statements(tree.body):
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    base = statement.module or ""
                    if statement.level:
                        parents = module.split(".")
                        up = statement.level - (1 if is_package else 0)
                        base = ".".join([*parents[: len(parents) - up], *([base] if base else [])])
                    return f"{base}.{alias.name}"
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                if (alias.asname or alias.name.split(".")[0]) == name:
                    return alias.name if alias.asname else alias.name.split(".")[0]
    return None


def _nearest(module: str, names: list[str]) -> str:
    """Suggest a path of ours near a wrong one."""
    source = _source(module)
    assert source is not None
    choices = [
        s.name
        for s in (_tree(module) or ast.Module([], [])).body
        if isinstance(s, ast.ClassDef | ast.FunctionDef) and not s.name.startswith("_")
    ]
    if source.name == "__init__.py":
        choices += [p.stem for p in source.parent.iterdir() if not p.name.startswith(("_", "."))]
    return did_you_mean(names[0] if names else module, choices)


# --- from a definition to its arguments -------------------------------------------------------------------------------


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return None if head is None else f"{head}.{node.attr}"
    if isinstance(node, ast.Subscript):  # a generic base, such as Dataset[Item]
        return _dotted(node.value)
    return None


def _bases(cls: _Found) -> Iterator[_Found | None]:
    assert isinstance(cls.node, ast.ClassDef)
    for base in cls.node.bases:
        dotted = _dotted(base)
        if dotted in ("object", "ABC", "abc.ABC", "Protocol", "Generic"):
            continue
        found = _lookup(cls.module, dotted.split(".")) if dotted else None
        yield found if found is not None and isinstance(found.node, ast.ClassDef) else None


def _lineage(cls: _Found, depth: int = 0) -> Iterator[_Found]:
    """Yield a class and the bases whose source can be read, depth first."""
    yield cls
    if depth < _MAX_HOPS:
        for base in _bases(cls):
            if base is not None:
                yield from _lineage(base, depth + 1)


def _signature(found: _Found, depth: int = 0) -> Signature | None:
    if isinstance(found.node, ast.FunctionDef):
        is_static = any(_dotted(d) == "staticmethod" for d in found.node.decorator_list)
        return _of_function(found.node, skip=1 if found.is_method and not is_static else 0)
    if depth > _MAX_HOPS:
        return None
    for statement in found.node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            own = _of_function(statement, skip=1)
            return _with_bases(own, statement, found, depth) if own.is_open else own
    if _is_dataclass(found.node):
        return _of_dataclass(found)
    bases = list(_bases(found))
    if not bases:
        return Signature((), frozenset())
    for base in bases:
        if base is None:
            return None
        signature = _signature(base, depth + 1)
        if signature is None or signature.names or signature.is_open:
            return signature
    return Signature((), frozenset())


def _with_bases(own: Signature, init: ast.FunctionDef, found: _Found, depth: int) -> Signature:
    """Close ``**kwargs`` with the arguments of the base class they are handed to, if that can be read."""
    is_forwarded = any(
        isinstance(call, ast.Call)
        and ast.unparse(call.func) == "super().__init__"
        and any(k.arg is None for k in call.keywords)
        for call in ast.walk(init)
    )
    bases = list(_bases(found))
    inherited = _signature(bases[0], depth + 1) if is_forwarded and len(bases) == 1 and bases[0] is not None else None
    if inherited is None:
        return own
    names = tuple(dict.fromkeys([*own.names, *inherited.names]))
    # What the subclass passes itself can't be told apart from what is left out, so nothing inherited is required.
    return Signature(names, own.required, inherited.is_open, {**inherited.annotations, **own.annotations})


def _of_function(node: ast.FunctionDef, skip: int) -> Signature:
    args = node.args
    positional = [*args.posonlyargs, *args.args][skip:]
    with_default = {a.arg for a in positional[len(positional) - len(args.defaults) :]} if args.defaults else set()
    with_default |= {a.arg for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is not None}
    named = [*positional, *args.kwonlyargs]
    names = [a.arg for a in named]
    annotations = {a.arg: ast.unparse(a.annotation) for a in named if a.annotation is not None}
    return Signature(tuple(names), frozenset(names) - with_default, args.kwarg is not None, annotations)


def _is_dataclass(node: ast.ClassDef | ast.FunctionDef) -> bool:
    return any(
        (_dotted(d.func if isinstance(d, ast.Call) else d) or "").split(".")[-1] == "dataclass"
        for d in node.decorator_list
    )


def _of_dataclass(found: _Found) -> Signature | None:
    fields: dict[str, bool] = {}  # name -> has a default
    annotations: dict[str, str] = {}
    for cls in reversed(list(_lineage(found))):
        if not _is_dataclass(cls.node):
            continue
        for statement in cls.node.body:
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            if "ClassVar" in ast.unparse(statement.annotation):
                continue
            has_default = statement.value is not None
            if (
                isinstance(statement.value, ast.Call)
                and (_dotted(statement.value.func) or "").split(".")[-1] == "field"
            ):
                options = {k.arg: k.value for k in statement.value.keywords}
                if "init" in options and ast.unparse(options["init"]) == "False":
                    continue
                has_default = "default" in options or "default_factory" in options
            fields[statement.target.id] = has_default
            annotations[statement.target.id] = ast.unparse(statement.annotation)
    required = frozenset(n for n, has in fields.items() if not has)
    return Signature(tuple(fields), required, annotations=annotations)
