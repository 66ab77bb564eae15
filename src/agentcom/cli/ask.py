"""`agentcom ask`: put questions, see who asks, and answer."""

from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.errors import Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = (
    *("id", "state", "asker", "to", "question", "options", "at", "deadline_at", "fallback"),
    *("task", "answer", "answered_by", "ended_at"),
)
_ID_CHARS: Final = 26
_TABLE: Final = (
    Column("ASK", lambda row: output.short(row["id"])),
    Column("FROM", lambda row: row["asker"]),
    Column("TO", lambda row: row["to"]),
    Column("WHEN", lambda row: output.age(row["at"])),
    Column("STATE", lambda row: row["state"]),
    Column("ENDS", lambda row: output.age(row["deadline_at"])),
    Column("TASK", lambda row: output.short(row["task"]) if row["task"] else ""),
    Column("QUESTION", lambda row: row["question"]),
)


@click.group(cls=Group)
def ask() -> None:
    """Put questions, see who asks, and answer.

    Questions are named by their id, or by the end of it as `ask ls` shows it. A task whose agent
    asks waits for the answer.
    """


@ask.command("put", cls=output.JsonCommand, fields=FIELDS)
@click.argument("question", nargs=-1)
@click.option("--to", metavar="NAME", help="Who shall answer; an agent may leave it out.")
@click.option("--option", "options", multiple=True, help="A possible answer; repeatable.")
@click.option("--deadline", metavar="TIME", help="How long there is for it.  [default: 7d]")
@click.option("--fallback", metavar="TEXT", help="The answer if nobody gives one in time.")
@click.option("--wait", metavar="TIME", help="How long to wait here for the answer.")
def put(
    question: tuple[str, ...],
    to: str | None,
    options: tuple[str, ...],
    deadline: str | None,
    fallback: str | None,
    wait: str | None,
    as_json: Any,
) -> None:
    """Ask someone; the exit code is 8 while there is no answer.

    \b
    Examples:
      agentcom ask put --to ann "which database?" --option sqlite --option postgres
      git diff | agentcom ask put --to agent:bob --wait 5m
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, letters, specs
    from agentcom.protocol import calls, told

    hub, text = api.connect(), letters.body(question)
    call = calls.AskPut(
        question=text,
        to=to,
        options=options,
        deadline_ms=None if deadline is None else specs.duration(deadline, "--deadline"),
        fallback=fallback,
    )
    found = hub.do(call, told.AskShown, key=letters.key())
    if wait is not None:
        found = _waited(hub, found.ask.id, wait)
    row = output.row_of(found.ask)
    if as_json is not None:
        output.print_json({field: row[field] for field in as_json})
    else:
        click.echo(f"{row['id']}\t{output.plain(row['answer'] or row['state'])}")
    _exit(found)


@ask.command("ls", cls=output.JsonCommand, fields=FIELDS)
@click.option("--mine", is_flag=True, help="Those that you put, not those you may answer.")
@click.option("--ended", is_flag=True, help="Those that have ended.")
def ls(*, mine: bool, ended: bool, as_json: Any) -> None:
    """List questions, newest first."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    call = calls.AskList(mine=mine, ended=ended, limit=100)
    found = api.connect().do(call, told.AsksShown)
    output.listing([output.row_of(one) for one in found.asks], _TABLE, as_json=as_json)
    if found.next is not None:
        output.talk("and older ones")


@ask.command("show", cls=output.JsonCommand, fields=FIELDS)
@click.argument("ask_id", metavar="ASK")
@click.option("--wait", metavar="TIME", help="How long to wait for the answer.")
def show(ask_id: str, wait: str | None, as_json: Any) -> None:
    """Show a question with its answer; the exit code is 8 while there is none."""
    from agentcom.cli import api

    hub = api.connect()
    found = _waited(hub, _named(hub, ask_id), wait)
    row = output.row_of(found.ask)
    if as_json is not None:
        output.print_json({field: row[field] for field in as_json})
    else:
        _print(row)
    _exit(found)


@ask.command("answer")
@click.argument("ask_id", metavar="ASK")
@click.argument("text", nargs=-1)
def answer(ask_id: str, text: tuple[str, ...]) -> None:
    """Answer a question; the first answer counts."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    hub, said = api.connect(), letters.body(text)
    call = calls.AskAnswer(ask=_named(hub, ask_id), answer=said.strip())
    found = hub.do(call, told.AskShown, key=letters.key())
    click.echo(f"{found.ask.id}\t{found.ask.state}")


@ask.command("withdraw")
@click.argument("ask_id", metavar="ASK")
def withdraw(ask_id: str) -> None:
    """Take back a question that you put."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    hub = api.connect()
    call = calls.AskWithdraw(ask=_named(hub, ask_id, mine=True))
    found = hub.do(call, told.AskShown, key=letters.key())
    click.echo(f"{found.ask.id}\t{found.ask.state}")


def _waited(hub: Any, ask_id: str, wait: str | None) -> Any:
    """Return a question once it has ended, or the time to wait has."""
    from agentcom.cli import letters
    from agentcom.protocol import calls, told

    def look(wait_ms: int) -> told.AskShown:
        call = calls.AskShow(ask=ask_id, wait_ms=wait_ms)
        shown: told.AskShown = hub.do(call, told.AskShown)
        return shown

    return letters.waiting(wait, look, _is_over)


def _named(hub: Any, text: str, *, mine: bool = False) -> str:
    """Return the id of a question that is named by its end; other texts are ids."""
    from agentcom.protocol import calls, told

    if len(text) >= _ID_CHARS:
        return text
    known: dict[str, None] = {}
    for own in (True,) if mine else (False, True):
        found = hub.do(calls.AskList(mine=own, limit=100), told.AsksShown)
        known |= {one.id: None for one in found.asks if one.id.endswith(text)}
    return next(iter(known)) if len(known) == 1 else text


def _is_over(found: Any) -> bool:
    return bool(found.ask.state != "open")


def _print(row: dict[str, Any]) -> None:
    whom = row["to"] or "whoever asked for the task"
    click.echo(f"{row['id']}  {row['state']}  {row['asker']} -> {whom}")
    click.echo(output.lines(row["question"]))
    for option in row["options"]:
        click.echo(output.plain(f"  or: {option}"))
    if row["answered_by"]:
        click.echo(f"answer of {row['answered_by']}:")
        click.echo(output.lines(row["answer"]))


def _exit(found: Any) -> None:
    if not _is_over(found):
        raise click.exceptions.Exit(Exit.PENDING)
