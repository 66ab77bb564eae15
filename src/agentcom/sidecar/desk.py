"""What others have for the agent of one run while it runs: letters, words to its task, permissions.

A turn's prompt, or a word into a turn, is on disk before it is said. So a sidecar that starts
again, and reads of the end of the turn before once more, has the same prompt for the next.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agentcom.model.ids import AgentId
from agentcom.model.message import MessageId
from agentcom.protocol.told import Letter
from agentcom.sidecar import envelope, repositories
from agentcom.sidecar.machine_mail import Mail, names_of
from agentcom.sidecar.machine_values import Key
from agentcom.sidecar.permissions import Permissions
from agentcom.sidecar.runtime import base

_WORD: Final = "word-"
_OPEN, _HEARD, _REFUSED = ".json", ".heard", ".refused"
"""What became of the words in a file."""

log = structlog.get_logger(__name__)


class _Turn(msgspec.Struct, frozen=True):
    """What letters become: the prompt of a turn, or a word into one."""

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
        """Turns that letters began, and words that came into one."""

    def listen(self, tell: Callable[[], None] | None) -> None:
        """Call `tell` when there may be a word for the turn that runs."""
        self._mail.listen(self._key, tell)

    async def word(self) -> tuple[str, str] | None:
        """Return the words to the task that nobody has brought, and a key for them."""
        if not self._may_wake():
            return None
        letters = self._mail.hand(self._agent, self._key, waking=True, words=True)
        if not letters:
            return None
        number = 1 + len(await asyncio.to_thread(self._kept))
        made = await self._keep(letters, self._folder / f"{_WORD}{number}{_OPEN}")
        return f"{_WORD}{number}", made.text

    async def words(self) -> dict[str, str]:
        """Return what a sidecar before has brought into a turn, or was about to, by key."""
        found: dict[str, str] = {}
        for place in await asyncio.to_thread(self._kept):
            known = await asyncio.to_thread(_read, place)
            if known is not None and place.suffix != _REFUSED:
                found[place.stem] = known.text
        return found

    async def heard(self, key: str, *, taken: bool) -> None:
        """Tell that words were shown; those that were not begin a turn."""
        place = self._folder / f"{key}{_OPEN}"
        before = await asyncio.to_thread(_read, place.with_suffix(_HEARD))
        known = await asyncio.to_thread(_read, place)
        if before is not None:  # it was read of once more
            self._settle(before, said=True)
        elif known is not None:
            # The file stays, since its key is used up.
            await asyncio.to_thread(place.rename, place.with_suffix(_HEARD if taken else _REFUSED))
            self._settle(known, said=taken)

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
        return (await self._keep(letters, place)).text

    async def settle(self, turn: int, *, said: bool) -> None:
        """Tell that letters were shown; those that were not come in another run."""
        place = self._place(turn)
        known = await asyncio.to_thread(_read, place)
        if known is None:
            return
        if not said:
            await asyncio.to_thread(place.unlink)
        self._settle(known, said=said)

    async def allows(self, asked: base.PermissionAsked) -> bool:
        """Ask a person."""
        return await self._permissions.allows(asked)

    async def withdraw(self, asked: base.PermissionAsked) -> None:
        """Take the question back."""
        await self._permissions.withdraw(asked)

    async def _keep(self, letters: Sequence[Letter], place: Path) -> _Turn:
        made = _Turn(envelope.put(letters), names_of(self._agent, letters))
        text = msgspec.json.encode(made).decode()
        await asyncio.to_thread(repositories.write, place, text)
        return made

    def _settle(self, known: _Turn, *, said: bool) -> None:
        if said:
            self.woken += 1
            self._mail.shown(known.letters)
        else:
            self._mail.release(self._agent, self._key)

    def _kept(self) -> list[Path]:
        return sorted(self._folder.glob(f"{_WORD}*"))

    def _place(self, turn: int) -> Path:
        return self._folder / f"turn-{turn + 1}.json"


def _read(place: Path) -> _Turn | None:
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(place.read_bytes(), type=_Turn)
    return None
