"""How an agent asks for sub-tasks: a file it drops in its task's folder, and one it gets back.

The agent writes `.agentcom/submit/NAME.json` (elsewhere first, then renames it: a file that is
there is complete), a list of tasks as `agentcom submit -f` takes it. The answer comes as
`.agentcom/submitted/NAME.json`, and the request goes. Both folders are opened without following
links, since the agent may write there and this process may write more than the agent.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agentcom.model.errors import InvalidInput
from agentcom.model.limits import FRAME_BYTES, SUBTASKS_PER_TASK
from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from agentcom.protocol.asked import TaskAsked
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Key

OWN: Final = ".agentcom"
IN: Final = "submit"
OUT: Final = "submitted"
LOOK_MS: Final = 500
"""How often the folder is looked at while its agent runs; that is one system call."""
DROP_BYTES_MAX: Final = FRAME_BYTES * 3 // 4
"""Of one file: it has to fit into one frame, with all that is left out in it."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.json")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DRAFT: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC

Answer = msgspec.Raw | frames.ErrorFrame
Ask = Callable[[values.Asked], Awaitable[Answer]]

log = structlog.get_logger(__name__)


class _Several(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tasks: tuple[TaskAsked, ...]


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Refused(msgspec.Struct, frozen=True):
    error: _Error


@contextlib.asynccontextmanager
async def served(key: Key, where: Path, ask: Ask) -> AsyncIterator[None]:
    """Answer what the agent of an attempt drops in the folder `where`, while the context lasts.

    What is there when the agent ends is asked for, too, but nobody waits for that answer.
    """
    over = asyncio.Event()

    async def serve() -> None:
        while not over.is_set():
            await _serve_all(key, where, ask)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_MS / 1000):
                    await over.wait()
        await _serve_all(key, where, ask)

    server = asyncio.create_task(serve())
    try:
        yield
        over.set()
        # The questions themselves are sent in order, before the result is.
        await asyncio.wait([server], timeout=LOOK_MS / 1000)
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


def waiting(where: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield the requests that lie in a folder, by name; None for one that cannot be read."""
    with contextlib.suppress(OSError), _folder(where, IN) as folder:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a descriptor
        for name in names[: SUBTASKS_PER_TASK + 1]:
            if _NAME.fullmatch(name):
                yield name, _read(folder, name)


def parse(data: bytes | None) -> tuple[TaskSpec, ...]:
    """Return the tasks of a request.

    Raises:
        ValueError: it is not understood, or too long.
    """
    if data is None:
        raise ValueError(f"it is no plain file of at most {DROP_BYTES_MAX} bytes")
    found: _Several | tuple[TaskAsked, ...] | TaskAsked
    start = data.lstrip()[:1]
    if start == b"[":
        found = msgspec.json.decode(data, type=tuple[TaskAsked, ...])
    elif b'"tasks"' in data:
        found = msgspec.json.decode(data, type=_Several)
    else:
        found = msgspec.json.decode(data, type=TaskAsked)
    if isinstance(found, TaskAsked):
        return (found.spec(),)
    several = found.tasks if isinstance(found, _Several) else found
    return tuple(one.spec() for one in several)


async def _serve_all(key: Key, where: Path, ask: Ask) -> None:
    await asyncio.gather(*[_serve(key, where, ask, name, data) for name, data in waiting(where)])


async def _serve(key: Key, where: Path, ask: Ask, name: str, data: bytes | None) -> None:
    digest = hashlib.sha256(data or b"").hexdigest()[:16]
    said: Answer
    try:
        tasks = parse(data)
        said = await ask(values.Asked(key, f"{name.removesuffix('.json')[:40]}-{digest}", tasks))
    except (ValueError, RecursionError) as error:
        said = frames.ErrorFrame(code=InvalidInput.code, message=str(error))
    answer = bytes(said) if isinstance(said, msgspec.Raw) else _refusal(said)
    try:
        _answer(where, name, answer)
    except OSError as error:
        log.warning("drop.not_answered", task=key.task, name=name, reason=str(error))


def _refusal(error: frames.ErrorFrame) -> bytes:
    return msgspec.json.encode(_Refused(_Error(error.code, error.message)))


@contextlib.contextmanager
def _folder(where: Path, name: str) -> Iterator[int]:
    top = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own = os.open(OWN, _FOLDER, dir_fd=top)
    finally:
        os.close(top)
    try:
        inner = os.open(name, _FOLDER, dir_fd=own)
    except FileNotFoundError:
        if name != OUT:
            raise
        os.mkdir(name, 0o755, dir_fd=own)
        inner = os.open(name, _FOLDER, dir_fd=own)
    finally:
        os.close(own)
    try:
        yield inner
    finally:
        os.close(inner)


def _read(folder: int, name: str) -> bytes | None:
    try:
        handle = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_size > DROP_BYTES_MAX:
            return None
        return file.read(DROP_BYTES_MAX)


def _answer(where: Path, name: str, answer: bytes) -> None:
    """Write the answer whole, and only then take the request away."""
    with _folder(where, OUT) as folder:
        draft = f".{name}"
        with os.fdopen(os.open(draft, _DRAFT, 0o644, dir_fd=folder), "wb") as file:
            file.write(answer)
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    with _folder(where, IN) as folder:
        os.unlink(name, dir_fd=folder)
