"""Every format says the same of the same boxes; what is wrong is named with file, place and remedy."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.predictions.names import ImageNames
from al_lab.data.predictions.read import PredictionFiles

CLASSES = ("cat", "dog")
NAMES = ImageNames({i: Path("/photos") / f"{i}.jpg" for i in ("a", "sub/b", "000000000139", "empty")})
HEADER = "file,class,x1,y1,x2,y2,confidence\n"
SIZE = (50, 100)  # height, width
# image, class, x1, y1, x2, y2, confidence
BOXES = [("a", 1, 10, 5, 30, 25, 0.5), ("a", 0, 0, 0, 100, 50, 0.9), ("sub/b", 1, 20, 10, 40, 20, 0.25)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco_results(names=True):
    ids = {"a": 7, "sub/b": 8}
    return [
        {"image_id": ids[i], "category_id": 3 + 2 * c, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": s}
        for i, c, x1, y1, x2, y2, s in BOXES
    ]


DOCUMENT = {
    "images": [
        {"id": 7, "file_name": "a.jpg"},
        {"id": 8, "file_name": "sub/b.jpg"},
        {"id": 9, "file_name": "empty.jpg"},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
}


def as_results(folder):
    files = [write(folder / "results.json", coco_results())]
    return PredictionFiles(files, images_json=write(folder / "images.json", DOCUMENT))


def as_document(folder):
    return PredictionFiles([write(folder / "all.json", {**DOCUMENT, "annotations": coco_results()})])


def as_yolo(folder):
    for i in ("a", "sub/b"):
        lines = [
            f"{c} {(x1 + x2) / 200} {(y1 + y2) / 100} {(x2 - x1) / 100} {(y2 - y1) / 50} {s}"
            for j, c, x1, y1, x2, y2, s in BOXES
            if j == i
        ]
        write(folder / "labels" / f"{i}.txt", "\n".join(lines) + "\n")
    write(folder / "labels" / "empty.txt", "")
    return PredictionFiles([folder / "labels"])


def as_csv(folder):
    lines = [f"{i}.jpg,{CLASSES[c]},{x1},{y1},{x2},{y2},{s}" for i, c, x1, y1, x2, y2, s in BOXES]
    text = "\n".join(["file,class,x1,y1,x2,y2,confidence", *lines, "empty.jpg,,,,,,"])
    return PredictionFiles([write(folder / "table.csv", text + "\n")])


def as_label_studio(folder):
    tasks = []
    for i in ("a", "sub/b", "empty"):
        regions = [
            {"type": "rectanglelabels", "score": s, "original_width": 100, "original_height": 50,
             "value": {"x": x1, "y": 2 * y1, "width": x2 - x1, "height": 2 * (y2 - y1), "rotation": 0,
                       "rectanglelabels": [CLASSES[c]]}}
            for j, c, x1, y1, x2, y2, s in BOXES if j == i
        ]  # fmt: skip
        data = {"image": f"/data/local-files/?d=images/{i.rsplit('/')[-1]}.jpg"}
        tasks.append({"id": len(tasks), "data": data, "predictions": [{"score": 0.1, "result": regions}]})
    return PredictionFiles([write(folder / "tasks.json", tasks)])


def as_arrays(folder):
    probs = np.zeros((3, 2), np.float32)
    probs[np.arange(3), [b[1] for b in BOXES]] = [b[6] for b in BOXES]
    np.savez(
        folder / "arrays.npz",
        images=np.array(["a.jpg", "sub/b.jpg", "empty.jpg"]),
        image=np.array([0, 0, 1]),
        boxes_xyxy=np.array([b[2:6] for b in BOXES], np.float32),
        probs=probs,
    )
    return PredictionFiles([], [folder / "arrays.npz"])


@pytest.mark.parametrize("make", [as_results, as_document, as_yolo, as_csv, as_label_studio, as_arrays])
def test_every_format_says_the_same(make, tmp_path):
    found = make(tmp_path).join(NAMES, CLASSES)
    a = found.detections("a", SIZE)
    assert a.labels.tolist() == [0, 1] and np.allclose(a.confidence, [0.9, 0.5])
    assert np.allclose(a.boxes_xyxy, [[0, 0, 100, 50], [10, 5, 30, 25]], atol=1e-4)
    assert np.allclose(a.probs, [[0.9, 0], [0, 0.5]]) and a.activation == "sigmoid"
    assert found.detections("sub/b", SIZE).labels.tolist() == [1]
    assert len(found.detections("empty", SIZE)) == len(found.detections("000000000139", SIZE)) == 0
    assert found.spoken_of("empty") == (make is not as_results) and not found.spoken_of("000000000139")
    assert found.expected(["a", "empty", "sub/b"]).tolist() == pytest.approx([1.4, 0, 0.25])
    assert found.expected(["a", "sub/b"], 1).tolist() == pytest.approx([0.5, 0.25])
    assert found.strongest(["empty", "a", "sub/b"], 1).tolist() == pytest.approx([0, 0.5, 0.25])
    assert found.counts(["a", "sub/b"], 0.5).tolist() == [2, 0]


def test_numbers_that_are_names(tmp_path):
    rows = [{"image_id": 139, "category_id": 0, "bbox": [0, 0, 5, 5], "score": 0.5}]
    found = PredictionFiles([write(tmp_path / "r.json", rows)]).join(NAMES, CLASSES)
    assert found.spoken_of("000000000139") and "139 is 000000000139" in found.notes[0]


@pytest.mark.parametrize(("numbers", "first"), [([0, 1], 0), ([1, 2], 1), ([0], 0), ([2], 1)])
def test_categories_count_from_0_or_1_where_only_one_is_possible(numbers, first, tmp_path):
    rows = [{"image_id": "a", "category_id": k, "bbox": [0, 0, 5, 5], "score": 0.5} for k in numbers]
    found = PredictionFiles([write(tmp_path / "r.json", rows)]).join(NAMES, CLASSES)
    assert sorted(found.labels.tolist()) == [k - first for k in numbers]


def test_categories_that_could_count_from_either_are_asked_about(tmp_path):
    rows = [{"image_id": "a", "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}]
    files = PredictionFiles([write(tmp_path / "r.json", rows)])
    with pytest.raises(DataError, match="may count from 0 or from 1; add --images-json FILE .* or --first-category 0"):
        files.join(NAMES, CLASSES)
    assert files.join(NAMES, CLASSES, 1).labels.tolist() == [0]


def result(**changes):
    return {"image_id": "a", "category_id": 0, "bbox": [0, 0, 5, 5], "score": 0.5, **changes}


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (result(bbox=[0, math.nan, 5, 5]), r"\[1\]: expected a box of four finite numbers, got 0 nan 5 nan"),
        (result(bbox=[0, 0, -5, 5]), r"\[1\]: expected x1 <= x2 and y1 <= y2 .*, got 0 0 -5 5"),
        (result(bbox=[0, 0, 1e12, 5]), r"\[1\]: expected a box in pixels"),
        (result(score=math.nan), r"\[1\]: expected a confidence in \[0, 1\], got nan"),
        (result(score=87.5), r"\[1\]: expected a confidence .*, got 87.5; these look like percent: divide by 100"),
        (result(bbox=[0, 0, 5]), r"\[1\].bbox: expected a list of 4"),
        (result(bbox=[0, 0, "5", 5]), r"\[1\].bbox\[2\]: expected a finite number of pixels, got '5'"),
        (result(score=None), r"\[1\].score: expected a finite number, got None"),
        (result(score=True), r"\[1\].score: expected a finite number, got True"),
        ({k: v for k, v in result().items() if k != "score"}, r"\[1\].score: .*these are labels, no predictions"),
        (result(image_id=[1]), r"\[1\].image_id: expected a number or text"),
        (result(category_id=0.5), r"\[1\]: expected ids that are whole numbers or text"),
        ("text", r"\[1\]: expected an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_results_is_named(entry, sentence, tmp_path):
    path = write(tmp_path / "r.json", [result(), entry])
    with pytest.raises(DataError, match=f"{path}: {sentence}"):
        PredictionFiles([path])


def test_all_that_is_wrong_is_named_at_once(tmp_path):
    rows = [result(score=2), result(score=3), result(bbox=[0, 0, -1, 5])]
    with pytest.raises(DataError) as caught:
        PredictionFiles([write(tmp_path / "r.json", rows)])
    assert len(str(caught.value).splitlines()) == 2 and "got 2 (and 1 more like it)" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("0 .5 .5 .1 .1", "a.txt: line 2: expected a confidence as sixth number, got five numbers: these are labels"),
        ("0 .5 .5 .1 x .9", "a.txt: line 2: expected six numbers: class cx cy w h confidence"),
        ("0 .5 .5 .1 .1 .9 7", "a.txt: line 2: expected six numbers"),
        ("-1 .5 .5 .1 .1 .9", "a.txt: line 2: expected a class number, 0 or more"),
        ("0.5 .5 .5 .1 .1 .9", "a.txt: line 2: expected a class number, 0 or more"),
        ("1e308 .5 .5 .1 .1 .9", "a.txt: line 2: expected a class number, 0 or more"),
        ("nan .5 .5 .1 .1 .9", "a.txt: line 2: expected a class number, 0 or more"),
        ("0 320 240 64 64 .9", "a.txt: box 2: expected a box in fractions of the image"),
        ("0 nan .5 .1 .1 .9", "a.txt: box 2: expected a box of four finite numbers"),
        ("0 .5 .5 .1 .1 1.5", r"a.txt: box 2: expected a confidence in \[0, 1\]"),
    ],
)
def test_what_is_wrong_in_yolo_is_named(line, sentence, tmp_path):
    write(tmp_path / "labels" / "a.txt", f"1 .5 .5 .1 .1 .9\n{line}\n")
    with pytest.raises(DataError, match=sentence):
        PredictionFiles([tmp_path / "labels"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,class,x1,y1,x2,y2\na,cat,0,0,5,5\n", "expected a column 'confidence' in the first line"),
        (HEADER + "a,cat,0,0,5,5,high\n", "line 2, column confidence: expected a number, got 'high'"),
        (HEADER + "a,,0,0,5,5,.5\n", "line 2: expected a file name and a class"),
        (HEADER + "a,cat,0\n", "line 2: expected 7 cells, got fewer"),
        (HEADER + "a,cat,0,0,5,5,inf\n", r"line 2: expected a confidence in \[0, 1\], got inf"),
        ("", "expected a column 'file'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_named(text, sentence, tmp_path):
    with pytest.raises(DataError, match=sentence):
        PredictionFiles([write(tmp_path / "t.csv", text)])


def test_other_names_of_columns_and_semicolons(tmp_path):
    text = "label;score;xmin;ymin;xmax;ymax;filename\ndog;.5;1;2;3;4;a.jpg\n"
    found = PredictionFiles([write(tmp_path / "t.csv", text)]).join(NAMES, CLASSES)
    assert found.boxes.tolist() == [[1, 2, 3, 4]] and found.labels.tolist() == [1]


def test_unknown_classes_and_images(tmp_path):
    files = PredictionFiles([write(tmp_path / "t.csv", HEADER + "a,dgo,0,0,5,5,.5\n")])
    with pytest.raises(
        DataError, match="line 2: expected one of 2 classes of the dataset, got 'dgo' .*did you mean 'dog'"
    ):
        files.join(NAMES, CLASSES)
    files = PredictionFiles([write(tmp_path / "r.json", [result(image_id="who")])])
    with pytest.raises(
        DataError, match="expected names of the dataset's images, got 1 names that are none, such as 'who'"
    ):
        files.join(NAMES, CLASSES)
    found = PredictionFiles([write(tmp_path / "r.json", [result(image_id="who"), result()])]).join(NAMES, CLASSES)
    assert len(found.labels) == 1 and "1 of 2 images are none of the dataset's, such as 'who'" in found.notes[0]


def test_copies_and_images_in_two_files(tmp_path):
    one = write(tmp_path / "1.json", [result(), result()])
    two = write(tmp_path / "2.json", [result(score=0.7)])
    found = PredictionFiles([one, two]).join(NAMES, CLASSES)
    assert found.confidence.tolist() == pytest.approx([0.7, 0.5])
    assert any("1 boxes stand twice" in n for n in found.notes)
    assert any("1 images have predictions in an earlier file" in n for n in found.notes)


def arrays(path, **changes):
    good = {
        "images": np.array(["a", "sub/b"]),
        "image": np.array([0, 1]),
        "boxes_xyxy": np.array([[0, 0, 5, 5], [1, 1, 4, 4]], np.float32),
        "probs": np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]], np.float32),
    }
    np.savez(path, **{k: v for k, v in (good | changes).items() if v is not None})
    return PredictionFiles([path])


def test_whole_distributions(tmp_path):
    found = arrays(tmp_path / "x.npz").join(NAMES, CLASSES)
    assert found.activation == "softmax" and found.labels.tolist() == [0, 1]
    assert np.allclose(found.confidence, [0.7, 0.4])
    probs = np.array([[0.6, 0.4], [0.1, 0.9]], np.float32)  # sums to 1 and has no background
    found = arrays(tmp_path / "y.npz", probs=probs).join(NAMES, CLASSES)
    assert found.activation == "softmax" and np.allclose(found.probs, np.pad(probs, ((0, 0), (1, 0))))
    found = arrays(tmp_path / "z.npz", probs=probs, activation=np.array("sigmoid")).join(NAMES, CLASSES)
    assert found.activation == "sigmoid" and found.probs.shape == (2, 2)
    found = arrays(tmp_path / "c.npz", classes=np.array(["dog", "cat"])).join(NAMES, CLASSES)
    assert found.labels.tolist() == [1, 0] and np.allclose(found.probs[0], [0.2, 0.1, 0.7])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"probs": np.array([[2.0, -3, 1]] * 2)}, r"expected probabilities, got 2 rows with others \(logits\?\)"),
        ({"probs": np.array([[0.2, 0.3, 0.1]] * 2)}, "probs: expected distributions that sum to 1"),
        ({"probs": np.array([[0.25] * 4] * 2)}, "probs: expected 2 columns, or 3 with background first, got 4"),
        ({"labels": np.array([1, 0])}, r"column 0 \(mmdet has it last: np.roll"),
        ({"image": np.array([0, 2])}, r"image: expected positions in images, 0..1, got 0 to 2"),
        ({"image": None}, "expected image, boxes_xyxy, probs together, got boxes_xyxy and probs alone"),
        ({"images": np.array(["a", "a"])}, "images: expected each image once"),
        ({"embedding": np.array([[1.0], [np.nan]])}, "expected finite numbers, got 1 rows with others, first of sub/b"),
        ({"suppressed": np.array([0, 3])}, "suppressed: expected counts from 1 on"),
        ({"image": None, "boxes_xyxy": None, "probs": None}, "got neither an embedding nor boxes"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_arrays_is_named(changes, sentence, tmp_path):
    with pytest.raises(DataError, match=sentence):
        arrays(tmp_path / "x.npz", **changes).join(NAMES, CLASSES)


def test_embeddings_beside_boxes(tmp_path):
    np.savez(tmp_path / "e.npz", images=np.array(["sub/b", "a"]), embedding=np.array([[1.0, 2], [3, 4]]))
    files = PredictionFiles([write(tmp_path / "r.json", [result()])], [tmp_path / "e.npz"])
    found = files.join(NAMES, CLASSES)
    assert found.embedding[found.embedded["a"]].tolist() == [3, 4]
    assert set(found.provides) == {"detections", "class_probs", "image_embedding"}


def test_other_json_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected predictions, got JSON of another kind"):
        PredictionFiles([write(tmp_path / "r.json", {"a": 1})])
    with pytest.raises(DataError, match="got no such file"):
        PredictionFiles([tmp_path / "none.json"])
    with pytest.raises(DataError, match="a folder of text files, one an image, got none"):
        PredictionFiles([write(tmp_path / "f" / "x.csv", "").parent])
