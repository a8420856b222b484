"""A Label Studio server as small as it can be: the few endpoints that are asked, in this process."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "head.refresh.signature"


class FakeStudio:
    """What the server knows, and how it misbehaves.

    Attributes:
        trouble: what happens to the next requests, in order: an HTTP status, or "lost": it is done and never answered.
        requests: method and path of each.
        served: the folder whose files it shows.
    """

    def __init__(self, served: Path | None = None) -> None:
        self.projects: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.uploads: list[tuple[str, bytes]] = []
        self.storages: list[dict[str, Any]] = []
        self.trouble: list[int | str] = []
        self.requests: list[tuple[str, str]] = []
        self.served = served
        self.access = 0  # how many short-lived tokens it has handed out; the newest one is good
        self.clock = 0
        self.url = ""

    # --- what people do there

    def task(self, sample_id: str) -> dict[str, Any]:
        """Return the one task of an image."""
        (found,) = (t for t in self.tasks if t["data"].get("al_lab_id") == sample_id)
        return found

    def annotate(self, sample_id: str, result: list[Any], seconds: float | None = None, **fields: Any) -> None:
        """Submit an annotation, or skip the task (``was_cancelled``)."""
        self.clock += 1
        at = f"2026-01-01T00:00:{self.clock:02d}Z"
        task = self.task(sample_id)
        given = {"id": 100 + self.clock, "result": result, "lead_time": seconds, "updated_at": at}
        task["annotations"].append({"was_cancelled": False, "ground_truth": False, **given, **fields})
        task["updated_at"] = at

    # --- what it answers

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, token: str) -> tuple[int, Any]:
        """Return status and content."""
        if path == "/api/token/refresh":
            if json.loads(body) != {"refresh": PERSONAL}:
                return 401, {"detail": "Token is invalid"}
            self.access += 1
            return 200, {"access": f"access{self.access}"}
        if token not in (f"Token {TOKEN}", f"Bearer access{self.access}"):
            return 401, {"detail": "Invalid token."}
        for pattern, answer in (
            (r"/api/projects", self._projects),
            (r"/api/projects/(\d+)/import", self._import),
            (r"/api/import/file-upload/(\d+)", lambda m, q, b, k: (200, {"file": self.uploads[int(k) - 1][0]})),
            (r"/api/tasks", self._list),
            (r"/api/tasks/(\d+)", lambda m, q, b, k: (200, self.tasks[int(k) - 1])),
            (r"/api/storages/localfiles", self._storage),
            (r"/data/local-files/", self._file),
        ):
            if found := re.fullmatch(pattern, path):
                return answer(method, query, body, *found.groups())
        return 404, b"<html>no such page</html>"

    def _projects(self, method: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "GET":
            found = [p for p in self.projects if query["title"] in p["title"]]
            return 200, {"count": len(found), "results": found}
        self.projects.append(json.loads(body) | {"id": len(self.projects) + 1})
        self.projects[-1]["parsed_label_config"] = parsed(self.projects[-1]["label_config"])
        return 201, self.projects[-1]

    def _import(self, method: str, query: dict[str, str], body: bytes, project: str) -> tuple[int, Any]:
        if query.get("commit_to_project") == "false":
            head, _, content = body.partition(b"\r\n\r\n")
            name = re.search(rb'filename="(.*)"', head)
            assert name is not None
            content = content[: content.rindex(b"\r\n--", 0, len(content) - 2)]
            number = len(self.uploads) + 1
            self.uploads.append((f"upload/{project}/{number:08x}-{name[1].decode()}", content))
            return 201, {"file_upload_ids": [number]}
        for task in json.loads(body):
            fresh = {"id": len(self.tasks) + 1, "project": int(project), "annotations": [], "drafts": [], "overlap": 1}
            self.tasks.append({**fresh, "predictions": [], "updated_at": "2026-01-01T00:00:00Z", **task})
        return 201, {"task_count": len(json.loads(body))}

    def _list(self, method: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        mine = [t for t in self.tasks if t["project"] == int(query["project"])]
        size, page = 2, int(query["page"])  # small pages: the last one must be found, too
        rows = []
        for task in mine[size * (page - 1) : size * page]:
            skips = sum(a["was_cancelled"] for a in task["annotations"])
            done = len(task["annotations"]) - skips
            counts = {"total_annotations": done, "cancelled_annotations": skips, "is_labeled": done >= task["overlap"]}
            rows.append({k: task[k] for k in ("id", "data", "updated_at")} | {"drafts": []} | counts)  # as it answers
        return (200, {"total": len(mine), "tasks": rows}) if rows or page == 1 else (404, {"detail": "Invalid page."})

    def _storage(self, method: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "GET":
            return 200, self.storages
        wanted = json.loads(body)
        if not Path(wanted["path"]).is_dir():
            return 400, {"detail": "Validation error", "validation_errors": {"path": ["does not exist"]}}
        self.storages.append(wanted)
        return 201, wanted

    def _file(self, method: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        path = (self.served or Path("/nowhere")) / unquote(query["d"])
        known = any(path.is_relative_to(s["path"]) for s in self.storages)
        return (200, path.read_bytes()) if known and path.is_file() else (404, b"")


def parsed(config: str) -> dict[str, Any]:
    """Return an interface as the server describes it."""
    view = ElementTree.fromstring(config)
    images = {i.attrib["name"]: i.attrib["value"].lstrip("$") for i in view.iter("Image")}
    return {
        tag.attrib["name"]: {
            "type": tag.tag,
            "to_name": [tag.attrib["toName"]],
            "inputs": [{"type": "Image", "value": images[tag.attrib["toName"]]}],
            "labels": [label.attrib["value"] for label in tag.iter("Label")],
        }
        for tag in view
        if "toName" in tag.attrib
    }


@contextmanager
def running(studio: FakeStudio, port: int = 0) -> Iterator[FakeStudio]:
    """Let it answer on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            parts = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            studio.requests.append((self.command, parts.path))
            trouble = studio.trouble.pop(0) if studio.trouble else None
            if self.command == "HEAD":
                status, content = 404, b""
            elif isinstance(trouble, int):
                status, content = trouble, {"detail": "trouble"}
            else:
                token = self.headers.get("Authorization") or ""
                status, content = studio.answer(self.command, parts.path, query, body, token)
            if trouble == "lost":
                self.close_connection = True
                return
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", "http://elsewhere.example/api?token=1")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_HEAD = do_DELETE = do_PATCH = _do  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        studio.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield studio
        finally:
            server.shutdown()
            thread.join()
