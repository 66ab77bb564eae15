"""What a disk may hold after a power loss: pure, from the operations that came before it.

Data is durable after a sync of its file, a name after a sync of its folder. All that is pending
may be there or not, in any mixture, and of a write any of its sectors. Changes of names keep their
order, as every journalling file system has it.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from agentcom.testing.crash.operations import Kind, Operation

SECTOR_BYTES: Final = 512
LAST_PREFIXES: Final = 6
_TORN: Final = 0.15
"""How often a write of a random mixture is torn."""
_NAMES: Final = frozenset({Kind.CREATE, Kind.MAKE_FOLDER, Kind.UNLINK, Kind.RENAME})
_FOLDER: Final = -1


class Choice(NamedTuple):
    """One outcome of a power loss."""

    kept: frozenset[int]
    """Pending writes and truncations, by number of operation."""
    names: int
    """Of the pending changes of names, so many from the first on."""
    torn: Mapping[int, frozenset[int]] = {}
    """Of some kept writes: which sectors, counted from the write's first."""

    def __str__(self) -> str:
        torn = f", {len(self.torn)} of them torn" if self.torn else ""
        return f"{len(self.kept)} pending operations kept{torn}, {self.names} changes of names"


class State(NamedTuple):
    """The files of a disk."""

    files: Mapping[str, bytes]
    digest: bytes
    """Equal for equal files."""


class _File:
    __slots__ = ("cached", "doubtful", "durable", "pending", "sure")

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = bytearray(durable)
        self.pending: list[tuple[int, Operation]] = []
        self.sure: set[int] | None = None
        """After a failed sync: the pending operations that are durable beside doubtful ones."""
        self.doubtful = -1
        self.cached: tuple[bytes, bytes] | None = None

    def sync(self) -> None:
        if self.sure is not None:
            self.sure |= {number for number, _ in self.pending if number > self.doubtful}
            return
        for _, operation in self.pending:
            _apply(self.durable, operation)
        self.pending.clear()
        self.cached = None

    def fail_sync(self) -> None:
        self.sure = self.sure or set()
        self.doubtful = max((number for number, _ in self.pending), default=-1)

    def content(self, choice: Choice) -> tuple[bytes, bytes]:
        """Return the file's bytes and their digest."""
        sure = self.sure or ()
        kept = [(n, one) for n, one in self.pending if n in choice.kept or n in sure]
        if not kept:
            if self.cached is None:
                self.cached = _digested(bytes(self.durable))
            return self.cached
        data = bytearray(self.durable)
        for number, operation in kept:
            sectors = choice.torn.get(number)
            if sectors is None or number in sure:
                _apply(data, operation)
            else:
                for piece in _pieces(operation, sectors):
                    _apply(data, piece)
        return _digested(bytes(data))


class Disk:
    """A disk that is used; `build` tells what it holds if the power fails now."""

    def __init__(self, initial: Mapping[str, bytes]) -> None:
        self._files = [_File(data) for data in initial.values()]
        self._durable = {name: number for number, name in enumerate(initial)}
        self._durable |= dict.fromkeys({_folder(name) for name in initial}, _FOLDER)
        self._now = dict(self._durable)
        self._names: list[tuple[Operation, int]] = []
        self._syncs = 0

    def apply(self, number: int, operation: Operation) -> None:
        """Do the operation with this number."""
        if operation.kind in _NAMES:
            self._rename(operation)
        elif operation.kind is Kind.SYNC_FOLDER:
            self._sync_folder(operation.path)
        else:
            file = self._files[self._now[operation.path]]
            if operation.kind is Kind.SYNC:
                self._syncs += bool(file.pending)
                file.sync()
            else:
                file.pending.append((number, operation))

    def fail(self, operation: Operation) -> None:
        """Refuse an operation: what a failed sync covers may never get to the disk."""
        if operation.kind is Kind.SYNC:
            self._syncs += 1
            self._files[self._now[operation.path]].fail_sync()

    def pending(self) -> Sequence[tuple[int, Operation]]:
        """Return the writes and truncations that are not durable, in order."""
        return sorted((one for file in self._files for one in file.pending), key=lambda one: one[0])

    @property
    def pending_names(self) -> int:
        """How many changes of names are not durable."""
        return len(self._names)

    def key(self, choice: Choice) -> object:
        """Return what is equal only for equal states, and quicker to have than the state."""
        return self._syncs, choice.names, choice.kept, frozenset(choice.torn.items())

    def build(self, choice: Choice) -> State:
        """Return the files of one outcome."""
        names = dict(self._durable)
        for operation, number in self._names[: choice.names]:
            _change(names, operation, number)
        files: dict[str, bytes] = {}
        digest = hashlib.sha256()
        for name in sorted(names):
            if names[name] == _FOLDER or _folder(name) not in names:
                continue
            files[name], own = self._files[names[name]].content(choice)
            digest.update(name.encode() + own)
        return State(files, digest.digest())

    def _rename(self, operation: Operation) -> None:
        number = _FOLDER
        if operation.kind is Kind.CREATE:
            number = len(self._files)
            self._files.append(_File())
        elif operation.kind is not Kind.MAKE_FOLDER:
            number = self._now[operation.path]
        self._names.append((operation, number))
        _change(self._now, operation, number)

    def _sync_folder(self, folder: str) -> None:
        self._syncs += 1
        left: list[tuple[Operation, int]] = []
        for operation, number in self._names:
            if _folder(operation.path) == folder:
                _change(self._durable, operation, number)
            else:
                left.append((operation, number))
        self._names = left


def choices(disk: Disk, rng: random.Random, *, mixtures: int) -> Iterator[Choice]:
    """Yield outcomes: none, all, file by file, prefixes, a torn last write, random mixtures."""
    pending = disk.pending()
    numbers = [number for number, _ in pending]
    everything, names = frozenset(numbers), disk.pending_names
    for some in {0, names, rng.randint(0, names)}:
        yield Choice(everything, some)
        yield Choice(frozenset(), some)
    if not pending:
        return
    for path in sorted({one.path for _, one in pending}):
        own = frozenset(number for number, one in pending if one.path == path)
        yield Choice(own, names)
        yield Choice(everything - own, names)
    cuts = [*range(len(numbers) - LAST_PREFIXES, len(numbers)), rng.randrange(len(numbers))]
    for cut in cuts:
        if cut > 0:
            yield Choice(frozenset(numbers[:cut]), names)
    yield from _torn_last(pending[-1], everything, names, rng)
    for _ in range(min(mixtures, 1 << len(numbers))):
        yield _mixture(pending, names, rng)


def _torn_last(
    last: tuple[int, Operation], everything: frozenset[int], names: int, rng: random.Random
) -> Iterator[Choice]:
    number, operation = last
    sectors = _sectors(operation)
    if sectors < 2:  # noqa: PLR2004 - one sector is there or not
        return
    whole = range(sectors)
    for some in (whole[: sectors // 2], whole[1:], whole[:1], whole[-1:]):
        yield Choice(everything, names, {number: frozenset(some)})
        yield Choice(frozenset({number}), names, {number: frozenset(some)})
    yield Choice(everything, names, {number: _some(sectors, rng)})


def _mixture(pending: Sequence[tuple[int, Operation]], names: int, rng: random.Random) -> Choice:
    share = rng.choice((0.1, 0.5, 0.9))
    kept = [one for one in pending if rng.random() < share]
    torn = {
        number: _some(_sectors(operation), rng)
        for number, operation in kept
        if _sectors(operation) > 1 and rng.random() < _TORN
    }
    return Choice(frozenset(number for number, _ in kept), rng.randint(0, names), torn)


def _some(sectors: int, rng: random.Random) -> frozenset[int]:
    return frozenset(one for one in range(sectors) if rng.random() < 0.5)  # noqa: PLR2004 - a coin


def _sectors(operation: Operation) -> int:
    if operation.kind is not Kind.WRITE:
        return 1
    end = operation.offset + len(operation.data)
    return -(-end // SECTOR_BYTES) - operation.offset // SECTOR_BYTES


def _pieces(operation: Operation, sectors: frozenset[int]) -> Iterator[Operation]:
    start, data = operation.offset, operation.data
    first = start // SECTOR_BYTES
    for sector in sorted(sectors):
        begin = max(start, (first + sector) * SECTOR_BYTES)
        end = min(start + len(data), (first + sector + 1) * SECTOR_BYTES)
        yield Operation(Kind.WRITE, operation.path, begin, data[begin - start : end - start])


def _apply(data: bytearray, operation: Operation) -> None:
    offset = operation.offset
    if operation.kind is Kind.TRUNCATE:
        del data[offset:]
        data.extend(bytes(offset - len(data)))
        return
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(operation.data)] = operation.data


def _change(names: dict[str, int], operation: Operation, number: int) -> None:
    if operation.kind is Kind.UNLINK:
        names.pop(operation.path, None)
    elif operation.kind is Kind.RENAME:
        names.pop(operation.path, None)
        names[operation.target] = number
    else:
        names[operation.path] = number


def _digested(data: bytes) -> tuple[bytes, bytes]:
    return data, hashlib.sha256(data).digest()


def _folder(name: str) -> str:
    return name.rpartition("/")[0] or "."
