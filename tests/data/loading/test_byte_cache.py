"""What is kept of large images is what would be made anew, whatever happens to the files."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from al_lab.data.loading.byte_cache import ByteCache
from al_lab.data.loading.datamodule import predict_batches
from tests.patches import Patches

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
LARGE = 1 << 20


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1234")
    return path


def ask(cache: ByteCache, original: Path, how: str = "x", size_px: int = LARGE) -> tuple[np.ndarray, bool]:
    """Return what the cache gives and whether it had to be made."""
    made = []

    def make() -> tuple[np.ndarray, int]:
        made.append(1)
        return PIXELS if how != "label" else PIXELS[..., 0], size_px

    return cache.get(original, how, make), bool(made)


def kept_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_large_image_is_made_once_and_another_size_or_file_is_another_one(original: Path, tmp_path: Path) -> None:
    for _ in range(2):  # what one process keeps, the next one finds
        cache = ByteCache(tmp_path / "kept", 1)
        for how in ("x", "label"):
            ask(cache, original, how)
            found, made = ask(cache, original, how)
            assert not made and found.flags.writeable
            np.testing.assert_array_equal(found, PIXELS if how == "x" else PIXELS[..., 0])
    assert len(kept_files(tmp_path / "kept")) == 2
    original.write_bytes(b"12345")
    assert ask(cache, original)[1]
    os.utime(original, (1, 1))
    assert ask(cache, original)[1]
    assert ask(cache, original, "small", size_px=100)[1] and ask(cache, original, "small", size_px=100)[1]


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: b"", lambda d: d[:10], lambda d: d[:-3] + b"\0\1\2", lambda d: d + b"x",
               lambda d: d[:8] + b"\5" + d[9:]]
)  # fmt: skip
def test_what_is_damaged_is_made_again(damage: Callable[[bytes], bytes], original: Path, tmp_path: Path) -> None:
    cache = ByteCache(tmp_path / "kept", 1)
    ask(cache, original)
    (path,) = kept_files(tmp_path / "kept")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    found, made = ask(cache, original)
    assert made
    np.testing.assert_array_equal(found, PIXELS)
    assert path.read_bytes() == whole


def test_nothing_is_added_beyond_its_size_and_no_folder_is_no_fault(original: Path, tmp_path: Path) -> None:
    full = ByteCache(tmp_path / "kept", 150e-9)  # 150 bytes: two of 60 and their headers
    assert [ask(full, original, f"{n}")[1] for n in (0, 1, 2, 0, 2)] == [True, True, True, False, True]
    assert len(kept_files(tmp_path / "kept")) == 2
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert ask(ByteCache(in_the_way, 1), original)[1]
    assert ask(ByteCache(tmp_path / "kept", 1), tmp_path / "missing")[1]  # its reader says what is wrong


def test_views_of_large_images_are_those_of_images_decoded_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes = {"a": (700, 900), "b": (900, 700)}
    for name, (h, w) in sizes.items():
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).save(tmp_path / f"{name}.bmp")
    decoded = []

    def load(sample_id: str) -> np.ndarray:
        decoded.append(sample_id)
        return np.array(Image.open(tmp_path / f"{sample_id}.bmp"))

    data = SimpleNamespace(load_image=load, image_path=lambda i: tmp_path / f"{i}.bmp", size_hw=sizes.__getitem__)
    for resize in ("fixed", "keep_ratio"):
        network = SimpleNamespace(input_hw=(40, 60), mean=(9.0,) * 3, std=(2.0,) * 3, resize=resize, pad_divisor=8)

        def look(cache: ByteCache | None, network: SimpleNamespace = network) -> torch.Tensor:
            (batch,) = predict_batches(data, ("a", "b"), network=network, batch_size=2, cache=cache)
            assert batch.sizes_hw.tolist() == [list(size) for size in sizes.values()]
            return batch.images

        cache = ByteCache(tmp_path / "kept", 1)
        assert torch.equal(look(None), look(cache))
        decoded.clear()
        assert torch.equal(look(None), look(cache))
        assert decoded == ["a", "b"]  # not by the second


def test_labels_of_which_nobody_knows_the_rule_are_never_kept() -> None:
    assert Patches().label_rule("p/0") is None
