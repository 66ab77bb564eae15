"""What a turn costs: a table of patterns of model names, and what they charge."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from agentcom.model.usage import TurnUsage

_PER: Final = 1_000_000


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model charges, in micro-dollars for a million tokens."""

    input: int
    output: int
    cached: int | None = None
    """Of input that is read from a cache; None: as other input."""
    written: int | None = None
    """Of input that is written to a cache; None: as other input."""


class Prices:
    """Price lists; in each the longest pattern that matches a model's name decides."""

    __slots__ = ("_table",)

    def __init__(self, *tables: Mapping[str, Price]) -> None:
        """`tables` map patterns, as of a shell (`*`, `?`, `[...]`), to prices; the first wins."""
        self._table = tuple(entry for table in tables for entry in _in_order(table))

    def price(self, model: str) -> Price | None:
        """Return what `model` charges; None if no pattern is its name's."""
        for pattern, price in self._table:
            if fnmatchcase(model, pattern):
                return price
        return None

    def cost(self, spent: TurnUsage) -> int | None:
        """Return what a turn costs in micro-dollars, rounded; None if its model has no price."""
        price = self.price(spent.model)
        if price is None:
            return None
        cached = price.input if price.cached is None else price.cached
        written = price.input if price.written is None else price.written
        fresh = max(0, spent.input - spent.cached - spent.written)
        whole = fresh * price.input + spent.output * price.output
        whole += spent.cached * cached + spent.written * written
        return (whole + _PER // 2) // _PER


def _in_order(table: Mapping[str, Price]) -> list[tuple[str, Price]]:
    return sorted(table.items(), key=lambda entry: (-len(entry[0]), entry[0]))
