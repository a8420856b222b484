"""A pool of near copies: its shares, its boxes, its digests; val and test are not touched."""

import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import ConfigError, DataError
from al_lab.core.types import Annotation
from al_lab.data.copied_pool import Recipe, files_digest, write_copied_pool
from al_lab.data.datasets.folder import Folder
from al_lab.data.formats import voc
from al_lab.data.formats.record import Record

H, W = 60, 80
RECIPE = Recipe(near_copies=0.6, photographs=2, most_cut=0.3)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Each pool image has one box, painted white on gray."""
    root = tmp_path_factory.mktemp("original")
    rng = np.random.default_rng(0)
    for split, n in (("train", 20), ("test", 3)):
        for k in range(n):
            path = root / split / f"{k:02d}.png"
            path.parent.mkdir(exist_ok=True)
            x1, y1 = rng.integers(0, 40, 2)
            picture = np.full((H, W, 3), 60, np.uint8)
            picture[y1 : y1 + 20, x1 : x1 + 30] = 180
            Image.fromarray(picture).save(path)
            truth = Annotation.make([[x1, y1, x1 + 30, y1 + 20]], [0])
            voc.write_record(path.with_suffix(".xml"), Record.of(path.name, truth, ("box",), (H, W)))
    return Folder(str(root))


def test_shares_boxes_and_the_test_set(original, tmp_path):
    lines = write_copied_pool(original, tmp_path / "a", RECIPE)
    pool = Folder(str(tmp_path / "a"))
    copies = [i for i in pool.pool_ids if "_copy" in i]
    sources = {i.partition("_copy")[0] for i in copies}
    assert (len(pool.pool_ids), len(copies), len(sources)) == (20, 12, 2)
    assert sources < set(pool.pool_ids)
    seen = 0
    for i in copies:  # the white patch is where the box says
        image, truth = pool.load_image(i), pool.truth(i)
        assert max(image.shape[:2]) <= W and len(truth.labels) == 1
        x1, y1, x2, y2 = truth.boxes_xyxy[0].round().astype(int)
        inside = np.zeros(image.shape[:2], bool)
        inside[y1:y2, x1:x2] = True
        bright = image.mean(2) > 1.8 * np.median(image)
        assert (bright == inside).mean() > 0.97
        seen += image.shape[:2] != (H, W)
    assert seen == 12
    for a, b in zip(original.test_ids, pool.test_ids, strict=True):
        assert original.image_path(a).read_bytes() == pool.image_path(b).read_bytes()
        assert (original.truth(a).boxes_xyxy == pool.truth(b).boxes_xyxy).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert f"files sha256 {files_digest(tmp_path / 'a')}" in lines[-1]


def test_the_same_seed_is_the_same_pool_and_another_is_another(original, tmp_path):
    one, two = (write_copied_pool(original, tmp_path / name, RECIPE) for name in "ab")
    other = write_copied_pool(original, tmp_path / "c", Recipe(0.6, 2, 0.3, seed=1))
    assert one[1:] == two[1:] and one[1] != other[1]


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"near_copies": 0.95}, "among 20 images of the pool, got 19 copies of 2 photographs"),
        ({"near_copies": 0.05}, "got 1 copies of 2 photographs"),
        ({"near_copies": 1.5}, r"--share: expected .*, got 1.5"),
        ({"photographs": 0}, "--photographs: expected"),
        ({"most_cut": 1.0}, "--cut: expected"),
    ],
)
def test_what_can_not_be(original, tmp_path, recipe, sentence):
    with pytest.raises(ConfigError, match=sentence):
        write_copied_pool(original, tmp_path / "x", Recipe(**{"near_copies": 0.6, "photographs": 2, **recipe}))


def test_nothing_is_overwritten(original, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(DataError, match="a new folder"):
        write_copied_pool(original, tmp_path, RECIPE)
