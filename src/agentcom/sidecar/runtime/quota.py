"""What programs say when an account has no quota left, and when it has some again.

Pure: the time and the zone of the computer come in. Providers write the reset in many ways; what
none of them fits is unknown, and the hub then tries again after a while.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

WORDS: Final = (
    r"quota",
    r"(usage|session|weekly|monthly|daily|opus|sonnet|hour) limit",
    r"hit your (\w+ ){0,2}limit",
    r"usage (exceeded|limit)",
    r"exhausted your (\w+ ){0,2}capacity",
    r"credit balance",
    r"out of credits",
    r"insufficient (credits|balance|funds)",
    r"billing",
)
"""How providers word an exhausted quota; a rate limit alone passes within a minute."""

TEXT_CHARACTERS_MAX: Final = 4_000
"""A reset stands near the start; a longer text is somebody's log."""

JUST_PASSED: Final = timedelta(hours=1)
"""A time of day that is gone for no longer is the one that was meant: the window is over."""

_UNIT_S: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_AGAIN: Final = r"(?:resets?|again|retry|available|until)\b"
_CLOCK: Final = r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?(?::\d{2})?\s*(?P<half>[ap]\.?m\b)?"
_ZONE: Final = r"(?:\s*(?:\((?P<zone>[\w/+-]{1,64})\)|(?P<utc>UTC|GMT)\b))?"

_EPOCH: Final = re.compile(r"(?:\||resets?_?at\W{1,4})(\d{10})(\d{3})?\b", re.IGNORECASE)
_SECONDS: Final = re.compile(
    r"(?:retry[-_ ]after(?:-ms)?|resets?_in_seconds)\W{1,4}(\d+(?:\.\d+)?)\b(?!\s*[hmd:-])",
    re.IGNORECASE,
)
_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d+)?\s*(Z\b|UTC\b|[+-]\d\d:?\d\d)?"
)
_PART: Final = re.compile(
    r"(\d+(?:\.\d+)?)\s*(d|h|m|s)(?:ays?|ours?|rs?|in(?:ute)?s?|ec(?:ond)?s?)?(?![a-z])",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(
    rf"(?:\b(?:in|after)|retryDelay\W{{1,4}})\s*((?:{_PART.pattern}(?:,|\s|and)*)+)", re.IGNORECASE
)
_DATE: Final = re.compile(
    rf"{_AGAIN}\D{{0,16}}?\b(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?"
    rf"(?:,?\s+(?P<year>\d{{4}}))?(?:,|\s|at)*{_CLOCK}{_ZONE}",
    re.IGNORECASE,
)
_TIME: Final = re.compile(
    rf"{_AGAIN}(?:\s+(?:at|after))?\s+{_CLOCK}{_ZONE}(?P<tomorrow>\s*tomorrow)?", re.IGNORECASE
)


def epoch_ms(message: str) -> int | None:
    """Return the reset that a message gives as a Unix time, in milliseconds."""
    found = _EPOCH.search(message)
    return int(found.group(1)) * 1_000 if found else None


def resets_at_ms(message: str, *, now_ms: int, zone: tzinfo) -> int | None:
    """Return when the quota resets (Unix milliseconds), if the message says it in any known way.

    `zone` is that of the computer, for times that name none. The answer may lie in the past.
    """
    text = message[:TEXT_CHARACTERS_MAX]
    now = datetime.fromtimestamp(now_ms / 1_000, zone)
    stated = epoch_ms(text)
    if stated is not None:
        return stated
    for read in _READERS:
        try:
            found = read(text, now)
        except (ValueError, OverflowError, ZoneInfoNotFoundError):  # no such day, hour or zone
            continue
        if found is not None:
            return int(found.timestamp() * 1_000)
    return None


def _seconds(text: str, now: datetime) -> datetime | None:
    found = _SECONDS.search(text)
    if found is None:
        return None
    unit = timedelta(milliseconds=1) if "-ms" in found.group(0) else timedelta(seconds=1)
    return now + float(found.group(1)) * unit


def _iso(text: str, now: datetime) -> datetime | None:
    found = _ISO.search(text)
    if found is None:
        return None
    day, clock, offset = found.groups()
    stated = datetime.fromisoformat(f"{day}T{clock}{(offset or '').replace('UTC', 'Z')}")
    return stated if stated.tzinfo is not None else stated.replace(tzinfo=now.tzinfo)


def _duration(text: str, now: datetime) -> datetime | None:
    found = _DURATION.search(text)
    if found is None:
        return None
    parts = _PART.findall(found.group(1))
    seconds = sum(float(number) * _UNIT_S[unit.lower()] for number, unit in parts)
    return now + timedelta(seconds=seconds)


def _date(text: str, now: datetime) -> datetime | None:
    found = _DATE.search(text)
    if found is None:
        return None
    zone = _zone(found, now)
    month = _MONTHS.index(found["month"].lower()) + 1
    here = now.astimezone(zone)
    years = [int(found["year"])] if found["year"] else [here.year, here.year + 1]
    days = [datetime(year, month, int(found["day"]), tzinfo=zone) for year in years]
    stated = [datetime.combine(day, _clock(found), zone) for day in days]
    return next((at for at in stated if at > now - timedelta(days=1)), stated[-1])


def _time(text: str, now: datetime) -> datetime | None:
    found = _TIME.search(text)
    if found is None or not (found["half"] or found["minute"]):
        return None
    zone = _zone(found, now)
    here = now.astimezone(zone)
    today = datetime.combine(here.date(), _clock(found), zone)
    if found["tomorrow"] or today < now - JUST_PASSED:
        return datetime.combine(here.date() + timedelta(days=1), _clock(found), zone)
    yesterday = datetime.combine(here.date() - timedelta(days=1), _clock(found), zone)
    return yesterday if yesterday > now - JUST_PASSED else today


def _zone(found: re.Match[str], now: datetime) -> tzinfo:
    if found["utc"]:
        return UTC
    if found["zone"]:
        return ZoneInfo(found["zone"])
    assert now.tzinfo is not None
    return now.tzinfo


def _clock(found: re.Match[str]) -> time:
    hour, half = int(found["hour"]), found["half"]
    if half:
        known = 1 <= hour <= 12  # noqa: PLR2004 - the hours of a dial
        hour = hour % 12 + (12 if half[0] in "pP" else 0) if known else 24
    return time(hour, int(found["minute"] or 0))


_READERS: Final[Sequence[Callable[[str, datetime], datetime | None]]] = (
    _seconds,
    _iso,
    _duration,
    _date,
    _time,
)
