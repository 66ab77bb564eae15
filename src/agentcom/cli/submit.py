"""`agentcom submit`: a prompt, a command or a file of tasks becomes work for the fleet."""

import sys
import uuid
from pathlib import Path
from typing import Any, Final

import click

from agentcom.cli import context, output
from agentcom.cli.errors import Exit
from agentcom.model.limits import CORRECTIONS_MAX

FIELDS: Final = ("tasks", "unschedulable")


@click.command(cls=output.JsonCommand, fields=FIELDS)
@click.argument("words", nargs=-1, metavar="[PROMPT]")
@click.option(
    *("-f", "--file"),
    metavar="PATH",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON or TOML list of tasks.",
)
@click.option("--watch", is_flag=True, help="Follow it, and exit with its verdict.")
@click.option("--command", is_flag=True, help="Run what follows `--` instead of a prompt.")
@click.option("--title", help="By default the prompt's first line.")
@click.option("--needs", multiple=True, help="What the agent must have: gpu, lang=go, ...")
@click.option("--prefers", multiple=True, help="What it had better have: gpu, zone=eu*3, spread.")
@click.option("--uses", multiple=True, metavar="NAME=N", help="Resources of the machine: cpu=2.")
@click.option("--limit-key", multiple=True, help="What it shares with others, for limits.")
@click.option("--unique-key", help="Refused while a task with the same one waits or runs.")
@click.option("--scope", multiple=True, metavar="GLOB", help="Files it will touch: src/**, @NAME.")
@click.option("--scope-shared", is_flag=True, help="It only reads the files of --scope.")
@click.option("--kind", help="What sort of work it is, for agents that take only some.")
@click.option("--verify", multiple=True, help="A check that must pass; may be repeated.")
@click.option("--depends-on", multiple=True, metavar="ID[:HOW]", help="Starts after that task.")
@click.option("--group", metavar="NAME", help="A name that tasks share: agentcom group show.")
@click.option("--reviews", metavar="ID", help="Reviews that task; never given to its author.")
@click.option("--review-by", type=click.Choice(["other_agent", "other_machine"]), help="By whom.")
@click.option("--approval", is_flag=True, help="No agent runs it: a person approves or rejects.")
@click.option("--not-before", metavar="WHEN", help="30m, 2h, or a time like 2027-01-31T08:00.")
@click.option("--expires-in", metavar="WHEN", help="Fails if it has not started by then.")
@click.option("--allow-repeat", is_flag=True, help="It is meant to be done again and again.")
@click.option("--priority", type=click.IntRange(-10, 10), help="-10 to 10.")
@click.option("--repo", help="By default the repository of this folder.")
@click.option(
    "--corrections",
    type=click.IntRange(0, CORRECTIONS_MAX),
    help="Turns in which its agent may mend what checks find; by default as the repository says.",
)
@click.option("--base", help="The branch to start from, and to land on.")
@click.option("--no-repo", is_flag=True, help="Work in an empty folder.")
@click.option(
    "--land",
    type=click.Choice(["branch", "merge", "queue", "pull-request"]),
    help="Keep the branch, merge it alone or with others in a queue, or open a pull request.",
)
@click.option("--on-quota", type=click.Choice(["move", "wait"]), help="Of a used-up account.")
@click.option("--budget", metavar="LIMITS", help="cost=5,tokens=2M,turns=10,wall=8h")
@click.option("--key", help="A repeat with the same key is answered, not done again.")
def submit(words: tuple[str, ...], as_json: tuple[str, ...] | None, **options: Any) -> int:
    """Give the fleet a task.

    The repository and the branch come from the folder you are in. Prints the task's id.
    HOW of a dependency is any (its end in any way is enough), skip or wait (what becomes of this
    task if it fails), children (its sub-tasks are waited for, too), or some of them with commas.

    \b
    Examples:
      agentcom submit "Fix the failing test in tests/test_cart.py" --watch
      agentcom submit "Port it to Rust" --needs lang=rust --verify "cargo test" --depends-on @last
      agentcom submit --command -- make release
      agentcom submit -f tasks.toml
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, specs

    hub = api.connect()
    if options["file"] is not None:
        specs.check_alone(words, options)
        wanted = specs.from_file(options["file"], options)
    else:
        if words == ("-",):
            words = (sys.stdin.read(),)
        wanted = [specs.from_options(words, options, resolve=hub.resolve)]
    answer = hub.submit(wanted, key=options["key"] or uuid.uuid4().hex)
    ids = answer["tasks"]
    _tell(answer, [spec["title"] for spec in wanted], as_json)
    try:
        context.remember_task(ids[-1])
    except OSError as error:  # the task is submitted all the same
        output.talk(f"note: @last does not name it: {error.strerror}")
    if not options["watch"]:
        return Exit.DONE
    from agentcom.cli import watch

    return watch.follow(hub, ids[-1])


def _tell(answer: dict[str, Any], titles: list[str], as_json: tuple[str, ...] | None) -> None:
    unschedulable = answer.get("unschedulable") or ()
    rows = [
        {"id": task, "title": title, "note": "no agent can run it now" * (task in unschedulable)}
        for task, title in zip(answer["tasks"], titles, strict=True)
    ]
    if as_json is not None:
        output.print_json({field: answer.get(field) or [] for field in as_json})
        return
    if not output.is_terminal():
        for row in rows:
            click.echo(row["id"])
    else:
        for row in rows:
            click.echo(f"{output.short(str(row['id']))}  {output.plain(row['title'])}")
    for row in rows:
        if row["note"]:
            output.talk(f"note: {row['note']}: agentcom task why {str(row['id'])[-6:]}")
