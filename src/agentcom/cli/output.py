"""What commands print: data on stdout, talk on stderr; tables for people, tabs for pipes, JSON.

A row is a plain dict, the API's own words. Text of others is stripped of control characters, so
that no title can steer a terminal.
"""

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import click

from agentcom.cli.errors import CommandFailed, Exit

ALL: Final = "*"
AGE_FROM_MS: Final = 1_000_000_000_000
"""A larger number is a wall time; ages are shown of nothing else."""
_UNSEEN: Final = r"\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
"""Characters that steer a terminal, turn the direction of text, or have no width."""
_CONTROL: Final = re.compile(rf"[\x00-\x1f{_UNSEEN}]+")
_SEQUENCE: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])"
)
"""One order to a terminal: colours, the cursor, or a text for title and clipboard."""
_STEERING: Final = re.compile(rf"[\x00-\x08\x0b-\x1f{_UNSEEN}]+")
_WIDTH_MIN: Final = 20
_SECOND_MS: Final = 1_000
_DOLLAR_MICROS: Final = 1_000_000
_CENT_MICROS: Final = 10_000
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_COLOURS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("completed", "idle", "ready", "ok", "landed", "PASS"), "green"),
    **dict.fromkeys(
        ("failed", "offline", "quarantined", "not ready", "FAIL", "REFUSED", "SIGKILL"), "red"
    ),
    **dict.fromkeys(("running", "working", "assigned"), "cyan"),
    **dict.fromkeys(("waiting", "draining", "blocked", "suspect"), "yellow"),
}

Row = Mapping[str, Any]


class Column(NamedTuple):
    """One column: its head, and the text of a row's cell."""

    head: str
    cell: Callable[[Row], object]


class JsonCommand(click.Command):
    """A command with `--json [FIELDS]`; a word after it that is no field stays an argument.

    Where the command takes no argument, it can only be a field, and is refused as one.
    """

    def __init__(self, *args: Any, fields: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields = tuple(fields)
        shown = ", ".join(fields)
        self.params.append(
            click.Option(
                ["--json", "as_json"],
                metavar="[FIELDS]",
                callback=self._check,
                help=f"Print JSON; FIELDS is a list like {shown.split(', ')[0] or 'id'},...",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._settled(args))

    def _settled(self, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        if "--json" not in args[:end]:
            return args
        at = args.index("--json")
        after = args[at + 1] if at + 1 < end else ""
        words = set(after.split(","))
        alone = not any(isinstance(param, click.Argument) for param in self.params)
        named = bool(after) and (
            words <= set(self.fields)
            or (alone and not after.startswith("-"))
            or ("," in after and not words.isdisjoint(self.fields))
        )
        wanted = after if named else ALL
        return [*args[:at], f"--json={wanted}", *args[at + 1 + named :]]

    def _check(self, ctx: click.Context, _option: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        wanted = self.fields if value == ALL else tuple(value.split(","))
        strange = [field for field in wanted if field not in self.fields]
        if strange:
            known = ", ".join(self.fields)
            raise click.BadParameter(f"unknown field {strange[0]}; known are {known}", ctx)
        return wanted


def listing(
    rows: Sequence[Row], columns: Sequence[Column], *, as_json: Sequence[str] | None
) -> None:
    """Print rows as JSON, as a table on a terminal, or with tabs and without a head in a pipe."""
    if as_json is not None:
        print_json([_pick(row, as_json) for row in rows])
    elif is_terminal():
        _table(rows, columns)
    else:
        for row in rows:
            click.echo("\t".join(plain(column.cell(row)) for column in columns))


def details(row: Row, columns: Sequence[Column], *, as_json: Sequence[str] | None) -> None:
    """Print one thing: JSON, or one line for each property that it has."""
    if as_json is not None:
        print_json(_pick(row, as_json))
        return
    pairs = [(column.head.lower(), plain(column.cell(row))) for column in columns]
    width = max(len(head) for head, _ in pairs)
    for head, cell in pairs:
        if not cell:
            continue
        if is_terminal():
            click.echo(f"{head:<{width}}  {paint(cell)}")
        else:
            click.echo(f"{head}\t{cell}")


def print_json(value: object) -> None:
    """Print a value as JSON, indented on a terminal."""
    import msgspec

    data = msgspec.json.encode(value)
    if is_terminal():
        data = msgspec.json.format(data, indent=2)
    click.echo(data.decode())


def only_errors() -> None:
    """Have what runs in this command log nothing but errors: a person wants its answer alone."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def talk(text: str) -> None:
    """Say something that is no data."""
    click.echo(text, err=True)


def confirm(question: str) -> None:
    """Go on only if a person agrees.

    Raises:
        CommandFailed: there is nobody to ask.
    """
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise CommandFailed(
            "there is nobody to ask", hint="--yes", exit_code=Exit.USAGE, code="usage"
        ) from None


def row_of(value: Any) -> dict[str, Any]:
    """Return every field of a value, defaults too, as the API names them."""
    import msgspec

    return {field: msgspec.to_builtins(getattr(value, field)) for field in value.__struct_fields__}


def plain(value: object) -> str:
    """Return the text of a cell: one line, without control characters."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(plain, value))
        case dict():
            return ", ".join(f"{key}={plain(item)}" for key, item in value.items())
        case _:
            return _CONTROL.sub(" ", str(value))


def lines(text: str) -> str:
    """Return text of many lines, such as a log, without anything that steers a terminal."""
    ended = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _STEERING.sub("", ended)


def paint(text: str) -> str:
    """Return `text` in the colour of its meaning, where colours are wanted."""
    colour = _COLOURS.get(text.split(" (", maxsplit=1)[0])
    return click.style(text, fg=colour) if colour and colours_wanted() else text


def is_terminal() -> bool:
    """Whether a person reads what we print."""
    return sys.stdout.isatty()


def colours_wanted() -> bool:
    """Whether stdout is a terminal whose owner has not asked for plain text."""
    return is_terminal() and "NO_COLOR" not in os.environ


def age(wall_ms: int | None) -> str:
    """Return how long ago, or ahead, a wall time is; raw milliseconds in a pipe."""
    if wall_ms is None:
        return ""
    if not is_terminal():
        return str(wall_ms)
    now_ms = int(time.time() * 1000)
    text = span(abs(now_ms - wall_ms))
    return f"{text} ago" if now_ms >= wall_ms else f"in {text}"


def span(duration_ms: int) -> str:
    """Return a duration in its largest unit."""
    seconds = duration_ms // _SECOND_MS
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "0 s"


def cost(row: Row) -> str:
    """Return what some turns cost: money, and what is not in it."""
    counted = row["turns"] - row["unpriced"] - row["included"]
    parts = [dollars(row["cost_micros"])] if counted else []
    parts += [f"{row['unpriced']} unpriced"] if row["unpriced"] else []
    parts += [f"{row['included']} included"] if row["included"] else []
    return ", ".join(parts)


def dollars(micros: int) -> str:
    """Return micro-dollars as dollars: to the cent, and to the micro-dollar below one."""
    if 0 < abs(micros) < _CENT_MICROS:
        return f"${micros / _DOLLAR_MICROS:.6f}".rstrip("0")
    return f"${micros / _DOLLAR_MICROS:,.2f}"


def short(identifier: str | None) -> str:
    """Return what people see of an id; the whole id in a pipe."""
    if identifier is None:
        return ""
    return identifier[-6:] if is_terminal() else identifier


def _pick(row: Row, fields: Sequence[str]) -> dict[str, Any]:
    return {field: row.get(field) for field in fields}


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    cells = [[plain(column.cell(row)) for column in columns] for row in rows]
    widths = [
        max([len(column.head), *(len(line[at]) for line in cells)])
        for at, column in enumerate(columns)
    ]
    room = shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = max(_WIDTH_MIN, min(widths[-1], room))
    heads = [column.head.ljust(width) for column, width in zip(columns, widths, strict=True)]
    head = "  ".join(heads).rstrip()
    click.echo(click.style(head, bold=True) if colours_wanted() else head)
    for line in cells:
        padded = [_fit(cell, width) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def _fit(cell: str, width: int) -> str:
    cut = cell if len(cell) <= width else cell[: width - 1] + "…"
    return paint(cut) + " " * (width - len(cut))
