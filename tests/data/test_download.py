import io
import tarfile
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer

import pytest

from al_lab.core.errors import DataError
from al_lab.data import download as module
from al_lab.data.download import ARCHIVES, Archive, check_md5, download, extract, fetch

CONTENT = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT, with ranges; remembers what was asked."""

    asked: list[str | None]

    def __init__(self, asked, *args):
        self.asked = asked
        super().__init__(*args)

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:])

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    asked = []
    server = TCPServer(("127.0.0.1", 0), partial(Handler, asked))  # HTTPServer would look up its own name
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/x.tar", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("have", [0, 5000, len(CONTENT)])
def test_a_download_goes_on_where_it_stopped(tmp_path, server, have):
    url, asked = server
    path = tmp_path / "x.tar"
    if have:
        (tmp_path / "x.tar.part").write_bytes(CONTENT[:have])
    told = []
    fetch(url, path, lambda file, done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert asked == [f"bytes={have}-" if have else None]
    assert not told or told[-1] == (len(CONTENT), len(CONTENT))
    assert not (tmp_path / "x.tar.part").exists()


def test_without_a_network_the_file_and_its_place_are_named(tmp_path):
    path = tmp_path / "downloads" / "VOC.tar"
    with pytest.raises(DataError) as error:
        fetch("http://127.0.0.1:1/VOC.tar", path)
    assert str(error.value).startswith("http://127.0.0.1:1/VOC.tar: expected to download VOC.tar")
    assert f"put it at {path}" in str(error.value)


def _tar(path, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 2
        archive.addfile(info, io.BytesIO(b"ok"))


def _zip(path, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"ok")


@pytest.mark.parametrize("write", [_tar, _zip])
def test_archives_are_extracted(tmp_path, write):
    write(tmp_path / "a.bin", "inner/x.txt")
    extract(tmp_path / "a.bin", tmp_path / "out")
    assert (tmp_path / "out" / "inner" / "x.txt").read_bytes() == b"ok"


@pytest.mark.parametrize("write", [_tar, _zip])
def test_archives_that_climb_out_are_refused(tmp_path, write):
    write(tmp_path / "a.bin", "../evil.txt")
    with pytest.raises(DataError, match=r"a\.bin"):
        extract(tmp_path / "a.bin", tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"a\.tar: expected an intact archive"):
        extract(tmp_path / "a.tar", tmp_path / "out")


def test_a_wrong_checksum_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"ok")
    check_md5(tmp_path / "x", "444bcb3a3fcf8389296c49467f27e1d6")
    check_md5(tmp_path / "x", None)
    with pytest.raises(DataError, match="expected md5 0, got 444bcb3a3fcf8389296c49467f27e1d6"):
        check_md5(tmp_path / "x", "0")


def test_an_archive_put_by_hand_is_used_once(tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHIVES, "voc", (Archive("http://127.0.0.1:1/mine.tar", below="sub"),))
    _tar(tmp_path / "downloads" / "mine.tar", "x.txt")
    download("voc", tmp_path)
    assert (tmp_path / "sub" / "x.txt").exists()
    assert not (tmp_path / "downloads" / "mine.tar").exists()
    monkeypatch.setattr(module, "fetch", lambda *args: pytest.fail("it was extracted already"))
    download("voc", tmp_path)


def test_checksums_are_torchvisions():
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    known = [DATASET_YEAR_DICT[key] for key in ("2007", "2007-test", "2012")]
    assert [(a.url, a.md5) for a in ARCHIVES["voc"]] == [(k["url"], k["md5"]) for k in known]


def test_a_rar_file_is_left_to_the_user(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="unpack it yourself: mkdir -p '.*/synthia' && unrar x"):
        extract(tmp_path / "a.rar", tmp_path / "synthia")
