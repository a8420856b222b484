"""Three cycles with people in Label Studio, beside three with the labels' own file: the same images are bought.

The people are a stand-in that draws what the true files say, through the server's API. One task it leaves unfinished
and one it skips at first, the server goes away and the command is killed while they work; every image is renamed on
upload.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from al_lab.data.formats import label_studio, voc
from tests.services.conftest import TOKEN, Server

pytestmark = [pytest.mark.services, pytest.mark.timeout(3600)]
ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("AL_LAB_SHARED_DATA") or ROOT.parent / "shared" / "data") / "bccd"
PATIENCE_S = 600
NO_AREA = "BloodImage_00343"  # one of its boxes has no area
SPLIT_SEED = 6  # draws it into the initial set
INITIAL, EACH, CYCLES = 6, 4, 3


class People:
    """Draw what the true files say; how long it took is made up, and known."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seconds: dict[str, float] = {}  # sample id -> lead time
        self.boxes = 0
        self.no_area = 0

    def call(self, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def tasks(self) -> list[dict[str, Any]]:
        """All tasks of the one project, as it shows them."""
        return self.call("/api/tasks?project=1&page_size=500&fields=all")["tasks"]

    def draw(self, task: dict[str, Any]) -> None:
        """Finish a task, boxes without area and all."""
        sample_id = task["data"]["al_lab_id"]
        assert sample_id not in task["data"]["image"].rsplit("/", 1)[1].split("-", 1)[0]  # renamed: <hex>-name
        record = voc.read_record(DATA / "Annotations" / f"{sample_id}.xml", f"{sample_id}.jpg", one_based=True)
        boxes = record.boxes_xyxy
        self.no_area += int(((boxes[:, 2:] - boxes[:, :2]).min(1) <= 0).sum())
        size = (480, 640)
        result = [
            label_studio.region(box, name, size, f"r{n}")
            for n, (box, name) in enumerate(zip(boxes.tolist(), record.names, strict=True))
        ]
        assert sample_id not in self.seconds, "asked twice"
        self.seconds[sample_id] = 10.0 + len(self.seconds) / 8
        self.boxes += len(boxes)
        self.call(f"/api/tasks/{task['id']}/annotations", {"result": result, "lead_time": self.seconds[sample_id]})

    def draw_all(self) -> None:
        """Finish everything that is open."""
        for task in self.tasks():
            if not task["is_labeled"]:
                self.draw(task)


class Command:
    """One command, and what it has said."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder, self.log = folder, folder / "command.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.words = [
            sys.executable, str(ROOT / "run.py"), "dataset=voc_folder", "dataset.name=bccd", "detector=tiny",
            "debug=smoke", f"budget.initial={INITIAL}", f"budget.per_cycle={EACH}", f"budget.cycles={CYCLES}",
            "protocol=mgral", f"split_seed={SPLIT_SEED}", f"runtime.outputs_dir={folder}",
            f"runtime.data_dir={folder / 'data'}", *words,
        ]  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as stream:
            env = os.environ | {"LABEL_STUDIO_API_KEY": TOKEN, "PYTHONPATH": str(ROOT)}
            return subprocess.Popen(self.words, stdout=stream, stderr=stream, env=env, cwd=self.folder)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until(self, is_so: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert process.poll() is None, self.said()[-4000:]
            assert time.monotonic() < deadline, f"waited in vain\n{self.said()[-4000:]}"
            time.sleep(0.5)

    def finish(self, process: subprocess.Popen[bytes], people: People | None = None) -> Path:
        """Wait for its end while people work; return the run's folder."""
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None:
            assert time.monotonic() < deadline, f"waited in vain\n{self.said()[-4000:]}"
            if people is not None:
                people.draw_all()
            time.sleep(1)
        assert process.returncode == 0, self.said()[-4000:]
        strategy = next(w for w in self.words if w.startswith("strategy=")).partition("=")[2]
        (ledger,) = (self.folder / "bccd" / strategy).rglob("ledger.jsonl")
        return ledger.parent


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Thirty images of the pool with their labels, and the same without; ten labeled ones to measure on in both."""
    if not DATA.is_dir():
        pytest.skip(f"no data set in {DATA}: set AL_LAB_SHARED_DATA")
    lists = {n: (DATA / "ImageSets" / "Main" / f"{n}.txt").read_text().split() for n in ("train", "test")}
    pool = sorted({*lists["train"][:29], NO_AREA})
    test = lists["test"][:10]
    made = []
    for kind in ("labeled", "bare"):
        root = tmp_path_factory.mktemp(kind)
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)
        for sample_id in [*pool, *test]:
            shutil.copy(DATA / "JPEGImages" / f"{sample_id}.jpg", root / "JPEGImages")
            if kind == "labeled" or sample_id in test:
                shutil.copy(DATA / "Annotations" / f"{sample_id}.xml", root / "Annotations")
        shutil.copy(DATA / "classes.txt", root)
        for name, ids in (("train", pool), ("test", test)):
            (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))
        made.append(root)
    return made[0], made[1]


def costs(run: Path) -> dict[str, float]:
    found = [json.loads(p.read_text()) for p in sorted(run.glob("*/cost.json"))]
    return {
        k: sum(c.get(k, 0) for c in found)
        for k in ("images", "boxes", "asked_images", "asked_boxes", "timed_images", "timed_hours")
    }


def labels(run: Path) -> dict[str, Any]:
    rows = [json.loads(line) for p in sorted(run.glob("*/labels.jsonl")) for line in p.read_text().splitlines()]
    return {r["id"]: r["annotation"] for r in rows}


def test_people_in_label_studio_and_a_file_of_labels_end_in_the_same_selections(
    server: Server, photos: tuple[Path, Path], tmp_path: Path
) -> None:
    labeled, bare = photos
    simulated = Command(tmp_path / "simulated", "strategy=entropy", f"dataset.root={labeled}")
    truth = simulated.finish(simulated.start())
    people = People(server)
    asking = ["oracle=label_studio", f"oracle.url={server.url}", "oracle.poll_seconds=1", f"dataset.root={bare}"]
    first = Command(tmp_path / "asked", "strategy=entropy", *asking)
    process = first.start()
    first.wait_until(lambda: "6 of 6 images wait for labels" in first.said(), process)

    # one is left unfinished, one is skipped, the others are finished
    unfinished, skipped, *others = people.tasks()
    people.call(f"/api/tasks/{unfinished['id']}/drafts", {"result": [], "lead_time": 3})
    people.call(f"/api/tasks/{skipped['id']}/annotations", {"result": [], "was_cancelled": True, "lead_time": 2})
    for task in others:
        people.draw(task)
    first.wait_until(lambda: "2 of 6 images wait for labels" in first.said(), process)
    assert "1 of them were skipped and are still wanted" in first.said()

    # the server goes away and comes back, and the command is killed meanwhile
    server.stop()
    first.wait_until(
        lambda: "does not answer" in first.said() and "4 of 6 images are labeled and kept" in first.said(), process
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.start()
    process = first.start()
    first.wait_until(lambda: first.said().count("2 of 6 images wait for labels") > 1, process)
    assert len(people.tasks()) == INITIAL  # no task twice
    run = first.finish(process, people)

    assert (run / "selections.json").read_bytes() == (truth / "selections.json").read_bytes()
    assert labels(run) == labels(truth)  # to the last bit
    assert people.no_area > 0, "no box without area was among them"
    bought = INITIAL + CYCLES * EACH
    assert [json.loads(x)["num_labeled"] for x in (run / "metrics.jsonl").read_text().splitlines()][-1] == bought
    booked = costs(run)
    assert booked["images"] == booked["asked_images"] == booked["timed_images"] == bought == len(people.tasks())
    assert booked["boxes"] == booked["asked_boxes"] == people.boxes - people.no_area
    assert booked["timed_hours"] == pytest.approx(sum(people.seconds.values()) / 3600)

    # another strategy on the same pool: what is labeled is not asked for again
    known, boxes_before = dict(people.seconds), people.boxes - people.no_area
    second = Command(tmp_path / "asked", "strategy=random", *asking)
    other = second.finish(second.start(), people)
    asked_now = set(people.seconds) - set(known)
    booked = costs(other)
    assert booked["images"] == bought
    assert booked["asked_images"] == booked["timed_images"] == len(asked_now) < bought
    assert set(labels(other)) - set(known) == asked_now
    assert booked["asked_boxes"] == people.boxes - people.no_area - boxes_before
    assert booked["timed_hours"] == pytest.approx(sum(people.seconds[i] for i in asked_now) / 3600)
    assert len(people.tasks()) == len({t["data"]["al_lab_sha256"] for t in people.tasks()}) == len(people.seconds)

    # the token is nowhere, and nothing was taken away
    for path in (tmp_path / "asked").rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
