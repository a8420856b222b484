"""Run folders as a campaign leaves them, made without training: the campaign's own writers, invented numbers."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from al_lab.core.budget import Allowance
from al_lab.core.files import write_json
from al_lab.core.pool import INITIAL, Pool, purchase_dir
from al_lab.core.record.ledger import Ledger
from al_lab.core.record.predictions import save_predictions
from al_lab.core.record.purchase import publish_selections, write_labels, write_queries
from al_lab.core.types import Annotation, Candidates, Detections, Query

ANYWHERE = (Path("/"),)  # these runs are the user's own: a page may show their images wherever they lie
CLASSES = ("circle", "square", "star", "cross & <bar>")
GAIN = {"random": 0.0, "entropy": 0.05, "core_set": 0.03, "margin": 0.04}


def draw_images(folder: Path, count: int) -> dict[str, tuple[Path, Annotation]]:
    """Draw `count` pictures with a few objects."""
    folder.mkdir(parents=True, exist_ok=True)
    out = {}
    for k in range(count):
        rng = np.random.default_rng(k)
        image = Image.fromarray(np.kron(rng.integers(60, 190, (9, 12, 3), np.uint8), np.ones((10, 10, 1), np.uint8)))
        draw = ImageDraw.Draw(image)
        boxes, labels = [], []
        for _ in range(int(rng.integers(0, 5))):
            x, y, s = *rng.integers(0, 70, 2), int(rng.integers(10, 40))
            label = int(rng.choice(4, p=[0.6, 0.25, 0.1, 0.05]))
            draw.ellipse((x, y, x + s, min(y + s, 89)), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
            boxes.append([x, y, x + s, min(y + s, 89)])
            labels.append(label)
        path = folder / f"img_{k:04d}.jpg"
        image.save(path)
        out[f"img_{k:04d}"] = (path, Annotation.make(boxes, labels))
    return out


class Maker:
    """Makes run folders below ``root/outputs/<dataset>``."""

    def __init__(self, root: Path, images: dict[str, tuple[Path, Annotation]], pool: int = 200) -> None:
        self.root, self.images = root, images
        self.pool_ids = tuple(f"img_{k:04d}" for k in range(pool))
        self.truth = {i: self.images[f"img_{k % 40:04d}"] for k, i in enumerate(self.pool_ids)}

    def config(self, strategy: str, seed: int, cycles: int, initial: int | float, **changes) -> dict:
        config = {
            "protocol": "mgral",
            "dataset": {
                "_target_": "al_lab.data.generated.shapes.Shapes",
                "name": "shapes",
                "root": str(self.root / "data"),
            },
            "detector": {"_target_": "al_lab.models.detectors.tiny.TinyDetector", "width": 24},
            "objective": {"_target_": "al_lab.objectives.supervised.Supervised"},
            "strategy": {"_target_": f"al_lab.strategies.general.{strategy}.{strategy}"},
            "budget": {
                "_target_": "al_lab.core.budget.Budget",
                "unit": "image",
                "initial": initial,
                "per_cycle": 20,
                "cycles": cycles,
            },
            "trainer": {"lr": 0.01, "max_iters": 100},
            "runtime": {"outputs_dir": "outputs"},
            "tracker": {},
            "seed": seed,
            "split_seed": 0,
            "name": "default",
            "choices": {"strategy": strategy, "dataset": "shapes", "protocol": "mgral"},
        }
        for key, value in changes.items():
            node = config
            *path, last = key.split("__")
            for word in path:
                node = node[word]
            node[last] = value
        return config

    def run(
        self,
        strategy: str = "entropy",
        seed: int = 0,
        cycles: int = 3,
        done: int | None = None,
        *,
        metrics: bool = True,
        embedding: bool = True,
        name: str = "default",
        initial: int | float = 20,
        pseudo: bool = False,
        **changes,
    ) -> Path:
        """Make a run with ``done`` evaluated cycles (all of them by default); ``pseudo``: with pseudo-labels."""
        config = self.config(strategy, seed, cycles, initial, name=name, **changes)
        folder = self.root / "outputs" / config["dataset"]["name"] / strategy / name / f"seed{seed}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        write_json(
            folder / "environment.json",
            {
                "python": "3.11.9",
                "commit": "abc1234",
                "cpus": 2,
                "packages": {"torch": "2.14.1"},
                "command": f"run.py strategy={strategy} dataset=shapes seed={seed}",
            },
        )
        rng = np.random.default_rng([seed, sum(strategy.encode())])
        ledger = Ledger(folder / "ledger.jsonl")
        pool = Pool(self.pool_ids, run_dir=folder)
        first = len(self.pool_ids) if initial == 1.0 else int(initial)
        order = np.random.default_rng(seed).permutation(self.pool_ids)
        pool = self._buy(folder, pool, INITIAL, [Query(str(i)) for i in order[:first]])
        ledger.commit(0, "initialize", seconds=0.4, scalars={}, files={})
        done = cycles + 1 if done is None else done
        rows = []
        for cycle in range(done):
            write_json(purchase_dir(folder, cycle) / "pool.json", pool.to_json())
            ledger.commit(cycle, "train", seconds=30 + 10 * cycle, scalars={"loss": 2.0 - 0.2 * cycle}, files={})
            rows.append(self._evaluate(folder, pool, cycle, strategy, rng, ledger, metrics))
            if cycle < cycles:
                pool = self._query(folder, pool, cycle, strategy, rng, embedding, ledger)
                if pseudo:
                    self._pseudo(folder, pool, cycle, rng)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        publish_selections(folder, range(done))
        return folder

    def _evaluate(
        self,
        folder: Path,
        pool: Pool,
        cycle: int,
        strategy: str,
        rng: np.random.Generator,
        ledger: Ledger,
        metrics: bool,
    ) -> dict:
        n = len(pool.labeled())
        costs = [json.loads((purchase_dir(folder, c) / "cost.json").read_text()) for c in range(INITIAL, cycle)]
        row = {
            "cycle": cycle,
            "num_labeled": n,
            **{f"spent_{k}": sum(c[k] for c in costs) for k in ("images", "boxes", "pixels", "hours")},
        }
        scalars = {}
        if metrics:
            value = (
                0.2 + 0.5 * (1 - np.exp(-n / 60)) + (GAIN.get(strategy, 0.02) if cycle else 0) + rng.normal(0, 0.006)
            )
            scalars = {"voc07_ap50": float(value), "voc_area_ap50": float(value + 0.02)}
            with (purchase_dir(folder, cycle) / "per_class.csv").open("w", newline="") as stream:
                writer = csv.DictWriter(stream, ["class", "ap", "num_gt", "num_det", "metric"])
                writer.writeheader()
                for metric, mean in scalars.items():
                    for k, c in enumerate(CLASSES):
                        ap = max(0.0, mean + 0.12 * (1.5 - k))
                        writer.writerow({"class": c, "ap": ap, "num_gt": 50 - 10 * k, "num_det": 300, "metric": metric})
        ledger.commit(cycle, "evaluate", seconds=6.0, scalars=scalars, files={})
        return row | scalars

    def _query(
        self,
        folder: Path,
        pool: Pool,
        cycle: int,
        strategy: str,
        rng: np.random.Generator,
        embedding: bool,
        ledger: Ledger,
    ) -> Pool:
        ids = pool.ids if strategy == "core_set" else pool.unlabeled()
        utility = rng.gamma(2.0, 0.4, len(ids))
        labeled = set(pool.labeled())
        if embedding and strategy == "core_set":
            points = rng.normal(0, 1, (len(ids), 16)) + 3 * rng.integers(0, 2, (len(ids), 1))
            Candidates.images(ids, utility, embedding=points.astype(np.float32)).save(
                purchase_dir(folder, cycle) / "candidates.npz"
            )
        elif strategy == "al_ssl":
            utility, info = self._flips(ids, rng)
            Candidates.images(ids, utility, **info).save(purchase_dir(folder, cycle) / "candidates.npz")
        else:
            Candidates.images(ids, utility).save(purchase_dir(folder, cycle) / "candidates.npz")
        ledger.commit(cycle, "score", seconds=9.0, scalars={}, files={})
        best = [int(k) for k in np.argsort(-utility) if ids[k] not in labeled][:20]
        pool = self._buy(folder, pool, cycle, [Query(ids[k], utility=float(utility[k])) for k in best])
        for stage in ("select", "annotate"):
            ledger.commit(cycle, stage, seconds=0.5, scalars={}, files={})
        return pool

    def _flips(self, ids: tuple[str, ...], rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Invent what AL-SSL keeps: in images without an object no box counts."""
        count = np.asarray([len(self.truth[i][1].labels) for i in ids])
        probs, flipped = (rng.dirichlet([0.3] * (len(CLASSES) + 1), len(ids)).astype(np.float32) for _ in range(2))
        label = np.where(count > 0, probs[:, 1:].argmax(1), -1)
        box = np.asarray(
            [self.truth[i][1].boxes_xyxy[0] if n else np.zeros(4) for i, n in zip(ids, count, strict=True)], np.float32
        )
        inconsistency = np.where(count > 0, rng.gamma(1.0, 0.4, len(ids)), 0.0)
        entropy = np.where(count > 0, rng.beta(2, 3, len(ids)), 0.0)
        return entropy * inconsistency, {
            "entropy": entropy,
            "inconsistency": inconsistency,
            "count": count,
            "box": box,
            "box_label": label,
            "box_probs": probs * (count > 0)[:, None],
            "box_flip_probs": flipped * (count > 0)[:, None],
        }

    def _pseudo(self, folder: Path, pool: Pool, cycle: int, rng: np.random.Generator) -> None:
        """Invent pseudo-labels for half of the images, those just bought among them, and the oracle's count of the
        rest."""
        bought = {q["id"] for q in json.loads((purchase_dir(folder, cycle) / "queries.json").read_text())["queries"]}
        ids = sorted({*pool.unlabeled()[::2], *bought})
        save_predictions(
            purchase_dir(folder, cycle) / "pseudo.npz",
            {
                i: Detections(
                    t.boxes_xyxy,
                    np.full(len(t.labels), 0.995, np.float32),
                    t.labels,
                    np.ones((len(t.labels), 1), np.float32),
                    "sigmoid",
                )
                for i, t in ((i, self.truth[i][1]) for i in ids)
            },
        )
        kept = [self.truth[i][1].labels for i in ids if i not in bought and len(self.truth[i][1].labels)]
        boxes = _histogram(self.truth[i][1] for i in ids if i not in bought)
        correct = [int(n * rng.uniform(0.85, 1)) for n in boxes]
        write_json(
            purchase_dir(folder, cycle) / "pseudo_stats.json",
            {
                "tau": 0.99,
                "unlabeled": len(pool.unlabeled()),
                "images": len(kept),
                "boxes": sum(boxes),
                "precision": sum(correct) / sum(boxes),
                "per_class": {c: {"boxes": b, "correct": k} for c, b, k in zip(CLASSES, boxes, correct, strict=True)},
            },
        )

    def _buy(self, folder: Path, pool: Pool, cycle: int, queries: list[Query]) -> Pool:
        where = purchase_dir(folder, cycle)
        write_queries(
            where,
            queries,
            Allowance("image", len(queries)),
            {q.sample_id: str(self.truth[q.sample_id][0]) for q in queries},
        )
        bought = {q.sample_id: self.truth[q.sample_id][1] for q in queries}
        write_labels(where, bought)
        boxes = sum(len(a.labels) for a in bought.values())
        write_json(
            where / "cost.json",
            {"images": len(queries), "boxes": boxes, "pixels": 0, "hours": (2 * len(queries) + 7 * boxes) / 3600},
        )
        write_json(
            where / "oracle_stats.json",
            {
                "classes": list(CLASSES),
                "bought": _histogram(bought.values()),
                "pool": _histogram(a for _, a in self.truth.values()),
            },
        )
        return pool.acquire(queries, cycle)


def _histogram(annotations) -> list[int]:
    return np.bincount(
        np.concatenate([np.zeros(0, np.int64), *(a.labels for a in annotations)]), minlength=len(CLASSES)
    ).tolist()


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """Dozens of runs are made here; waiting for the disk each time proves nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Annotation]]:
    return draw_images(tmp_path_factory.mktemp("images"), 40)


@pytest.fixture
def maker(tmp_path: Path, images) -> Maker:
    return Maker(tmp_path, images)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory, images) -> Path:
    """Three strategies, three seeds, full data; the outputs folder. Read only."""
    made = Maker(tmp_path_factory.mktemp("family"), images)
    for seed in range(3):
        for strategy in ("random", "entropy", "core_set"):
            made.run(strategy, seed)
        made.run("random", seed, 0, name="budget=full", initial=1.0)
    return made.root / "outputs"
