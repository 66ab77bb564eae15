"""Prints the rows that one version of the program writes, as SQL: the data of a format.

    python tests/store/formats/write.py > tests/store/formats/0011.sql

It runs with the version that is installed, or named by PYTHONPATH, so the file of an older format
was made by a program of that time (`make.sh` names the commits). Of every kind of row it makes the
smallest, one with everything, and one for each value of each choice.
"""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from agentcom.model import batch
from agentcom.model.batch import ROW_TYPES, Table
from agentcom.model.event import EventKind, TaskEvent
from agentcom.model.task import TaskState
from agentcom.store import codec, sqlite_open
from agentcom.store.schema import COLUMNS

NAMED = {
    "agent": "bob",
    "machine": "m1",
    "project": "default",
    "pool": "default",
    "submitter": "ada",
    "user": "ada",
    "owner": "ada",
    "zone": "UTC",
    "cron": "@daily",
    "scope": "project:default",
    "asker": "user:ada",
    "sender": "user:ada",
    "address": "user:ada",
    "cause": "c1",
    "accepts": "kind=x",
}
"""Fields that mean the same in all rows."""


PLAIN = (
    (inspect.BoolType, True),
    (inspect.IntType, 3),
    (inspect.FloatType, 0.5),
    (inspect.RawType, msgspec.Raw(b"{}")),
)


def some(kind: inspect.Type, name: str, *, full: bool) -> Any:
    """Return a value of a type."""
    for plain, sample in PLAIN:
        if isinstance(kind, plain):
            return sample
    match kind:
        case inspect.StrType():
            return NAMED.get(name, "x")
        case inspect.EnumType(cls=cls):
            return next(iter(cls))
        case inspect.StructType(cls=cls):
            return row(cls, full=full)
        case inspect.DictType(key_type=key, value_type=value):
            return {some(key, "", full=full): some(value, "", full=full)} if full else {}
        case inspect.VarTupleType(item_type=item):
            return (some(item, name, full=full),) if full else ()
        case inspect.TupleType(item_types=items):
            return tuple(some(item, "", full=full) for item in items)
        case inspect.UnionType(types=types):
            known = [one for one in types if not isinstance(one, inspect.NoneType)]
            return some(known[0], name, full=full)
        case _:
            raise NotImplementedError(kind)


def row(cls: Any, *, full: bool, **fields: Any) -> Any:
    """Return a struct with what it must have, or with all it can have."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    made = {
        field.name: some(field.type, field.name, full=full)
        for field in info.fields
        if (full or field.required) and field.name not in fields and field.name != "version"
    }
    return cls(**made, **fields)


def variants(cls: Any, **fields: Any) -> Iterator[Any]:
    """Yield the smallest, the whole, and one for each value of each choice."""
    yield row(cls, full=False, **fields)
    yield row(cls, full=True, **fields)
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        for kind in kinds:
            if isinstance(kind, inspect.EnumType) and field.name not in fields:
                for value in list(kind.cls)[1:]:
                    yield row(cls, full=False, **fields, **{field.name: value})


def tasks() -> Iterator[tuple[Table, str, Any]]:
    """Yield tasks in all states with their specifications, dependencies and holds."""
    for number, (state, full) in enumerate(itertools.product(TaskState, (False, True))):
        name = f"t{number}"
        held = (
            {"agent": "bob", "machine": "m1", "attempt": 1, "incarnation": 1} if state.held else {}
        )
        plain = {"unique_key": None, "paused": None, "asks": (), "unheard": (), "answered": ()}
        known = {field.name for field in msgspec.structs.fields(ROW_TYPES[Table.TASK])}
        quiet = {key: value for key, value in plain.items() if key in known and full}
        one = row(ROW_TYPES[Table.TASK], full=full, id=name, state=state, **{**quiet, **held})
        yield Table.TASK, name, one
        yield Table.BODY, name, row(ROW_TYPES[Table.BODY], full=full, id=name)
        if state is TaskState.WAITING:
            edge = row(ROW_TYPES[Table.EDGE], full=full, task=name, on="t2")
            yield Table.EDGE, f"{name}/t2", edge
        if state.held:
            hold = row(ROW_TYPES[Table.HOLD], full=full, task=name, key="slot", attempt=1)
            yield Table.HOLD, f"{name}/slot", hold


def others() -> Iterator[tuple[Table, str, Any]]:
    """Yield all shapes of every other kind of row."""
    for table in Table:
        if table in (Table.TASK, Table.BODY, Table.EDGE, Table.HOLD):
            continue
        for number, one in enumerate(variants(ROW_TYPES[table])):
            yield table, f"{table.value}-{number}", one


def quoted(value: Any) -> str:
    """Return a value as SQL."""
    match value:
        case None:
            return "NULL"
        case bool() | int() | float():
            return str(int(value) if isinstance(value, bool) else value)
        case bytes():
            return f"CAST({quoted(value.decode())} AS BLOB)"
        case _:
            return "'" + str(value).replace("'", "''") + "'"


def insert(table: Table, key: str, one: Any) -> str:
    """Return the statement that writes a row."""
    names = ["key", "version", *COLUMNS[table], "doc"]
    values = [key, one.version, *(getattr(one, name) for name in COLUMNS[table]), codec.encode(one)]
    into = table.value
    if table in (Table.BODY, Table.RESULT):
        into = "document"
        names.insert(0, "kind")
        values.insert(0, int(table is Table.RESULT))
    return f"INSERT INTO {into} ({', '.join(names)}) VALUES ({', '.join(map(quoted, values))});"


def log() -> Iterator[str]:
    """Yield records of all kinds, one batch each."""
    for number, kind in enumerate(EventKind, 1):
        record = row(TaskEvent, full=bool(number % 2), kind=kind, task=f"t{number % 14}")
        doc = codec.encode_records((batch.Append(f"task/{record.task}", record),))
        yield (
            "INSERT INTO log (first, records, number, batch, doc)"
            f" VALUES ({number}, 1, {number}, 'b{number}', {quoted(doc)});"
        )


def main() -> None:
    """Print everything."""
    newest = sqlite_open.load_migrations()[-1].number
    statements = [insert(*one) for one in (*tasks(), *others())]
    sys.stdout.write(f"-- The data of format {newest}; made by write.py, not by hand.\n")
    for statement in (*statements, *log(), "INSERT INTO meta VALUES ('incarnation', 7);"):
        sys.stdout.write(f"{statement}\n")


if __name__ == "__main__":
    main()
