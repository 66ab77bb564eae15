"""Connecting to the supervisor of an attempt, in whatever folder its socket is."""

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agentcom.sidecar import attempt_files, processes

RETRY_MS: Final = 50
_SOCKET_PATH_BYTES_MAX: Final = 100


async def connect(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connect to the supervisor; None if it is gone."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        while not _try_connect(connection, folder):  # noqa: ASYNC110 - another process's queue
            await asyncio.sleep(RETRY_MS / 1000)
        return await asyncio.open_unix_connection(sock=connection)
    except (FileNotFoundError, ConnectionError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise


def _try_connect(connection: socket.socket, folder: Path) -> bool:
    """Connect, or return False if too many others wait; asyncio would take that for success."""
    with _short_path(folder) as path, contextlib.suppress(BlockingIOError):
        connection.connect(path)
        return True
    return False


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """Yield a path to the socket that fits into the kernel's 108 (macOS: 104) bytes."""
    path = str(folder / attempt_files.SOCKET)
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        yield path
        return
    if processes.has_table():
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{handle}/{attempt_files.SOCKET}"
        finally:
            os.close(handle)
        return
    with tempfile.TemporaryDirectory(prefix="ac-", dir="/tmp") as short:
        link = Path(short) / "a"
        link.symlink_to(folder)
        yield f"{link}/{attempt_files.SOCKET}"


async def close(writer: asyncio.StreamWriter) -> None:
    """End a connection."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
