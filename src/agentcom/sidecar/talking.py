"""Talking to a running agent: what its driver has to say, further turns, and permissions.

All of it can be said again by a sidecar that starts again and reads the output from its start:
each word has a key, and the supervisor writes it once.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from agentcom.sidecar.lifetime import cancel
from agentcom.sidecar.process import AgentProcess
from agentcom.sidecar.runtime import base


class Desk(Protocol):
    """Where the words come from that others have for an agent."""

    async def more(self, turn: int) -> str | None:
        """Return the prompt of the turn after `turn`, the same however often; None: no more."""
        ...

    async def settle(self, turn: int, *, said: bool) -> None:
        """Take note whether the agent has the prompt of the turn after `turn`."""
        ...

    async def allows(self, asked: base.PermissionAsked) -> bool:
        """Return whether an agent may do what it asks for, however long that takes."""
        ...

    async def withdraw(self, asked: base.PermissionAsked) -> None:
        """Take back a question that needs no answer any more."""
        ...


async def begun(
    parser: base.Parser,
    running: AgentProcess,
    *,
    desk: Desk | None = None,
    took: Callable[[base.RuntimeEvent], None] = lambda _event: None,
) -> "Talk | None":
    """Begin to talk to the agent of a run; None if it does not talk.

    `took` is told of events that are not in the output; without a desk nothing is added.
    """
    if not isinstance(parser, base.Talker):
        return None
    opening = await running.opening()
    if opening is None:
        return None
    talk = Talk(parser, running, desk, took=took)
    await talk.begin(opening)
    return talk


class Talk:
    """The talk with the agent of one run."""

    def __init__(
        self,
        talker: base.Talker,
        running: AgentProcess,
        desk: Desk | None,
        *,
        took: Callable[[base.RuntimeEvent], None],
    ) -> None:
        self._talker = talker
        self._running = running
        self._desk = desk
        self._took = took
        self._turn = 0
        self._farewell = b""
        self._asking: dict[str, tuple[base.PermissionAsked, asyncio.Task[None]]] = {}

    async def begin(self, opening: bytes) -> None:
        """Say what comes before everything else."""
        self._talker.begin(opening)
        await self._drain()

    async def after(self, events: Sequence[base.RuntimeEvent]) -> None:
        """Say what follows from a line, of which these are the events."""
        await self._drain()
        for event in events:
            match event:
                case base.PermissionAsked(open=True):
                    self._ask(event)
                case base.TurnEnded(stop):
                    await self._turn_ended(stop)
                case _:
                    pass

    async def over(self) -> None:
        """Take back what the agent, which is gone, waits for no more."""
        left = [asked for asked, task in self._asking.values() if not task.done()]
        await self.drop()
        for asked in left:
            if self._desk is not None:
                await self._desk.withdraw(asked)

    async def drop(self) -> None:
        """Leave everything to a successor."""
        await cancel([task for _, task in self._asking.values()])

    async def _drain(self) -> None:
        for said in self._talker.drain():
            await self._running.say(said)
        farewell = self._talker.farewell()
        if farewell != self._farewell:
            self._farewell = farewell
            await self._running.keep_farewell(farewell)

    async def _turn_ended(self, stop: base.Stop) -> None:
        self._turn += 1
        good = stop is base.Stop.END_TURN and self._desk is not None
        text = await self._desk.more(self._turn) if good and self._desk is not None else None
        if text is None or self._desk is None:
            await self._running.close()
            return
        number = self._turn + 1
        said = await self._running.say(self._talker.prompt(number, text))
        if said:
            self._talker.asked(number)
        await self._desk.settle(self._turn, said=said)

    def _ask(self, asked: base.PermissionAsked) -> None:
        work: Coroutine[Any, Any, None] = self._answer(asked)
        self._asking[asked.id] = (asked, asyncio.create_task(work))

    async def _answer(self, asked: base.PermissionAsked) -> None:
        allowed = self._desk is not None and await self._desk.allows(asked)
        said = self._talker.permit(asked.id, allow=allowed)
        if said is not None:
            await self._running.say(said)
        self._took(base.PermissionAnswered(asked.id, allowed))
