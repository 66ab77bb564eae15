"""The audit log: who did what, and was it allowed, as a chain of hashes.

Each entry carries the hash of the one before it, so that none can be changed, taken out, put in or
moved without breaking the chain behind it. The newest entry's hash is the `Head`: whoever writes it
down elsewhere can tell later whether the end of the log was cut off or made anew.

A segment is an incarnation of the store. The first entry of a new one says that a copy was put
back: what the log had after that copy is not in it. Entries that are old enough are cut off at the
beginning; the entry of a cut keeps the hash that the first one that stays goes on from.
"""

import hashlib
import hmac
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from agentcom.model.errors import InvalidInput
from agentcom.model.identity import Role
from agentcom.model.ids import WallTime
from agentcom.model.numerals import whole

GENESIS: Final = "0" * 64
"""What the very first entry goes on from."""
RESTORED: Final = "store:restore"
CUT: Final = "audit:cut"
LOGIN: Final = "login"
ENROLLED: Final = "enrol"
_HEX: Final = frozenset("0123456789abcdef")
_FOUND_MAX: Final = 100  # findings that are told; one change in the middle is one or two
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class Door(StrEnum):
    """By which way somebody came."""

    HTTP = "http"
    SOCKET = "socket"
    MCP = "mcp"
    COMMAND = "command"
    """A command on the hub's own computer, which works on the hub's files."""
    HUB = "hub"
    """The hub itself."""


class Outcome(StrEnum):
    """What came of it."""

    DONE = "done"
    REFUSED = "refused"


class Origin(msgspec.Struct, frozen=True, gc=False):
    """From where a request came; who it was stands in its identity."""

    door: Door
    address: str = ""


class AuditNote(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Something that happened, as its writer hands it over; never a secret, a prompt or a reason.

    New fields go to the end, with defaults: hashes of stored entries must stay as they are.
    """

    at: WallTime
    action: str
    """Of the table in `model/policy.py`, or one of the words above."""
    target: str = ""
    outcome: Outcome = Outcome.DONE
    who: str = ""
    role: Role | None = None
    credential: str = ""
    """The id of the token, never the token."""
    address: str = ""
    door: Door = Door.HUB
    cause: str = ""
    code: str = ""
    """Of a refusal: its error code."""
    count: int = 1
    """Of refusals: how many alike there were since `since`."""
    since: WallTime | None = None
    detail: dict[str, str] = {}


class AuditEntry(AuditNote, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A note in its place in the chain."""

    seq: int
    segment: int
    before: str
    """Hash of the entry before, in hexadecimal digits."""
    hash: str
    version: int = 1

    @property
    def head(self) -> "Head":
        """What to write down elsewhere, as long as this entry is the newest."""
        return Head(self.seq, self.hash)


class Head(NamedTuple):
    """The end of the log at some time."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


def parse_head(text: str) -> Head:
    """Return the head that was written down as `SEQ:HASH`; raises `InvalidInput`."""
    seq, _, digest = text.strip().partition(":")
    number = whole(seq)
    if number is not None and len(digest) == len(GENESIS) and set(digest) <= _HEX:
        return Head(number, digest)
    raise InvalidInput("against", "a head is SEQ:HASH, as `audit verify` prints it")


def key_of(seq: int) -> str:
    """Return the key of an entry's row; sorts by place."""
    return f"{seq:016d}"


def follow(last: AuditEntry | None, note: AuditNote, segment: int) -> AuditEntry:
    """Return `note` as the entry behind `last` (None: as the first of all)."""
    seq, before = (1, GENESIS) if last is None else (last.seq + 1, last.hash)
    told = {name: getattr(note, name) for name in note.__struct_fields__}
    entry = AuditEntry(**told, seq=seq, segment=segment, before=before, hash="")
    return msgspec.structs.replace(entry, hash=digest_of(entry))


def digest_of(entry: AuditEntry) -> str:
    """Return the hash that an entry must have."""
    bare = _ENCODER.encode(msgspec.structs.replace(entry, hash=""))
    return hashlib.sha256(bytes.fromhex(entry.before) + bare).hexdigest()


def seal(key: bytes, head: Head) -> str:
    """Return the signature (HMAC-SHA256) by which a hub says that it cut its log off there."""
    return hmac.new(key, str(head).encode(), hashlib.sha256).hexdigest()


class Break(NamedTuple):
    """A place where a copy of the store was put back."""

    seq: int
    at: WallTime
    segment: int


class Verdict(NamedTuple):
    """What a look at the whole chain came to."""

    entries: int
    first: int
    head: Head | None
    breaks: Sequence[Break]
    findings: Sequence[str]
    """What is wrong, in words; empty: the chain is whole."""


class Verifier:
    """Looks at the entries of a log, given one by one in order; nothing else is needed for it.

    With the hub's `key` also that it was the hub that cut the log off.
    """

    def __init__(self, against: Head | None = None, key: bytes | None = None) -> None:
        self._against = against
        self._key = key
        self._found: list[str] = []
        self._breaks: list[Break] = []
        self._entries = self._first = 0
        self._begins = GENESIS
        self._last: AuditEntry | None = None
        self._cut: AuditEntry | None = None
        self._seen = False

    def find(self, what: str) -> None:
        """Take note of something that is wrong with the log as it is kept."""
        if len(self._found) < _FOUND_MAX:
            self._found.append(what)

    def take(self, entry: AuditEntry) -> None:
        """Look at the next entry."""
        self._entries += 1
        last = self._last
        if last is None:
            self._first, self._begins = entry.seq, entry.before
        else:
            self._look_back(last, entry)
        if not _is_hash(entry.before) or entry.hash != digest_of(entry):
            self.find(f"entry {entry.seq} was changed: its hash is another one")
        if entry.action == CUT:
            self._cut = entry
        against = self._against
        if against is not None and against.seq == entry.seq:
            self._seen = True
            if against.hash != entry.hash:
                said = f"entry {entry.seq} is not the one that the given head names"
                self.find(said + self._after_a_break())
        self._last = entry

    def verdict(self) -> Verdict:
        """Return what was found; after the last entry."""
        self._look_at_the_beginning()
        last, against = self._last, self._against
        if against is not None and not self._seen:
            if last is None or against.seq > last.seq:
                end = "is empty" if last is None else f"ends at entry {last.seq}"
                self.find(f"the log {end}, before the given head: its end was cut off")
            elif against.seq < self._first:
                self.find(
                    f"the given head is of entry {against.seq}, which was cut off as too old:"
                    " give a newer one"
                )
            else:
                self.find(f"entry {against.seq}, which the given head names, is missing")
        head = None if last is None else last.head
        return Verdict(self._entries, self._first, head, self._breaks, self._found)

    def _look_back(self, last: AuditEntry, entry: AuditEntry) -> None:
        if entry.seq > last.seq + 1:
            self.find(f"entries {last.seq + 1} to {entry.seq - 1} are missing")
        elif entry.seq <= last.seq:
            self.find(f"entry {entry.seq} stands behind entry {last.seq}: it was put there")
        elif entry.before != last.hash:
            self.find(f"entry {entry.seq} does not go on from entry {last.seq}")
        if entry.segment < last.segment:
            self.find(f"entry {entry.seq} is of an older segment than the one before it")
        elif entry.segment > last.segment:
            self._breaks.append(Break(entry.seq, entry.at, entry.segment))
            if entry.action != RESTORED:
                self.find(f"entry {entry.seq} begins a segment, and does not say why")

    def _look_at_the_beginning(self) -> None:
        if self._last is None:
            return
        if self._first == 1:
            if self._begins != GENESIS:
                self.find("entry 1 goes on from something: it is not the first one")
        elif self._cut is None or not self._accounts(self._cut):
            self.find(f"the log begins at entry {self._first}, and no cut accounts for that")

    def _accounts(self, cut: AuditEntry) -> bool:
        removed = Head(self._first - 1, self._begins)
        if cut.target != f"1-{removed.seq}" or cut.detail.get("hash") != removed.hash:
            return False
        sealed = cut.detail.get("seal", "")
        return self._key is None or hmac.compare_digest(sealed, seal(self._key, removed))

    def _after_a_break(self) -> str:
        if not self._breaks:
            return ": the log was made anew, or cut off and gone on with"
        seq = self._breaks[-1].seq
        return f": a copy was put back at entry {seq}, and what came after that copy is lost"


def _is_hash(text: str) -> bool:
    return len(text) == len(GENESIS) and set(text) <= _HEX
