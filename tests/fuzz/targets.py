"""Every reader of files that others may have written or damaged: what to feed it, how to call it, what must hold of
what it accepts."""

import copy
import hashlib
import io
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from al_lab.config.load import compose, load_config, validate
from al_lab.core.budget import Allowance
from al_lab.core.errors import LabError
from al_lab.core.files import read_json
from al_lab.core.pool import INITIAL, Pool, load_region, save_region
from al_lab.core.record.labels import read_annotations
from al_lab.core.record.ledger import Ledger
from al_lab.core.record.pixel_labels import NO_CLASS, UNANSWERED, PixelLabels
from al_lab.core.record.predictions import load_predictions, save_predictions
from al_lab.core.record.purchase import read_queries, write_queries
from al_lab.core.types import Annotation, Candidates, Detections, Query, Region
from al_lab.data.formats import cvat, label_studio, labelme, yolo
from al_lab.data.formats.brush import encode_alpha
from al_lab.data.formats.coco import load_coco
from al_lab.data.formats.images import load_rgb, read_size_hw
from al_lab.data.formats.layout import AnnotationFiles, find_annotations
from al_lab.data.formats.masks import VOID_NAMES, MapClasses, read_ids, read_map_classes, read_values
from al_lab.data.formats.voc import parse_voc, read_class_list, read_split
from al_lab.labeling.answers import read_answers
from al_lab.labeling.pixels.maps import read_maps
from al_lab.labeling.pixels.palette import color_table
from al_lab.labeling.pixels.points import targets_of
from al_lab.labeling.request import Item
from al_lab.strategies.general.replay import Replay
from tests.fuzz.mutations import ATOMS, damaged, json_files, json_rows, texts
from tests.fuzz.predictions import PREDICTIONS

SIZE_HW = (480, 640)
CLASSES = ("cat", "dog")
IDS = tuple(f"img/{n:03d}" for n in range(12))
NO_NAMES = {"", "nan", "NaN", "None", "null"}


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        file: the name of the file it reads.
        inputs: contents of that file.
        read: reads it, given its path; raises errors of ours, or returns what ``holds`` looks at.
        holds: asserts that what was accepted makes sense.
        prepare: writes what the reader needs beside the file, once.
        names_file: an error says in which file it is; a setting's names its key instead.
    """

    file: str
    inputs: st.SearchStrategy[bytes]
    read: Callable[[Path], Any]
    holds: Callable[[Any], None]
    prepare: Callable[[Path], None] = lambda folder: None
    names_file: bool = True


def _boxes_hold(boxes: np.ndarray, labels: np.ndarray, num_classes: int = len(CLASSES)) -> None:
    assert boxes.shape == (len(labels), 4)
    assert np.isfinite(boxes).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ((boxes >= 0) & (boxes <= [SIZE_HW[1], SIZE_HW[0]] * 2)).all()
    assert ((labels >= 0) & (labels < num_classes)).all()


def _annotation_holds(annotation: Annotation, num_classes: int = len(CLASSES)) -> None:
    _boxes_hold(annotation.boxes_xyxy, annotation.labels, num_classes)
    assert annotation.difficult.dtype == bool == annotation.crowd.dtype


def _name_holds(name: str) -> None:
    assert isinstance(name, str)
    assert name.strip() not in NO_NAMES
    assert not {"\0", "\n"} & set(name)
    name.encode()


def _path_holds(name: str) -> None:
    assert name
    assert not name.startswith("/")
    assert ".." not in name.split("/")
    assert len(name.encode()) <= 2048 and "\0" not in name


# ---------------------------------------------------------------- annotation formats

COCO = {
    "images": [
        {"id": 1, "file_name": "a/1.jpg", "height": 480, "width": 640},
        {"id": 2, "file_name": "2.jpg", "height": 480, "width": 640},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [0.5, 0.5, 100.25, 10], "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
}


def _read_coco(path: Path) -> Any:
    index = load_coco(path)
    return index, [index.annotation(row, SIZE_HW)[0] for row in range(len(index.file_names))]


def _coco_holds(found: Any) -> None:
    index, annotations = found
    assert len(set(index.classes)) == len(index.classes)
    for name in index.classes:
        _name_holds(name)
    for name in index.file_names.tolist():
        _path_holds(name)
    assert (index.sizes_hw >= 0).all()
    for annotation in annotations:
        _annotation_holds(annotation, len(index.classes))


_OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"  # noqa: E501
_VOC = (
    '<?xml version="1.0" encoding="{}"?><{}><filename>{}</filename><size><width>{}</width><height>{}</height></size>'
    + 2 * _OBJECT
    + "</annotation>"
)
_VOC_VALUES = (
    "utf-8",
    "annotation",
    "img__1.jpg",
    "640",
    "480",
    "cat",
    "0",
    "1",
    "2",
    "30",
    "40",
    "dog",
    "1",
    "9",
    "9",
    "20",
    "21",
)
VOC_FILES = st.one_of(
    texts(_VOC, _VOC_VALUES),
    st.sampled_from(
        ("foo", "utf-7", "hex", "utf-16", "latin-1", "ucs-4", "big5", "shift_jis", "rot13", "idna", "")
    ).map(lambda encoding: _VOC.format(encoding, *_VOC_VALUES[1:]).encode()),
)

_CVAT = (
    '<annotations><image id="0" name="{}" width="{}" height="{}"><box label="{}" xtl="{}" ytl="{}" xbr="{}" ybr="{}" '
    'rotation="{}"/>'
    '<polygon label="dog" points="{}"/><ellipse label="cat" cx="{}" cy="9" rx="3" ry="{}"/></image></annotations>'
)
_CVAT_VALUES = ("a.jpg", "640", "480", "cat", "1", "2", "30", "40", "0", "1,2;3,4;5,1", "9", "3")

LABELME = {
    "imagePath": "a.jpg",
    "imageHeight": 480,
    "imageWidth": 640,
    "shapes": [
        {"label": "cat", "points": [[1, 2], [30.5, 40]], "shape_type": "rectangle", "flags": {"difficult": True}},
        {"label": "dog", "points": [[9, 9], [20, 9], [9, 20]], "shape_type": "polygon", "flags": {}},
        {"label": "dog", "points": [[90, 90], [95, 90]], "shape_type": "circle"},
    ],
}
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/0123abcd-a.jpg", "al_lab_id": "img/000"},
        "annotations": [
            {
                "was_cancelled": False,
                "lead_time": 3.5,
                "updated_at": "2024-01-01T00:00:00Z",
                "result": [
                    {
                        "type": "rectanglelabels",
                        "original_width": 640,
                        "original_height": 480,
                        "value": {"x": 1, "y": 2, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]},
                    }
                ],
            }
        ],
    }
]


def _records(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Read records, then hold them against classes and image, as datasets do; either step may refuse."""

    def call(path: Path) -> list[tuple[Any, Annotation | None]]:
        found = []
        for record in read(path):
            try:
                found.append((record, record.annotation(CLASSES, SIZE_HW)[0]))
            except LabError:
                found.append((record, None))
        return found

    return call


def _records_hold(found: Any) -> None:
    for record, annotation in found:
        assert record.file_name
        for name in record.names:
            _name_holds(name)
        assert len(record.names) == len(record.boxes_xyxy)
        assert record.size_hw is None or min(record.size_hw) > 0
        assert record.seconds is None or (np.isfinite(record.seconds) and record.seconds >= 0)
        if annotation is not None:
            _annotation_holds(annotation)


def _saved_picture(mode: str, values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).convert(mode).save(stream, "PNG")
    return stream.getvalue()


# ---------------------------------------------------------------- what people hand in

ITEMS = [Item(Query(f"img/{k}"), f"img__{k}", Path(f"/x/img__{k}.jpg"), SIZE_HW, False) for k in range(3)]
ANSWER = {
    "images": [{"id": k, "file_name": f"img__{k}.jpg", "height": 480, "width": 640} for k in range(3)],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
}


def _read_answers(path: Path) -> Any:
    return read_answers(path.parent, ITEMS, CLASSES, True, True)


def _answers_hold(found: Any) -> None:
    assert set(found.annotations) <= {item.sample_id for item in ITEMS}
    for annotation in found.annotations.values():
        _annotation_holds(annotation)
    assert all("expected" in problem for problem in found.problems)


# ---------------------------------------------------------------- what people hand in about pixels

AREA_CLASSES, AREA_SIZE = ("cat", "dog"), (12, 16)
AREA_ITEM = Item(Query("img/1"), "img__1", Path("/x/img__1.jpg"), AREA_SIZE, False)
POINTS = {"img/1": targets_of(Query("img/1", Region(np.array([3, 20, 100]), AREA_SIZE)), None)}
STROKE = {"type": "brushlabels", "original_width": 16, "original_height": 12, "value": {"format": "rle"}}
STROKE["value"] |= {"rle": encode_alpha(np.eye(12, 16, dtype=bool)), "brushlabels": ["cat"]}
_SHAPE = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 5, "rectanglelabels": ["dog"]}
DRAWN = [
    STROKE,
    STROKE | {"type": "rectanglelabels", "value": _SHAPE},
    STROKE | {"type": "polygonlabels", "value": {"points": [[1, 2], [50, 2], [20, 90]], "polygonlabels": ["cat"]}},
    STROKE | {"type": "keypointlabels", "value": {"x": 21.9, "y": 4.1, "width": 1, "keypointlabels": ["dog"]}},
]
DRAWN_TASKS = [{"id": 1, "data": {"image": "img__1.jpg"}, "annotations": [{"result": DRAWN, "lead_time": 2}]}]
DRAWN_SHAPES = [
    {"label": "cat", "points": [[1, 2], [9, 4], [3, 9.5]], "shape_type": "polygon"},
    {"label": "dog", "points": [[3, 3], [4, 4]], "shape_type": "circle"},
    {"label": "dog", "points": [[3.5, 0.5]], "shape_type": "point"},
]
DRAWN_FILE = {"imagePath": "img__1.jpg", "imageHeight": 12, "imageWidth": 16, "shapes": DRAWN_SHAPES}
_MASKS = (
    '<annotations><image id="0" name="img__1.jpg" width="{}" height="{}"><mask label="cat" rle="{}" left="{}" top="{}" '
    'width="{}" height="{}" z_order="{}"/><polygon label="{}" points="{}"/></image></annotations>'
)
_MASKS_VALUES = ("16", "12", "3, 4, 1", "2", "1", "4", "2", "1", "dog", "1,2;9,4;3,9")
_TABLE = "image,point,x,y,side,class\nimg__1.jpg,{},{},{},1,{}\n{},2,,,1,{}\n"
_TABLE_VALUES = ("1", "3", "0", "cat", "img__1.jpg", "1")
_ID_MAPS = [
    _saved_picture(mode, np.where(np.eye(12, 16) > 0, 1, void).astype(np.uint8))
    for mode, void in (("L", 255), ("P", 0), ("RGB", 0), ("1", 0))
]


def _areas(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Read records, then draw them, as those who read answers do; either step may refuse."""

    def call(path: Path) -> list[tuple[Any, PixelLabels | None]]:
        found = []
        for record in read(path):
            try:
                found.append((record, record.labels(AREA_CLASSES, AREA_SIZE)))
            except LabError:
                found.append((record, None))
        return found

    return call


def _areas_hold(found: Any) -> None:
    for record, labels in found:
        assert record.file_name
        for thing in (*record.areas, *record.points):
            _name_holds(thing.name)
        assert all(math.isfinite(p.x) and math.isfinite(p.y) for p in record.points)
        if labels is not None:
            _map_holds(labels)


def _map_holds(labels: PixelLabels) -> None:
    assert labels.map_HW.shape == AREA_SIZE
    assert set(np.unique(labels.map_HW).tolist()) <= {0, 1, NO_CLASS, UNANSWERED}


def _read_maps(path: Path) -> Any:
    return read_maps(path.parent, [AREA_ITEM], POINTS, AREA_CLASSES, color_table(2), None)


def _maps_hold(found: Any) -> None:
    assert set(found.annotations) <= {"img/1"}
    for labels in found.annotations.values():
        _map_holds(labels)
    assert all("expected" in problem for problem in found.problems)


# ---------------------------------------------------------------- lists and tables of a run


def _saved(save: Callable[[Path], None]) -> bytes:
    """Return what a function that saves writes."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


MASK = _saved(lambda path: save_region(path, Region(np.array([1, 5, 9]), (24, 32))))
BOUGHT = {
    "id": "img/004",
    "utility": 0.2,
    "pixels": 3,
    "mask": "cycle_00/masks/a.npz",
    "sha256": hashlib.sha256(MASK).hexdigest(),
}
SELECTIONS = {
    "purchases": [
        {"cycle": -1, "queries": [{"id": "img/001", "utility": 0.0}, {"id": "img/002", "utility": 0.1}]},
        {"cycle": 0, "queries": [{"id": "img/003", "utility": 0.5}, BOUGHT]},
    ]
}


def _write_mask(folder: Path) -> None:
    path = folder / BOUGHT["mask"]
    path.parent.mkdir(parents=True)
    path.write_bytes(MASK)


def _replay(path: Path) -> Any:
    strategy, pool = Replay(str(path)), Pool(IDS)
    first = strategy.initial(pool, 2, None)
    strategy.restore(Path("cycle_00"))
    pool = pool.acquire([Query(i) for i in first], INITIAL)
    queries = strategy.select(None, pool, Allowance("image", 2), None)
    pool.acquire(queries, 0)
    write_queries(path.parent / "out", queries, Allowance("image", 2), {})
    return queries, read_queries(path.parent / "out")


def _queries_hold(found: Any) -> None:
    written, read = found
    assert [q.sample_id for q in written] == [q.sample_id for q in read]
    for query in read:
        assert query.sample_id in IDS
        assert np.isfinite(query.utility)


def _asked_hold(queries: tuple[Query, ...]) -> None:
    assert len({q.sample_id for q in queries}) == len(queries)
    for query in queries:
        assert query.sample_id.strip()
        query.sample_id.encode()
        assert np.isfinite(query.utility)


QUERIES = {"unit": "image", "amount": 2, "num_queries": 2, "queries": [{"id": i, "utility": 0.5} for i in IDS[:2]]}
POOL = Pool(IDS, {IDS[0]: -1, IDS[1]: 0}, {IDS[2]: (0, 1)}).to_json()
LABELS = [{"id": i, "annotation": Annotation.make([[1, 2, 3, 4]], [n]).to_json()} for n, i in enumerate(IDS[:2])]


def _pool_holds(pool: Pool) -> None:
    assert pool.ids == IDS
    assert {*pool.whole, *pool.parts} <= set(IDS)
    assert all(
        type(c) is int and c >= INITIAL for c in [*pool.whole.values(), *(c for cs in pool.parts.values() for c in cs)]
    )


def _labels_hold(found: dict[str, Annotation]) -> None:
    for sample_id, annotation in found.items():
        assert sample_id.strip()
        assert np.isfinite(annotation.boxes_xyxy).all()
        assert (annotation.labels >= 0).all()


def _write_ledger(path: Path) -> None:
    ledger = Ledger(path)
    for stage in ("train", "evaluate"):
        ledger.commit(0, stage, seconds=1.5, scalars={"loss": 0.5}, files={f"cycle_00/{stage}.json": "0" * 64})


def _ledger_holds(ledger: Ledger) -> None:
    for key, entry in ledger.entries.items():
        assert key == Ledger.key(entry["cycle"], entry["stage"])
        assert math.isfinite(entry["seconds"])
        assert all(isinstance(digest, str) for digest in entry["files"].values())


# ---------------------------------------------------------------- settings

_BASE = ("dataset=shapes", "strategy=entropy", "debug=smoke")
# Filled by the program, not by who writes a command.
_NOT_SET = ("choices", "protocol", "overrides", "_target_")


@cache
def _config() -> dict[str, Any]:
    return compose(_BASE)


def _leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in node.items():
        if key not in _NOT_SET:
            found += _leaves(value, (*path, key)) if isinstance(value, dict) and value else [(*path, key)]
    return found


def _set(changes: list[tuple[int, Any]]) -> bytes:
    """Return a composed configuration in which overrides set some keys to anything."""
    config = copy.deepcopy(_config())
    leaves = _leaves(config)
    for n, value in changes:
        *groups, key = leaves[n % len(leaves)]
        node = config
        for group in groups:
            node = node[group]
        node[key] = value
    return json.dumps(config).encode()


SETTINGS = st.lists(st.tuples(st.integers(0, 300), st.sampled_from(ATOMS)), max_size=2).map(_set)


def _validate(path: Path) -> dict[str, Any]:
    config = json.loads(path.read_bytes())
    validate(config)
    return config


def _settings_hold(config: dict[str, Any]) -> None:
    for group in ("budget", "trainer", "dataset", "detector"):
        for *groups, key in _leaves(config[group]):
            node = config[group]
            for inner in groups:
                node = node[inner]
            assert not isinstance(node[key], float) or np.isfinite(node[key]), (group, key)


def _config_holds(config: dict[str, Any]) -> None:
    assert isinstance(config, dict)
    assert all(isinstance(key, str) for key in config)


# ---------------------------------------------------------------- arrays and pictures


_FOUND = Detections(
    np.ones((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int64), np.ones((2, 1), np.float32), "sigmoid"
)
_CANDIDATES = Candidates.images([f"i{k}" for k in range(5)], np.arange(5.0), emb=np.ones((5, 3)))
_WINDOWS = Candidates.pixels("a", (24, 32), [3, 9], [0.5, 0.25], 1)


def _candidates_hold(found: Candidates) -> None:
    assert np.isfinite(found.utility).all()
    assert len(found.sample) == len(found.utility)
    for n in range(len(found.sample)):
        assert found.sample_ids[found.sample[n]]
        found.region_of(n)


def _predictions_hold(found: dict[str, Detections]) -> None:
    for detections in found.values():
        assert len(detections.boxes_xyxy) == len(detections.labels)
        assert (detections.labels >= 0).all()


def _region_holds(region: Region) -> None:
    assert region.mask().shape == region.size_hw


def _picture(mode: str, kind: str) -> bytes:
    ids = np.random.default_rng(0).integers(0, 19, (20, 30)).astype(np.uint8)
    picture, stream = (
        Image.fromarray(ids.astype(np.uint16)) if mode == "I;16" else Image.fromarray(ids).convert(mode),
        io.BytesIO(),
    )
    picture.save(stream, kind)
    return stream.getvalue()


PICTURES = [
    _picture(*seed)
    for seed in (
        ("L", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("1", "PNG"), ("RGB", "JPEG"), ("CMYK", "JPEG"),  # noqa: E501
        ("L", "TIFF"), ("F", "TIFF"), ("I", "TIFF"), ("L", "GIF"), ("RGB", "WEBP"), ("L", "BMP"), ("L", "PPM"), ("RGB", "TGA"),  # noqa: E501
        ("L", "DDS"), ("P", "PCX"), ("RGB", "SGI"), ("L", "ICNS"), ("RGB", "AVIF"), ("L", "EPS"),
    )
]  # fmt: skip


def _look(path: Path) -> list[Any]:
    found, errors = [], []
    for read in (read_ids, load_rgb, read_size_hw, lambda p: read_values(p, {(0, 0, 0): 0, (9, 9, 9): 1})):
        try:
            found.append(read(path))
        except LabError as error:
            assert str(path) in str(error)  # noqa: PT017
            errors.append(error)
            found.append(None)
    if len(errors) == len(found):
        raise errors[0]
    return found


def _pictures_hold(found: list[Any]) -> None:
    ids, rgb, size_hw, values = found
    assert values is None or (values.dtype == np.uint8 and values.ndim == 2)
    assert ids is None or (ids.dtype == np.uint8 and ids.ndim == 2)
    assert rgb is None or (rgb.dtype == np.uint8 and rgb.shape == (*size_hw, 3))


def _lists_hold(found: Any) -> None:
    for name in found:
        _path_holds(name)


def _classes_hold(found: dict[int, str]) -> None:
    assert len(set(found.values())) == len(found)
    for key, name in found.items():
        assert key >= 0
        _name_holds(name)


def _table_holds(found: MapClasses | None) -> None:
    if found is None:
        return
    real = [name for name in found.names.values() if name.lower() not in VOID_NAMES]
    assert len(set(real)) == len(real)
    for raw, name in found.names.items():
        assert 0 <= raw <= 255
        _name_holds(name)
    for color, raw in found.colors.items():
        assert all(0 <= c <= 255 for c in color)
        assert raw in found.names


def _kinds_hold(found: AnnotationFiles) -> None:
    assert all(files is not None for files in found.by_format.values())


def _yolo_yaml_holds(found: dict[str, Any]) -> None:
    for name in found["names"]:
        _name_holds(name)


_SPLIT = b"000001\n000002 1\n# note\n2008_000008 -1\nsub/a.jpg\n"
_CLASS_LIST = "{} {}\n{} {}\n# {}\n"
_YOLO = "{} {} {} {} {}\n1 0.5 0.5 0.25 0.25\n"
_YAML = "path: {}\ntrain: {}\nval: images/val\nnames:\n  0: {}\n  1: {}\n"


TARGETS = {
    "VOC": Target("a.xml", VOC_FILES, lambda p: parse_voc(p, CLASSES, SIZE_HW)[0], _annotation_holds),
    "COCO": Target("a.json", json_files(COCO), _read_coco, _coco_holds),
    "YOLO labels": Target(
        "a.txt",
        texts(_YOLO, ("0", "0.5", "0.5", "0.1", "0.2")),
        _records(lambda p: [yolo.read_labels(p, "a.jpg", CLASSES, SIZE_HW)]),
        _records_hold,
    ),
    "YOLO data.yaml": Target(
        "data.yaml", texts(_YAML, (".", "images", "cat", "dog")), yolo.read_data_yaml, _yolo_yaml_holds
    ),
    "CVAT": Target("a.xml", texts(_CVAT, _CVAT_VALUES), _records(cvat.read), _records_hold),
    "labelme": Target("a.json", json_files(LABELME), _records(lambda p: [labelme.read(p)]), _records_hold),
    "Label Studio": Target("a.json", json_files(LABEL_STUDIO), _records(label_studio.read), _records_hold),
    "class lists": Target(
        "classes.txt",
        st.one_of(texts(_CLASS_LIST, ("0", "cat", "1", "dog", "x")), damaged(b"cat\ndog\n")),
        read_class_list,
        _classes_hold,
    ),
    **{
        f"class tables ({name})": Target(
            name, texts(template, values), lambda p: read_map_classes(p.parent, None), _table_holds
        )
        for name, template, values in (
            ("labelmap.txt", "# label:color_rgb:parts:actions\n{}:{},{},{}::\ndog:0,0,7::\n", ("cat", "1", "2", "3")),
            ("class_dict.csv", "name,r,g,b\n{},{},{},{}\ndog,0,0,7\n", ("cat", "1", "2", "3")),
            ("_classes.csv", "Pixel Value, Class\n{}, {}\n7, dog\n", ("0", "cat")),
            ("classes.txt", "0 {} {} {} {}\n{} dog 0 0 7\n", ("cat", "1", "2", "3", "1")),
        )
    },
    **{
        f"what a file is ({name})": Target(
            name, inputs, lambda p: find_annotations(p.parent, {"a": p.with_suffix(".jpg")}), _kinds_hold
        )
        for name, inputs in (
            ("a.json", st.one_of(*map(json_files, (COCO, LABELME, LABEL_STUDIO)))),
            ("a.xml", VOC_FILES),
            ("a.txt", damaged(b"0 0.5 0.5 1 1\n")),
        )
    },
    "split lists": Target("train.txt", damaged(_SPLIT), read_split, _lists_hold),
    "answers (VOC)": Target("img__1.xml", VOC_FILES, _read_answers, _answers_hold),
    "answers (COCO)": Target("a.json", json_files(ANSWER), _read_answers, _answers_hold),
    "answers (list)": Target("no_objects.txt", damaged(b"img__1.jpg\nimg__2\n"), _read_answers, _answers_hold),
    "areas (CVAT)": Target("a.xml", texts(_MASKS, _MASKS_VALUES), _areas(cvat.read_areas), _areas_hold),
    "areas (labelme)": Target("a.json", json_files(DRAWN_FILE), _areas(lambda p: [labelme.read_areas(p)]), _areas_hold),
    "areas (Label Studio)": Target("a.json", json_files(DRAWN_TASKS), _areas(label_studio.read_areas), _areas_hold),
    "answers (points)": Target("points.csv", texts(_TABLE, _TABLE_VALUES), _read_maps, _maps_hold),
    "answers (masks)": Target("img__1.png", damaged(*_ID_MAPS), _read_maps, _maps_hold),
    "answers (strokes)": Target("a.json", json_files(DRAWN_TASKS), _read_maps, _maps_hold),
    "selections": Target("selections.json", json_files(SELECTIONS), _replay, _queries_hold, _write_mask),
    "queries": Target("queries.json", json_files(QUERIES), lambda p: read_queries(p.parent), _asked_hold),
    "pool": Target("pool.json", json_files(POOL), lambda p: Pool.from_json(read_json(p), IDS, p.parent), _pool_holds),
    "bought labels": Target("labels.jsonl", json_rows(LABELS), read_annotations, _labels_hold),
    "ledger": Target(
        "ledger.jsonl",
        json_rows([json.loads(line) for line in _saved(_write_ledger).splitlines()]),
        Ledger,
        _ledger_holds,
    ),
    "settings": Target("config.json", SETTINGS, _validate, _settings_hold, names_file=False),
    "config.yaml": Target(
        "config.yaml",
        damaged(
            b"seed: 1\nname: a\nrun_dir: null\ntrainer:\n  _target_: al_lab.x.Y\n  lr: 1e-3\n  milestones: [1, 2]\n"
        ),
        lambda p: load_config(p.parent),
        _config_holds,
    ),
    "npz: regions": Target("a.npz", damaged(MASK), load_region, _region_holds),
    "npz: predictions": Target(
        "a.npz",
        damaged(_saved(lambda p: save_predictions(p, {"a": _FOUND, "b": _FOUND}))),
        lambda p: load_predictions([p]),
        _predictions_hold,
    ),
    "npz: candidates": Target(
        "a.npz", damaged(_saved(_CANDIDATES.save), _saved(_WINDOWS.save)), Candidates.load, _candidates_hold
    ),
    "images and masks": Target("a.png", damaged(*PICTURES), _look, _pictures_hold),
    **{name: Target(*parts) for name, parts in PREDICTIONS.items()},
}
