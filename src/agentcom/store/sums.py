"""Sums over the rows of a table: what is asked, and what comes back. Every store adds up alike."""

from collections.abc import Sequence

import msgspec

from agentcom.model.batch import Table


class Sums(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A table of sums: rows of one table, added up by the values of one column."""

    table: Table
    columns: tuple[str, ...]
    """What to add up; of the columns in `SUMMED` of `store/schema.py`."""
    by: str | None = None
    """One sum for each value of this column; None: one of all rows."""
    where: dict[str, Sequence[str]] = {}
    prefix: str | None = None
    least: dict[str, int] = {}
    """Column -> the smallest number that counts."""
    limit: int = 100


class Sum(msgspec.Struct, frozen=True, gc=False):
    """The sums of some rows, in the order of the columns asked for."""

    value: str | int | None
    """What these rows have in the column `by`."""
    rows: int
    sums: tuple[int, ...]
