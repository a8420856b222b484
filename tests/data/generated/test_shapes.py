import subprocess
import sys

import numpy as np
import pytest

from al_lab.data.generated.shapes import Shapes
from al_lab.data.generated.shapes_draw import CLASSES, draw_scene

SMALL = {"num_pool": 20, "num_val": 5, "num_test": 15}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return Shapes(str(tmp_path_factory.mktemp("data")), **SMALL)


def test_it_is_a_voc_dataset_without_findings(shapes):
    assert shapes.classes == CLASSES
    assert [len(ids) for ids in (shapes.pool_ids, shapes.val_ids, shapes.test_ids)] == [20, 5, 15]
    assert shapes.load_image(shapes.pool_ids[0]).shape == (96, 96, 3)
    assert shapes.verify() == []
    assert all(len(shapes.truth(i).labels) for i in shapes.test_ids)


def test_a_scene_is_a_function_of_its_arguments():
    first, again, other = (draw_scene(seed, "train", 3, 64) for seed in (0, 0, 1))
    assert first.objects == again.objects
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert not np.array_equal(np.asarray(first.image), np.asarray(other.image))


def test_it_is_generated_once_and_other_numbers_go_elsewhere(shapes, tmp_path):
    data_dir = shapes.image_path(shapes.pool_ids[0]).parents[2]
    stamp = shapes.image_path(shapes.pool_ids[0]).stat().st_mtime_ns
    assert Shapes(str(data_dir), **SMALL).image_path(shapes.pool_ids[0]).stat().st_mtime_ns == stamp
    Shapes(str(data_dir), num_pool=2, num_val=0, num_test=1)
    assert len([p for p in data_dir.iterdir() if p.name.startswith("shapes-")]) == 2
    assert not [p for p in data_dir.iterdir() if p.name.startswith(".")]


def test_two_processes_may_generate_at_once(tmp_path):
    code = (
        f"from al_lab.data.generated.shapes import Shapes; print(len(Shapes({str(tmp_path)!r}, num_pool=6, "
        f"num_val=0, num_test=2).pool_ids))"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [run.communicate()[0].strip() for run in runs] == ["6", "6"]
    assert [p.name[:7] for p in tmp_path.iterdir()] == ["shapes-"]


def test_choosing_can_matter():
    """Rare classes live in few pool images; most pool images are near copies, few test images are easy."""
    pool = [draw_scene(0, "train", n, 96).objects for n in range(120)]
    test = [draw_scene(0, "test", n, 96).objects for n in range(50)]
    has_rare = [any(o.label in CLASSES[3:] for o in objects) for objects in pool]
    assert 0.15 < np.mean(has_rare) < 0.5
    counts = [sum(o.label == c for objects in pool for o in objects) for c in CLASSES]
    assert counts[0] > 4 * counts[-1] > 0
    assert np.mean([len(o) for o in test]) > 1.15 * np.mean([len(o) for o in pool])
    assert any(o.difficult for objects in test for o in objects)
