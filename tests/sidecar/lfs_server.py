"""A server of Git LFS on loopback, with TLS: the batch API and basic transfers, and its faults.

It takes what the public specification names (docs/api of git-lfs) and nothing else.
"""

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from agentcom.hub import certificate

LOGIN: Final = ("ada", "a-token-of-the-forge")
_MEDIA: Final = "application/vnd.git-lfs+json"


@dataclass(slots=True)
class LfsServer:
    """What the server has, and what is wrong with it."""

    url: str = ""
    trusted: Path = Path()
    """Its certificate."""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    wants_login: bool = False
    refuses: set[str] = field(default_factory=set)
    """Operations, `download` or `upload`, that end with 403."""
    lies: bool = False
    """True: what it gives is not what was asked for, but as long."""
    breaks: bool = False
    """True: what it gives ends in the middle."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[LfsServer]:
    """Serve until the context ends."""
    files = certificate.ensure_certificate(folder, ["127.0.0.1"])
    made = LfsServer(trusted=files.certificate)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_is": made}))
    http.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    made.url = f"https://127.0.0.1:{http.server_port}/acme/api.git/info/lfs"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_is: LfsServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._may(body.get("operation", "")):
            return
        if not self.path.endswith("/objects/batch"):
            self._answer(404, {"message": "not found"})
            return
        rows = [self._row(body["operation"], one) for one in body["objects"]]
        self._answer(200, {"transfer": "basic", "objects": rows})

    def do_GET(self) -> None:
        here = self.server_is
        body = here.files.get(self.path.rpartition("/")[2], b"")
        if here.lies:
            body = bytes(len(body))
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if here.breaks:
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server_is.files[self.path.rpartition("/")[2]] = body
        self._answer(200, {})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        self.server_is.asked.append(format % args)

    def _may(self, operation: str) -> bool:
        here = self.server_is
        known = base64.b64encode(":".join(LOGIN).encode()).decode()
        if here.wants_login and self.headers.get("authorization") != f"Basic {known}":
            self._answer(401, {"message": "credentials needed"}, {"lfs-authenticate": "Basic"})
            return False
        if operation in here.refuses:
            self._answer(403, {"message": "Access forbidden. Check your access level."})
            return False
        return True

    def _row(self, operation: str, one: dict[str, Any]) -> dict[str, Any]:
        here, oid = self.server_is, one["oid"]
        there = oid in here.files
        action = {"href": f"{here.url.partition('/acme')[0]}/store/{oid}"}
        if operation == "upload":
            return one if there else {**one, "actions": {"upload": action}}
        if not there:
            return {**one, "error": {"code": 404, "message": "there is no such file"}}
        return {**one, "authenticated": True, "actions": {"download": action}}

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": _MEDIA, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
