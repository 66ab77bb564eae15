"""A machine of the fleet at the price of a socket: thousands of them fit into one process.

It decides by the sidecar's own `machine.py` and dials by the pauses of the real link. Only what
lies below differs: its disk is memory, and its agents are whatever `start` does.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from agentcom.client.dialling import OPEN_TIMEOUT_S, NotReached
from agentcom.client.link import Backoff, Lost
from agentcom.model.agent import AgentSpec
from agentcom.model.errors import AgentComError, NotAllowed, NotAuthenticated
from agentcom.model.ids import Fence, Instant, Rng, TaskId
from agentcom.model.result import Result, TokenUsage
from agentcom.protocol import codec, frames
from agentcom.protocol.live import Ended, LetterFrame, LogLevelFrame, LogWanted, PresenceFrame
from agentcom.protocol.review import ReviewFrame
from agentcom.sidecar import machine
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Key, View
from agentcom.testing.light import LightSocket

_FINAL_CODES = frozenset({4401, 4403})
"""Close codes after which the real link does not dial again."""


@dataclass(slots=True)
class Tally:
    """What some machines saw; one for all of them."""

    dials: int = 0
    lost: dict[int | None, int] = field(default_factory=dict)
    """Connections that ended, by close code; None is a cut without a word."""
    put_off: int = 0
    """Dials that the hub answered with a time to come back."""
    refused: list[str] = field(default_factory=list)
    """Machines that were refused for good."""
    issued: dict[TaskId, Fence] = field(default_factory=dict)
    """The newest fence of each task that came to any of them."""
    issued_again: int = 0
    """Assignments of a task under another fence than before."""
    stale: int = 0
    """Orders to stop an attempt that is not this machine's any more."""
    assignments: int = 0
    acknowledged: int = 0
    not_applied: int = 0


class Start(Protocol):
    """What a machine does with an attempt that begins; it ends by `LightMachine.finish`."""

    def __call__(self, machine: "LightMachine", record: values.Record, /) -> None:
        """Begin."""
        ...


class LightMachine:
    """One machine; `dial` until `leave`."""

    __slots__ = (
        "_backoff", "_changed", "_dialling", "_facts", "_loop", "_socket", "_start", "_timers",
        "_token", "_url", "_view", "away", "tally", "welcomed_at",
    )  # fmt: skip

    def __init__(
        self,
        url: str,
        token: str,
        *,
        agents: tuple[AgentSpec, ...],
        start: Start,
        tally: Tally,
        rng: Rng,
        ttl_ms: int = 0,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._token = token
        self._view = View(agents=agents, ttl_wanted_ms=ttl_ms, software="soak")
        self._start = start
        self._changed = changed
        self._backoff = Backoff(rng)
        self._loop = asyncio.get_running_loop()
        self._facts: deque[values.Fact] = deque()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._socket: LightSocket | None = None
        self._dialling: asyncio.Task[None] | None = None
        self.tally = tally
        self.away = True
        self.welcomed_at = 0.0
        """When the session that stands began, on the loop's clock; 0 while there is none."""

    @property
    def keys(self) -> list[Key]:
        """The attempts that are not over and acknowledged."""
        return list(self._view.attempts)

    def dial(self, after_s: float = 0.0) -> None:
        """Connect, and come back whenever the connection ends."""
        self.away = False
        self._dialling = self._loop.create_task(self._dial(after_s))

    def cut(self) -> None:
        """Break the connection without a word, as a network that fails."""
        if self._socket is not None:
            self._socket.abort()

    def leave(self) -> None:
        """Break the connection, and stay away until the next `dial`."""
        self.away = True
        self.cut()

    def end(self) -> None:
        """Let go of everything."""
        self.leave()
        if self._dialling is not None:
            self._dialling.cancel()
        self._clear_timers()

    def finish(self, key: Key, result: Result) -> None:
        """An attempt ends by itself."""
        self._take(values.Ended(key, result))

    def save(self, key: Key, commit: str) -> None:
        """An attempt has a checkpoint."""
        self._take(values.Saved(key, commit))

    def spend(self, key: Key, usage: TokenUsage) -> None:
        """An attempt tells what its model has cost so far."""
        told = frames.Progress(task=key.task, fence=key.fence, usage=usage)
        self._take(values.Noted(key, told))

    def pause(self) -> None:
        """Stop reading."""
        if self._socket is not None:
            self._socket.pause()

    def resume(self) -> None:
        """Read on."""
        if self._socket is not None:
            self._socket.resume()

    # The link -----------------------------------------------------------------------------------

    async def _dial(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.tally.dials += 1
        socket = LightSocket(self._token, heard=self._heard, ended=self._ended, opened=self._opened)
        self._socket = socket
        self._set_timer("open", self._now() + int(OPEN_TIMEOUT_S * 1_000))
        try:
            await socket.dial(self._url)
        except OSError:
            self._again()

    def _opened(self) -> None:
        self._take(values.Connected())

    def _heard(self, payload: bytes) -> None:
        frame = codec.decode_from_hub(payload)
        match frame:
            case frames.Assign(assignment=assignment):
                self._issued(assignment.task, assignment.fence)
            case frames.Ack(applied=applied):
                self.tally.acknowledged += 1
                self.tally.not_applied += not applied
            case frames.StopFrame(reason=None):
                self.tally.stale += 1
            case frames.Ready() | frames.ReplyFrame() | frames.EventFrame() | frames.Activity():
                return  # for clients
            case frames.MailFrame() | LetterFrame() | PresenceFrame() | Ended():
                return  # it reads no mail
            case ReviewFrame() | LogWanted() | LogLevelFrame():
                return  # it knows no forge, and has no logs
            case _:
                pass
        self._take(frame)

    def _issued(self, task: TaskId, fence: Fence) -> None:
        tally = self.tally
        tally.assignments += 1
        before = tally.issued.get(task)
        if before is not None and before != fence:
            tally.issued_again += 1
        tally.issued[task] = max(fence, before or fence)

    def _ended(self, why: Lost | AgentComError) -> None:
        if isinstance(why, Lost):
            self._take(values.Disconnected())
            self.tally.lost[why.code] = self.tally.lost.get(why.code, 0) + 1
        elif isinstance(why, NotReached) and why.retry_after_ms is not None:
            self.tally.put_off += 1
            self._backoff.hint(why.retry_after_ms)
        final = isinstance(why, NotAuthenticated | NotAllowed)
        if final or (isinstance(why, Lost) and why.code in _FINAL_CODES):
            self._refused(str(why))
        self._again()

    def _again(self) -> None:
        self.welcomed_at = 0.0
        self._socket = None
        self._clear_timers()
        if not self.away:
            self.dial(self._backoff.next_ms() / 1_000)

    def _refused(self, reason: str) -> None:
        self.tally.refused.append(reason)
        self.away = True
        self._changed()

    # The machine's decisions --------------------------------------------------------------------

    def _take(self, fact: values.Fact) -> None:
        """Decide, and what the orders bring at once is decided next."""
        self._facts.append(fact)
        if len(self._facts) > 1:
            return
        while self._facts:
            for order in machine.decide(self._view, self._facts[0], now=self._now()):
                self._perform(order)
            self._facts.popleft()

    def _perform(self, order: values.Order) -> None:  # noqa: C901, PLR0912 - a total match
        match order:
            case values.Send(frame):
                if self._socket is not None:
                    self._socket.send(codec.encode(frame))
            case values.Store(record):
                self._facts.append(values.Stored(record.key, record.stage))
            case values.Start(record):
                self._loop.call_soon(self._start, self, record)
            case values.Stop(key):
                self._facts.append(values.Stopped(key))
            case values.Land(record):
                self._facts.append(values.LandEnded(record.key, None))
            case values.Offer():
                self._facts.append(values.Kept(()))
            case values.SetTimer(key, at):
                self._set_timer(key, at)
            case values.Settle():
                self._settle()
            case values.Reconnect(_, after_ms):
                self._reconnect(after_ms)
            case values.Quit(reason):
                self._refused(reason)
                self.cut()
            case values.Forget() | values.Remember() | values.Answered():
                pass
            case values.Report() | values.Notify():
                pass
            case _:
                assert_never(order)

    def _settle(self) -> None:
        self._backoff.settle()
        self.welcomed_at = self._loop.time()
        self._changed()

    def _reconnect(self, after_ms: int | None) -> None:
        if after_ms is not None:
            self._backoff.hint(after_ms)
        self.cut()

    def _set_timer(self, key: str, at: int) -> None:
        former = self._timers.pop(key, None)
        if former is not None:
            former.cancel()
        self._timers[key] = self._loop.call_at(at / 1_000, self._fired, key)

    def _fired(self, key: str) -> None:
        del self._timers[key]
        if key != "open":
            self._take(values.TimerFired(key))
        elif self._socket is not None and not self._socket.is_up:
            self._socket.abort()

    def _clear_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _now(self) -> Instant:
        return Instant(int(self._loop.time() * 1_000))
