"""How images are cut into segments."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from al_lab.core.errors import ConfigError, DataError
from al_lab.data.datasets.segmentation_folder import SegmentationFolder
from al_lab.data.generated.streets_draw import draw_street
from al_lab.data.segments.maps import SegmentSettings, grid, map_hash, slic

DRAWN_SLIC = "83b4e0d2b0ea4fdd"  # of the image below, by scikit-image 0.26.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for sub in ("images/train", "labels/train", "maps"):
        (tmp_path / sub).mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    rng = np.random.default_rng(0)
    for k in range(2):
        Image.fromarray(rng.integers(0, 256, (12, 20, 3)).astype(np.uint8)).save(tmp_path / f"images/train/{k}.png")
        Image.fromarray(rng.integers(0, 2, (12, 20)).astype(np.uint8)).save(tmp_path / f"labels/train/{k}.png")
    return tmp_path


def opened(root: Path, **segments: object) -> SegmentationFolder:
    return SegmentationFolder(str(root), test_split="none", segments=segments)


@pytest.mark.parametrize("threads", [1, 2])
def test_superpixels_are_the_same_everywhere(threads: int) -> None:
    pytest.importorskip("skimage")
    image = draw_street(0, "target", "train", 0, (96, 160)).image
    with threadpool_limits(threads):
        found = slic(image, 40, 10.0, 0.0)
    assert found.dtype == np.int16 and np.array_equal(np.unique(found), np.arange(found.max() + 1))
    assert map_hash(found) == DRAWN_SLIC and found.max() < 40


def test_small_superpixels_join_a_neighbor() -> None:
    pytest.importorskip("skimage")
    image = draw_street(0, "target", "train", 0, (96, 160)).image
    areas = np.bincount(slic(image, 40, 10.0, 0.5).reshape(-1))
    assert 20 < len(areas) < 60 and areas.min() > 96 * 160 / 40 / 4


@pytest.mark.parametrize(("size_hw", "count", "num"), [((12, 20), 15, 15), ((12, 20), 1, 1), ((2, 2), 40, 4)])
def test_a_grid_has_rectangles_of_about_one_size(size_hw: tuple[int, int], count: int, num: int) -> None:
    areas = np.bincount(grid(size_hw, count).reshape(-1))
    assert len(areas) == num and areas.sum() == size_hw[0] * size_hw[1] and areas.max() <= 2 * areas.min()


def test_maps_of_another_tool_are_counted_through(folder: Path) -> None:
    drawn = np.zeros((12, 20), np.uint16)
    drawn[3:6, 4:9], drawn[7:, :] = 700, 70
    (folder / "maps/train").mkdir()
    Image.fromarray(drawn).save(folder / "maps/train/0.png")
    np.save(folder / "maps/train/1.npy", drawn.astype(np.int64) - 5)
    data = opened(folder, kind="folder", folder=str(folder / "maps"))
    for sample_id in data.pool_ids:
        found = data.segment_map(sample_id)
        assert found.dtype == np.int16
        assert np.array_equal(found, np.searchsorted([0, 70, 700], drawn))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (None, "expected a segment map .*, got none"),
        (np.zeros((12, 21), np.uint8), r"height and width \(12, 20\), got \(12, 21\)"),
        (np.zeros((12, 20, 3), np.uint8), "a map of whole numbers"),
    ],
)
def test_a_map_that_makes_no_sense_is_named(folder: Path, write: np.ndarray | None, said: str) -> None:
    (folder / "maps/train").mkdir()
    data = opened(folder, kind="folder", folder=str(folder / "maps"))
    if write is not None:
        Image.fromarray(write).save(folder / "maps/train/0.png")
    with pytest.raises(DataError, match=said):
        data.segment_map(data.pool_ids[0])


def test_maps_are_kept_beside_the_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(folder, kind="grid", count=6, cache_dir=str(folder / ".segments"))
    first = data.segment_map(data.pool_ids[0])
    monkeypatch.setattr(SegmentSettings, "_made", lambda *_: pytest.fail("made again"))
    again = opened(folder, kind="grid", count=6, cache_dir=str(folder / ".segments"))
    assert np.array_equal(again.segment_map(data.pool_ids[0]), first)


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ({"kind": "sam"}, "segments.kind"),
        ({"kinds": "slic"}, "did you mean 'kind'"),
        ({"kind": "folder"}, "expected the folder of the maps"),
        ({"count": 0}, "segments.count"),
    ],
)
def test_wrong_settings_are_refused(folder: Path, segments: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        opened(folder, **segments)


def test_a_folder_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(DataError, match="expected a folder of segment maps, got no such folder"):
        SegmentSettings(kind="folder", folder="/nowhere").check()
