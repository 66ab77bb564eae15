"""Reading the log of a task's agent: each part once, in order, whatever breaks meanwhile.

What comes live says where it belongs. What is missing in between is asked of the machine.
"""

from collections.abc import Mapping

import click

from agentcom.cli import api, output
from agentcom.client.follow import News
from agentcom.client.hub import HubClient
from agentcom.model.errors import AgentComError
from agentcom.protocol import frames
from agentcom.protocol.shown import LogTail


def whole(hub: api.Hub, task: str, attempt: int | None) -> LogTail:
    """Print a whole log as it is now, part by part; return the last part."""
    part = hub.logs(task, offset=0, attempt=attempt)
    click.echo(output.lines(part.text), nl=False)
    while part.text and part.next is not None:
        part = hub.logs(task, offset=part.next, attempt=part.attempt)
        click.echo(output.lines(part.text), nl=False)
    return part


class Reader:
    """Prints a log from where it was printed to."""

    def __init__(self, client: HubClient, task: str, printed: LogTail) -> None:
        self._client = client
        self._task = task
        self._attempt = printed.attempt
        self._next = printed.next

    async def take(self, news: News) -> None:
        """Print what is new in an `activity` frame, and before it what was missed."""
        if not isinstance(news, frames.Activity) or not news.log:
            return
        if news.attempt != self._attempt:
            self._attempt, self._next = news.attempt, 0
        if news.log_at is None or self._next is None:
            _print(news.log)
        else:
            if self._next < news.log_at:
                await self._catch_up(news.log_at)
            known = max(0, self._next - news.log_at)
            _print(news.log.encode()[known:].decode("utf-8", "ignore"))
        end = None if news.log_at is None else news.log_at + len(news.log.encode())
        self._next = end if end is None or self._next is None else max(end, self._next)

    async def rest(self) -> None:
        """Print what came between the last frame and the end of the attempt."""
        if self._next is not None:
            await self._catch_up(None)

    async def _catch_up(self, until: int | None) -> None:
        assert self._next is not None
        while until is None or self._next < until:
            asked: Mapping[str, str] = {"offset": str(self._next), "attempt": str(self._attempt)}
            try:
                part = await self._client.get(f"/tasks/{self._task}/logs", LogTail, asked)
            except AgentComError as error:
                if until is not None:
                    output.talk(f"note: {until - self._next} bytes are not shown: {error.message}")
                break
            text = part.text.encode()
            _print(text[: None if until is None else until - self._next].decode("utf-8", "ignore"))
            if not part.text or part.next is None:
                break
            self._next = part.next
        if until is not None:
            self._next = until


def _print(text: str) -> None:
    click.echo(output.lines(text), nl=False)
