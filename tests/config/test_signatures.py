"""Signatures are read from source: for our modules, for those nobody imported, for shapes of class that configs use."""

import subprocess
import sys

import pytest

from al_lab.config.signatures import check_call, defines, literal_of, signature_of
from al_lab.core.errors import ConfigError

SOURCE = """
import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar
raise RuntimeError("nobody may import this")

def function(a, b=1, *, c, d=2): ...
def anything(a, **kwargs): ...

class Base:
    needs = ("detections",)
    words: tuple[str, ...] = ("image",)
    computed = tuple("ab")
    def __init__(self, size, name="x"): ...
    def fit(self): ...
    @classmethod
    def load(cls, path): ...
    @staticmethod
    def make(width): ...

class Inherits(Base):
    needs = ()

class Forwards(Base):
    def __init__(self, extra, **kwargs):
        super().__init__(**kwargs)

class Swallows(Base):
    def __init__(self, extra, **kwargs):
        self.rest = kwargs

@dataclass(frozen=True)
class Record:
    one: int
    two: int = 2
    shared: ClassVar[int] = 0
    hidden: int = field(default=0, init=False)
    many: list = field(default_factory=list)

@dataclasses.dataclass
class SubRecord(Record):
    three: int = 3

class Nothing: ...
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "neverimported"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from neverimported.things import Base as Renamed\nfrom .things import function\n"
    )
    (folder / "things.py").write_text(SOURCE)
    (folder / "more.py").write_text("from neverimported import things\nclass Far(things.Inherits):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "neverimported"


@pytest.mark.parametrize(
    ("target", "names", "required", "is_open"),
    [
        ("things.function", "a b c d", "a c", False),
        ("things.anything", "a", "a", True),
        ("things.Base", "size name", "size", False),
        ("things.Inherits", "size name", "size", False),
        ("more.Far", "size name", "size", False),
        ("Renamed", "size name", "size", False),
        ("function", "a b c d", "a c", False),
        ("things.Forwards", "extra size name", "extra", False),
        ("things.Swallows", "extra", "extra", True),
        ("things.Base.load", "path", "path", False),
        ("things.Inherits.make", "width", "width", False),
        ("things.Record", "one two many", "one", False),
        ("things.SubRecord", "one two many three", "one", False),
        ("things.Nothing", "", "", False),
    ],
)
def test_signature(package, target, names, required, is_open):
    signature = signature_of(f"{package}.{target}")
    assert (signature.names, signature.required, signature.is_open) == (
        tuple(names.split()),
        frozenset(required.split()),
        is_open,
    )


def test_third_party_signature_without_its_import():
    code = (
        "import sys; from al_lab.config.signatures import signature_of; "
        "print(*signature_of('torch.optim.SGD').names); print(*sys.modules)"
    )
    names, modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {"params", "momentum"} <= set(names.split())
    assert "torch" not in modules.split()


def test_a_source_that_cannot_be_read_is_left_to_the_import():
    assert signature_of("math.sqrt") is None
    assert signature_of("numpy.zeros") is None


def test_literals_are_inherited_and_never_computed(package):
    assert literal_of(f"{package}.things.Inherits", "needs") == ()
    assert literal_of(f"{package}.more.Far", "words") == ("image",)
    assert literal_of(f"{package}.things.Base", "computed", "unknown") == "unknown"
    assert literal_of(f"{package}.things.function", "needs", "none") == "none"
    assert defines(f"{package}.more.Far", "fit")
    assert not defines(f"{package}.things.Nothing", "fit")


def test_a_misspelt_key_is_met_with_the_right_one():
    with pytest.raises(ConfigError, match=r"budget\.per_cycel.*did you mean 'per_cycle'"):
        check_call("al_lab.core.budget.Budget", ["unit", "per_cycel"], where="budget")


def test_a_misspelt_key_under_partial_is_met_too(package):
    with pytest.raises(ConfigError, match="did you mean 'name'"):
        check_call(f"{package}.things.Base", ["nmae"], where="x", is_partial=True)


def test_a_missing_key_is_named_unless_it_comes_later(package):
    with pytest.raises(ConfigError, match=r"argument 'size'.*set node\.size"):
        check_call(f"{package}.things.Base", ["name"], where="node")
    check_call(f"{package}.things.Base", ["name"], where="node", is_partial=True)
    check_call(f"{package}.things.Base", ["name"], where="node", injected=("size",))


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("al_lab.core.budget.Buget", "did you mean 'Budget'"),
        ("al_lab.core.buget.Budget", "did you mean 'budget'"),
        ("al_lib.core.budget.Budget", "did you mean 'al_lab'"),
        ("budget", "dotted path"),
    ],
)
def test_a_wrong_path_is_met_with_the_nearest(target, hint):
    with pytest.raises(ConfigError, match=hint):
        check_call(target, [], where="budget")
