"""What the file system refuses: each a sentence with the path and a remedy, wherever it is refused."""

import errno
import fcntl
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from al_lab.cli.mistakes import readable
from al_lab.config.load import load_config
from al_lab.core.disk import check_regular, disk_error, read_bytes, read_text
from al_lab.core.errors import DataError, LabError, ResumeError
from al_lab.core.files import append_line, atomic_path, folder_lock, read_json, write_json, write_text

REFUSALS = {
    "ENOSPC": "room on the disk",
    "EDQUOT": "room on the disk",
    "EFBIG": "ulimit -f unlimited",
    "EROFS": "a disk that can be written, got a read-only one",
    "EACCES": "no permission",
    "EPERM": "no permission",
    "ENAMETOOLONG": "a name that this disk can hold",
    "EEXIST": "a file in the way",
    "ENOTDIR": "a file in the way",
    "EISDIR": "a folder in the way",
    "ENOTEMPTY": "an empty folder",
    "ENOENT": "nothing there",
    "ELOOP": "links that lead in a circle",
    "EMFILE": "ulimit -n",
    "ENFILE": "all of this machine in use",
    "EIO": "an input/output error",
    "ESTALE": "a stale handle of a network disk; Run the same command again",
    "ENODEV": "No such device",
}
WRITERS: dict[str, Callable[[Path], object]] = {
    "write_text": lambda path: write_text(path, "x"),
    "write_json": lambda path: write_json(path, [1]),
    "append_line": lambda path: append_line(path, b"x"),
    "folder_lock": lambda path: folder_lock(path).__enter__(),
}


def refusing(name: str):
    def refuse(*_: object, **__: object) -> None:
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number))

    return refuse


def check_sentence(text: str, path: Path) -> None:
    assert str(path) in text and "expected" in text and "; " in text
    assert "Errno" not in text and "\n" not in text


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_is_a_sentence_wherever_it_comes_from(tmp_path, monkeypatch, name):
    path = tmp_path / "out" / "file.json"
    number = getattr(errno, name)
    texts = [str(disk_error(OSError(number, os.strerror(number), str(path))))]
    texts.append(readable(OSError(number, os.strerror(number), str(path))))  # at the command's edge
    monkeypatch.setattr(Path, "mkdir", refusing(name))
    for write in WRITERS.values():
        with pytest.raises(LabError) as error:
            write(path)
        texts.append(str(error.value))
    for text in texts:
        check_sentence(text, path)
        assert REFUSALS[name] in text


@pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EFBIG"])
@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_a_refusal_at_any_step_of_a_write_leaves_the_old_file(tmp_path, monkeypatch, name, step):
    path = tmp_path / "a.json"
    write_json(path, [1])
    with monkeypatch.context() as patch:
        patch.setattr(step, refusing(name))
        with pytest.raises(LabError, match=REFUSALS[name]):
            write_json(path, [2])
    assert read_json(path) == [1] and [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("way", ["file", "long", "loop"])
def test_what_a_real_disk_refuses(tmp_path, write, way):
    path = {"file": tmp_path / "way", "long": tmp_path / ("n" * 300), "loop": tmp_path / "loop"}[way]
    (tmp_path / "way").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(LabError) as error:
        write(path / "below" / "file")
    check_sentence(str(error.value), path)


def test_a_limit_on_the_size_of_files(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(LabError, match="ulimit -f unlimited"):
            write_text(tmp_path / "a", "x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_a_disk_without_locks_is_named_with_what_helps(tmp_path, monkeypatch, name):
    monkeypatch.setattr(fcntl, "flock", refusing(name))
    with pytest.raises(LabError, match=r"a disk with locks.*runtime.outputs_dir=…") as error, folder_lock(tmp_path):
        pass
    check_sentence(str(error.value), tmp_path)


def test_a_link_to_the_outputs_and_a_clock_that_goes_back_change_nothing(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "outputs").symlink_to("disk")
    held, same = folder_lock(tmp_path / "outputs" / "run"), folder_lock(tmp_path / "disk" / "run")
    with held, pytest.raises(ResumeError, match="one held by process"), same:
        pass
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: 0.0)
    write_json(Path("outputs/run/a.json"), [1])
    assert read_json(tmp_path / "disk" / "run" / "a.json") == [1]


def test_links_that_lead_in_a_circle_are_named_at_the_commands_edge(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises((OSError, RuntimeError)) as error:
        (tmp_path / "loop").resolve(strict=True)
    check_sentence(readable(error.value), tmp_path / "loop")


def test_an_error_that_is_not_the_disks_keeps_its_traceback(tmp_path):
    assert readable(ValueError("a bug")) is None
    assert readable(OSError("cannot write mode F as PNG")) is None
    with pytest.raises(OSError, match="mode F"), atomic_path(tmp_path / "a"):
        raise OSError("cannot write mode F as PNG")


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a named pipe"),
        (lambda p: p.symlink_to("/dev/zero"), "a device"),
        (lambda p: p.symlink_to(p.name), "links that lead in a circle"),
    ],
)
def test_only_regular_files_are_read(tmp_path, make, got):
    path = tmp_path / "x"
    make(path)
    for read in (lambda p: read_bytes(p, 10), lambda p: read_text(p, 10), check_regular):
        with pytest.raises(DataError, match=got) as error:
            read(path)
        check_sentence(str(error.value), path)


def test_files_have_a_largest_size_and_an_encoding(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(path, 10) == "abc"
    path.write_bytes(b"x" * 11)
    with pytest.raises(DataError, match="more than the 0 MB that are read"):
        read_bytes(path, 10)
    path.write_bytes(b"\xff\xfea")
    with pytest.raises(ResumeError, match="x: expected a list in UTF-8, got another encoding"):
        read_text(path, 10, "a list", ResumeError)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "y", 10)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"5",
        b"a: [1,",
        b"- 1",
        b"seed: \xff",
        b"a: !!python/name:os.system",
        b"a: &a [1]\nb: *a",
        b"\0",
        b"5: 6",
        None,
    ],
)
def test_a_damaged_config_of_a_run_is_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ResumeError) as error:
        load_config(tmp_path)
    check_sentence(str(error.value), tmp_path / "config.yaml")


def test_nothing_in_the_config_of_a_run_is_resolved(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "secret")
    (tmp_path / "config.yaml").write_text("name: ${oc.env:SECRET}\nlr: 1.0e-05\n")
    assert load_config(tmp_path) == {"name": "${oc.env:SECRET}", "lr": 1e-5}
