import hashlib
import io
import json
import tarfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer

import pytest

from al_lab.core.errors import DataError
from al_lab.data import download as module
from al_lab.data.download import ARCHIVES, Archive, check_first, check_md5, download, fetch

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


def test_a_wrong_checksum_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"ok")
    check_md5(tmp_path / "x", "444bcb3a3fcf8389296c49467f27e1d6")
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


def test_everything_comes_over_tls_and_from_a_host_whose_certificate_fits():
    urls = [a.url for archives in ARCHIVES.values() for a in archives]
    assert all(url.startswith("https://") for url in urls) and not any("//images.cocodataset.org" in u for u in urls)


def test_being_sent_on_to_an_open_connection_is_refused(tmp_path, server, monkeypatch):
    url, _ = server
    real = module.urllib.request.urlopen
    monkeypatch.setattr(module.urllib.request, "urlopen", lambda request, timeout: real(url, timeout=timeout))
    with pytest.raises(DataError, match="sent on to http://127.0.0.1.*, which is not encrypted"):
        fetch("https://example.org/x.tar", tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_without_a_published_checksum_the_first_download_is_recorded_and_told_from_another(tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHIVES, "gtav", (Archive("http://127.0.0.1:1/mine.tar", below="sub"),))
    path = tmp_path / "downloads" / "mine.tar"
    _tar(path, "x.txt")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    download("gtav", tmp_path, keep_archives=True)
    book = json.loads((tmp_path / "downloads" / "checksums.json").read_text())
    expected = {"sha256": digest, "source": "recorded at the first download, not published by anybody"}
    assert book == {"mine.tar": expected}
    check_first(path)
    _tar(path, "y.txt")
    with pytest.raises(DataError, match=f"expected sha256 {digest}, recorded at the first download"):
        check_first(path)
