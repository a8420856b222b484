import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from al_lab.core.errors import LabError, ResumeError
from al_lab.core.files import atomic_path, read_json, remove_temporaries, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(FileNotFoundError), atomic_path(path) as temporary:
        temporary.write_text("half")
        (tmp_path / "no such folder" / "file").write_text("the disk, the network, a bug")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, [1])
    monkeypatch.setattr(
        Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
    )
    with pytest.raises(LabError, match="free some space and run the same command again"):
        write_json(path, [2])
    assert read_json(path) == [1]


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), ("{", "expected JSON")])
def test_missing_or_broken_json_is_named(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ResumeError, match=message):
        read_json(path)


def test_nan_never_reaches_a_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))


def test_what_the_dead_left_is_removed_and_what_the_living_write_stays(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    for name in (f".tmp-{child.pid}-a", f".tmp-{os.getpid()}-b", f".tmp-{2**70}-c", ".tmp-d"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, older_than_s=3600)
    assert len(list(tmp_path.iterdir())) == 4
    remove_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f".tmp-{os.getpid()}-b", ".tmp-d"])
