"""The limit texts of programs, each with the class and the reset that must be read from it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.sidecar.runtime import agent_cli, quota

ROME = ZoneInfo("Europe/Rome")
NOW = datetime(2026, 10, 7, 13, 30, tzinfo=UTC)
"""15:30 in Rome."""
TEXTS = json.loads((Path(__file__).parent / "fixtures" / "limit-texts.json").read_text("utf-8"))


def read(text: str, now: datetime = NOW) -> datetime | None:
    now_ms = int(now.timestamp() * 1_000)
    found = quota.resets_at_ms(text, now_ms=now_ms, zone=ROME)
    return None if found is None else datetime.fromtimestamp(found / 1_000, UTC)


@pytest.mark.parametrize("case", TEXTS, ids=[f"{c['program']}: {c['text'][:60]}" for c in TEXTS])
def test_a_limit_text_has_its_class_and_its_reset(case: dict[str, Any]) -> None:
    expected = case["resets"]

    assert agent_cli.classify(case["text"]) == case["class"]
    assert read(case["text"]) == (None if expected is None else datetime.fromisoformat(expected))


def test_every_program_has_its_texts() -> None:
    assert {"claude", "codex", "gemini", "opencode", "qwen"} <= {c["program"] for c in TEXTS}


@pytest.mark.parametrize(
    ("now", "resets"),
    [
        (datetime(2026, 10, 7, 20, 55, tzinfo=UTC), datetime(2026, 10, 7, 22, 5, tzinfo=UTC)),
        (datetime(2026, 10, 7, 22, 20, tzinfo=UTC), datetime(2026, 10, 7, 22, 5, tzinfo=UTC)),
        (datetime(2026, 10, 7, 23, 10, tzinfo=UTC), datetime(2026, 10, 8, 22, 5, tzinfo=UTC)),
    ],
)
def test_a_time_of_day_is_the_next_one_unless_it_has_just_passed(
    now: datetime, resets: datetime
) -> None:
    assert read("limit reached, resets 12:05am", now) == resets


def test_a_reset_that_passed_before_midnight_is_not_tomorrows() -> None:
    now = datetime(2026, 10, 7, 22, 10, tzinfo=UTC)  # 00:10 in Rome

    assert read("resets 11:50pm", now) == datetime(2026, 10, 7, 21, 50, tzinfo=UTC)


def test_a_date_without_a_year_is_the_next_one() -> None:
    december = datetime(2026, 12, 30, 12, tzinfo=UTC)

    assert read("resets Jan 2, 9am (UTC)", december) == datetime(2027, 1, 2, 9, tzinfo=UTC)
    assert read("resets Dec 30 at 1pm (UTC)", december) == december + timedelta(hours=1)


@pytest.mark.parametrize(
    "text",
    [
        "no reset here",
        "resets Feb 30, 9am",
        "resets 3",
        "I will try again later",
        "retry 4/5 in a moment",
        "it took 3pm",
    ],
)
def test_what_says_no_time_says_none(text: str) -> None:
    assert read(text) is None


def test_a_pause_in_milliseconds_is_one() -> None:
    assert read("retry-after-ms: 1500") == NOW + timedelta(milliseconds=1_500)


@given(st.text(max_size=200) | st.text("resets atryin0123456789:apmhds |-", max_size=80))
def test_no_text_is_too_odd(text: str) -> None:
    quota.resets_at_ms(text, now_ms=1_790_000_000_000, zone=ROME)
