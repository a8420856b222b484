"""YOLO text labels and data.yaml."""

from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.formats.yolo import read_data_yaml, read_labels

CLASSES = ("cat", "dog")


def read(tmp_path: Path, text: str | bytes, size_hw=(50, 200)):
    path = tmp_path / "a.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(path, "a.jpg", CLASSES, size_hw)


def test_a_line_is_a_box_in_fractions_of_width_and_height(tmp_path):
    record = read(tmp_path, b"\xef\xbb\xbf1 0.5 0.5 0.25 0.5\r\n\r\n0 0.1 0.2 0.1 0.1\r\n")
    assert record.names == ("dog", "cat")
    np.testing.assert_allclose(record.boxes_xyxy, [[75, 12.5, 125, 37.5], [10, 7.5, 30, 12.5]])
    assert not record.notes
    assert read(tmp_path, "").names == ()


def test_segments_and_turned_boxes_are_read_as_the_boxes_around_them_and_said(tmp_path):
    record = read(tmp_path, "0 0.1 0.2 0.3 0.2 0.2 0.6\n1 0.5 0.1 0.6 0.2 0.5 0.3 0.4 0.2\n")
    np.testing.assert_allclose(record.boxes_xyxy, [[20, 10, 60, 30], [80, 5, 120, 15]])
    assert record.notes == ("2 segments or turned boxes were read as the boxes around them",)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("2 0.5 0.5 0.1 0.1", "a class number from 0 to 1, got 2"),
        ("0.5 0.5 0.5 0.1 0.1", "a class number from 0 to 1, got 0.5"),
        ("-1 0.5 0.5 0.1 0.1", "got -1"),
        ("0 0.5 0.5 0.1", "four numbers after the class, or the corners of a polygon, got 3"),
        ("0 0.5 0.5 0.1 0.1 0.93", "got five, as predictions with confidence have them"),
        ("0 100 30 20 10", "divide by the image's width and height"),
        ("0 nan 0.5 0.1 0.1", "numbers: class cx cy w h"),
        ("cat 0.5 0.5 0.1 0.1", "numbers: class cx cy w h"),
    ],
)
def test_what_is_no_label_is_named_with_file_and_line(tmp_path, line, sentence):
    with pytest.raises(DataError, match="a.txt: line 2") as error:
        read(tmp_path, f"0 0.5 0.5 0.1 0.1\n{line}\n")
    assert sentence in str(error.value)


def test_data_yaml_names_classes_and_splits(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("train: ../train/images\nval: [valid/images, more]\nnc: 2\nnames: ['cat', 'dog']\n")
    assert read_data_yaml(path) == {"names": CLASSES, "train": ["../train/images"], "val": ["valid/images", "more"]}
    path.write_text("path: .\nvalid: lists/valid.txt\nnames:\n  0: cat\n  1: 7\n")
    assert read_data_yaml(path) == {"names": ("cat", "7"), "path": ".", "val": ["lists/valid.txt"]}


@pytest.mark.parametrize(
    "text",
    ["names: 3", "train: x", "names: {1: cat, 2: dog}", "names: [cat, null]", "names: []", "- a", "names: [a", "\t"],
)
def test_a_data_yaml_without_names_is_a_sentence(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="data.yaml"):
        read_data_yaml(path)
