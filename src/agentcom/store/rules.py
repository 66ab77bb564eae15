"""What every adapter does alike: refusing what none can keep, and telling a conflict."""

from collections.abc import Iterable, Sequence
from typing import Final

from agentcom.model.batch import Batch, Insert, Row, Table
from agentcom.model.errors import InvalidInput
from agentcom.store.base import Query
from agentcom.store.schema import COLUMNS, SUMMED
from agentcom.store.sums import Sums

RECENT_BATCHES: Final = 1_024  # batches whose outcome can be asked; far more than are in flight

_LAST: Final = "\U0010ffff"


def prefix_end(prefix: str) -> str:
    """Return a text above every key that starts with `prefix`."""
    return prefix + _LAST


def check_batch(batch: Batch) -> None:
    """Refuse what some store could not keep.

    Raises:
        InvalidInput: a key or the name of a log holds a NUL character.
    """
    if "\0" in "".join([change.key for change in batch.changes]):
        raise InvalidInput("key", "NUL characters are not allowed")
    if "\0" in "".join([append.log for append in batch.appends]):
        raise InvalidInput("log", "NUL characters are not allowed")


def check_query(query: Query) -> None:
    """Refuse a listing that no store can make.

    Raises:
        InvalidInput: a column that the table does not have, or a limit below 1.
    """
    _check_columns(query.table, query.where, COLUMNS[query.table])
    if query.limit < 1:
        raise InvalidInput("limit", "use 1 or more")


def check_sums(asked: Sums) -> None:
    """Refuse sums that no store can make.

    Raises:
        InvalidInput: a column that the table does not have or cannot add up, or a limit below 1.
    """
    columns = COLUMNS[asked.table]
    _check_columns(asked.table, [*asked.where, *asked.least], columns)
    _check_columns(asked.table, [] if asked.by is None else [asked.by], columns)
    _check_columns(asked.table, asked.columns, SUMMED.get(asked.table, ()))
    if asked.limit < 1 or not asked.columns:
        raise InvalidInput("limit", "ask for 1 or more columns and rows")


def _check_columns(table: Table, named: Iterable[str], columns: Sequence[str]) -> None:
    unknown = sorted(set(named) - set(columns))
    if unknown:
        known = ", ".join(columns) or "none"
        raise InvalidInput("where", f"{unknown[0]} is not a column of {table}; it has {known}")


def first_expectations(batch: Batch) -> dict[tuple[Table, str], int | None]:
    """Return the version that the first change of every row expects; None: no such row."""
    expected: dict[tuple[Table, str], int | None] = {}
    for change in batch.changes:
        version = None if isinstance(change, Insert) else change.expected
        expected.setdefault((change.table, change.key), version)
    return expected


def mismatches(
    images: Sequence[tuple[Table, str, Row | None, int | None]],
) -> list[tuple[Table, str, Row | None]]:
    """Return the images that differ from the version expected; all, if none does."""
    wrong = [
        (table, key, row)
        for table, key, row, expected in images
        if (None if row is None else row.version) != expected
    ]
    return wrong or [(table, key, row) for table, key, row, _ in images]
