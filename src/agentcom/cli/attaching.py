"""`agentcom task attach`: the log of a task's agent as it grows, and a word to it for each line."""

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from agentcom.cli import output
from agentcom.model.errors import AgentComError

if TYPE_CHECKING:
    from agentcom.client.hub import HubClient

_BYTES_MAX: Final = 65_536
"""Of one line; a longer one is said in parts."""


@click.command()
@click.argument("task_id", metavar="ID")
def attach(task_id: str) -> int:
    """Follow the log of a task's agent, and say to it what you type, line by line.

    Each line is a word as by `agentcom task tell`. Ctrl-C detaches; the task goes on. The exit code
    is that of `agentcom task watch`.
    """
    from agentcom.cli import api, watch

    hub = api.connect()
    found = hub.resolve(task_id)
    tail = hub.logs(found)
    click.echo(output.lines(tail.text), nl=False)
    output.talk("what you type is said to the agent; Ctrl-C detaches")
    return watch.follow(hub, found, log=tail, beside=say_lines)


async def say_lines(client: "HubClient", task: str) -> None:
    """Say each line of standard input to the agent of a task, until there is no more."""
    import asyncio

    loop, pending = asyncio.get_running_loop(), b""
    while True:
        ready = asyncio.Event()
        try:
            handle = sys.stdin.fileno()
            loop.add_reader(handle, ready.set)
        except (OSError, ValueError):  # a file, or none: nobody types there
            return
        try:
            await ready.wait()
        finally:
            loop.remove_reader(handle)
        data = os.read(handle, _BYTES_MAX)
        *lines, pending = (pending + data).split(b"\n")
        if not data or len(pending) > _BYTES_MAX:
            lines.append(pending)
            pending = b""
        for line in lines:
            await _say(client, task, line.decode("utf-8", "replace"))
        if not data:
            return


async def _say(client: "HubClient", task: str, text: str) -> None:
    from agentcom.cli import letters
    from agentcom.protocol import calls, told

    if not text.strip():
        return
    call = calls.MessageSend(to=(f"task:{task}",), body=text)
    try:
        sent = await client.http.do(call, told.Sent, key=letters.key())
    except AgentComError as error:
        output.talk(f"not said: {error.message}")
        return
    if sent.warning:
        output.talk(f"note: {sent.warning}")
