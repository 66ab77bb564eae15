"""An undo journal: whoever keeps one can take back what was changed since a mark."""

from collections.abc import Callable, MutableMapping
from typing import Any, Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")
_MISSING: Final = object()


class Journal:
    """Notes the inverse of each change."""

    def __init__(self) -> None:
        self.journal: list[tuple[Any, ...]] = []
        """Inverses: `(function, *arguments)`; an inverse notes nothing itself."""

    def rollback(self, mark: int) -> None:
        """Undo every change since the journal was `mark` long, newest first."""
        journal = self.journal
        while len(journal) > mark:
            undo, *args = journal.pop()
            undo(*args)

    def undo(self, inverse: Callable[..., object], *args: Any) -> None:
        """Note what takes back a change that was just made elsewhere."""
        self.journal.append((inverse, *args))

    def put(self, mapping: MutableMapping[K, V], key: K, value: V) -> None:
        """Set `mapping[key]`, undoably."""
        self.journal.append((_restore, mapping, key, mapping.get(key, _MISSING)))
        mapping[key] = value

    def drop(self, mapping: MutableMapping[K, V], key: K) -> None:
        """Delete `mapping[key]` if it is there, undoably. Order of the rest is kept."""
        old = mapping.pop(key, _MISSING)
        if old is not _MISSING:
            self.journal.append((_restore, mapping, key, old))

    def tally(self, counts: MutableMapping[K, int], key: K, change: int) -> int:
        """Count up or down, undoably, and return what it was before; 0 is not kept."""
        before = counts.get(key, 0)
        if before + change:
            self.put(counts, key, before + change)
        else:
            self.drop(counts, key)
        return before


def _restore(mapping: MutableMapping[Any, Any], key: object, old: object) -> None:
    if old is _MISSING:
        del mapping[key]
    else:
        mapping[key] = old
