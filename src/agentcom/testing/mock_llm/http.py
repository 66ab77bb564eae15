"""As much HTTP/1.1 as a test server needs: chunked and gzip bodies in, chunks out."""

import asyncio
import gzip
import zlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agentcom.model import errors

HEAD_BYTES_MAX: Final = 64 << 10
"""Agents send long header lists, but not that long."""

BODY_BYTES_MAX: Final = 64 << 20
"""A long history with tool output; more is a runaway client."""


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request with its body, decompressed; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    """Return the next request, or None when the client has closed the connection.

    Raises:
        MalformedInput: this is no HTTP, or the body does not decompress.
        TooLarge: the body is over the limit.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except asyncio.LimitOverrunError as error:
        raise errors.MalformedInput("the request head is too long") from error
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:  # noqa: PLR2004 -- a request line has three words
        raise errors.MalformedInput("no request line")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    raw = await _read_body(reader, headers)
    return HttpRequest(
        method=words[0], path=urlsplit(words[1]).path, headers=headers, body=_plain(raw, headers)
    )


def head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    """Return the status line and headers."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body; the empty chunk ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    try:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return await _read_chunks(reader)
        size = int(headers.get("content-length", "0"))
        if size > BODY_BYTES_MAX:
            raise errors.TooLarge(f"the body is over {BODY_BYTES_MAX} bytes")
        return await reader.readexactly(size)
    except (ValueError, asyncio.IncompleteReadError) as error:
        raise errors.MalformedInput("the body ends early or has no length") from error


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = bytearray()
    while True:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        if len(parts) + size > BODY_BYTES_MAX:
            raise errors.TooLarge(f"the body is over {BODY_BYTES_MAX} bytes")
        if size == 0:
            break
        parts += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass  # trailers
    return bytes(parts)


def _plain(raw: bytes, headers: Mapping[str, str]) -> bytes:
    if headers.get("content-encoding", "").lower() != "gzip":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise errors.MalformedInput("the body is not gzip") from error
