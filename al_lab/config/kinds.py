"""What a setting has to be, read from the annotation of the argument it becomes: nothing is imported for it."""

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from al_lab.core.fields import Kind, WrongValueError, integer, list_of, mapping_of, number, one_of

_LISTS = ("list", "Sequence", "Iterable", "Collection")
_MAPPINGS = ("dict", "Mapping")


def _plain(expected: str, kind: type) -> Kind[Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise WrongValueError(expected, value)
        return value

    return Kind(expected, read)


_NULL = _plain("null", type(None))
_NAMED: dict[str, Kind[Any]] = {
    "int": integer,
    "float": number,
    "bool": _plain("true or false", bool),
    "str": _plain("text", str),
    "Path": _plain("a path", str),
    "None": _NULL,
}


@cache
def kind_of(annotation: str) -> Kind[Any] | None:
    """Return the kind of values an annotation allows; None where it says nothing a configuration could hold.

    Args:
        annotation: as it stands in the source, such as "Sequence[float] | None".
    """
    try:
        return _kind(ast.parse(annotation, mode="eval").body)
    except SyntaxError:
        return None


def _kind(node: ast.expr) -> Kind[Any] | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return kind_of(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _either(_kind(node.left), _kind(node.right))
    if isinstance(node, ast.Subscript):
        return _of_parts(ast.unparse(node.value).split(".")[-1], node.slice)
    return _NAMED.get(ast.unparse(node))


def _of_parts(name: str, inner: ast.expr) -> Kind[Any] | None:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return one_of(*(part.value for part in parts if isinstance(part, ast.Constant)))
    if name == "Optional":
        return _either(_kind(inner), _NULL)
    kinds = [_kind(part) for part in parts]
    if name in _LISTS and kinds[0] is not None:
        return list_of(kinds[0])
    if name in _MAPPINGS and kinds[-1] is not None:
        return mapping_of(kinds[-1])
    if name == "tuple" and kinds[0] is not None:
        if len(parts) == 2 and ast.unparse(parts[1]) == "...":  # noqa: PLR2004
            return list_of(kinds[0])
        if all(kind is kinds[0] for kind in kinds):
            return list_of(kinds[0], length=len(kinds))
    return None


def _either(first: Kind[Any] | None, second: Kind[Any] | None) -> Kind[Any] | None:
    if first is None or second is None:
        return None
    expected = f"{first.expected}, or {second.expected}"

    def read(value: Any) -> Any:
        deeper = None
        for kind in (first, second):
            try:
                return kind.read(value)
            except WrongValueError as wrong:
                deeper = wrong if wrong.place else deeper
        raise deeper or WrongValueError(expected, value)

    return Kind(expected, read)


def check_values(annotations: Mapping[str, str], node: Mapping[str, Any], where: str) -> None:
    """Check the values of a config node against the annotations of the arguments they become.

    Objects that are built for an argument, nodes with a ``_target_``, are not looked at, nor are interpolations.

    Raises:
        ConfigError: naming the key.
    """
    for key, annotation in annotations.items():
        if key not in node or _is_open(node[key]):
            continue
        kind = kind_of(annotation)
        if kind is not None:
            kind(node[key], f"{where}.{key}")


def _is_open(value: Any) -> bool:
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_is_open, value.values()))
    return isinstance(value, Sequence) and any(map(_is_open, value))
