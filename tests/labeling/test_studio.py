"""People who answer in Label Studio: what the server is sent, and what counts as an answer."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from al_lab.core.budget import Allowance
from al_lab.core.errors import AwaitingLabels, ConfigError, LabError
from al_lab.core.pool import INITIAL
from al_lab.core.record.labels import read_labels
from al_lab.core.record.predictions import save_predictions
from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Detections, Query
from al_lab.data.datasets.voc_folder import VOCFolder
from al_lab.data.formats import label_studio
from al_lab.labeling.studio import LabelStudioOracle
from tests.labeling.fake_studio import PERSONAL, TOKEN, FakeStudio, running

CLASSES = ("cat", "dog")
HEIGHT, WIDTH = 37, 61
SIZE = (HEIGHT, WIDTH)
IDS = ("three", "a/one", "four")


@pytest.fixture
def dataset(tmp_path: Path) -> VOCFolder:
    """Four photographs, one in a subfolder, one stored on its side."""
    root = tmp_path / "served" / "photos"
    for n, name in enumerate(["a/one", "three", "four", "side"]):
        path = root / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if name == "side":
            exif[0x0112] = 6
        size = (HEIGHT, WIDTH) if name == "side" else (WIDTH, HEIGHT)
        Image.new("RGB", size, (40 * n, 90, 200)).save(path, exif=exif)
    return VOCFolder(str(root), classes=list(CLASSES))


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStudio]:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    with running(FakeStudio(tmp_path / "served")) as server:
        yield server


@pytest.fixture
def oracle(studio: FakeStudio, tmp_path: Path) -> Callable[..., LabelStudioOracle]:
    """Make an oracle, as each command makes one."""

    def make(**options: Any) -> LabelStudioOracle:
        return LabelStudioOracle(**{"url": studio.url, "store": str(tmp_path / "store"), "wait": False} | options)

    return make


@pytest.fixture
def order(tmp_path: Path) -> Purchase:
    queries = tuple(Query(i, utility=-n) for n, i in enumerate(IDS))
    return Purchase(tmp_path / "run", INITIAL, queries, Allowance("image", len(IDS)))


def box(x1: float, y1: float, x2: float, y2: float, name: str = "cat") -> dict[str, Any]:
    return label_studio.region((x1, y1, x2, y2), name, SIZE, "r")


def wait(oracle: LabelStudioOracle, dataset: VOCFolder, order: Purchase) -> str:
    with pytest.raises(AwaitingLabels) as caught:
        oracle.reveal(dataset, order)
    return str(caught.value)


def cost(order: Purchase) -> dict[str, Any]:
    return json.loads((order.folder / "cost.json").read_text())


def test_tasks_come_in_rank_order_with_our_keys_and_the_models_boxes(dataset, studio, oracle, order, tmp_path):
    probs = np.array([[0.9, 0.2], [0.3, 0.1]], np.float32)
    boxes = np.array([[1, 2, 11.125, 22], [0, 0, 5, 5]], np.float32)
    detections = {"three": Detections(boxes, probs.max(1), np.array([0, 1]), probs, "sigmoid")}
    save_predictions(tmp_path / "prelabels.npz", detections)
    order = replace(order, cycle=0, predictions=tmp_path / "prelabels.npz")
    said = wait(oracle(min_confidence=0.5), dataset, order)
    assert said.startswith(f"3 of 3 images wait for labels: {studio.url}/projects/1/data")
    assert studio.projects[0]["title"] == f"al_lab {dataset.name}"
    assert studio.projects[0]["sampling"] == "Sequential sampling"
    data = [t["data"] for t in studio.tasks]
    assert [d["al_lab_id"] for d in data] == list(IDS)
    assert [(d["al_lab_rank"], d["al_lab_utility"], d["al_lab_cycle"]) for d in data] == [
        (1, 0, 0),
        (2, -1, 0),
        (3, -2, 0),
    ]
    (first,) = studio.tasks[0]["predictions"][0]["result"]  # the weak one is no help
    assert (first["value"]["rectanglelabels"], first["from_name"], first["to_name"]) == (["cat"], "label", "image")
    assert first["value"]["width"] / 100 * WIDTH == pytest.approx(10.12, abs=0.01)
    name, content = studio.uploads[0]
    assert data[0]["image"] == f"/data/{name}"
    assert content == dataset.image_path("three").read_bytes()


def test_coordinates_come_back_exactly_and_boxes_of_no_area_are_dropped(dataset, studio, oracle, order):
    wait(oracle(), dataset, order)
    truth = np.array([[0, 0, 61, 37], [7, 11, 23, 36], [1 / 3, 2 / 3, 50.1, 30.7]], np.float32)
    regions = [box(*b) for b in truth.astype(float).tolist()]
    studio.annotate("three", [*regions, box(5, 5, 5, 20), {"type": "relation"}], seconds=36)
    studio.task("three")["data"]["image"] = "/data/upload/1/whatever.jpg"  # names are nothing to go by
    studio.annotate("a/one", [], seconds=18)
    studio.annotate("four", [box(1, 1, 9, 9, "dog")])
    assert oracle().reveal(dataset, order) == order.queries
    bought = read_labels(order.run_dir, list(IDS))
    np.testing.assert_array_equal(bought["three"].boxes_xyxy, truth)
    assert [a.labels.tolist() for a in bought.values()] == [[0, 0, 0], [], [1]]
    booked = cost(order)
    assert (booked["asked_images"], booked["asked_boxes"], booked["timed_images"]) == (3, 4, 2)
    assert booked["timed_hours"] == 54 / 3600
    assert booked["asked_hours"] == (54 + 2 + 7) / 3600  # assumed where nobody knows
    assert {method for method, _ in studio.requests} == {"GET", "POST"}  # nothing is ever deleted or changed


def test_what_is_no_answer(dataset, studio, oracle, order):
    wait(oracle(), dataset, order)
    studio.annotate("three", [], was_cancelled=True, seconds=3)
    studio.task("a/one")["drafts"] = [{"result": [box(1, 1, 9, 9)]}]
    studio.task("four")["predictions"] = [{"result": [box(1, 1, 9, 9)], "model_version": "x"}]
    said = wait(oracle(), dataset, order)
    assert said.startswith("3 of 3 images wait")
    assert f"1 of them were skipped and are still wanted ({studio.url}/projects/1/data?task=1)" in said
    studio.task("four")["overlap"] = 2  # the project wants two people
    studio.annotate("four", [box(1, 1, 9, 9)])
    assert "1 of them wait for one more person" in wait(oracle(), dataset, order)
    studio.annotate("four", [box(2, 2, 9, 9)])
    studio.annotate("three", [box(3, 3, 9, 9)], seconds=5)  # skipped at first, answered later
    studio.annotate("a/one", [])
    oracle().reveal(dataset, order)
    bought = read_labels(order.run_dir, list(IDS))
    assert [bought[i].boxes_xyxy[:, 0].tolist() for i in IDS] == [[3], [], [2]]
    assert len(studio.tasks) == len(IDS)


def test_of_several_annotations_the_reference_counts_and_else_the_newest(dataset, studio, oracle, order):
    wait(oracle(), dataset, order)
    studio.annotate("three", [box(1, 1, 9, 9)], seconds=10, ground_truth=True)
    studio.annotate("three", [box(2, 2, 9, 9)], seconds=20)
    for left in (4, 5):
        studio.annotate("four", [box(left, 1, 9, 9)])
    studio.annotate("a/one", [])
    oracle().reveal(dataset, order)
    bought = read_labels(order.run_dir, ["three", "four"])
    assert [bought[i].boxes_xyxy[0, 0] for i in ("three", "four")] == [1, 5]
    assert cost(order)["timed_hours"] == 30 / 3600  # both people worked


def test_a_part_is_kept_and_may_be_corrected_until_all_is_there(dataset, studio, oracle, order):
    wait(oracle(), dataset, order)
    studio.annotate("three", [box(1, 1, 9, 9, "horse")])
    studio.annotate("four", [box(1, 1, 9, 9)])
    said = wait(oracle(), dataset, order)
    assert "1 images are labeled and kept" in said
    assert "task 1: object 1: expected one of 2 known classes, got 'horse'" in said
    studio.annotate("four", [box(2, 1, 9, 9)])
    studio.annotate("three", [box(3, 1, 9, 9)])
    studio.annotate("a/one", [])
    oracle().reveal(dataset, order)
    bought = read_labels(order.run_dir, list(IDS))
    assert [bought[i].boxes_xyxy[:, 0].tolist() for i in IDS] == [[3], [], [2]]


@pytest.mark.parametrize("trouble", [["lost"], ["lost", 503]])
def test_no_task_is_made_twice_when_the_servers_answer_is_lost(dataset, studio, oracle, order, trouble):
    project = oracle()
    project.check(dataset)
    uploads = 2 * len(IDS)
    studio.trouble = [*[None] * (1 + uploads), *trouble]  # the list, the images, then the tasks
    with pytest.raises(LabError, match="does not answer .*; 0 of 3 images are labeled and kept; start the server"):
        project.reveal(dataset, order)
    assert len(studio.tasks) == len(IDS)
    studio.trouble = []
    wait(oracle(), dataset, order)  # another command, after a kill that came before the ledger
    assert [t["data"]["al_lab_id"] for t in studio.tasks] == list(IDS)


def test_a_server_that_goes_away_is_waited_for_ever_longer(dataset, studio, oracle, order, monkeypatch):
    slept: list[float] = []
    waiting = oracle(wait=True)
    wait(waiting, dataset, order)
    studio.annotate("three", [])
    studio.trouble = [502, 502]

    def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("time.sleep", sleep)
    waiting.wait_for_news(order)
    assert "does not answer (it answers 502 Bad Gateway); 0 of 3 images are labeled" in wait(waiting, dataset, order)
    waiting.wait_for_news(order)
    assert "2 of 3 images wait" in wait(waiting, dataset, order)
    assert slept == [10, 20]
    studio.annotate("a/one", [])
    monkeypatch.setattr("time.sleep", lambda _: studio.annotate("four", []))
    waiting.wait_for_news(order)
    assert waiting.reveal(dataset, order) == order.queries


def test_nobody_is_asked_twice_in_another_run(dataset, studio, oracle, order):
    wait(oracle(), dataset, order)
    for sample_id, seconds in zip(IDS, (1, 2, 3), strict=True):
        studio.annotate(sample_id, [box(1, 1, 9, 9)], seconds=seconds)
    oracle().reveal(dataset, order)
    queries = (Query("four"), Query("side"))
    second = replace(order, run_dir=order.run_dir.with_name("second"), queries=queries)
    assert "1 of 2 images wait" in wait(oracle(), dataset, second)
    assert [t["data"]["al_lab_id"] for t in studio.tasks] == [*IDS, "side"]
    studio.annotate("side", [], seconds=7)
    oracle().reveal(dataset, second)
    booked = cost(second)
    assert (booked["images"], booked["boxes"], booked["asked_images"], booked["asked_boxes"]) == (2, 1, 1, 0)
    assert booked["timed_hours"] == 7 / 3600
    third = replace(second, run_dir=order.run_dir.with_name("third"))
    made = len(studio.tasks)
    assert oracle(store=None).reveal(dataset, third) == queries  # its tasks are there already, and finished
    assert len(studio.tasks) == made


def test_a_kill_between_the_runs_books_and_the_store_loses_neither(dataset, studio, oracle, order, monkeypatch):
    wait(oracle(), dataset, order)
    for sample_id in IDS:
        studio.annotate(sample_id, [box(1, 1, 9, 9)], seconds=6)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("al_lab.labeling.store.LabelStore.add", die)
        with pytest.raises(KeyboardInterrupt):
            oracle().reveal(dataset, order)
    again = oracle()
    again.reveal(dataset, order)
    assert cost(order)["timed_hours"] == 18 / 3600
    assert len(list(again.store.digests())) == len(IDS)


def test_copies_of_an_image_are_one_task_and_its_time_counts_once(dataset, studio, oracle, order):
    copy = dataset.image_path("three").with_name("copy.jpg")
    copy.write_bytes(dataset.image_path("three").read_bytes())
    data = VOCFolder(str(copy.parent), classes=list(CLASSES))
    order = replace(order, queries=(Query("three"), Query("copy")))
    wait(oracle(), data, order)
    assert len(studio.tasks) == 1
    studio.annotate("three", [box(1, 1, 9, 9)], seconds=9)
    oracle().reveal(data, order)
    assert cost(order)["timed_hours"] == 9 / 3600
    assert cost(order)["boxes"] == 2


# --- accounts, addresses, projects ------------------------------------------------------------------------------------


def test_a_personal_token_is_exchanged_and_renewed(dataset, studio, oracle, order, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", PERSONAL)
    people = oracle(token_env="OTHER_KEY")
    people.check(dataset)
    studio.access += 1  # as if five minutes had passed
    assert "3 of 3" in wait(people, dataset, order)


@pytest.mark.parametrize(
    ("token", "trouble", "words"),
    [
        ("", [], "expected a token of Label Studio in the environment variable LABEL_STUDIO_API_KEY, got none"),
        ("5ecret", [], "expected a token that this server accepts, in the environment variable .*401: Invalid token"),
        ("a.5ecret.b", [], "401: Token is invalid"),
        (TOKEN, [302], "got one that sends to http://elsewhere.example/api;"),
        (TOKEN, [404], "got 404: trouble"),
        (TOKEN, [500], r"expected a Label Studio server that answers, got none \(it answers 500"),
    ],
)  # fmt: skip
def test_who_is_not_let_in_is_told_before_anything_begins(dataset, studio, oracle, monkeypatch, token, trouble, words):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
    studio.trouble = trouble
    with pytest.raises(LabError, match=words) as caught:
        oracle().check(dataset)
    assert "5ecret" not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "localhost:8080"}, "oracle.url: expected the address of a Label Studio server, got 'localhost:8080'"),
        ({"url": "http://me:5ecret@host"}, "oracle.url: .* got one with a user's name or password"),
        ({"token_env": "a5ecretb"}, "oracle.token_env: expected the name of an environment variable"),
        ({"project": "x"}, "oracle.project: expected a title of 3 to 50 characters"),
        ({"images": "ftp"}, "oracle.images"),
        ({"images": "url"}, "oracle.image_base .images=url.: expected the prefix"),
        ({"image_base": "/srv"}, "oracle.image_base .images=upload.: expected null"),
    ],
)
def test_impossible_settings(oracle, options, words):
    with pytest.raises(ConfigError, match=words) as caught:
        oracle(**options)
    assert "5ecret" not in str(caught.value)


def test_an_address_that_is_no_label_studio(dataset, studio, oracle):
    with pytest.raises(ConfigError, match="/x: expected a Label Studio server, got 404 at /api/projects"):
        oracle(url=f"{studio.url}/x").check(dataset)
    with pytest.raises(ConfigError, match="expected a Label Studio server that answers, got none"):
        oracle(url="http://127.0.0.1:9").check(dataset)


def interface(*names: str, tag: str = "RectangleLabels") -> str:
    labels = "".join(f'<Label value="{n}"/>' for n in names)
    return f'<View><Image name="photo" value="$picture"/><{tag} name="thing" toName="photo">{labels}</{tag}></View>'


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ([interface("cat", "horse")], "expected the labels cat, dog, got dog missing; horse besides"),
        ([interface("cat", "dog", "horse")], "got horse besides"),
        ([interface("cat", "dog", tag="PolygonLabels")], "expected one RectangleLabels over one Image .* got none"),
        ([interface("cat", "dog")] * 2, "expected one project 'mine', got 2 of them"),
    ],
)
def test_a_project_that_does_not_fit_is_refused(dataset, studio, oracle, configs, words):
    for config in configs:
        studio._projects("POST", {}, json.dumps({"title": "mine", "label_config": config}).encode())
    with pytest.raises(ConfigError, match=words):
        oracle(project="mine").check(dataset)
    assert len(studio.projects) == len(configs)


def test_a_project_of_ones_own_is_found_with_its_own_names(dataset, studio, oracle, order, tmp_path):
    studio._projects("POST", {}, json.dumps({"title": "mine", "label_config": interface("dog", "cat")}).encode())
    studio._projects("POST", {}, json.dumps({"title": "mine too", "label_config": interface("x")}).encode())
    studio._import("POST", {}, json.dumps([{"data": {"picture": "theirs.jpg"}}]).encode(), "1")
    wait(oracle(project="mine"), dataset, order)
    assert [set(t["data"]) >= {"picture", "al_lab_id"} for t in studio.tasks] == [False, True, True, True]
    assert "image" not in studio.tasks[1]["data"]
    for sample_id in IDS:
        studio.annotate(sample_id, [])
    assert oracle(project="mine").reveal(dataset, order) == order.queries


# --- how the server comes by the images -------------------------------------------------------------------------------


def test_a_photo_on_its_side_is_sent_upright(dataset, studio, oracle, order, tmp_path):
    wait(oracle(), dataset, replace(order, queries=(Query("side"),)))
    (tmp_path / "sent.png").write_bytes(studio.uploads[0][1])
    assert Image.open(tmp_path / "sent.png").size == (WIDTH, HEIGHT)


def test_files_that_the_server_has_are_named_and_compared(dataset, studio, oracle, order, tmp_path):
    served = str(tmp_path / "served")
    people = oracle(images="local_files", image_base=served)
    people.check(dataset)
    oracle(images="local_files", image_base=served).check(dataset)
    assert [s["path"] for s in studio.storages] == [f"{served}/photos"]  # made once
    wait(people, dataset, order)
    assert [t["data"]["image"] for t in studio.tasks] == [
        f"/data/local-files/?d=photos/{name}.jpg" for name in ("three", "a/one", "four")
    ]
    assert not studio.uploads
    studio.served = tmp_path  # another folder than we believe
    with pytest.raises(ConfigError, match="a/one.jpg as it is here, got a refusal"):
        people.check(dataset)
    with pytest.raises(ConfigError, match="oracle.image_base: expected images below"):
        oracle(images="local_files", image_base=str(tmp_path / "elsewhere")).check(dataset)
    with pytest.raises(ConfigError, match="expected images in subfolders of the served folder"):
        oracle(images="local_files", image_base=f"{served}/photos").check(dataset)


def test_addresses_of_a_prefix_are_looked_at(dataset, studio, oracle, order):
    with pytest.raises(ConfigError, match="photos/a/one.jpg: expected an image, got 404"):
        oracle(images="url", image_base=f"{studio.url}/photos").check(dataset)
    wait(oracle(images="url", image_base="https://my.site/photos/"), dataset, order)
    assert studio.tasks[1]["data"]["image"] == "https://my.site/photos/a/one.jpg"
