"""Reading a running agent: its lines become progress, checkpoints and, in the end, a verdict.

Progress is coalesced (the newest wins), so a talkative agent costs two frames a second. Nothing
here polls: the flusher waits for news, the watchdog for a moment that every event moves.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, assert_never

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.model.result import TokenUsage
from agentcom.model.usage import TurnUsage
from agentcom.protocol import frames
from agentcom.sidecar import handover, provider_log, talking
from agentcom.sidecar.config import Settings
from agentcom.sidecar.machine_values import Key, Noted, Spent
from agentcom.sidecar.process import AgentProcess
from agentcom.sidecar.runtime import agent_cli, base
from agentcom.sidecar.session_usage import SinceBefore, Stated
from agentcom.sidecar.talking import Desk, Talk
from agentcom.sidecar.turns import Turns
from agentcom.sidecar.whole_log import CONTINUATION, WholeLog

LOG_BYTES_MAX: Final = 16_384
"""New log in one frame; of more only the end is sent, the whole stays on this machine."""
TEXT_CHARS_MAX: Final = 2_000
TITLE_CHARS_MAX: Final = 200
_MARKS: Final = {"in_progress": "[>]", "completed": "[x]"}

_Step = base.ToolStarted | base.ToolEnded | base.PermissionAsked | base.PermissionAnswered
_Trouble = base.Retrying | base.Warned | base.Failed | base.Raw
_Word = (
    base.Text
    | base.Thought
    | base.Usage
    | base.TurnEnded
    | base.Plan
    | base.Diff
    | base.Cost
    | base.Streamed
    | base.Heard
)

Tell = Callable[[Noted | Spent], Awaitable[None]]


class Watch:
    """One run of an agent, as its lines come in."""

    def __init__(
        self,
        key: Key,
        runtime: base.Runtime,
        settings: Settings,
        *,
        tell: Tell,
        before: Stated | None = None,
        turns: Turns | None = None,
        desk: Desk | None = None,
        whole: WholeLog | None = None,
    ) -> None:
        """`before` is what the session had cost when the attempt began.

        `turns` counts what is spent now; None: nobody wants to know. `desk` has what a talking
        agent is told beyond its task. `whole` keeps the whole log.
        """
        self.session: str | None = None
        self.turn_ended = asyncio.Event()
        self._key = key
        self._parser = self._plain = runtime.parser()
        self._desk = desk
        self._talk: Talk | None = None
        self._spanning: SinceBefore | None = None
        if runtime.usage_spans_session:
            self._parser = self._spanning = SinceBefore(self._parser, before or Stated())
        self._bounded = runtime.reports_progress
        self._settings = settings
        self._tell = tell
        self._news = asyncio.Event()
        self._tools: dict[str, str] = {}
        self._permissions: set[str] = set()
        """Those that nobody has answered."""
        self._newest_call = ""
        self._repeats = 0
        self._text = ""
        self._retrying = ""
        """Why the program tries its model again, since its last progress."""
        self._log = bytearray()
        self._whole = whole
        self._usage = base.Usage()
        self._turns = turns
        self._timeout: asyncio.Timeout | None = None

    @property
    def note(self) -> str | None:
        """The newest words of the agent, for whoever goes on with its work."""
        return handover.note_of(self._text)

    @property
    def stated(self) -> Stated | None:
        """What the session has cost by now, if the agent states that."""
        return self._spanning.stated if self._spanning is not None else None

    async def follow(self, running: AgentProcess) -> base.Verdict:
        """Read to the end and judge; an agent that makes no progress is stopped."""
        if self._turns is not None:
            self._turns.begin(_now_s())
        flusher = asyncio.create_task(self._flush_often())
        try:
            ended = await self._read(running)
            if self._talk is not None:
                await self._talk.over()
        finally:
            if self._talk is not None:
                await self._talk.drop()
            flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flusher
        await self._flush()
        return await self._judged(running, ended)

    async def count(self, running: AgentProcess) -> None:
        """Tell what a run has spent that is over, and that nobody follows any more."""
        async with contextlib.aclosing(running.lines()) as lines:
            async for _, line in lines:
                for event in self._parser.feed(line):
                    await self._spent(event)
                    if isinstance(event, base.SessionStarted):
                        self.session = event.id
        await self._judged(running, await running.wait())

    async def _judged(self, running: AgentProcess, ended: base.Exit) -> base.Verdict:
        """Return a verdict that knows of a program which only waited for its quota, or hid it."""
        verdict = self._parser.finish(ended)
        if verdict.failure is FailureClass.RATE_LIMIT:
            folder = running.attempt_dir
            verdict = await asyncio.to_thread(provider_log.corrected, verdict, folder)
        if self._turns is not None:
            await self._told(self._turns.rest(verdict.usage, _now_s()))
        over = _over_bounds(ended)
        if over:
            return msgspec.structs.replace(verdict, failure=FailureClass.RESOURCES, message=over)
        waited = verdict.failure is FailureClass.NO_PROGRESS and self._retrying
        if not waited or agent_cli.classify(self._retrying) is not FailureClass.QUOTA:
            return verdict
        told = {"failure": FailureClass.QUOTA, "message": self._retrying}
        return msgspec.structs.replace(verdict, **told)

    async def _spent(self, event: base.RuntimeEvent) -> None:
        if isinstance(event, base.Usage) and self._turns is not None:
            await self._told(self._turns.ended(event, _now_s()))

    async def _told(self, turn: TurnUsage | None) -> None:
        if turn is not None:
            await self._tell(Spent(self._key, turn))

    async def _read(self, running: AgentProcess) -> base.Exit:
        first_s = self._settings.first_event_ms / 1000 if self._bounded else None
        try:
            async with asyncio.timeout(first_s) as self._timeout:
                self._talk = await talking.begun(
                    self._plain, running, desk=self._desk, took=self._take
                )
                async with contextlib.aclosing(running.lines()) as lines:
                    async for _, line in lines:
                        await self._heard(self._parser.feed(line))
        except TimeoutError:
            return await running.stop(base.Stop.NO_PROGRESS)
        return await running.wait()

    async def _heard(self, events: Sequence[base.RuntimeEvent]) -> None:
        for event in events:
            self._take(event)
            await self._spent(event)
        if self._talk is not None:
            await self._talk.after(events)

    def _take(self, event: base.RuntimeEvent) -> None:
        if isinstance(event, base.SessionStarted):
            self.session = event.id
            return
        if isinstance(event, _Trouble):
            if isinstance(event, base.Retrying):
                self._retrying = event.reason[:TEXT_CHARS_MAX]
            self._note(_said(event))
            self._news.set()
            return  # not progress: a model that is away is tried again and again
        if isinstance(event, _Step):
            self._step(event)
        else:
            self._word(event)
        self._retrying = ""
        self._news.set()
        self._progressed()

    def _word(self, event: _Word) -> None:
        match event:
            case base.Text():
                self._text = event.text[-TEXT_CHARS_MAX:]
                self._note(event.text)
            case base.Thought():
                self._text = event.text[-TEXT_CHARS_MAX:]
            case base.Usage():
                known = self._usage
                self._usage = base.Usage(
                    known.input + event.input,
                    known.cached + event.cached,
                    known.output + event.output,
                )
            case base.TurnEnded():
                self.turn_ended.set()
            case base.Plan() | base.Diff() | base.Cost():
                self._note(_shown(event))
            case base.Streamed() | base.Heard():
                pass
            case _:
                assert_never(event)

    def _step(self, event: _Step) -> None:
        match event:
            case base.ToolStarted():
                self._call(event.id, event.title)
            case base.ToolEnded():
                self._tools.pop(event.id, None)
            case base.PermissionAsked():
                self._note(f"? {event.title[:TITLE_CHARS_MAX]}")
                if event.open:
                    self._permissions.add(event.id)
            case base.PermissionAnswered():
                self._note(f"? {'allowed' if event.allowed else 'denied'}")
                self._permissions.discard(event.id)
            case _:
                assert_never(event)

    def _call(self, call: str, title: str) -> None:
        self._repeats = self._repeats + 1 if title == self._newest_call else 1
        self._newest_call = title
        self._tools[call] = title[:TITLE_CHARS_MAX]
        self._note(f"> {title[:TITLE_CHARS_MAX]}")

    def _progressed(self) -> None:
        if not self._bounded or self._timeout is None or self._timeout.expired():
            return
        between_s = self._settings.between_events_ms / 1000
        now = _now_s()
        held = self._tools or self._permissions
        self._timeout.reschedule(None if held else now + between_s)

    def _note(self, line: str) -> None:
        said = line.encode("utf-8", "replace") + b"\n"
        self._log += said
        if self._whole is not None:
            self._whole.add(said)
        if len(self._log) > LOG_BYTES_MAX:
            self._log = self._log[-LOG_BYTES_MAX:].lstrip(CONTINUATION)

    async def _flush_often(self) -> None:
        while True:
            await self._news.wait()
            await self._flush()
            await asyncio.sleep(self._settings.progress_interval_ms / 1000)

    async def _flush(self) -> None:
        if not self._news.is_set():
            return
        self._news.clear()
        usage = self._usage
        end = self._whole.flushed() if self._whole is not None else None
        progress = frames.Progress(
            task=self._key.task,
            fence=self._key.fence,
            text=self._text,
            tool=next(reversed(self._tools.values()), None),
            repeats=self._repeats,
            usage=TokenUsage(usage.input, usage.cached, usage.output),
            log=self._log.decode("utf-8", "ignore"),
            log_at=end - len(self._log) if end is not None else None,
        )
        self._log.clear()
        await self._tell(Noted(self._key, progress))


def _over_bounds(ended: base.Exit) -> str:
    """Return what a run used too much of; empty if that did not end it."""
    if ended.stop in {base.Stop.MEMORY, base.Stop.PROCESSES}:
        return f"stopped: it used {ended.said}"
    return "it wrote a larger file than it may" if ended.signal == signal.SIGXFSZ else ""


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _shown(event: base.Plan | base.Diff | base.Cost) -> str:
    match event:
        case base.Plan():
            return "\n".join(f"{_MARKS.get(one.status, '[ ]')} {one.text}" for one in event.entries)
        case base.Diff():
            return f"+ {event.path}"
        case base.Cost():
            return f"cost so far: {event.amount:.4f} {event.currency}"
        case _:
            assert_never(event)


def _said(event: _Trouble) -> str:
    match event:
        case base.Retrying():
            return f"retrying: {event.reason[:TEXT_CHARS_MAX]}"
        case base.Warned() | base.Failed():
            return event.message[:TEXT_CHARS_MAX]
        case base.Raw():
            return event.line[:TEXT_CHARS_MAX]
        case _:
            assert_never(event)
