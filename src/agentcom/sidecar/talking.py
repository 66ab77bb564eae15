"""Talking to a running agent: what its driver has to say, further turns, and permissions.

All of it can be said again by a sidecar that starts again and reads the output from its start:
each word has a key, and the supervisor writes it once.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from agentcom.sidecar.lifetime import cancel
from agentcom.sidecar.process import AgentProcess
from agentcom.sidecar.runtime import base


class Desk(Protocol):
    """Where the words come from that others have for an agent."""

    def listen(self, tell: Callable[[], None] | None) -> None:
        """Call `tell` when there may be a word for the turn that runs; None: not any more."""
        ...

    async def word(self) -> tuple[str, str] | None:
        """Return a word for the turn that runs, and a key for it; it is not returned again."""
        ...

    async def words(self) -> Mapping[str, str]:
        """Return, by key, the words of which a sidecar before did not learn what became."""
        ...

    async def heard(self, key: str, *, taken: bool) -> None:
        """Take note whether the agent has taken up a word."""
        ...

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
        self._words: dict[str, str] = {}
        """Those that the agent has not answered to."""
        self._brought: set[str] = set()
        self._bringing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._ended: base.Stop | None = None
        """How the turn ended, as long as words to it have no answer."""

    async def begin(self, opening: bytes) -> None:
        """Say what comes before everything else."""
        self._talker.begin(opening)
        if self._desk is not None:
            self._words = dict(await self._desk.words())
            self._desk.listen(self._news)
        await self._drain()

    async def after(self, events: Sequence[base.RuntimeEvent]) -> None:
        """Say what follows from a line, of which these are the events."""
        await self._drain()
        for event in events:
            match event:
                case base.PermissionAsked(open=True):
                    self._ask(event)
                case base.TurnEnded(stop):
                    self._ended = stop
                case base.Heard(key, taken):
                    await self._heard(key, taken=taken)
                case _:
                    pass
        await self._bring()
        if self._ended is not None and not self._brought:
            stop, self._ended = self._ended, None
            if not self._talker.farewell():  # else a word that came late has begun another
                await self._turn_ended(stop)

    async def over(self) -> None:
        """Take back what the agent, which is gone, waits for no more."""
        left = [asked for asked, task in self._asking.values() if not task.done()]
        await self.drop()
        for key in tuple(self._words):
            await self._heard(key, taken=False)
        for asked in left:
            if self._desk is not None:
                await self._desk.withdraw(asked)

    async def drop(self) -> None:
        """Leave everything to a successor."""
        if self._desk is not None:
            self._desk.listen(None)
        await cancel([*self._bringing, *(task for _, task in self._asking.values())])

    def _news(self) -> None:
        task = asyncio.create_task(self._bring())
        self._bringing.add(task)
        task.add_done_callback(self._bringing.discard)

    async def _bring(self) -> None:
        """Say the words that are there, if the turn that runs takes any."""
        async with self._lock:
            while self._desk is not None and self._talker.steer("", "") is not None:
                left = [key for key in self._words if key not in self._brought]
                if not left:
                    word = await self._desk.word()
                    if word is None:
                        return
                    self._words[word[0]] = word[1]
                    left = [word[0]]
                for key in left:
                    said = self._talker.steer(key, self._words[key])
                    if said is not None and await self._running.say(said):
                        self._brought.add(key)
                    else:
                        await self._heard(key, taken=False)
            for key in [key for key in self._words if key not in self._brought]:
                if self._ended is not None:
                    await self._heard(key, taken=False)

    async def _heard(self, key: str, *, taken: bool) -> None:
        self._brought.discard(key)
        if self._words.pop(key, None) is not None and self._desk is not None:
            await self._desk.heard(key, taken=taken)

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
