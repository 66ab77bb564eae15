"""Cron expressions: when the next time comes, in the zone that a schedule names.

Five fields with names, lists, ranges and steps, or `@daily` and its kin. In the hour that a zone
skips in spring, and in the one that it has twice in autumn, it goes as in Debian's cron: what has
a fixed hour runs once, at the end of the gap or in the first of both hours; what runs every hour
or every so many minutes goes by real time.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from itertools import islice, takewhile
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from agentcom.model.errors import InvalidInput
from agentcom.model.ids import WallTime
from agentcom.model.limits import CRON_CHARS, ZONE_CHARS

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "@yearly": "0 0 1 1 *",
        "@annually": "0 0 1 1 *",
        "@monthly": "0 0 1 * *",
        "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *",
        "@midnight": "0 0 * * *",
        "@hourly": "0 * * * *",
    }
)
_FIELDS: Final = 5
_LOOK_BACK_MS: Final = 120_000  # for each time that is wanted; grows until enough is found
_GROWTH: Final = 4


class Cron:
    """One expression in one zone."""

    def __init__(self, text: str, zone: str) -> None:
        """Raises `InvalidInput`: the expression or the zone is not understood."""
        self._zone = find_zone(zone)
        expression = ALIASES.get(text.strip().lower(), text)
        if len(text) > CRON_CHARS or len(expression.split()) != _FIELDS:
            raise InvalidInput("cron", f"five fields, or one of {', '.join(ALIASES)}")
        try:
            CronSim(expression, datetime.fromtimestamp(0, UTC))
        except CronSimError as error:
            raise InvalidInput("cron", str(error)) from None
        self._expression = expression

    def times(self, wall: WallTime) -> Iterator[WallTime]:
        """Yield the times after `wall`, each once and in order, until there is none for long."""
        last = wall
        for found in CronSim(self._expression, self._local(wall)):
            at = WallTime(int(found.timestamp()) * 1_000)
            if at > last:  # in the hour that comes twice the first one may lie behind
                yield at
                last = at

    def after(self, wall: WallTime) -> WallTime | None:
        """Return the first time after `wall`; None if there is none within fifty years."""
        return next(self.times(wall), None)

    def coming(self, wall: WallTime, count: int) -> list[WallTime]:
        """Return up to `count` times after `wall`, in order."""
        return list(islice(self.times(wall), count))

    def newest(self, since: WallTime, until: WallTime, count: int) -> list[WallTime]:
        """Return the last `count` times from `since` to `until`, both included, in order."""
        back_ms = _LOOK_BACK_MS * count
        while True:
            start = max(WallTime(since - 1), WallTime(until - back_ms))
            found = list(takewhile(lambda at: at <= until, self.times(start)))
            if len(found) >= count or start < since:
                return found[-count:]
            back_ms *= _GROWTH

    def _local(self, wall: WallTime) -> datetime:
        return datetime.fromtimestamp(wall // 1_000, self._zone)


def find_zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name; raises `InvalidInput`."""
    if name == "UTC":
        return UTC  # there on every computer
    rule = "an IANA name that this hub's computer knows, such as Europe/Berlin or UTC"
    if not 1 <= len(name) <= ZONE_CHARS:
        raise InvalidInput("zone", rule)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidInput("zone", rule) from None
