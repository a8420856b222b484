"""The choices of CDAL, EBAL and PPAL against the loops that their equations suggest."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import rel_entr
from threadpoolctl import threadpool_limits

from al_lab.acquisition.diversity.class_matched import Objects, distances
from al_lab.acquisition.diversity.mixture_greedy import SMALLEST, MixtureDistances, greedy
from al_lab.acquisition.diversity.prototypes import Rules, Shown, scan
from al_lab.benchmarks.measure import Row, best_of

VOC = (16_551, 20, 1000)  # images, classes, picks
SHORTLIST = (1656, 20, 12)  # images of PPAL's list on VOC, classes, boxes of an image above .05
WIDTH = 256  # of RetinaNet's class tower
_FIRST_PICKS, _FIRST_IMAGES = 100, 20  # of what costs the same for each
_RULES = Rules(0.7, 0.3)


def run(
    full: bool = False, voc: tuple[int, int, int] = VOC, shortlist: tuple[int, int, int] = SHORTLIST, width: int = WIDTH
) -> Iterator[Row]:
    """Yield the rows; everything on one thread, in CPU seconds. ``full`` runs every one to its end."""
    with threadpool_limits(1):
        yield _mixtures(voc, full)
        yield _scan(voc, width)
        yield _distances(shortlist, width, full)


def _mixtures(size: tuple[int, int, int], full: bool) -> Row:
    num, classes, budget = size
    m_NC = np.random.default_rng(0).dirichlet(np.full(classes, 0.5), num).clip(SMALLEST)
    labeled = np.arange(min(budget, num // 4))
    steps = budget if full else min(budget, _FIRST_PICKS)
    seconds, ours = best_of(lambda: greedy(MixtureDistances(m_NC), budget, labeled), 1, time.process_time)
    ours_s, _ = best_of(lambda: greedy(MixtureDistances(m_NC), 0, labeled), 1)  # the labeled ones
    start_s, radius_N = best_of(lambda: _loop_over(m_NC, labeled, np.full(num, np.inf)), 1, time.process_time)
    radius_N[labeled] = -np.inf
    peer_s, picks = best_of(lambda: _greedy_loop(m_NC, radius_N.copy(), steps), 1, time.process_time)
    peer_s = start_s + peer_s * budget / steps
    note = f"from {len(labeled):,} labeled ones"
    if steps < budget:
        note += f"; peer's picks extrapolated from its first {steps}"
    same = ours.order[:steps].tolist() == picks
    return Row(
        f"CDAL {num:,}x{classes} B={budget:,}", "divergence both ways a pick", seconds, peer_s, peer_s / seconds,
        ">= 10", same, note,
    )  # fmt: skip


def _loop_over(m_NC: np.ndarray, centers: Sequence[int] | np.ndarray, radius_N: np.ndarray) -> np.ndarray:
    for j in centers:
        both_N = (rel_entr(m_NC, m_NC[j]) + rel_entr(m_NC[j], m_NC)).sum(1) / 2
        radius_N = np.minimum(radius_N, both_N)
    return radius_N


def _greedy_loop(m_NC: np.ndarray, radius_N: np.ndarray, steps: int) -> list[int]:
    order: list[int] = []
    for _ in range(steps):
        order.append(int(radius_N.argmax()))
        radius_N = _loop_over(m_NC, order[-1:], radius_N)
        radius_N[order[-1]] = -np.inf
    return order


def _scan(size: tuple[int, int, int], width: int) -> Row:
    num, classes, budget = size
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 5, num)  # two classes an image, as VOC has
    label = np.concatenate([np.sort(draw.choice(classes, n, replace=False)) for n in counts.tolist()])
    like = draw.normal(size=(classes, width))[label] + 0.65 * draw.normal(size=(len(label), width))
    start = np.concatenate([[0], np.cumsum(counts)])
    shown = Shown(start, label, draw.random(len(label)), like)
    quotas = dict.fromkeys(range(classes // 2), 0.75 * budget / (classes / 2))
    seconds, ours = best_of(lambda: scan(range(num), shown, budget, quotas, _RULES), 1, time.process_time)
    peer_s, rows = best_of(lambda: _scan_loop(shown, budget, dict(quotas)), 1, time.process_time)
    note = f"{ours.num_accepted:,} accepted"
    return Row(
        f"EBAL's scan {num:,}x{width} B={budget:,}", "a cosine a pair of prototypes", seconds, peer_s,
        peer_s / seconds, ">= 10", ours.rows[: ours.num_accepted].tolist() == rows, note,
    )  # fmt: skip


def _scan_loop(shown: Shown, amount: int, left: dict[int, float]) -> list[int]:
    taken: list[int] = []
    held: dict[int, list[np.ndarray]] = {}
    for n in range(len(shown.start) - 1):
        if not left or len(taken) == amount:
            break
        mine = range(shown.start[n], shown.start[n + 1])
        most = []
        for q in mine:
            of_class = [_cosine(shown.prototype[q], other) for other in held.get(shown.label[q], [])]
            most.append(max(of_class, default=-1.0))
        minority = [q for q in mine if shown.label[q] in left and shown.confidence[q] > _RULES.inter]
        if not minority or min(most) >= _RULES.intra:
            continue
        taken.append(n)
        for q in mine:
            held.setdefault(shown.label[q], []).append(shown.prototype[q])
        for q in minority:
            left[shown.label[q]] -= 1
            if left[shown.label[q]] <= 0:
                del left[shown.label[q]]
    return taken


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _distances(size: tuple[int, int, int], width: int, full: bool) -> Row:
    num, classes, boxes = size
    draw = np.random.default_rng(0)
    counts = draw.integers(1, 2 * boxes, num)
    total, start = int(counts.sum()), np.concatenate([[0], np.cumsum(counts)])
    per_image = draw.integers(0, classes, (num, 3))  # few classes an image, as photographs have
    label = per_image[np.repeat(np.arange(num), counts), draw.integers(0, 3, total)]
    features = draw.normal(size=(total, width)).astype(np.float32)
    objects = Objects(start, label, draw.uniform(0.05, 1, total), features)
    seconds, ours = best_of(lambda: distances(objects), 1, time.process_time)
    rows = num if full else min(num, _FIRST_IMAGES)
    peer_s, found = best_of(lambda: _distance_loop(objects, rows), 1, time.process_time)
    peer_s = peer_s * num / rows
    note = "" if full or rows == num else f"peer extrapolated from the rows of {rows} images"
    return Row(
        f"PPAL's distances {num:,} images, {total:,} boxes x{width}", "a matrix a pair of images", seconds,
        peer_s, peer_s / seconds, ">= 10", bool(np.allclose(ours[:rows], found, atol=1e-5)), note,
    )  # fmt: skip


def _distance_loop(objects: Objects, rows: int) -> np.ndarray:
    unit = objects.feature / np.linalg.norm(objects.feature, axis=1, keepdims=True)
    num, found = len(objects.start) - 1, np.zeros((rows, len(objects.start) - 1))
    for i in range(rows):
        of_i = slice(objects.start[i], objects.start[i + 1])
        for j in range(num):
            of_j = slice(objects.start[j], objects.start[j + 1])
            unlike = np.where(objects.label[of_i, None] == objects.label[of_j], 1 - unit[of_i] @ unit[of_j].T, 2)
            s_i, s_j = objects.confidence[of_i], objects.confidence[of_j]
            there = s_i @ unlike.min(1) / (s_i.sum() + 1e-5)
            found[i, j] = (there + s_j @ unlike.min(0) / (s_j.sum() + 1e-5)) / 2
    return found
