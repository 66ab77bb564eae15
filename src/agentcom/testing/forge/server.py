"""A stand-in forge on loopback, which takes the documented requests of its kind and no other.

Each route names the parameters and fields that the forge's documentation gives it. Whatever else
comes (another path, an unknown parameter, a field of another type, no token) is refused, and
noted in `strange`, so that a test fails on it.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from agentcom.sidecar.forge.base import Kind
from agentcom.testing.forge import gitea, github, gitlab
from agentcom.testing.forge.routes import Answer, Asked, Dialect, Route
from agentcom.testing.forge.state import Repository

BODY_BYTES_MAX: Final = 1_048_576
"""Of a request: a pull request's text has less."""
PAGE_DEFAULT: Final = 30


class ForgeStandIn:
    """One repository at a forge of some kind."""

    def __init__(self, kind: Kind, folder: Path, *, path: str = "acme/api") -> None:
        self.kind = kind
        self.path = path
        self.token = "forge-token-of-the-fleet"  # noqa: S105 - of a stand-in
        self.repository = Repository(folder, login="fleet")
        self.asked: list[str] = []
        """Method, path and status of every request."""
        self.strange: list[str] = []
        """Requests that the forge's documentation does not have."""
        self.refuse: Callable[[str, str], tuple[int, Mapping[str, str]] | None] = lambda *_: None
        """Called with method and path; gives a status and headers to refuse with."""
        self.after: Callable[[str, str], None] = lambda *_: None
        """Called when something was done, before its answer leaves."""
        self._dialect = dialect_of(kind, path)
        self._server: ThreadingHTTPServer | None = None

    @property
    def api(self) -> str:
        """Where its API begins."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}{self._dialect.prefix}"

    @contextlib.contextmanager
    def serving(self, port: int = 0) -> Iterator["ForgeStandIn"]:
        """Serve while the context lasts."""
        stand_in = self

        class Handler(_Handler):
            forge = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def count(self, text: str) -> int:
        """Return how many requests had `text` in them."""
        return sum(text in one for one in self.asked)

    def take(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> "_Reply":
        """Answer one request."""
        parts = urlsplit(target)
        refused = self.refuse(method, parts.path)
        if refused is not None:
            return self._noted(method, target, _Reply(refused[0], b'{"message": "no"}', refused[1]))
        if headers.get("authorization") != f"{self._dialect.header} {self.token}":
            return self._noted(method, target, _said(401, "bad credentials"))
        found = self._route(method, parts.path.removeprefix(self._dialect.prefix))
        query = dict(parse_qsl(parts.query))
        fault = "no such route" if found is None else ""
        sent: Any = {}
        if found is not None:
            sent, fault = _fields(found[0], body)
            unknown = set(query) - {*found[0].query, self._dialect.page_name, "page"}
            fault = fault or (f"unknown parameters {sorted(unknown)}" if unknown else "")
        if found is None or fault:
            self.strange.append(f"{method} {target}: {fault}")
            return self._noted(method, target, _said(404 if found is None else 422, fault))
        url = f"http://{headers.get('host', '')}"
        asked = Asked(names=found[1], query=query, body=sent, url=url)
        answer = found[0].answer(self.repository, asked)
        self.after(method, parts.path)
        return self._noted(method, target, self._reply(answer, asked, target, headers))

    def _route(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        for route in self._dialect.routes:
            match = route.pattern.fullmatch(path) if route.method == method else None
            if match is not None:
                return route, match.groupdict()
        return None

    def _reply(
        self, answer: Answer, asked: Asked, target: str, headers: Mapping[str, str]
    ) -> "_Reply":
        more: dict[str, str] = {}
        body = answer.body
        if answer.rows is not None:
            size = int(asked.query.get(self._dialect.page_name, PAGE_DEFAULT))
            page = int(asked.query.get("page", 1))
            rows = list(answer.rows[(page - 1) * size : page * size])
            body = rows if answer.within is None else {answer.within: rows}
            if page * size < len(answer.rows):
                query = urlencode({**asked.query, "page": page + 1})
                more["link"] = f'<{asked.url}{urlsplit(target).path}?{query}>; rel="next"'
        data = json.dumps(body).encode()
        if self._dialect.gives_etags:
            tag = f'W/"{hashlib.sha256(data).hexdigest()[:16]}"'
            more["etag"] = tag
            if headers.get("if-none-match") == tag:
                return _Reply(304, b"", more)
        return _Reply(answer.status, data, more)

    def _noted(self, method: str, target: str, reply: "_Reply") -> "_Reply":
        self.asked.append(f"{method} {target} {reply.status}")
        return reply


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]


class _Handler(BaseHTTPRequestHandler):
    forge: ForgeStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def do_PATCH(self) -> None:
        self._do()

    def do_PUT(self) -> None:
        self._do()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        del format, args

    def _do(self) -> None:
        size = min(int(self.headers.get("content-length") or 0), BODY_BYTES_MAX)
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.forge.take(self.command, self.path, headers, self.rfile.read(size))
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)


def dialect_of(kind: Kind, path: str) -> Dialect:
    """Return how a kind of forge speaks about one repository."""
    match kind:
        case Kind.GITHUB:
            return github.dialect(path)
        case Kind.GITLAB:
            return gitlab.dialect(path)
        case Kind.GITEA:
            return gitea.dialect(path)


def _fields(route: Route, body: bytes) -> tuple[Any, str]:
    """Return the body of a request, and what is wrong with it."""
    if not route.fields:
        return {}, "a body where none belongs" if body else ""
    try:
        sent = json.loads(body)
    except ValueError:
        return {}, "no JSON"
    known = {name.rstrip("!"): kind for name, kind in route.fields.items()}
    missing = [n[:-1] for n in route.fields if n.endswith("!") and n[:-1] not in sent]
    wrong = [n for n, value in sent.items() if not isinstance(value, known.get(n, ()))]
    fault = f"missing {missing}" if missing else f"wrong fields {wrong}" if wrong else ""
    return sent, fault


def _said(status: int, message: str) -> _Reply:
    return _Reply(status, json.dumps({"message": message}).encode(), {})
