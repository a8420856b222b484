"""Which images are left out, for which reason, and which of several near copies stays."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageFilter

from al_lab.core.budget import Limits
from al_lab.data.near_copies import fingerprint
from al_lab.data.quality import Facts, brightness, left_out, sharpness


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (72, 96, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC))


def test_measures(scene):
    blurred = np.asarray(Image.fromarray(scene).filter(ImageFilter.GaussianBlur(25)))
    assert sharpness(scene) > 100 * sharpness(blurred)
    assert sharpness(np.zeros((2, 2, 3), np.uint8)) == 0.0
    twice = np.asarray(Image.fromarray(scene).resize((1280, 960), Image.Resampling.BICUBIC))
    assert sharpness(twice) == pytest.approx(sharpness(scene), rel=0.1)  # of the same picture, at any size
    assert brightness(scene) > 150 > 40 > brightness((scene * 0.1).astype(np.uint8))


def facts(images: dict[str, np.ndarray | str]) -> Facts:
    good = {i: a for i, a in images.items() if not isinstance(a, str)}
    rows = [good.get(i) for i in images]
    return Facts(
        list(images),
        np.array([(0, 0) if a is None else a.shape[:2] for a in rows]),
        np.array([0.0 if a is None else sharpness(a) for a in rows]),
        np.array([0.0 if a is None else brightness(a) for a in rows]),
        {i: p for i, a in good.items() if (p := fingerprint(a)) is not None},
        {i: a for i, a in images.items() if isinstance(a, str)},
    )


ALL = ("unreadable", "tiny", "dark", "blurred", "near_copies")


def test_each_reason_and_the_first_copy_stays(scene):
    other = scene[::-1].copy()
    found = left_out(
        facts(
            {
                "a dark copy": (scene * 0.1).astype(np.uint8),
                "b": scene,
                "c crop": scene[4:-2, 3:],
                "d": other,
                "e copy of d": (other * 0.8).astype(np.uint8),
                "f broken": "a broken one",
                "g tiny": scene[:20, :100],
                "h blurred": np.asarray(Image.fromarray(scene).filter(ImageFilter.GaussianBlur(25))),
            }
        ),
        ALL,
        Limits(),
    )
    assert [(d.sample_id[0], d.reason, d.like) for d in found] == [
        ("a", "dark", None),
        ("c", "near_copies", "b"),
        ("e", "near_copies", "d"),
        ("f", "unreadable", None),
        ("g", "tiny", None),
        ("h", "blurred", None),
    ]
    assert found[4].what == "the shorter side has 20 px, the limit is 32" and found[3].what == "a broken one"


def test_near_copies_by_embedding_and_what_stays_in_their_place(scene):
    noise = np.random.default_rng(1).integers(0, 255, (6, 60, 80, 3), np.uint8)
    a, b, c, d, e, f = noise
    found = facts({"a": a, "b": b, "c like b": b, "d": c, "e": d, "f dark": (e * 0.1).astype(np.uint8), "g": f})
    x_NE = np.eye(7, dtype=np.float32)
    x_NE[1] = 2 * x_NE[0]  # b is a by embedding, and c is b by fingerprint: both stand behind a
    x_NE[6] = x_NE[5]  # what is dark is nobody's original
    found = dataclasses.replace(found, embedding=x_NE)
    copies = left_out(found, ["dark", "near_copies"], Limits())
    assert [(d.sample_id[0], d.reason, d.like) for d in copies] == [
        ("b", "near_copies", "a"), ("c", "near_copies", "a"), ("f", "dark", None)
    ]  # fmt: skip
    assert copies[0].what == "its embedding has a cosine of 1.0000 with that of a, the limit is 0.8400"
    assert copies[1].what.startswith("0 of 256 bits differ from those of b, its embedding")
    alone = left_out(found, ["near_copies"], Limits(near_copies_cosine=None))
    assert [d.sample_id[0] for d in alone if d.what.startswith("its")] == []
    x_NE[:] = np.eye(7) + 0.5
    found = dataclasses.replace(found, embedding=x_NE)
    strict, loose = (left_out(found, ["near_copies"], Limits(near_copies_cosine=c)) for c in (0.99, 0.5))
    assert len(strict) < len(loose) == 6


def test_only_what_was_asked_for_and_chains_do_not_swallow_a_film(scene):
    images = {"a": (scene * 0.3).astype(np.uint8), "b": scene}
    assert [d.sample_id for d in left_out(facts(images), ["near_copies"], Limits())] == ["b"]
    assert left_out(facts(images), [], Limits()) == []
    soft = np.asarray(Image.fromarray(scene).filter(ImageFilter.GaussianBlur(8)))
    film = {f"{n:02d}": np.roll(soft, n, axis=1) for n in range(60)}  # each like the next, the ends unlike
    kept = len(film) - len(left_out(facts(film), ["near_copies"], Limits()))
    assert 2 <= kept < 40
