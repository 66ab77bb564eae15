"""`agentcom audit`: who did what, whether the log is whole, and the log to take along."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

if TYPE_CHECKING:
    from agentcom.cli.api import Hub
    from agentcom.model.audit import Head, Verdict

FIELDS: Final = (
    *("seq", "at", "who", "action", "target", "outcome", "code", "count", "since", "role"),
    *("credential", "address", "door", "cause", "detail", "segment", "before", "hash"),
)
VERDICT: Final = ("sound", "entries", "first", "head", "breaks", "findings")
KEY_FILE: Final = "audit.key"
_LOOK_S: Final = 2.0
_MAGIC: Final = b"SQLite format 3\0"


def _what(row: output.Row) -> str:
    told = [f"{name}={text}" for name, text in sorted(row["detail"].items())]
    if row["code"]:
        told.insert(0, f"refused: {row['code']}")
    if row["count"] > 1:
        told.append(f"{row['count']} times")
    return " ".join(told)


_TABLE: Final = (
    Column("SEQ", lambda row: row["seq"]),
    Column("WHEN", lambda row: output.age(row["at"])),
    Column("WHO", lambda row: row["who"] or row["door"]),
    Column("FROM", lambda row: row["address"]),
    Column("ACTION", lambda row: row["action"]),
    Column("TARGET", lambda row: row["target"]),
    Column("DETAIL", _what),
)


@click.group(cls=Group)
def audit() -> None:
    """Show who changed what, and prove that nobody changed the log.

    \b
    Examples:
      agentcom audit ls --since 24h
      agentcom audit verify
      agentcom audit export > audit.jsonl
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped


@audit.command("ls", cls=output.JsonCommand, fields=FIELDS)
@click.option("--who", metavar="NAME", help="Only what this person or machine did.")
@click.option("--action", metavar="ACTION", help="Only this act, such as token:revoke or login.")
@click.option("--refused", is_flag=True, help="Only what was refused.")
@click.option("--since", metavar="WHEN", help="7d, or 2027-01-31.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
def ls(as_json: tuple[str, ...] | None, limit: int, follow: bool, **asked: Any) -> None:
    """List entries, the newest first; with --follow what comes, too."""
    from agentcom.cli import api, specs

    since = specs.since(asked["since"]) if asked["since"] is not None else None
    params = {
        "who": asked["who"],
        "action": asked["action"],
        "outcome": "refused" if asked["refused"] else None,
        "since": since,
    }
    hub = api.connect()
    rows = _pages(hub, params, limit)
    output.listing(rows, _TABLE, as_json=as_json)
    seen = rows[0]["seq"] if rows else 0
    while follow:
        time.sleep(_LOOK_S)
        rows = _page(hub, {**params, "after": seen})[0]
        if rows:
            seen = rows[-1]["seq"]
            output.listing(rows, _TABLE, as_json=as_json)


@audit.command("verify", cls=output.JsonCommand, fields=VERDICT)
@click.option("--against", metavar="HEAD", help="A head that was written down, as SEQ:HASH.")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A copy of hub.sqlite, or an export, instead of the hub; no hub is needed.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The hub's audit.key; by default the one beside --file.",
)
def verify(
    as_json: tuple[str, ...] | None, against: str | None, path: Path | None, key: Path | None
) -> int:
    """Look whether an entry was changed, taken out, put in or moved; exit code 1 if so.

    Entries at the end can be cut off, or made anew, unseen, unless you give a head that you wrote
    down before. The head of now is printed: keep it somewhere else.
    """
    from agentcom.model.audit import parse_head

    head = None if against is None else parse_head(against)
    found = _offline(path, head, key) if path is not None else _online(head, key)
    if as_json is not None:
        row = {
            "sound": not found.findings,
            "entries": found.entries,
            "first": found.first,
            "head": None if found.head is None else str(found.head),
            "breaks": [one._asdict() for one in found.breaks],
            "findings": list(found.findings),
        }
        output.details(row, (), as_json=as_json)
    else:
        _tell(found)
    return Exit.FAILED if found.findings else Exit.DONE


@audit.command()
def export() -> None:
    """Print the whole log, one JSON object a line, with the hashes that `verify` needs."""
    from agentcom.cli import api

    def take(line: bytes) -> None:
        if line:
            sys.stdout.buffer.write(line + b"\n")

    api.connect().each_line("/audit/export", take)
    sys.stdout.buffer.flush()


def _tell(found: "Verdict") -> None:
    for one in found.breaks:
        click.echo(f"note\ta copy of the store was put back before entry {one.seq}")
    for finding in found.findings:
        click.echo(f"WRONG\t{finding}")
    if not found.findings:
        click.echo(f"sound\t{found.entries} entries")
    if found.head is not None:
        click.echo(f"head\t{found.head}")


def _online(head: "Head | None", key: Path | None) -> "Verdict":
    """Look at the log as the hub gives it out; what is looked at here is not the hub's word."""
    import msgspec

    from agentcom.cli import api
    from agentcom.model.audit import AuditEntry, Verifier

    verifier = Verifier(head, _read(key))
    decoder = msgspec.json.Decoder(AuditEntry)

    def take(line: bytes) -> None:
        if line:
            verifier.take(decoder.decode(line))

    api.connect().each_line("/audit/export", take)
    return verifier.verdict()


def _offline(path: Path, head: "Head | None", key: Path | None) -> "Verdict":
    import msgspec

    from agentcom import app
    from agentcom.store import audit_chain

    beside = path.with_name(KEY_FILE)
    secret = _read(key or (beside if beside.exists() else None))
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) == _MAGIC:
                return app.open_copies(path.parent).verify_audit(path, head, secret)
            file.seek(0)
            return audit_chain.verify(audit_chain.read_lines(file), head, secret)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise CommandFailed(f"{path} is no export of an audit log: {error}") from error


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error


def _pages(hub: "Hub", params: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = None
    while len(rows) < limit:
        size = min(100, limit - len(rows))
        page, cursor = _page(hub, {**params, "cursor": cursor, "limit": size})
        rows += page
        if cursor is None:
            break
    return rows


def _page(hub: "Hub", params: dict[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
    from agentcom.protocol.audited import AuditPage

    found = hub.call("GET", "/audit", AuditPage, params=params)
    return [output.row_of(one) for one in found.entries], found.next
