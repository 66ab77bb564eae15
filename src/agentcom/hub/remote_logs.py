"""Logs of attempts: the whole of one stays on the disk of its machine, which is asked for parts."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final

from agentcom.model.errors import RateLimited, Timeout, Unavailable
from agentcom.model.ids import Fence, MachineId, TaskId
from agentcom.protocol.live import LogPart, LogWanted

WAIT_S_MAX: Final = 10.0
"""A machine reads its disk in milliseconds; it may be on a slow line."""
ASKED_MAX: Final = 256
"""Parts that are on their way at once, 64 KiB each: people reading, not programs."""
_BUSY_MS: Final = 1_000

Bring = Callable[[MachineId, LogWanted], bool]


class RemoteLogs:
    """Asks machines for parts of logs, and hands on what they answer."""

    def __init__(self, bring: Bring) -> None:
        self._bring = bring
        self._keys = count(1)
        self._asked: dict[tuple[MachineId, str], asyncio.Future[LogPart]] = {}

    async def read(self, machine: MachineId, task: TaskId, fence: Fence, offset: int) -> LogPart:
        """Return the part of an attempt's log that begins at `offset`.

        Raises:
            RateLimited: too many parts are on their way.
            Unavailable: the machine is not connected, or too much is on its way to it.
            Timeout: it gives no answer.
        """
        if len(self._asked) >= ASKED_MAX:
            raise RateLimited("too many logs are read at once", _BUSY_MS)
        key = str(next(self._keys))
        answer: asyncio.Future[LogPart] = asyncio.get_running_loop().create_future()
        self._asked[machine, key] = answer
        try:
            wanted = LogWanted(key=key, task=task, fence=fence, offset=offset)
            if not self._bring(machine, wanted):
                raise Unavailable("its machine, which has the log, is not connected")
            async with asyncio.timeout(WAIT_S_MAX):
                return await answer
        except TimeoutError as error:
            raise Timeout("its machine, which has the log, does not answer") from error
        finally:
            del self._asked[machine, key]

    def took(self, machine: MachineId, part: LogPart) -> None:
        """Hand on a machine's answer, if somebody still waits for it."""
        answer = self._asked.get((machine, part.key))
        if answer is not None and not answer.done():
            answer.set_result(part)
