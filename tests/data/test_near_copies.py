"""Near copies are found, other photographs are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from al_lab.data.near_copies import MAX_BITS, fingerprint, near_pairs


def photograph(seed: int) -> np.ndarray:
    """A smooth random picture: structure at the scale of a fifth of the side."""
    noise = np.random.default_rng(seed).integers(0, 255, (7, 9, 3), np.uint8)
    return np.array(Image.fromarray(noise).resize((180, 140), Image.Resampling.BICUBIC))


def changed(image: np.ndarray) -> dict[str, np.ndarray]:
    picture = Image.fromarray(image)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=30)
    return {
        "jpeg": np.array(Image.open(jpeg)),
        "small": np.array(picture.resize((90, 70))),
        "shifted": image[2:-1, 1:-2],
        "darker": (image * 0.7).astype(np.uint8),
        "blurred": np.array(picture.filter(ImageFilter.GaussianBlur(1))),
    }


def test_changed_copies_are_found_and_others_are_not():
    originals = {f"photo{n}": photograph(n) for n in range(40)}
    copies = {f"photo3-{how}": image for how, image in changed(originals["photo3"]).items()}
    prints = {i: fingerprint(image) for i, image in (originals | copies).items()}
    assert {i for a, b, _ in near_pairs(prints) for i in (a, b)} == {"photo3", *copies}


def test_pairs_are_those_of_all_against_all():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**16, (30, 16)).astype(np.uint16)
    prints = {f"a{n}": row for n, row in enumerate(base)}
    for n, row in enumerate(base):
        flips = rng.permutation(256)[: int(rng.integers(20, 45))]
        other = row.copy()
        for bit in flips:
            other[bit // 16] ^= np.uint16(1 << int(bit % 16))
        prints[f"b{n}"] = other
    ids = list(prints)
    brute = {
        (a, b): int(np.bitwise_count(prints[a] ^ prints[b]).sum())
        for k, a in enumerate(ids)
        for b in ids[k + 1 :]
        if np.bitwise_count(prints[a] ^ prints[b]).sum() <= MAX_BITS
    }
    found = {(a, b): bits for a, b, bits in near_pairs(prints)}
    assert found == brute and 0 < len(found) < 30


def test_a_picture_without_structure_has_no_fingerprint():
    assert fingerprint(np.full((40, 40, 3), 255, np.uint8)) is None


def test_too_many_bits_are_refused():
    with pytest.raises(ValueError, match="max_bits"):
        list(near_pairs({}, MAX_BITS + 1))
