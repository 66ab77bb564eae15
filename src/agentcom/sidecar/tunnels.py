"""The way to a hub that only another computer can reach: a port of this one, forwarded by ssh.

ssh itself does what ssh does: keys, agents, `~/.ssh/config`. It is never asked anything and asks
nobody: a host whose key is not known yet is refused, so that nobody in between can be taken for
it. Only this computer's loopback has the port, and the hub asks for a token there as anywhere.
"""

import asyncio
import contextlib
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import structlog

from agentcom.client import dialling
from agentcom.client.link import Link
from agentcom.model import errors
from agentcom.model.ids import Rng
from agentcom.sidecar.config import Config
from agentcom.sidecar.lifetime import cancel

OPEN_S: Final = 20.0
"""A handshake over a slow line; for a join, which waits for it."""
RETRY_S: Final = 1.0
RETRY_MAX_S: Final = 30.0
"""As patient as the link itself, whose dials end at a closed port meanwhile."""
LASTING_S: Final = 60.0
"""A tunnel that stood so long is made again without a pause that grew before."""
END_S: Final = 3.0
_LOOK_S: Final = 0.05
_SAID_BYTES: Final = 4_096
_PORT_MAX: Final = 65_535
_VIA: Final = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]{0,63})@)?"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?)(?::(?P<port>[0-9]{1,5}))?/?"
)
_OPTIONS: Final = (
    "BatchMode=yes",  # nobody is there to be asked
    "StrictHostKeyChecking=yes",
    "ExitOnForwardFailure=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",  # a dead line is noticed in half a minute, and made anew
    "ServerAliveCountMax=3",
    "ControlMaster=no",  # a tunnel of its own, which ends when we say so
    "ControlPath=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
)

log = structlog.get_logger(__name__)


class Via(NamedTuple):
    """The computer that can reach the hub."""

    host: str
    user: str = ""
    port: int | None = None


def parse(text: str) -> Via:
    """Return what `ssh://[USER@]HOST[:PORT]` names.

    Raises:
        InvalidInput: it is not of that form; nothing that ssh could take for an option is.
    """
    found = _VIA.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port <= _PORT_MAX):
        raise errors.InvalidInput("via", "write ssh://[USER@]HOST[:PORT]")
    return Via(found["host"], found["user"] or "", port)


def command(via: Via, url: str, port: int) -> Sequence[str]:
    """Return the ssh that forwards a port of this computer to the hub at `url`.

    Raises:
        InvalidInput: the address is none, or would send the token in clear behind the tunnel.
    """
    parts = urlsplit(dialling.check_url(url))
    host, secure = parts.hostname or "", parts.scheme == "wss"
    there = f"[{host}]" if ":" in host else host
    to = parts.port or (443 if secure else 80)
    words = ["ssh", "-N", "-T", *(word for option in _OPTIONS for word in ("-o", option))]
    words += ["-L", f"127.0.0.1:{port}:{there}:{to}"]
    words += ["-p", str(via.port)] if via.port is not None else []
    words += ["-l", via.user] if via.user else []
    return [*words, "--", via.host]


def local(url: str, port: int) -> str:
    """Return the hub's address at this end of the tunnel."""
    parts = urlsplit(url)
    return f"{parts.scheme}://127.0.0.1:{port}{parts.path}"


@contextlib.contextmanager
def opened(via: str, url: str) -> Iterator[str]:
    """Open a tunnel for some calls; yield the hub's address at this end.

    Raises:
        Unavailable: ssh did not get through; the message has its last words.
    """
    port = free_port()
    words = command(parse(via), url, port)
    try:
        process = subprocess.Popen(  # noqa: S603 - a list; its parts were checked
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise errors.Unavailable(f"ssh does not start: {error.strerror}") from error
    try:
        _await_port(process, port, via)
        yield local(url, port)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        process.kill()
        process.communicate()


@contextlib.asynccontextmanager
async def kept(config: Config) -> AsyncIterator[Config]:
    """Keep a machine's tunnel, if it has one; yield the configuration with this end of it."""
    machine = config.machine
    if not machine.via:
        yield config
        return
    port = free_port()
    words = command(parse(machine.via), machine.hub, port)
    near = msgspec.structs.replace(machine, hub=local(machine.hub, port))
    keeping = asyncio.create_task(_keep(words, machine.via))
    try:
        yield msgspec.structs.replace(config, machine=near)
    finally:
        await cancel([keeping])


def link(config: Config, rng: Rng, software: str) -> Link:
    """Return the link of a machine to its hub, by this end of its tunnel if it has one."""
    hub = config.machine
    return Link(
        hub.hub,
        config.token,
        rng=rng,
        fingerprint=hub.fingerprint,
        software=software,
        insecure=hub.insecure,
    )


def free_port() -> int:
    """Return a port of the loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _keep(words: Sequence[str], via: str) -> None:
    pause_s = RETRY_S
    while True:
        began = time.monotonic()
        reason = await _once(words)
        log.warning("tunnel.lost", via=via, reason=reason)
        pause_s = RETRY_S if time.monotonic() - began > LASTING_S else pause_s
        await asyncio.sleep(pause_s * (0.5 + random.random() / 2))  # noqa: S311 - no secret
        pause_s = min(2 * pause_s, RETRY_MAX_S)


async def _once(words: Sequence[str]) -> str:
    """Run ssh until it ends; return why it did."""
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    # A sidecar that is killed takes its ssh with it, where the system can do that.
    tied = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
    argv = (*tied, *words)
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=null, stdout=null, stderr=pipe)
    except OSError as error:
        return f"ssh does not start: {error.strerror}"
    assert process.stderr is not None
    said = b""
    try:
        while chunk := await process.stderr.read(_SAID_BYTES):
            said = (said + chunk)[-_SAID_BYTES:]
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise
    return _words(said, code)


def _await_port(process: "subprocess.Popen[bytes]", port: int, via: str) -> None:
    deadline = time.monotonic() + OPEN_S
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise errors.Unavailable(f"{via} was not reached in {OPEN_S:.0f} s")
        time.sleep(_LOOK_S)
    assert process.stderr is not None
    reason = _words(process.stderr.read(_SAID_BYTES), process.returncode)
    raise errors.Unavailable(f"no way by {via}: {reason}")


def _words(said: bytes, code: int) -> str:
    text = said.decode("utf-8", "replace")
    if "host key verification failed" in text.lower():
        return "its host key is not known here: ssh to it once, and compare the key"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"ssh ended with exit {code}"
