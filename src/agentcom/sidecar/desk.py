"""What others have for the agent of one run while it runs: letters that begin turns, permissions.

A turn's prompt is on disk before it is said. So a sidecar that starts again, and reads of the end
of the turn before once more, has the same prompt for the next.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from agentcom.model.ids import AgentId
from agentcom.model.message import MessageId
from agentcom.sidecar import envelope, repositories
from agentcom.sidecar.machine_mail import Mail, names_of
from agentcom.sidecar.machine_values import Key
from agentcom.sidecar.permissions import Permissions
from agentcom.sidecar.runtime import base

log = structlog.get_logger(__name__)


class _Turn(msgspec.Struct, frozen=True):
    """A turn that letters begin."""

    text: str
    letters: dict[AgentId, dict[int, MessageId]]


class RunDesk:
    """The desk of one run; see `talking.Desk`."""

    def __init__(
        self,
        agent: AgentId,
        key: Key,
        folder: Path,
        *,
        mail: Mail,
        permissions: Permissions,
        may_wake: Callable[[], bool],
    ) -> None:
        """`folder` is the run's."""
        self._agent = agent
        self._key = key
        self._folder = folder
        self._mail = mail
        self._permissions = permissions
        self._may_wake = may_wake
        self.woken = 0
        """Turns that letters began."""

    async def more(self, turn: int) -> str | None:
        """Return the letters that wake the agent, as a prompt."""
        place = self._place(turn)
        known = await asyncio.to_thread(_read, place)
        if known is not None:
            return known.text
        letters = self._mail.hand(self._agent, self._key, waking=True) if self._may_wake() else ()
        if not letters:
            return None
        log.info("attempt.woken", task=self._key.task, letters=len(letters), turn=turn + 1)
        made = _Turn(envelope.put(letters), names_of(self._agent, letters))
        text = msgspec.json.encode(made).decode()
        await asyncio.to_thread(repositories.write, place, text)
        return made.text

    async def settle(self, turn: int, *, said: bool) -> None:
        """Tell that letters were shown; those that were not come in another run."""
        place = self._place(turn)
        known = await asyncio.to_thread(_read, place)
        if known is not None and said:
            self.woken += 1
            self._mail.shown(known.letters)
        elif known is not None:
            await asyncio.to_thread(place.unlink)
            self._mail.release(self._agent, self._key)

    async def allows(self, asked: base.PermissionAsked) -> bool:
        """Ask a person."""
        return await self._permissions.allows(asked)

    async def withdraw(self, asked: base.PermissionAsked) -> None:
        """Take the question back."""
        await self._permissions.withdraw(asked)

    def _place(self, turn: int) -> Path:
        return self._folder / f"turn-{turn + 1}.json"


def _read(place: Path) -> _Turn | None:
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(place.read_bytes(), type=_Turn)
    return None
