"""The archive of `agentcom doctor --bundle`: what a report of a bug needs, and no secret.

Everything that goes in is text, is redacted with what is known to be secret here, and is then read
by the scanner that watches what agents publish. What that still objects to stays out.
"""

import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec

from agentcom import __version__, app
from agentcom.cli import api, background, context, log_files, output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.hub import config as hub_config
from agentcom.model.errors import AgentComError
from agentcom.sidecar import known_secrets, secrets_scan
from agentcom.sidecar.config import Home
from agentcom.telemetry.redact import GONE, SECRET_CHARS_MIN, cleaned, redact, secrets_of

LOG_BYTES: Final = 1 << 20
"""Of each log the newest."""
MEMBER_CHARS: Final = 4 << 20
FIELD_CHARS: Final = 16_384
EXTRAS: Final = ("uvloop", "mcp", "apsw", "msgspec", "picows", "starlette", "uvicorn", "websockets")
_SCHEMA_AT: Final = 60
"""Where an SQLite file has the number of its schema, four bytes long."""


class Member(NamedTuple):
    """One file of the archive, or why there is none."""

    name: str
    text: str
    left_out: str = ""


def check(path: Path) -> None:
    """Raise `CommandFailed` if there is a file of that name."""
    if path.exists():
        raise CommandFailed(
            f"{path} exists already", hint="another name", exit_code=Exit.STALE, code="conflict"
        )


def write(path: Path, findings: list[dict[str, Any]]) -> None:
    """List what goes into the archive, and write it, readable for its owner alone."""
    secrets = _secrets()
    members = [_cleared(member, secrets) for member in _members(findings)]
    for member in members:
        size = member.left_out or f"{len(member.text.encode()):,} bytes"
        output.talk(f"  {member.name:<24} {size}")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for member in members:
            if not member.left_out:
                _add(archive, member)
    click.echo(str(path))
    output.talk(
        "note: read it before you send it: it names machines, agents, folders and addresses"
    )


def _members(findings: list[dict[str, Any]]) -> Iterator[Member]:
    yield _json("about.json", _about)
    yield _json("doctor.json", lambda: findings)
    yield _json("hub-settings.json", _hub_settings)
    yield _json("machine.json", _machine)
    yield _json("contexts.json", _contexts)
    yield _json("status.json", _status)
    yield _text("metrics.txt", lambda: _hub("/metrics"))
    yield _text("log-levels.json", lambda: _hub("/log-level"))
    for log in log_files.files(context.home()):
        records = list(log_files.records(log, LOG_BYTES))
        text = "".join(json.dumps(record) + "\n" for record in records)
        yield Member(f"logs/{log.name.replace('.log', '.jsonl')}", text)


def _cleared(member: Member, secrets: set[str]) -> Member:
    """Return a member without secrets, or without content if that cannot be had."""
    if member.left_out:
        return Member(member.name, "", redact(member.left_out, secrets))
    text = "".join(_clean(line, secrets) for line in member.text.splitlines(keepends=True))
    text = redact(text, secrets).replace(str(Path.home()), "~")
    if len(text) > MEMBER_CHARS:
        return Member(member.name, "", "left out: too large")
    found = secrets_scan.scan(member.name, text.replace(GONE, "").encode())
    if found or any(one in text for one in secrets if len(one) >= SECRET_CHARS_MIN):
        kind = found[0].kind if found else "a secret of this computer"
        return Member(member.name, "", f"left out: it seems to have {kind} in it")
    return Member(member.name, text)


def _clean(line: str, secrets: set[str]) -> str:
    """Redact the fields of a line of JSON one by one, since JSON escapes what is in them."""
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict):
        return line
    return json.dumps(cleaned(found, FIELD_CHARS, secrets)) + "\n"


def _json(name: str, read: Callable[[], object]) -> Member:
    def text() -> str:
        shown = cleaned(json.loads(msgspec.json.encode(read(), enc_hook=str)), FIELD_CHARS)
        return json.dumps(shown, indent=2) + "\n"

    return _text(name, text)


def _text(name: str, read: Callable[[], str]) -> Member:
    try:
        return Member(name, read())
    except AgentComError as error:
        return Member(name, "", f"left out: {error.message}")
    except (OSError, ValueError) as error:
        return Member(name, "", f"left out: {error}")


def _about() -> Mapping[str, Any]:
    names = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {
        "agentcom": __version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "git": _git(),
        "packages": {name: names[name] for name in EXTRAS if name in names},
        "schema": _schema(context.hub_home() / app.STORE_FILE),
        "running": [name for name in background.recorded() if background.running(name)],
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _git() -> str:
    try:
        words = ["git", "--version"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - fixed
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return done.stdout.strip()


def _schema(store: Path) -> int | None:
    """Return the number of the store's schema, also of a store that cannot be opened."""
    try:
        with store.open("rb") as file:
            head = file.read(_SCHEMA_AT + 4)
    except OSError:
        return None
    return int.from_bytes(head[_SCHEMA_AT:]) if len(head) == _SCHEMA_AT + 4 else None


def _hub_settings() -> object:
    return hub_config.load(flags={"home": context.hub_home()})


def _machine() -> object:
    home = Home(context.machine_home())
    return home.load().machine if home.exists() else None


def _contexts() -> object:
    return [{"url": one.url, "user": one.user, "home": one.home} for one in context.known()]


def _status() -> object:
    hub = api.connect()
    return {**hub.status(), **hub.whoami()}


def _hub(path: str) -> str:
    return api.connect().send("GET", path).decode()


def _secrets() -> set[str]:
    """Return what is known to be secret here; what cannot be read is not in the bundle either."""
    found = secrets_of(os.environ)
    for read in (_context_secrets, _machine_secrets):
        try:
            found |= read()
        except (AgentComError, OSError):
            continue
    return found


def _context_secrets() -> set[str]:
    return {one.token for one in context.known() if one.token}


def _machine_secrets() -> set[str]:
    home = Home(context.machine_home())
    return known_secrets.of(home.load()) if home.exists() else set()


def _add(archive: tarfile.TarFile, member: Member) -> None:
    data = member.text.encode()
    entry = tarfile.TarInfo(f"agentcom-report/{member.name}")
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(data))
