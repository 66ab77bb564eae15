"""Which fields of a row are columns of their own; the rest of the row is one JSON document.

A column exists where SQL must see it: to filter a listing or to find what is live. All adapters
use this table, so a new kind of row is one line here, one in `model/batch.py` and a migration.
"""

from collections.abc import Mapping
from typing import Final

from agentcom.model.batch import Table

COLUMNS: Final[Mapping[Table, tuple[str, ...]]] = {
    Table.TASK: ("state", "project", "submitter"),
    Table.BODY: (),
    Table.EDGE: ("task",),
    Table.MEMBER: (),
    Table.TALLY: ("live",),
    Table.HOLD: ("task",),
    Table.RULE: (),
    Table.RATE: (),
    Table.RESULT: ("task",),
    Table.USAGE: (
        *("task", "project", "submitter", "agent", "account", "model", "day"),
        *("at", "input", "cached", "written", "output", "cost_micros"),
        *("included", "unpriced", "late", "wall_ms", "turns"),
    ),
    Table.BUDGET: ("project",),
    Table.AGENT: ("machine", "project"),
    Table.ACCOUNT: (),
    Table.MACHINE: ("owner",),
    Table.SCHEDULE: ("project", "owner"),
    Table.USER: ("role",),
    Table.PAUSE: (),
    Table.CREDENTIAL: ("kind", "owner"),
    Table.REQUEST: ("expires_at",),
    Table.TODO: ("kind",),
    Table.MESSAGE: ("thread", "channel", "expires_at"),
    Table.ENTRY: ("message",),
    Table.HEAD: (),
    Table.CHANNEL: ("project",),
    Table.READER: ("address",),
    Table.NOTE: (),
    Table.NOTE_VERSION: (),
    Table.BLOB: (),
    Table.ASK: ("state", "task"),
    Table.LOCK: (),
    Table.ALERT_RULE: (),
    Table.ALERT: (),
    Table.SILENCE: (),
    Table.DESTINATION: (),
    Table.NOTICE: (),
    Table.CHAT_LINK: ("person",),
    Table.CHAT_CARD: ("about",),
    Table.AUDIT: ("at", "who", "action", "outcome"),
}

SUMMED: Final[Mapping[Table, tuple[str, ...]]] = {
    Table.USAGE: (
        *("input", "cached", "written", "output", "cost_micros"),
        *("included", "unpriced", "late", "wall_ms", "turns"),
    ),
}
"""Columns of numbers, for `Store.sums`; nothing (NULL) counts as 0."""
