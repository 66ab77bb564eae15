"""A computer on which something is wrong, as `agentcom doctor` sees it."""

import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from agentcom.cli import checkup, context, errors
from agentcom.cli.root import root
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig
from agentcom.testing.waiting import PATIENCE_S

DEAD_PID: Final = 2**22 + 1
"""Above what Linux gives out by default."""
UNKNOWN: Final = "acm_usr_00000000_" + "0" * 43
GOOD: Final = {"/readyz": (200, {"detail": "ready"}), "/healthz": (200, {"detail": "alive"})}


class Patient:
    """A home with a fault in it, and what a doctor says of it."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder

    def rows(self, *, mend: bool = False) -> list[dict[str, Any]]:
        """Return what `doctor --quick` finds that is not well."""
        rows = checkup.run(checkup.Scope.QUICK, mend=mend)
        return [row for row in rows if row["id"] is not None]

    def fix_of(self, finding: str) -> str:
        """Return the fix of a finding that is there; fails if it is not."""
        rows = self.rows()
        (fix,) = [row["fix"] for row in rows if row["id"] == finding] or [None]
        assert fix, f"{finding} is not among {rows}"
        return str(fix)

    def has(self, finding: str) -> bool:
        """Whether a finding is there."""
        return finding in {row["id"] for row in self.rows()}

    def do(self, command: str) -> None:
        """Run a fix as a person would type it; quick ones of ours in this process."""
        words = shlex.split(command)
        if words[:2] in (
            ["agentcom", "agent"],
            ["agentcom", "machine"],
            ["agentcom", "resume"],
            ["agentcom", "pause"],
        ):
            assert errors.run(root, words[1:]) == 0, command
            return
        programs = Path(sys.executable).parent
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def knows(self, url: str, token: str = UNKNOWN, **more: str) -> None:
        """Remember a hub."""
        context.save(context.Context(url=url, token=token, **more))

    def is_machine(self, hub: str, machine: str, *agents: AgentConfig) -> Home:
        """Be a machine of a hub."""
        home = Home(self.home / "machine")
        home.save(MachineConfig(hub=hub, machine=machine, agents=agents), "acm_mch_x")  # type: ignore[arg-type]  # any id
        return home


def program(folder: Path, name: str, says: str) -> Path:
    """Put a program on the disk that only says something."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return folder


@contextmanager
def server(
    answers: Mapping[str, tuple[int, object]], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Answer HTTP on a free port of the loopback, and no WebSocket; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, {"code": "not_found"}))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

        def get_request(self) -> tuple[socket.socket, Any]:
            plain, address = self.socket.accept()
            plain.settimeout(PATIENCE_S)
            return (plain if tls is None else tls.wrap_socket(plain, server_side=True)), address

    made = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://localhost:{made.server_port}"
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def certificate(folder: Path, *, name: str = "localhost", days: int = 2) -> tuple[Path, Path]:
    """Make an authority, and a certificate of it for `name`; return the authority's and the other.

    The second file has the key in it, too. With negative days it is over.
    """
    folder.mkdir()
    authority, key, asked, made = (folder / one for one in ("ca.crt", "ca.key", "csr", "crt"))
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl("req", "-x509", *new, "-keyout", key, "-out", authority, "-subj", "/CN=Authority")
    _openssl("req", *new, "-keyout", made, "-out", asked, "-subj", f"/CN={name}")
    extra = folder / "extra"
    extra.write_text(f"subjectAltName=DNS:{name}\n")
    end = ["-days", str(days)]
    by: list[str | Path] = ["-CA", authority, "-CAkey", key, "-CAcreateserial", "-extfile", extra]
    signed = _openssl("x509", "-req", "-in", asked, *by, *end)
    with made.open("a") as file:
        file.write(signed)
    return authority, made


def serving(chain: Path) -> ssl.SSLContext:
    """Return how a server shows a certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    return tls


def _openssl(*words: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *map(str, words)], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
