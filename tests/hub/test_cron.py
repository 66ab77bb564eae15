"""When the next time of a cron expression comes."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agentcom.hub.cron import ALIASES, Cron
from agentcom.model.errors import InvalidInput
from agentcom.model.ids import WallTime
from agentcom.model.limits import CRON_CHARS

BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"


def at(text: str) -> WallTime:
    """Return a time in UTC."""
    return WallTime(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000)


def shown(times: list[WallTime], zone: str = "UTC") -> list[str]:
    """Return times as a clock in a zone shows them."""
    local = [datetime.fromtimestamp(time / 1_000, ZoneInfo(zone)) for time in times]
    return [time.strftime("%m-%d %H:%M %z") for time in local]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/20 * * * *", ["01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("0 9-17/4 * * *", ["01-01 09:00", "01-01 13:00", "01-01 17:00"]),
        ("30 8 * * MON-FRI", ["01-01 08:30", "01-04 08:30", "01-05 08:30"]),
        ("0 0 1 jan,JUL *", ["07-01 00:00", "01-01 00:00", "07-01 00:00"]),
        ("0 12 13 * 5", ["01-01 12:00", "01-08 12:00", "01-13 12:00"]),
        ("0 0 * * 7", ["01-03 00:00", "01-10 00:00", "01-17 00:00"]),
        ("@hourly", ["01-01 01:00", "01-01 02:00", "01-01 03:00"]),
        ("@Daily", ["01-02 00:00", "01-03 00:00", "01-04 00:00"]),
    ],
)
def test_the_coming_times_of_an_expression(cron: str, expected: list[str]) -> None:
    found = Cron(cron, "UTC").coming(at("2027-01-01T00:00"), 3)

    assert shown(found) == [f"{one} +0000" for one in expected]


@pytest.mark.parametrize("name", list(ALIASES))
def test_every_alias_is_understood(name: str) -> None:
    assert Cron(name, "UTC").after(WallTime(0)) is not None


@pytest.mark.parametrize(
    ("zone", "cron", "start", "expected"),
    [
        # Spring: the clock goes from 02:00 to 03:00, and a fixed time in the gap comes at its end.
        (BERLIN, "30 2 * * *", "2027-03-27T12:00", ["03-28 03:00 +0200", "03-29 02:30 +0200"]),
        (NEW_YORK, "30 2 * * *", "2027-03-13T12:00", ["03-14 03:00 -0400", "03-15 02:30 -0400"]),
        # Two fixed times in the gap fall together, and run once.
        (BERLIN, "0,30 2 * * *", "2027-03-27T12:00", ["03-28 03:00 +0200", "03-29 02:00 +0200"]),
        # What runs every hour goes on by real time.
        (BERLIN, "0 * * * *", "2027-03-27T23:30", ["03-28 01:00 +0100", "03-28 03:00 +0200"]),
        (NEW_YORK, "0 * * * *", "2027-03-14T05:30", ["03-14 01:00 -0500", "03-14 03:00 -0400"]),
        # Autumn: 02:00 to 03:00 comes twice in Berlin, 01:00 to 02:00 in New York.
        (BERLIN, "30 2 * * *", "2027-10-30T12:00", ["10-31 02:30 +0200", "11-01 02:30 +0100"]),
        (NEW_YORK, "30 1 * * *", "2027-11-06T12:00", ["11-07 01:30 -0400", "11-08 01:30 -0500"]),
        # Asked in the second of both hours, the first one is not given again.
        (BERLIN, "30 2 * * *", "2027-10-31T01:10", ["11-01 02:30 +0100", "11-02 02:30 +0100"]),
        (NEW_YORK, "30 1 * * *", "2027-11-07T06:10", ["11-08 01:30 -0500", "11-09 01:30 -0500"]),
        # What runs every half hour does so in both.
        (BERLIN, "*/30 * * * *", "2027-10-31T00:10", ["10-31 02:30 +0200", "10-31 02:00 +0100"]),
        (NEW_YORK, "*/30 * * * *", "2027-11-07T05:10", ["11-07 01:30 -0400", "11-07 01:00 -0500"]),
    ],
)
def test_a_zone_that_changes_its_clock_neither_loses_nor_doubles_a_time(
    zone: str, cron: str, start: str, expected: list[str]
) -> None:
    assert shown(Cron(cron, zone).coming(at(start), 2), zone) == expected


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "UTC", "Australia/Lord_Howe"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 * * * *", "*/30 * * * *", "15 1,2,3 * * *"])
def test_a_time_is_the_same_wherever_one_begins_to_look(zone: str, cron: str) -> None:
    """The request key of a run is made of it: over both nights, and in between."""
    for start in ("2027-03-12T00:00", "2027-03-26T00:00", "2027-10-29T00:00", "2027-11-05T00:00"):
        times = Cron(cron, zone).coming(at(start), 100)

        assert times == sorted(set(times))
        steps = [Cron(cron, zone).after(time) for time in times[:-1]]
        assert steps == times[1:]


def test_the_newest_times_are_those_that_the_next_ones_were() -> None:
    cron = Cron("*/10 * * * *", BERLIN)
    start = at("2027-10-30T00:00")
    times = cron.coming(start, 300)

    assert cron.newest(times[0], times[-1], 300) == times
    assert cron.newest(times[0], times[-1], 7) == times[-7:]
    assert cron.newest(times[5], times[9], 100) == times[5:10]
    assert cron.newest(times[5], times[5], 1) == [times[5]]
    assert cron.newest(WallTime(times[-1] + 1), WallTime(times[-1] + 2), 5) == []


def test_a_long_time_without_any_is_looked_through() -> None:
    cron = Cron("0 0 29 2 *", "UTC")

    newest = cron.newest(at("2000-01-01T00:00"), at("2027-06-01T00:00"), 2)

    assert newest == [at("2020-02-29T00:00"), at("2024-02-29T00:00")]


def test_what_never_comes_has_no_next_time() -> None:
    assert Cron("* * */20 * 1L", "UTC").after(at("2027-01-01T00:00")) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "* * * *", "* * * * * *", "@never", "61 * * * *", "* 24 * * *", "0 0 30 2 *"),
        *("* * * * MOO", "*/0 * * * *", "5-1 * * * *", "1, * * * *", "* * * * 1#9"),
        "0," * CRON_CHARS + "0 * * * *",
    ],
)
def test_an_expression_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^cron: "):
        Cron(text, "UTC")


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "America", "x" * 100, "a\0b"])
def test_a_zone_that_is_not_known_is_refused(zone: str) -> None:
    with pytest.raises(InvalidInput, match=r"^zone: "):
        Cron("* * * * *", zone)
