"""``.npz`` files: what was written is read; everything else is named and never executed, unpickled or blown up."""

import contextlib
import io
import zipfile

import numpy as np
import pytest

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.errors import ResumeError

COLUMNS = {"ids": Column("U", ("N",)), "boxes": Column("f", ("N", 4)), "size": Column("iu", (2,), required=False)}


def write(path, save=np.savez, **arrays):
    save(path, **arrays)
    return path


def plain(n=2):
    return {"ids": np.array(["a", "bc"][:n]), "boxes": np.arange(4.0 * n).reshape(n, 4)}


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_was_written_is_read(tmp_path, order):
    arrays = plain() | {"boxes": np.asarray(plain()["boxes"], order=order), "size": np.array([1, 2], np.int32)}
    found = load_arrays(write(tmp_path / "a.npz", **arrays), COLUMNS)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        found[name][:1] = found[name][1:2]  # writable
    empty = load_arrays(write(tmp_path / "b.npz", ids=np.zeros(0, np.str_), boxes=np.zeros((0, 4))), COLUMNS)
    assert empty["boxes"].shape == (0, 4)


def test_other_arrays_are_read_where_they_may_be(tmp_path):
    path = write(tmp_path / "a.npz", **plain(), info_x=np.zeros((3, 1), np.float32))
    assert load_arrays(path, COLUMNS, rest=Column("f"))["info_x"].shape == (3, 1)
    with pytest.raises(ResumeError, match="expected the arrays ids, boxes, size, got boxes, ids, info_x"):
        load_arrays(path, COLUMNS)
    with pytest.raises(ResumeError, match="info_x of kind 'i', got float32"):
        load_arrays(path, COLUMNS, rest=Column("i"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((2, 5))}, r"boxes of kind 'f' of shape \(2, 4\), got float64 of shape \(2, 5\)"),
        ({"boxes": np.zeros((3, 4))}, r"boxes of kind 'f' of shape \(2, 4\), got float64 of shape \(3, 4\)"),
        ({"boxes": np.zeros((2, 4), int)}, "boxes of kind 'f'"),
        ({"boxes": np.zeros(())}, "boxes of kind 'f'"),
        ({"ids": np.array([1, 2])}, "ids of kind 'U'"),
        ({"ids": np.array(["a", None], dtype=object)}, "Python objects, which are never loaded"),
    ],
)
def test_arrays_of_another_kind_are_named(tmp_path, change, message):
    with pytest.raises(ResumeError, match=rf"a\.npz: expected .*{message}"):
        load_arrays(write(tmp_path / "a.npz", **(plain() | change)), COLUMNS)


def test_a_missing_array_is_named(tmp_path):
    with pytest.raises(ResumeError, match="expected the arrays ids, boxes, size, got ids"):
        load_arrays(write(tmp_path / "a.npz", ids=np.array(["a"])), COLUMNS)


@pytest.mark.parametrize("cut", [0, 1, 10, 100, 300])
def test_half_a_file_is_named(tmp_path, cut):
    path = write(tmp_path / "a.npz", **plain())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ResumeError, match=r"a\.npz: expected a file of arrays \(\.npz\), got a damaged one"):
        load_arrays(path, COLUMNS)


def test_every_flipped_byte_is_named_or_harmless(tmp_path):
    path = write(tmp_path / "a.npz", **plain())
    raw = path.read_bytes()
    for n in range(len(raw)):
        path.write_bytes(raw[:n] + bytes([raw[n] ^ 0x41]) + raw[n + 1 :])
        with contextlib.suppress(ResumeError):
            found = load_arrays(path, COLUMNS)
            np.testing.assert_array_equal(found["boxes"], plain()["boxes"])


def header(shape, descr="<f8"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(10**12, 4), (-2, -4), (2**40, 2**40), (1, 4)])
def test_a_header_is_not_believed(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("boxes.npy", header(shape) + bytes(64))
    with pytest.raises(ResumeError, match="with 64 bytes"):
        load_arrays(tmp_path / "a.npz", {"boxes": Column("f", ("N", 4))})


def test_zip_bombs_are_not_unpacked(tmp_path, monkeypatch):
    path = write(tmp_path / "a.npz", np.savez_compressed, boxes=np.zeros((10**6, 4)))
    columns = {"boxes": Column("f", ("N", 4))}
    with pytest.raises(ResumeError, match="unpacks to 32 MB"):
        load_arrays(path, columns)
    assert len(load_arrays(path, columns, compressed=True)["boxes"]) == 10**6
    monkeypatch.setattr("al_lab.core.arrays._LARGEST_UNPACKED", 10**6)
    with pytest.raises(ResumeError, match="unpacks to 32 MB"):
        load_arrays(path, columns, compressed=True)
