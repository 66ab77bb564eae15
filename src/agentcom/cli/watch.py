"""Following a task: live on a terminal, plain lines in a pipe; the exit code is the verdict."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import click

from agentcom.cli import api, output, reading
from agentcom.cli.errors import Exit
from agentcom.client.follow import News
from agentcom.client.hub import HubClient
from agentcom.model.event import TaskEvent
from agentcom.model.task import TaskState, Wait
from agentcom.protocol import frames
from agentcom.protocol.shown import LogTail

LINES_SHOWN: Final = 12
DETAIL_CHARS: Final = 240
_ON_THE_WAY: Final = frozenset(
    {"unblocked", "assigned", "accepted", "phase", "checkpoint", "landing", "resumed"}
)
"""Events that carry the failure of an attempt before, which was told when it happened."""
_PERSON: Final = frozenset({Wait.ANSWER, Wait.APPROVAL})
_VERDICTS: Final[Mapping[TaskState, Exit]] = {
    TaskState.COMPLETED: Exit.DONE,
    TaskState.FAILED: Exit.FAILED,
    TaskState.CANCELLED: Exit.FAILED,
}


def follow(
    hub: api.Hub,
    task: str,
    *,
    timeout_s: float | None = None,
    log: LogTail | None = None,
    beside: Callable[[HubClient, str], Coroutine[Any, Any, None]] | None = None,
) -> int:
    """Show what happens to a task until it ends; return the exit code that its end means.

    With `log`, which was printed, show what its agent says from there on. `beside` goes on
    meanwhile.
    """

    async def both(client: HubClient) -> Exit:
        also = asyncio.create_task(beside(client, task)) if beside is not None else None
        try:
            return await _follow(client, task, timeout_s, log)
        finally:
            if also is not None:
                also.cancel()
                await asyncio.wait([also])

    try:
        return hub.with_client(both)
    except KeyboardInterrupt:
        output.talk(f"\ndetached: the task goes on; agentcom task watch {task[-6:]} comes back,")
        output.talk(f"agentcom task cancel {task[-6:]} ends it")
        return Exit.INTERRUPTED


def words(row: Mapping[str, Any]) -> str:
    """Return what an event says, without its time."""
    told = row["kind"] not in _ON_THE_WAY
    parts = [
        str(row["agent"]) if row.get("agent") else "",
        f"attempt {row['attempt']}" if row.get("attempt") else "",
        str(row.get("phase") or row.get("wait") or row.get("stop_reason") or ""),
        f"({row['failure']})" if told and row["kind"] != "overlap" and row.get("failure") else "",
        (row.get("commit") or "")[:12],
        _cut(str(row.get("detail") or "")) if told else "",
    ]
    return " ".join(part for part in parts if part)


def _cut(detail: str) -> str:
    """Return what fits beside an event; `task why` and `task show` have all of it."""
    return detail if len(detail) <= DETAIL_CHARS else f"{detail[: DETAIL_CHARS - 1]}…"


async def _follow(
    client: HubClient, task: str, timeout_s: float | None, log: LogTail | None
) -> Exit:
    try:
        async with asyncio.timeout(timeout_s):
            if log is not None:
                reader = reading.Reader(client, task, log)
                verdict = await _until_end(client, task, reader.take)
                await reader.rest()
                return verdict
            if output.is_terminal():
                return await _live(client, task)
            return await _until_end(client, task, _print_line)
    except TimeoutError:
        output.talk(f"the task goes on: agentcom task watch {task[-6:]}")
        return Exit.TIMEOUT


async def _until_end(client: HubClient, task: str, show: Callable[[News], Awaitable[None]]) -> Exit:
    async with client.following(task, progress=True) as news:
        newest = None
        async for one in news:
            await show(one)
            if isinstance(one, frames.EventFrame):
                newest = one.event
                verdict = _verdict(newest)
                # A task that was reopened has older ends in its feed; only the last one counts.
                if verdict is not None and not await _goes_on(client, task, newest):
                    return verdict
    return Exit.PENDING


async def _goes_on(client: HubClient, task: str, event: TaskEvent) -> bool:
    from agentcom.protocol import shown

    now = (await client.get(f"/tasks/{task}", shown.TaskShown)).task
    return now.state is not event.state


def _verdict(event: TaskEvent) -> Exit | None:
    if event.state is TaskState.WAITING and event.wait in _PERSON:
        return Exit.PENDING
    return _VERDICTS.get(event.state)


async def _live(client: HubClient, task: str) -> Exit:
    from rich.console import Console
    from rich.live import Live

    lines: list[str] = []
    doing = ""
    began = time.monotonic()
    console = Console(highlight=False, markup=False, no_color=not output.colours_wanted())
    with Live(console=console, auto_refresh=False, transient=False) as live:

        async def show(news: News) -> None:
            nonlocal doing
            if isinstance(news, frames.EventFrame):
                lines.append(_line(news.event))
                doing = ""
            else:
                doing = _doing(news)
            spent = f"{time.monotonic() - began:6.1f}s"
            foot = [f"{spent}  {doing}"] if doing else []
            live.update("\n".join([*lines[-LINES_SHOWN:], *foot]), refresh=True)

        return await _until_end(client, task, show)


async def _print_line(news: News) -> None:
    if isinstance(news, frames.EventFrame):
        click.echo(_line(news.event))


def _line(event: TaskEvent) -> str:
    stamp = time.strftime("%H:%M:%S", time.localtime(event.at / 1000))
    row = output.row_of(event)
    return output.plain(f"{stamp}  {event.kind.value:<12} {words(row)}").rstrip()


def _doing(news: frames.Activity) -> str:
    spent = news.usage.input + news.usage.output
    tokens = f"  {spent} tokens" if spent else ""
    said = f"> {news.tool}" if news.tool else news.text
    return output.plain(f"{news.agent or ''}  {news.phase or ''}  {said[-120:]}{tokens}")
