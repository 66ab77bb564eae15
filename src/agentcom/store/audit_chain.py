"""Entries of the audit log as rows: the store alone puts them in their place.

Whoever commits hands over notes (`Batch.audits`); which entry is the one before is known only in
the transaction itself, since several write to one store.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from agentcom.model import audit
from agentcom.model.audit import AuditEntry, AuditNote, Head, Verdict, Verifier
from agentcom.model.batch import Change, Insert, Table


def link(last: AuditEntry | None, notes: Iterable[AuditNote], segment: int) -> Sequence[Change]:
    """Return the rows that put `notes` behind `last`, in order."""
    rows: list[Change] = []
    for note in notes:
        last = audit.follow(last, note, segment)
        rows.append(Insert(Table.AUDIT, audit.key_of(last.seq), last))
    return rows


def verify(
    rows: Iterable[tuple[str, AuditEntry]], against: Head | None = None, key: bytes | None = None
) -> Verdict:
    """Look at all entries of a log, by key."""
    verifier = Verifier(against, key)
    for place, entry in rows:
        take(verifier, place, entry)
    return verifier.verdict()


def take(verifier: Verifier, key: str, entry: AuditEntry) -> None:
    """Look at the next entry, and whether it stands in its own place."""
    if key != audit.key_of(entry.seq):
        verifier.find(f"entry {entry.seq} stands in another one's place ({key})")
    verifier.take(entry)


def read_lines(lines: Iterable[bytes]) -> Iterator[tuple[str, AuditEntry]]:
    """Yield the entries of an export, one a line, by key.

    Raises:
        msgspec.DecodeError: a line is no entry.
    """
    decoder = msgspec.json.Decoder(AuditEntry)
    for line in lines:
        if line.strip():
            entry = decoder.decode(line)
            yield audit.key_of(entry.seq), entry
