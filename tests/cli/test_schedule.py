"""`agentcom schedule` against a real hub, as a script in a pipe sees it."""

import json
from pathlib import Path

import pytest

from agentcom.cli import schedule, specs, zones
from agentcom.cli.errors import CommandFailed
from tests.cli.terminal import Shell

EDIT = "<<mock:edit>> Write the file"


@pytest.mark.xdist_group("cli-fleet")
def test_a_schedule_from_its_first_day_to_its_last(fleet: Shell) -> None:
    words = ("schedule", "add", "tidy", "0 3 * * 1-5", EDIT, "--no-repo", "--zone", "UTC")
    name, at = fleet(*words, "--start-within", "2h").lines[0]
    assert (name, int(at) > 0) == ("tidy", True)

    shown = json.loads(fleet("schedule", "show", "tidy", "--json").out)
    assert (shown["start_within_ms"], shown["missed"], shown["zone"]) == (7_200_000, "once", "UTC")
    coming = fleet("schedule", "next", "tidy").lines
    assert coming[0][0] == at
    assert [line[1].endswith("03:00 UTC") for line in coming] == [True] * 5
    assert (
        fleet("schedule", "run", "tidy", "--watch").out.splitlines()[-1].split()[1] == "completed"
    )
    later = fleet("schedule", "edit", "tidy", "--cron", "0 4 * * 1-5", "--priority", "2")
    assert int(later.lines[0][1]) == int(at) + 3_600_000
    assert fleet("schedule", "edit", "tidy", "--start-within", "none", "--json").out
    edited = json.loads(fleet("schedule", "show", "tidy", "--json").out)
    assert (edited["task"]["priority"], edited["start_within_ms"]) == (2, None)
    assert "nothing is to change" in fleet("schedule", "edit", "tidy", ok=False).err
    at = later.lines[0][1]
    assert fleet("schedule", "pause", "tidy").lines == [["tidy", "paused"]]
    assert "agentcom schedule resume tidy" in fleet("schedule", "next", "tidy").err
    (row,) = fleet("schedule", "ls").lines
    assert (row[0], row[4], row[6]) == ("tidy", "1", "paused")
    assert fleet("schedule", "resume", "tidy").lines == [["tidy", at]]
    assert fleet("schedule", "rm", "tidy", "--yes").out == "tidy\tremoved\n"
    assert fleet("schedule", "show", "tidy", ok=False).code == 3


@pytest.mark.xdist_group("cli-fleet")
def test_an_expression_that_is_not_understood_is_named(fleet: Shell) -> None:
    said = fleet("schedule", "add", "tidy", "61 * * * *", "p", "--no-repo", ok=False)

    assert said.code == 2
    assert "cron: Bad minute" in said.err


@pytest.mark.xdist_group("cli-fleet")
def test_a_run_that_may_change_nothing_is_told_to_say_so(fleet: Shell, tmp_path: Path) -> None:
    words = ("schedule", "add", "check", "@daily", "p", "--repo", str(tmp_path))

    assert "--allow-repeat" in fleet(*words).err
    fleet("schedule", "rm", "check", "--yes")
    assert fleet(*words, "--allow-repeat").err == ""
    fleet("schedule", "rm", "check", "--yes")


def test_times_are_shown_as_a_clock_in_the_schedule_s_zone_shows_them() -> None:
    assert schedule.local_time(1_800_000_000_000, "Europe/Berlin") == "Fri 2027-01-15 09:00 CET"
    assert schedule.local_time(1_800_000_000_000, "Mars/Base") == "Fri 2027-01-15 08:00 UTC"
    assert schedule.local_time(None, "UTC") == ""


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({"paused": True, "next_at": 1, "reason": "paused itself: x"}, "paused (paused itself: x)"),
        ({"paused": False, "next_at": 1, "reason": None}, "active"),
        ({"paused": False, "next_at": None}, "over"),
    ],
)
def test_the_state_says_why(row: dict[str, object], state: str) -> None:
    assert schedule.state_of(row) == state


def test_the_local_zone_has_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "zoneinfo" / "Europe"
    folder.mkdir(parents=True)
    (folder / "Berlin").touch()
    localtime = tmp_path / "localtime"
    localtime.symlink_to(folder / "Berlin")

    assert zones.local_zone({}, localtime) == "Europe/Berlin"
    assert zones.local_zone({"TZ": ":America/New_York"}, localtime) == "America/New_York"
    assert zones.local_zone({"TZ": "Mars/Base"}, tmp_path / "missing") == "UTC"


def test_a_duration_is_said_with_its_unit() -> None:
    assert specs.duration("30m", "--start-within") == 1_800_000
    with pytest.raises(CommandFailed):
        specs.duration("soon", "--start-within")
