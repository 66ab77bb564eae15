"""Files that go with messages, by their content: bytes in a folder, and a row for each project.

The bytes are on the disk, synced, before the row is. A file that nobody sent for a while goes.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import msgspec

from agentcom.hub.clock import Clock
from agentcom.hub.speaking import Speaker
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.model.errors import AgentComError, InvalidInput, NotFound, StorageFull
from agentcom.model.ids import ProjectId, WallTime
from agentcom.model.message import Attachment, Head
from agentcom.model.shared_note import Blob, blob_key
from agentcom.store.base import Query, Store

FOLDER: Final = "blobs"
"""Beside the store."""
NAME_CHARS: Final = 200
MEDIA_CHARS: Final = 100
PRUNE_ROWS: Final = 500
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FULL: Final = frozenset({28, 122})  # ENOSPC, EDQUOT

replace: Final = msgspec.structs.replace


class QuotaFull(AgentComError):
    """The project's files have no more room."""

    code = "quota_full"
    status = 413


class Blobs:
    """The files of all projects."""

    def __init__(self, folder: Path, store: Store, writer: Writer, clock: Clock) -> None:
        self._folder = folder
        self._store = store
        self._writer = writer
        self._clock = clock

    async def put(
        self, who: Speaker, data: bytes, *, name: str, media: str, asked: Asked
    ) -> Blob | msgspec.Raw:
        """Keep a file, or keep it for longer if it is there.

        Raises:
            InvalidInput: it is empty, or its name or type is too long.
            QuotaFull: the project has no room for it.
        """
        if not data:
            raise InvalidInput("$", "an empty file cannot be sent")
        if len(name) > NAME_CHARS or len(media) > MEDIA_CHARS:
            raise InvalidInput("name", f"at most {NAME_CHARS} characters")
        digest = hashlib.sha256(data).hexdigest()
        key = blob_key(who.project, digest)

        async def decide(draft: Draft) -> Blob:
            row = cast("Blob | None", await self._writer.get(draft, Table.BLOB, key))
            await asyncio.to_thread(self._keep, data)  # under the lock: nobody prunes now
            blob = Blob(
                digest=digest,
                bytes=len(data),
                owner=who.address,
                created_at=self._clock.now().wall,
                media=media,
                name=name,
                project=who.project,
                version=1 if row is None else row.version + 1,
            )
            if row is None:
                await self._count(draft, who.project, len(data))
            draft.put(Table.BLOB, key, blob, row)
            return blob

        return await self._writer.once(who.address, asked, decide)

    async def get(self, who: Speaker, digest: str) -> tuple[Blob, bytes]:
        """Return a file of the caller's project; raises `NotFound`."""
        row = await self._row(who.project, digest)
        try:
            data = await asyncio.to_thread(self._path(digest).read_bytes)
        except FileNotFoundError:
            raise NotFound("this file is not here any more") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise NotFound("this file is damaged; it has to be sent again")
        return row, data

    async def check(self, project: ProjectId, attachments: Sequence[Attachment]) -> None:
        """Return if all attachments are files of the project; raises `NotFound`."""
        for attachment in attachments:
            row = await self._row(project, attachment.digest)
            if attachment.bytes not in (0, row.bytes):
                raise InvalidInput("attachments", "the size is not that of the file")

    async def prune(self, now: WallTime) -> int:
        """Delete files that nobody sent for long; return how many."""
        gone, after = 0, ""
        while True:
            query = Query(table=Table.BLOB, after=after, limit=PRUNE_ROWS)
            page = await self._store.query(query)
            for row in cast("list[Blob]", page.rows):
                if row.created_at + limits.BLOB_KEEP_MS <= now:
                    await self._forget(row)
                    gone += 1
            if page.next is None:
                return gone
            after = page.next

    async def _forget(self, row: Blob) -> None:
        key = blob_key(row.project, row.digest)

        async def decide(draft: Draft) -> Blob:
            now = cast("Blob | None", await self._writer.get(draft, Table.BLOB, key))
            if now != row:  # it was sent again meanwhile
                return row
            draft.drop(Table.BLOB, key, row)
            await self._count(draft, row.project, -row.bytes)
            others = Query(table=Table.BLOB, fragment=f"/{row.digest}", limit=2)
            if len((await self._store.query(others)).rows) == 1:  # no other project has it
                draft.after.append(lambda: self._path(row.digest).unlink(missing_ok=True))
            return row

        await self._writer.once("hub", Asked(cause="prune"), decide)

    async def _row(self, project: ProjectId, digest: str) -> Blob:
        if _DIGEST.fullmatch(digest) is None:
            raise InvalidInput("digest", "64 hexadecimal digits: the SHA-256 of the file")
        (row,) = await self._store.get([(Table.BLOB, blob_key(project, digest))])
        if not isinstance(row, Blob):
            raise NotFound("there is no such file; send it first")
        return row

    async def _count(self, draft: Draft, project: ProjectId, more: int) -> None:
        log = f"blobs/{project}"
        row = cast("Head | None", await self._writer.get(draft, Table.HEAD, log))
        head = row or Head(log=log, version=0)
        if more > 0 and head.open_bytes + more > limits.BLOBS_BYTES:
            raise QuotaFull(f"the files of a project have {limits.BLOBS_BYTES} bytes at most")
        after = replace(head, open_bytes=head.open_bytes + more, version=head.version + 1)
        draft.put(Table.HEAD, log, after, row)

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _keep(self, data: bytes) -> None:
        """Write a file durably under its digest, unless it is there."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            if path.exists() and path.stat().st_size == len(data):
                return
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f".{digest}.{os.getpid()}")
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull("the disk is full: the file was not kept") from None
            raise
