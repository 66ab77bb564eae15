"""`agentcom lock`: keep names, or files of a repository, for oneself for a while."""

from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.errors import Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = (
    *("id", "globs", "repo", "holder", "held", "shared", "number", "task", "behind"),
    *("at", "granted_at", "expires_at"),
)
_TABLE: Final = (
    Column("LOCK", lambda row: output.short(row["id"])),
    Column("OF", lambda row: row["globs"]),
    Column("REPO", lambda row: row["repo"]),
    Column("HOLDER", lambda row: row["holder"]),
    Column("STATE", lambda row: "held" if row["held"] else "waits"),
    Column("SHARED", lambda row: row["shared"]),
    Column("ENDS", lambda row: output.age(row["expires_at"])),
    Column("BEHIND", lambda row: row["behind"]),
)


@click.group(cls=Group)
def lock() -> None:
    """Keep names, or files of a repository, for yourself for a while.

    Locks are a word among those who ask for them, and tasks that declare files keep to them. They
    stop nobody from writing.
    """


@lock.command("take", cls=output.JsonCommand, fields=FIELDS)
@click.argument("globs", nargs=-1, required=True)
@click.option("--repo", default="", help="Whose files are meant; without it, plain names.")
@click.option("--shared", is_flag=True, help="Others may share it.")
@click.option("--ttl", default="10m", show_default=True, metavar="TIME")
@click.option("--wait", metavar="TIME", help="How long to wait for it.")
def take(
    globs: tuple[str, ...], repo: str, ttl: str, wait: str | None, *, shared: bool, as_json: Any
) -> None:
    """Take a lock; the exit code is 8 if it is still waited for.

    \b
    Examples:
      agentcom lock take deploy --ttl 30m
      agentcom lock take "src/api/**" --repo git@example.com:team/app.git --shared
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, letters, specs
    from agentcom.protocol import calls, told

    hub, ttl_ms = api.connect(), specs.duration(ttl, "--ttl")

    def ask(wait_ms: int) -> told.LockShown:
        call = calls.LockAcquire(
            globs=globs, repo=repo, shared=shared, ttl_ms=ttl_ms, wait_ms=wait_ms
        )
        return hub.do(call, told.LockShown, key=letters.key())

    found = letters.waiting(wait, ask, lambda one: one.held)
    row = _row(found)
    if as_json is not None:
        output.print_json({field: row[field] for field in as_json})
    else:
        state = (
            f"held, number {row['number']}"
            if found.held
            else f"waits for {', '.join(row['behind'])}"
        )
        click.echo(f"{row['id']}\t{state}")
    if not found.held:
        raise click.exceptions.Exit(Exit.PENDING)


@lock.command("ls", cls=output.JsonCommand, fields=FIELDS)
@click.option("--mine", is_flag=True)
def ls(*, mine: bool, as_json: Any) -> None:
    """List locks that are held, and who waits for them."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    found = api.connect().do(calls.LockList(mine=mine, limit=100), told.LocksShown)
    output.listing([_row(one) for one in found.locks], _TABLE, as_json=as_json)
    if found.left_out:
        output.talk(f"and {found.left_out} more")


@lock.command("release")
@click.argument("lock_id", metavar="LOCK")
@click.option("--force", is_flag=True, help="Break another's lock; for operators.")
def release(lock_id: str, *, force: bool) -> None:
    """Give a lock back, or stop waiting for it."""
    from agentcom.cli import api, letters
    from agentcom.model.replies import Done
    from agentcom.protocol import calls, told

    hub = api.connect()
    known = [one.lock.id for one in hub.do(calls.LockList(limit=100), told.LocksShown).locks]
    same = [one for one in known if one.endswith(lock_id)]
    named = same[0] if len(same) == 1 else lock_id
    hub.do(calls.LockRelease(lock=named, force=force), Done, key=letters.key())
    click.echo(f"{named}\treleased")


def _row(found: Any) -> dict[str, Any]:
    own = output.row_of(found)
    return {**own, **output.row_of(found.lock)}
