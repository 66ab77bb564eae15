"""Looking for secrets in everything that a push would publish: files and commit messages.

Each search has a budget. What it does not pay for counts as a finding: nothing unread is published.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from agentcom.model import refs
from agentcom.sidecar import lfs, secrets_scan
from agentcom.sidecar.repositories import Cache
from agentcom.sidecar.secrets_scan import Finding

BATCH_BYTES_MAX: Final = 64 * 1024 * 1024
"""What one search holds in memory at a time, unless one file is larger."""
FILE_BYTES_MAX: Final = 128 * 1024 * 1024
"""More than common forges take, and less than one command may print."""
SEARCH_BYTES_MAX: Final = 512 * 1024 * 1024
"""What one search reads in all."""
SEARCH_S_MAX: Final = 60.0
"""The lease and the push wait for it, so what is not read by then stays here."""
TOO_LARGE: Final = "too large"


class Budget:
    """What a search may still read, and until when."""

    def __init__(self) -> None:
        self._left_bytes = SEARCH_BYTES_MAX
        self._ends_s = time.monotonic() + SEARCH_S_MAX

    @property
    def late(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() > self._ends_s

    def take(self, size_bytes: int) -> bool:
        """Tell whether so much may still be read, and count it."""
        if size_bytes > min(self._left_bytes, FILE_BYTES_MAX):
            return False
        self._left_bytes -= size_bytes
        return True


async def search_commits(cache: Cache, base: str, commit: str) -> list[Finding]:
    """Return the secrets in every file version and message that `base..commit` would publish."""
    if base == commit:
        return []
    past = await published(cache, refs.check_commit(base), refs.check_commit(commit))
    found = await search(cache, past, file_bytes_max=FILE_BYTES_MAX, budget=Budget())
    return [finding for one in found.values() for finding in one]


async def published(cache: Cache, start: str, head: str) -> dict[str, str]:
    """Return every object that is new in the history of `head`, with a name for people."""
    args = ("rev-list", "--objects", head, f"^{start}", "--not", "--remotes=origin")
    found = await cache.run(*args)
    rows = (line.partition(" ") for line in found.text.splitlines())
    return {oid: path or f"commit {oid[:12]}" for oid, _, path in rows}


async def search(
    cache: Cache, objects: Mapping[str, str], *, file_bytes_max: int, budget: Budget
) -> dict[str, list[Finding]]:
    """Return what is wrong with each of `objects` (hash to name); trees are skipped."""
    bad: dict[str, list[Finding]] = {}
    batch: list[str] = []
    total = 0
    for size, oid in await _sizes(cache, objects):
        if size > file_bytes_max:
            bad[oid] = [Finding(path=objects[oid], line=0, kind=TOO_LARGE)]
            continue
        if not budget.take(size):
            bad[oid] = [_unread(objects[oid])]
            continue
        if total + size > BATCH_BYTES_MAX:
            bad |= await _read_and_scan(cache, batch, objects, budget)
            batch, total = [], 0
        batch.append(oid)
        total += size
    bad |= await _read_and_scan(cache, batch, objects, budget)
    return {oid: bad[oid] for oid in objects if oid in bad}


async def _sizes(cache: Cache, objects: Mapping[str, str]) -> list[tuple[int, str]]:
    """Return the size of each file and commit, small ones first: they hold most secrets."""
    if not objects:
        return []
    names = "".join(f"{oid}\n" for oid in objects).encode()
    rows = (await cache.run("cat-file", "--batch-check", data=names)).text.splitlines()
    found = (row.split(" ") for row in rows)
    return sorted((int(size), oid) for oid, kind, size in found if kind != "tree")


async def _read_and_scan(
    cache: Cache, batch: list[str], objects: Mapping[str, str], budget: Budget
) -> dict[str, list[Finding]]:
    if not batch:
        return {}
    if budget.late:
        return {
            oid: [Finding(path=objects[oid], line=0, kind=secrets_scan.UNREAD)] for oid in batch
        }
    names = "".join(f"{oid}\n" for oid in batch).encode()
    out = (await cache.run("cat-file", "--batch", data=names)).out
    return await asyncio.to_thread(_scan, cache, out, objects, budget)


def _unread(name: str) -> Finding:
    return Finding(path=name, line=0, kind=secrets_scan.UNREAD)


def _scan(
    cache: Cache, out: bytes, objects: Mapping[str, str], budget: Budget
) -> dict[str, list[Finding]]:
    bad: dict[str, list[Finding]] = {}
    at = 0
    while at < len(out):
        end = out.index(b"\n", at)
        oid, _, size = out[at:end].decode().split(" ")
        at = end + 1 + int(size) + 1
        body = lfs.content(cache, out[end + 1 : at - 1])
        found = secrets_scan.scan(objects[oid], body, late=lambda: budget.late)
        if found:
            bad[oid] = found
    return bad
