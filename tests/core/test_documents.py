"""Files that may hold anything: what is read is what was meant, and every problem names file, entry and field."""

import os

import pytest

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError, ResumeError
from al_lab.core.fields import flag, integer, list_of, number, text


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path / "a.json", "a list of words", "export it again")


def test_fields_are_read_with_their_kinds(source):
    source.path.write_text(
        '{"n": 480.0, "x": 1, "flag": "0", "rows": [{"name": "é"}, {"name": "b"}], "sub": {"a": [1]}}'
    )
    entry = source.read_entry()
    assert (entry.read("n", integer), entry.read("x", number), entry.read("flag", flag)) == (480, 1.0, False)
    assert type(entry.read("n", integer)) is int
    assert [row.read("name", text) for row in entry.entries("rows")] == ["é", "b"]
    assert entry.entry("sub").read("a", list_of(integer)) == [1]
    assert entry.read("none", integer, 7) == 7
    assert list(entry.entries("none", required=False)) == []
    for read in (entry.entries, entry.values):
        with pytest.raises(DataError, match="none"):
            list(read("none"))


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda e: e.read("m", integer), "a.json: m: expected a whole number, got no such field; export it again"),
        (lambda e: e.read("n", integer), "a.json: n: expected a whole number, got inf; export it again"),
        (lambda e: e.read("s", list_of(text)), "a.json: s[1]: expected text, got None; export it again"),
        (lambda e: list(e.entries("n")), "a.json: n: expected a list, got inf; export it again"),
        (lambda e: list(e.entries("s")), "a.json: s[0]: expected an object {…}, got 'a'; export it again"),
        (lambda e: e.entry("o").read("x", number), "a.json: o.x: expected a finite number, got nan; export it again"),
    ],
)
def test_the_place_is_named(source, read, message):
    source.path.write_text('{"n": 1e999, "s": ["a", null], "o": {"x": NaN}}')
    with pytest.raises(DataError) as caught:
        read(source.read_entry())
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"[1]", b"null"]
)
def test_what_is_no_object_is_named(source, content):
    source.path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: expected a list of words, got .*; export it again"):
        source.read_entry()


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "null"])
def test_what_is_no_file_is_named_and_never_waited_for(tmp_path, kind):
    path = tmp_path / ("a\0b" if kind == "null" else "a")
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ResumeError, match="expected (words|a file that can be read), got "):
        Source(path, "words", error=ResumeError).read_bytes()


def test_a_giant_is_not_read(source):
    source.path.write_bytes(b"x" * 2_000_000)
    with pytest.raises(DataError, match="got one of 2 MB, more than the 1 MB"):
        source.read_bytes(1_000_000)


def test_rows_are_named_by_their_line(source):
    source.path.write_text('{"a": 1}\n{"a": "x"}\n')
    first, second = source.read_rows()
    assert first.read("a", integer) == 1
    with pytest.raises(DataError, match=r"a\.json: line 2\.a: expected a whole number, got 'x'"):
        second.read("a", integer)
    source.path.write_text('{"a": 1}\n\n')
    with pytest.raises(DataError, match="line 2: expected a list of words, got no JSON"):
        list(source.read_rows())


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lists_are_read_as_every_editor_writes_them(source, start, end):
    source.path.write_bytes(start + end.join([b"# words", b"caf\xc3\xa9 ", b"", b"\ta\xe2\x80\xa8b", b"c #1"]))
    assert source.read_lines() == [(2, "café"), (4, "a\u2028b"), (5, "c #1")]


@pytest.mark.parametrize(("encoding", "named"), [("latin-1", r"another encoding \(byte 0xe9\)"), ("utf-16", "UTF-16")])
def test_other_encodings_are_named(source, encoding, named):
    source.path.write_bytes("a\né".encode(encoding))
    with pytest.raises(DataError, match=rf"a\.json: line \d: expected UTF-8 text, got {named}; save the file as UTF-8"):
        source.read_lines()


def test_an_entry_needs_an_object(source):
    with pytest.raises(DataError, match=r"images\[3\]: expected an object"):
        Entry([], source, "images[3]")
