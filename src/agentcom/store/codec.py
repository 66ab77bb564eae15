"""Rows, records and batches as canonical JSON: equal values are equal bytes.

The document of a row is the whole row. Columns are copies beside it, for SQL to see.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, cast

import msgspec

from agentcom.model.audit import AuditNote
from agentcom.model.batch import (
    ROW_TYPES,
    Append,
    Batch,
    Change,
    Delete,
    Insert,
    Row,
    Table,
    Update,
)
from agentcom.model.ids import BatchId, PoolId
from agentcom.store.schema import COLUMNS

Columns = Callable[[Row], tuple[Any, ...]]

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_RECORDS: Final = msgspec.json.Decoder(tuple[Append, ...])
_ROWS: Final[Mapping[Table, msgspec.json.Decoder[Any]]] = {
    table: msgspec.json.Decoder(kind) for table, kind in ROW_TYPES.items()
}


encode: Final[Callable[[Row], bytes]] = _ENCODER.encode
"""Return the document of a row."""


def decode(table: Table, doc: bytes) -> Row:
    """Return the row of a document.

    Raises:
        msgspec.DecodeError: it is not a row of `table`.
    """
    return cast("Row", _ROWS[table].decode(doc))


def encode_records(appends: Sequence[Append]) -> bytes:
    """Return the document of a batch's records."""
    return _ENCODER.encode(appends)


def decode_records(doc: bytes) -> Sequence[Append]:
    """Return the records of a document.

    Raises:
        msgspec.DecodeError: it does not hold records.
    """
    return _RECORDS.decode(doc)


def columns_of(table: Table) -> Columns:
    """Return what takes the version and the values of the columns of `table` from a row."""
    names = COLUMNS[table]
    if not names:
        return lambda row: (row.version,)
    return attrgetter("version", *names)


class _ChangeDoc(msgspec.Struct, frozen=True, array_like=True):
    op: str
    table: Table
    key: str
    expected: int | None
    row: msgspec.Raw


class _BatchDoc(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: BatchId
    pool: PoolId
    term: int | None
    changes: tuple[_ChangeDoc, ...]
    appends: tuple[Append, ...]
    forgets: tuple[tuple[int, int], ...] = ()
    audits: tuple[AuditNote, ...] = ()


_BATCHES: Final = msgspec.json.Decoder(_BatchDoc)


def encode_batch(batch: Batch) -> bytes:
    """Return the canonical bytes of a batch: the journal's record."""
    doc = _BatchDoc(
        id=batch.id,
        pool=batch.pool,
        term=batch.term,
        changes=tuple(_change_doc(change) for change in batch.changes),
        appends=batch.appends,
        forgets=batch.forgets,
        audits=batch.audits,
    )
    return _ENCODER.encode(doc)


def decode_batch(data: bytes) -> Batch:
    """Return the batch of its canonical bytes.

    Raises:
        msgspec.DecodeError: they are not a batch.
    """
    doc = _BATCHES.decode(data)
    return Batch(
        id=doc.id,
        pool=doc.pool,
        term=doc.term,
        changes=tuple(_change(change) for change in doc.changes),
        appends=doc.appends,
        forgets=doc.forgets,
        audits=doc.audits,
    )


def _change_doc(change: Change) -> _ChangeDoc:
    match change:
        case Insert(table, key, row):
            return _ChangeDoc("insert", table, key, None, msgspec.Raw(encode(row)))
        case Update(table, key, row, expected):
            return _ChangeDoc("update", table, key, expected, msgspec.Raw(encode(row)))
        case Delete(table, key, expected):
            return _ChangeDoc("delete", table, key, expected, msgspec.Raw(b"null"))


def _change(doc: _ChangeDoc) -> Change:
    match doc:
        case _ChangeDoc("insert", table, key, None, raw):
            return Insert(table, key, decode(table, bytes(raw)))
        case _ChangeDoc("update", table, key, int(expected), raw):
            return Update(table, key, decode(table, bytes(raw)), expected)
        case _ChangeDoc("delete", table, key, int(expected)):
            return Delete(table, key, expected)
        case _:
            raise msgspec.ValidationError(f"a change with operation {doc.op!r} is not complete")
