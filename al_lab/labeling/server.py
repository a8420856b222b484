"""Label Studio's API, as far as asking and taking back need it: https://api.labelstud.io. Nothing here ever deletes."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from al_lab.core.errors import ConfigError, DataError, LabError, explain

_TIMEOUT_S = 60.0
_PAGE = 500
_SHOWN = 300
_LOCAL = ("localhost", "127.0.0.1", "::1")
# Overloaded, restarting, behind a proxy whose server is away: worth asking again.
_AWAY = (408, 429, 500, 502, 503, 504)
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


class ServerAwayError(Exception):
    """The server did not answer, or is too busy; the same request may work later. Its words say why."""


def read_url(value: Any) -> str:
    """Return a server's address without a slash at its end.

    Raises:
        ConfigError: for anything else than ``http(s)://host[:port][/path]``; what may be a password is not repeated.
    """
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        got = repr(value) if parts is None or "@" not in parts.netloc else "another"
    elif parts.username or parts.password:
        got = "one with a user's name or password"
    else:
        return str(value).rstrip("/")
    do = "e.g. oracle.url=http://localhost:8080; the token comes from an environment variable"
    raise ConfigError(explain(expected="the address of a Label Studio server", got=got, where="oracle.url", do=do))


def read_variable(value: Any) -> str:
    """Return the name of an environment variable; a token that was given instead of it is not repeated."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise ConfigError(
        explain(
            expected="the name of an environment variable in capital letters",
            got="something else (it is not shown, it may be the token itself)",
            where="oracle.token_env",
            do="export LABEL_STUDIO_API_KEY=… with the token of your account, and leave oracle.token_env out",
        )
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is for one server; who sends elsewhere does not get it."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Refuse."""
        where = newurl.partition("?")[0]
        raise _wrong_server(req.full_url, f"one that sends to {where}", "give the address that it sends to")


class Server:
    """One server and one account.

    Args:
        url: as `read_url` returns it.
        token: a legacy access token, or a personal one (three parts with dots), for which short-lived ones are
            fetched; kept in memory only.
        variable: the environment variable it comes from, for messages.
    """

    def __init__(self, url: str, token: str, variable: str) -> None:
        self.url, self._token, self._variable = url, token, variable
        self._header = "" if self._is_personal else f"Token {token}"
        handlers: list[Any] = [_NoRedirect()]
        if urlsplit(url).hostname in _LOCAL:  # no proxy leads to this machine
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    @property
    def _is_personal(self) -> bool:
        return self._token.count(".") == 2  # noqa: PLR2004 - a JSON web token: head, content, signature

    def get(self, path: str, **query: Any) -> Any:
        """Return what the server says at a path.

        Raises:
            ServerAwayError: if it does not answer.
            LabError: if it refuses, or is no Label Studio.
        """
        return self._json("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Any) -> Any:
        """Send JSON and return the answer; errors as `get`."""
        return self._json("POST", path, json.dumps(body, allow_nan=False).encode(), "application/json")

    def pages(self, path: str, key: str, **query: Any) -> Iterator[Mapping[str, Any]]:
        """Yield the entries of a list that comes in pages; errors as `get`."""
        page, seen = 1, 0
        while True:
            answer = self.get(path, **query, page=page, page_size=_PAGE)
            found = answer.get(key) if isinstance(answer, dict) else answer
            if not isinstance(found, list):
                raise _wrong_server(self.url + path, f"an answer without {key!r}")
            yield from (entry for entry in found if isinstance(entry, dict))
            seen += len(found)
            total = (answer.get("total", answer.get("count"))) if isinstance(answer, dict) else seen
            if not found or not isinstance(total, int) or seen >= total:
                return
            page += 1

    def upload(self, project: int, name: str, path: Path) -> str:
        """Upload an image and return the address by which tasks of the project may speak of it."""
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        body = f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + path.read_bytes()
        body += f"\r\n--{edge}--\r\n".encode()
        kind = f"multipart/form-data; boundary={edge}"
        # Without the commit the server would make a task of it by itself, which nobody could match.
        made = self._json("POST", f"/api/projects/{project}/import?commit_to_project=false", body, kind)
        ids = made.get("file_upload_ids") if isinstance(made, dict) else None
        if not isinstance(ids, list) or len(ids) != 1:
            raise _wrong_server(self.url, "an upload without a number", "use Label Studio 1.8 or newer")
        return f"/data/{self.get(f'/api/import/file-upload/{ids[0]}')['file']}"

    def read(self, path: str) -> bytes:
        """Return a file that the server shows to people; errors as `get`."""
        return self._send("GET", path)

    def _json(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> Any:
        raw = self._send(method, path, body, kind)
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            raise _wrong_server(self.url, "an answer that is no JSON") from None

    def _send(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        if not self._header:
            self._renew()
        try:
            return self._attempt(method, path, body, kind, {"Authorization": self._header})
        except _RefusedError as refused:
            if refused.code != _UNAUTHORIZED or not self._is_personal:
                raise self._sentence(refused, path) from None
        self._renew()  # what a personal token fetches is good for minutes
        try:
            return self._attempt(method, path, body, kind, {"Authorization": self._header})
        except _RefusedError as refused:
            raise self._sentence(refused, path) from None

    def _renew(self) -> None:
        path, body = "/api/token/refresh", json.dumps({"refresh": self._token}).encode()
        try:
            raw = self._attempt("POST", path, body, "application/json", {})
        except _RefusedError as refused:
            raise self._sentence(refused, path) from None
        try:
            self._header = f"Bearer {json.loads(raw)['access']}"
        except (ValueError, KeyError, TypeError):
            raise _wrong_server(self.url, "no answer to a personal token") from None

    def _attempt(self, method: str, path: str, body: bytes | None, kind: str, headers: dict[str, str]) -> bytes:
        if kind:
            headers = headers | {"Content-Type": kind}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            words = error.read(100_000).decode(errors="replace")
            if error.code in _AWAY:
                raise ServerAwayError(f"it answers {error.code} {error.reason}") from None
            raise _RefusedError(error.code, words) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLError):
                do = "give the address with http:// if it speaks no TLS, or install its certificate"
                raise _wrong_server(self.url, f"no TLS that can be trusted ({error.reason})", do) from None
            raise ServerAwayError(str(error.reason)) from None
        except (http.client.HTTPException, TimeoutError, OSError) as error:
            raise ServerAwayError(str(error) or type(error).__name__) from None

    def _sentence(self, refused: _RefusedError, path: str) -> LabError:
        """Say what the server's refusal means; the token is never part of it."""
        if refused.code in (_UNAUTHORIZED, _FORBIDDEN):
            got = f"{refused.code}: {refused.said}".replace(self._token, "(the token)")
            return ConfigError(
                explain(
                    expected=f"a token that this server accepts, in the environment variable {self._variable}",
                    got=got,
                    where=self.url,
                    do="copy it from Account & Settings there (a personal or a legacy one) and export it again",
                )
            )
        if refused.code == _NOT_FOUND and not refused.is_json and path.startswith("/api/"):
            return _wrong_server(self.url, f"404 at {path.partition('?')[0]}")
        got = f"{refused.code}: {refused.said}"
        do = "see that page in the browser; correct what it names"
        return DataError(explain(expected="what the server accepts", got=got, where=self.url + path, do=do))


class _RefusedError(Exception):
    """The server answered, and does not want to.

    Attributes:
        code: HTTP's.
        said: in its words, short.
        is_json: they came as Label Studio gives them.
    """

    def __init__(self, code: int, body: str) -> None:
        super().__init__(code)
        self.code = code
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        self.is_json = isinstance(content, dict)
        said = body
        if isinstance(content, dict):
            parts = [content.get("detail"), content.get("validation_errors")]
            said = " ".join(p if isinstance(p, str) else json.dumps(p) for p in parts if p) or body
        said = " ".join(said.split())
        self.said = said if len(said) <= _SHOWN else said[: _SHOWN - 1] + "…"


def _wrong_server(where: str, got: str, do: str = "correct oracle.url: what the browser shows of it up to the port"
) -> ConfigError:  # fmt: skip
    return ConfigError(explain(expected="a Label Studio server", got=got, where=where, do=do))
