"""classes.txt and split lists, as people's editors write them."""

import pytest

from al_lab.core.errors import DataError
from al_lab.data.formats.voc import read_class_list, read_split


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"cat", b"traffic light", b""], {0: "cat", 1: "traffic light"}),
        ([b"# ours", b"1 cat", b"", b"7\ttraffic light"], {1: "cat", 7: "traffic light"}),
        ([b"0", b"1", b"2"], {0: "0", 1: "1", 2: "2"}),
        ([b"3d-print", b"\xc3\xa9tat"], {0: "3d-print", 1: "état"}),
        ([], {}),
    ],
)
def test_class_lists(tmp_path, start, end, lines, expected):
    (tmp_path / "classes.txt").write_bytes(start + end.join(lines))
    assert read_class_list(tmp_path / "classes.txt") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0 cat\ndog\n", "line 2: expected 'id name', as other lines have it, got 'dog'"),
        (b"\xef\xbb\xbfcat\n1 dog\n", "line 1: expected 'id name'"),
        (b"0 cat\n1\n", "line 2: expected 'id name'"),
        (b"0 cat\n0 dog\n", "line 2: expected every id and name once, got '0 dog'"),
        (b"cat\ncat\n", "line 2: expected every id and name once"),
        (b"nan\n", "line 1: expected a class name"),
        (b"a\0b\n", "line 1: expected text that UTF-8"),
        (b"caf\xe9\n", "another encoding .byte 0xe9.; save the file as UTF-8"),
        ("cat".encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_no_class_list_is_named(tmp_path, content, message):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"classes\.txt: .*{message}"):
        read_class_list(tmp_path / "classes.txt")


def test_split_lists(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbf000001\r\n000002  1\r\n# no image\r\nsub/a b.JPG -1\r\n")
    assert read_split(path) == ["000001", "000002", "sub/a b"]
    path.write_bytes("Straße\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.txt: line 1: expected UTF-8 text"):
        read_split(path)
    path.write_bytes(b"ok\n../x\n")
    with pytest.raises(DataError, match=r"train\.txt: line 2: expected a file name below"):
        read_split(path)
