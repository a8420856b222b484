"""EBAL's suppression, prototypes and scan: numbers of the fact sheet, and plain loops."""

import numpy as np
import pytest

from al_lab.acquisition.diversity.prototypes import Rules, Shown, distinct, prototypes, scan

LABELS = np.array([0, 0, 0, 1])
S = np.array([0.5, 0.7, 0.9, 0.4])
F = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]])
H = -S * np.log(S) - (1 - S) * np.log(1 - S)


def table(images):
    """Return `Shown` of images, each {class: (prototype, confidence)}."""
    rows = [(c, *v) for image in images for c, v in image.items()]
    start = np.cumsum([0, *map(len, images)])
    features = np.array([r[1] for r in rows], float).reshape(len(rows), -1)
    return Shown(start, np.array([r[0] for r in rows], int), np.array([r[2] for r in rows], float), features)


def test_what_repeats_is_dropped_as_in_the_sheet():
    np.testing.assert_allclose(H, [0.693147, 0.610864, 0.325083, 0.673012], atol=1e-6)
    kept = distinct(H, LABELS, F, 0.5)
    assert kept.tolist() == [0, 3, 2]
    assert H[kept].sum() == pytest.approx(1.691242, abs=1e-6) and H.sum() == pytest.approx(2.302106, abs=1e-6)
    assert sorted(distinct(H, LABELS, F, 1.0)) == [0, 1, 2, 3]
    assert len(distinct(H[:0], LABELS[:0], F[:0], 0.5)) == 0


def test_prototypes_are_the_sheets():
    kept = distinct(H, LABELS, F, 0.5)
    classes, found = prototypes(H[kept], LABELS[kept], F[kept])
    assert classes.tolist() == [0, 1]
    np.testing.assert_allclose(found, [[0.680737, 0.319263], [0.6, 0.8]], atol=1e-6)
    np.testing.assert_allclose(prototypes(H, LABELS, F)[1][0], [0.725457, 0.424531], atol=1e-6)


@pytest.mark.parametrize(("intra", "accepted"), [(0.7, 3), (0.59, 2), (0.61, 3)])
def test_likeness_is_the_smallest_over_classes(intra, accepted):
    """M_g .6 of the sheet: below T_intra it is taken although class 0 alone is .905 alike."""
    image = {0: ([0.680737, 0.319263], 0.9), 1: ([0.6, 0.8], 0.4)}
    first, second = {0: ([1, 0], 0.9)}, {0: ([0, 1], 0.9), 1: ([1, 0], 0.9)}
    done = scan([0, 1, 2], table([first, second, image]), 3, {0: 9, 1: 9}, Rules(intra, 0.3))
    assert done.num_accepted == accepted and sorted(done.rows) == [0, 1, 2]


SHEET = [
    {0: ([1, 0], 0.9)},
    {0: ([0.9, 0.1], 0.8), 1: ([0, 1], 0.5)},
    {0: ([0.1, 1], 0.4), 1: ([0.05, 1], 0.4)},
    {1: ([1, 0], 0.35)},
    {1: ([0.7, 0.7], 0.9)},
]


def test_the_scan_is_the_sheets():
    done = scan(range(5), table(SHEET), 3, {1: 2.25}, Rules(0.7, 0.3))
    assert done == (pytest.approx([1, 2, 3]), 3)


def test_when_no_minority_is_left_the_rest_goes_by_rank():
    done = scan(range(5), table(SHEET), 4, {1: 0.25}, Rules(0.7, 0.3))
    assert done.rows.tolist() == [1, 0, 2, 3] and done.num_accepted == 1
    assert scan(range(5), table(SHEET), 9, {}, Rules(0.7, 0.3)).rows.tolist() == [0, 1, 2, 3, 4]
    apart = scan(range(5), table(SHEET), 9, {1: 9}, Rules(0.7, 0.3), near=lambda n: np.array([n, min(n ^ 1, 4)]))
    assert apart.rows.tolist() == [1, 2, 4]


def loops(ranked, images, amount, quotas, rules):
    """The scan as its pseudo-code has it: every pair of prototypes by itself."""
    left, taken = dict(quotas), []

    def like(a, b):
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    for n in ranked:
        if not left or len(taken) == amount:
            break
        image = images[n]
        most = [
            max([like(f, images[j][c][0]) for j in taken if c in images[j]], default=-1) for c, (f, _) in image.items()
        ]
        sure = {c: image[c][1] if c in image else 0.0 for c in left}
        if min(most, default=-1) < rules.intra and max(sure.values()) > rules.inter:
            taken.append(n)
            left = {c: q - (sure[c] > rules.inter) for c, q in left.items()}
            left = {c: q for c, q in left.items() if q > 0}
    rest = [n for n in ranked if n not in taken]
    return taken + rest[: amount - len(taken)]


@pytest.mark.parametrize(("rules", "quota"), [(Rules(0.7, 0.3), 8.5), (Rules(0.5, 0.0), 30), (Rules(1.1, -1.0), 100)])
def test_the_scan_is_that_of_plain_loops(rules, quota):
    rng = np.random.default_rng(0)
    images = [
        {int(c): (rng.normal(size=4), rng.random()) for c in rng.choice(5, rng.integers(0, 4), replace=False)}
        for _ in range(150)
    ]
    ranked = rng.permutation(150).tolist()
    quotas = dict.fromkeys((0, 1, 2), quota)
    assert scan(ranked, table(images), 40, quotas, rules).rows.tolist() == loops(ranked, images, 40, quotas, rules)


def test_with_open_thresholds_it_is_the_ranking():
    images = [{c: ([1, 0], 0.5) for c in range(n % 3)} for n in range(20)]
    ranked = np.random.default_rng(0).permutation(20)
    assert scan(ranked, table(images), 7, {0: 99, 1: 99}, Rules(1.1, -1.0)).rows.tolist() == ranked[:7].tolist()
