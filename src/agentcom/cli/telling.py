"""`agentcom task tell`: a word to whoever works on a task."""

import time
from typing import Final

import click

from agentcom.cli import output
from agentcom.cli.errors import Exit

FIELDS: Final = ("message", "state", "delivered_at", "seen_at")
_LOOK_S: Final = 0.5
"""A message's way is asked for so often; a turn takes seconds."""


@click.command(cls=output.JsonCommand, fields=FIELDS)
@click.argument("task_id", metavar="ID")
@click.argument("text", nargs=-1)
@click.option("--wait", metavar="TIME", help="Wait so long until its agent has seen it: 30s, 5m.")
def tell(
    task_id: str, text: tuple[str, ...], wait: str | None, as_json: tuple[str, ...] | None
) -> int:
    """Say something to the agent of a task.

    It comes as a further turn of the attempt that runs. If none runs, the next one has it in its
    prompt. With --wait the exit code is 8 if the agent has not seen it by then.

    \b
    Examples:
      agentcom task tell @last "leave the parser alone, it is bob's"
      agentcom task tell 4f7n2q --wait 5m "use sqlite"
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, letters, specs
    from agentcom.protocol import calls, told

    hub = api.connect()
    address = f"task:{hub.resolve(task_id)}"
    call = calls.MessageSend(to=(address,), body=letters.body(text))
    sent = hub.do(call, told.Sent, key=letters.key())
    (place,) = sent.to
    ends = time.monotonic() + (specs.duration(wait, "--wait") / 1000 if wait else 0)
    while place.seen_at is None and time.monotonic() < ends:
        time.sleep(_LOOK_S)
        found = hub.do(calls.MessageShow(message=sent.message), told.MessageShown)
        place = found.to[0]
    row = {"message": sent.message, **output.row_of(place)}
    if as_json is not None:
        output.print_json({field: row.get(field) for field in as_json})
    else:
        click.echo(f"{sent.message}\t{place.state}")
    if sent.warning:
        output.talk(f"note: {sent.warning}")
    return Exit.PENDING if wait and place.seen_at is None else Exit.DONE
