"""An alert: from the first look that finds something to the last, and who is told when."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.core import alerts
from agentcom.core.alerts import TRANSITIONS, Reading, Seen, Step, Tell, step
from agentcom.model.alert import Alert, AlertRule, AlertState, RuleName, Severity
from agentcom.model.errors import Conflict
from agentcom.model.ids import WallTime

T0 = WallTime(1_000_000)
RULE = AlertRule(
    name=RuleName.FAILURE_RATE,
    threshold=50,
    for_ms=60_000,
    cooldown_ms=600_000,
    severity=Severity.CRITICAL,
)
BAD = Reading(RuleName.FAILURE_RATE, 75.0, "6 of 8 tasks failed")


def at(ms: int) -> WallTime:
    return WallTime(T0 + ms)


def after(*looks: tuple[int, Reading | None], rule: AlertRule = RULE) -> Step:
    found = Step(None)
    for ms, reading in looks:
        found = step(found.alert, rule, reading, at(ms))
    return found


def test_every_state_has_an_answer_to_all_that_a_look_can_find() -> None:
    assert set(TRANSITIONS) == set(product(AlertState, Seen))


def test_nothing_wrong_is_no_alert() -> None:
    assert after((0, None), (10_000, None)) == Step(None)


def test_it_fires_once_it_has_lasted() -> None:
    early = after((0, BAD), (59_999, BAD))
    late = after((0, BAD), (59_999, BAD), (60_000, BAD))

    assert early.alert is not None
    assert late.alert is not None
    assert (early.alert.state, early.tell) == (AlertState.PENDING, None)
    assert (late.alert.state, late.tell) == (AlertState.FIRING, Tell.FIRED)
    assert (late.alert.since, late.alert.fired_at) == (T0, at(60_000))


def test_what_is_over_before_it_lasted_leaves_nothing() -> None:
    assert after((0, BAD), (30_000, None)) == Step(None)


def test_a_pause_begins_the_time_anew() -> None:
    found = after((0, BAD), (30_000, None), (40_000, BAD), (70_000, BAD))

    assert found.alert is not None
    assert found.alert.state is AlertState.PENDING


def test_who_was_told_that_it_fires_is_told_that_it_is_over() -> None:
    found = after((0, BAD), (60_000, BAD), (70_000, None))

    assert found.alert is not None
    assert (found.alert.state, found.tell) == (AlertState.RESOLVED, Tell.RESOLVED)
    assert after((0, BAD), (60_000, BAD), (70_000, None), (80_000, None)).tell is None


def test_while_it_fires_it_is_told_once() -> None:
    found = after((0, BAD), (60_000, BAD), (5_000_000, BAD))

    assert found.tell is None


def test_within_the_cool_down_nobody_is_told_again_and_afterwards_they_are() -> None:
    looks = ((0, BAD), (60_000, BAD), (70_000, None), (80_000, BAD), (140_000, BAD))
    cooling = after(*looks)
    over = after(*looks, (150_000, None))
    later = after(*looks, (660_000, BAD))

    assert cooling.alert is not None
    assert (cooling.alert.state, cooling.tell) == (AlertState.FIRING, None)
    assert over.tell is None, "nobody knew of it"
    assert later.tell is Tell.FIRED


def test_a_clock_that_was_set_back_does_not_keep_it_quiet() -> None:
    first = after((0, BAD), (60_000, BAD), (70_000, None)).alert
    pending = step(first, RULE, BAD, at(-9_000_000)).alert
    again = step(pending, RULE, BAD, at(-8_900_000))

    assert again.tell is Tell.FIRED
    assert again.alert is not None
    assert again.alert.since == at(-9_000_000)


def test_silence_keeps_quiet_and_changes_no_state() -> None:
    pending = after((0, BAD)).alert
    quiet = step(pending, RULE, BAD, at(60_000), quiet=True)
    loud = step(quiet.alert, RULE, BAD, at(70_000))

    assert quiet.alert is not None
    assert (quiet.alert.state, quiet.tell) == (AlertState.FIRING, None)
    assert loud.tell is Tell.FIRED


def test_who_acknowledged_it_keeps_it_quiet_until_it_fires_anew() -> None:
    pending = after((0, BAD)).alert
    quiet = step(pending, RULE, BAD, at(60_000), quiet=True).alert
    assert quiet is not None
    acked = alerts.acknowledged(quiet, "ann", at(61_000))

    assert step(acked, RULE, BAD, at(700_000)).tell is None
    over = step(acked, RULE, None, at(710_000)).alert
    anew = step(step(over, RULE, BAD, at(720_000)).alert, RULE, BAD, at(780_000))
    assert anew.tell is Tell.FIRED
    assert anew.alert is not None
    assert anew.alert.acked_by is None


def test_the_first_who_acknowledges_it_counts_and_only_what_fires_is_acknowledged() -> None:
    firing = after((0, BAD), (60_000, BAD)).alert
    assert firing is not None
    acked = alerts.acknowledged(firing, "ann", at(61_000))

    assert alerts.acknowledged(acked, "bob", at(62_000)) is acked
    with pytest.raises(Conflict):
        alerts.acknowledged(after((0, BAD)).alert or firing, "ann", T0)


def test_a_pending_alert_keeps_what_fired_before_it() -> None:
    before = after((0, BAD), (60_000, BAD), (70_000, None)).alert
    pending = step(before, RULE, BAD, at(900_000)).alert
    settled = step(pending, RULE, None, at(910_000)).alert

    assert settled == before


def test_a_rule_that_waits_for_nothing_fires_at_once() -> None:
    found = after((0, BAD), rule=alerts.replace(RULE, for_ms=0))

    assert found.tell is Tell.FIRED


def test_a_rule_that_waits_longer_now_does_not_end_what_fires() -> None:
    firing = after((0, BAD), (60_000, BAD)).alert
    found = step(firing, alerts.replace(RULE, for_ms=600_000), BAD, at(70_000))

    assert found.alert is firing


looks = st.lists(
    st.tuples(st.integers(-100_000, 400_000), st.booleans(), st.booleans(), st.booleans()),
    max_size=40,
)


@given(looks=looks, for_ms=st.integers(0, 200_000), cooldown_ms=st.integers(0, 900_000))
def test_whatever_comes_who_is_told_is_told_both_ends_in_turn(
    looks: list[tuple[int, bool, bool, bool]], for_ms: int, cooldown_ms: int
) -> None:
    rule = alerts.replace(RULE, for_ms=for_ms, cooldown_ms=cooldown_ms)
    alert: Alert | None = None
    now, told = int(T0), False
    for ms, bad, quiet, ack in looks:
        now = max(1, now + ms)
        alert, tell = step(alert, rule, BAD if bad else None, WallTime(now), quiet=quiet)
        assert tell is not (Tell.FIRED if told else Tell.RESOLVED)
        if tell is not None:
            told = tell is Tell.FIRED
        firing = alert is not None and alert.state is AlertState.FIRING
        assert firing or not told, "who was told that it fires must hear that it is over"
        assert not (quiet and tell is Tell.FIRED)
        if alert is not None:
            assert alert.since <= (alert.fired_at or now)
            assert bad or not firing
        if ack and firing:
            assert alert is not None
            alert = alerts.acknowledged(alert, "ann", WallTime(now))
