import shutil
from collections import namedtuple
from importlib import metadata

import pytest

from al_lab.cli import doctor


@pytest.fixture
def versions(monkeypatch):
    """Pretend that packages have these versions; None is missing."""
    real, pretended = metadata.version, {}

    def version(name):
        value = pretended[name] if name in pretended else real(name)
        if value is None:
            raise metadata.PackageNotFoundError(name)
        return value

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor, "_torch", lambda: doctor.Fact("ok", "gpu", "not asked"))
    return pretended


def by_name(tmp_path):
    facts = doctor.diagnose(tmp_path)
    return facts, {f.what: f for f in facts}


def test_a_necessary_package_is_a_problem_with_a_remedy(versions, tmp_path):
    versions["hydra-core"] = None
    facts, named = by_name(tmp_path)
    assert named["hydra-core"] == doctor.Fact("problem", "hydra-core", "missing", "make setup")
    assert doctor.has_problem(facts)


def test_an_optional_package_is_not(versions, tmp_path):
    versions |= {"wandb": None, "onedl-mmcv": None}
    _, named = by_name(tmp_path)
    assert (named["wandb"].severity, named["mmdet"].severity) == ("note", "note")
    assert "tiny detector works" in named["mmdet"].found


def test_two_opencvs_are_a_problem(versions, tmp_path):
    versions |= {"opencv-python": "4.12", "opencv-python-headless": "4.12"}
    assert by_name(tmp_path)[1]["opencv"].severity == "problem"


def test_a_full_disk_is_a_problem(versions, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(1, 1, 3e8))
    fact = by_name(tmp_path)[1]["disk"]
    assert fact.severity == "problem"
    assert "0.3 GB free" in str(fact)
    assert "runtime.outputs_dir" in str(fact)


def test_a_torch_that_does_not_import_is_a_problem(monkeypatch):
    def broken(name):
        raise OSError("libcudart.so not found")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    fact = doctor._torch()
    assert fact.severity == "problem"
    assert "libcudart" in fact.found


def test_data_that_is_there_is_found(versions, tmp_path, monkeypatch):
    (tmp_path / "data" / "VOCdevkit" / "VOC2007" / "JPEGImages").mkdir(parents=True)
    monkeypatch.delenv("AL_LAB_DATA", raising=False)
    _, named = by_name(tmp_path)
    assert named["dataset=voc"].severity == "ok"
    assert "download coco" in named["dataset=coco"].remedy


def test_the_command_counts_problems(versions, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.endswith("Try: al-lab debug=smoke\n")
    versions["hydra-core"] = None
    assert doctor.main([]) == 1
    assert capsys.readouterr().out.endswith("1 problem(s): see above\n")


def test_gpus_that_torch_cannot_use_are_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(doctor, "unusable_gpus", lambda: ("driver 470", "update it"))
    fact = doctor._torch()
    assert (fact.severity, fact.remedy) == ("problem", "update it")
    assert "2 visible, and torch can't use them: driver 470" in fact.found
