import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.core.facts import Body, LeaseChecked
from agentcom.hub.timers import LOOK_MS, STALE_SLACK, Timers
from agentcom.model.ids import Instant, MachineId
from tests.hub.doubles import ManualClock


class FakeLoop:
    """A loop whose time is moved by hand; it sleeps when the computer does."""

    def __init__(self) -> None:
        self.now = 50.0
        self.handles: list[FakeHandle] = []
        self.woken = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], Any]) -> "FakeHandle":
        handle = FakeHandle(when, callback)
        self.handles.append(handle)
        return handle

    @property
    def pending(self) -> list["FakeHandle"]:
        return [handle for handle in self.handles if not handle.cancelled]

    def advance(self, ms: int) -> None:
        self.now += ms / 1_000
        for handle in [it for it in self.pending if it.when <= self.now + 1e-6]:
            self.handles.remove(handle)
            self.woken += 1
            handle.callback()


class FakeHandle:
    def __init__(self, when: float, callback: Callable[[], Any]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Bench:
    """Timers on a fake loop and a fake clock, and what they fired."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.clock = ManualClock(instant=0)
        self.fired: list[str] = []
        self.late_ms = 0
        self.timers = Timers(self.clock, self._fire)

    def _fire(self, body: Body, late_ms: int) -> None:
        assert isinstance(body, LeaseChecked)
        self.fired.append(body.machine)
        self.late_ms = late_ms

    def set(self, key: str, at: int, name: str | None = None) -> None:
        self.timers.set(key, Instant(at), LeaseChecked(MachineId(name or key)))

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)
        self.loop.advance(ms)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: bench.loop)
    yield bench
    monkeypatch.undo()


def test_a_timer_fires_when_its_instant_has_come(bench: Bench) -> None:
    bench.set("a", 500)

    bench.advance(499)
    assert bench.fired == []
    bench.advance(1)
    assert bench.fired == ["a"]


def test_timers_fire_in_the_order_of_their_instants(bench: Bench) -> None:
    bench.set("late", 300)
    bench.set("early", 100)
    bench.set("also late", 300)

    bench.advance(400)

    assert bench.fired == ["early", "late", "also late"]


def test_only_timers_that_are_set_have_keys(bench: Bench) -> None:
    bench.set("gone", 100)
    bench.set("cleared", 300)
    bench.set("there", 300)
    bench.timers.clear("cleared")
    bench.advance(200)

    assert bench.timers.keys() == ["there"]


def test_an_instant_in_the_past_fires_at_once_but_not_inside_the_call(bench: Bench) -> None:
    bench.clock.advance(1_000)
    bench.set("a", 5)

    assert bench.fired == []
    bench.advance(0)
    assert bench.fired == ["a"]


def test_a_key_has_one_timer(bench: Bench) -> None:
    bench.set("lease", 100, "old")
    bench.set("lease", 300, "new")

    bench.advance(200)
    assert bench.fired == []
    bench.advance(100)
    assert bench.fired == ["new"]


def test_a_cleared_timer_does_not_fire(bench: Bench) -> None:
    bench.set("a", 100)
    bench.set("b", 100)

    bench.timers.clear("a")
    bench.timers.clear("unknown")
    bench.advance(100)

    assert bench.fired == ["b"]


def test_there_is_one_handle_for_the_earliest_only(bench: Bench) -> None:
    for number in range(100):
        bench.set(f"t{number}", 5_000 - number)

    assert len(bench.loop.pending) == 1
    assert bench.loop.pending[0].when == pytest.approx(50.0 + 4.901)


def test_without_timers_nothing_ever_wakes(bench: Bench) -> None:
    bench.set("a", 100)
    bench.set("b", 200)
    bench.timers.clear("a")
    bench.timers.clear("b")

    assert bench.loop.pending == []
    bench.advance(60_000)
    assert bench.loop.woken == 0


def test_after_the_last_timer_nothing_wakes_any_more(bench: Bench) -> None:
    bench.set("a", 100)

    bench.advance(100)

    assert bench.loop.pending == []


def test_what_became_due_while_the_computer_slept_fires_soon_after(bench: Bench) -> None:
    bench.set("a", 3_600_000)

    bench.clock.advance(7_200_000)
    bench.advance(LOOK_MS)

    assert bench.fired == ["a"]


def test_a_look_at_the_clock_fires_what_is_due_at_once(bench: Bench) -> None:
    bench.set("a", 3_600_000)
    bench.clock.advance(7_200_000)

    bench.timers.check()

    assert bench.fired == ["a"]


def test_a_timer_may_set_another_when_it_fires(bench: Bench) -> None:
    def again(body: Body, _late_ms: int) -> None:
        bench.fired.append("again")
        if len(bench.fired) < 3:
            timers.set("a", Instant(bench.clock.instant + 100), body)

    timers = Timers(bench.clock, again)
    timers.set("a", Instant(100), LeaseChecked(MachineId("m")))

    for _ in range(5):
        bench.advance(100)

    assert len(bench.fired) == 3
    assert bench.loop.pending == []


def test_a_failure_while_firing_loses_no_other_timer(bench: Bench) -> None:
    def fail_once(_body: Body, _late_ms: int) -> None:
        bench.fired.append("x")
        if len(bench.fired) == 1:
            raise RuntimeError

    timers = Timers(bench.clock, fail_once)
    timers.set("a", Instant(100), LeaseChecked(MachineId("m")))
    timers.set("b", Instant(100), LeaseChecked(MachineId("m")))

    with pytest.raises(RuntimeError):
        bench.advance(100)
    bench.advance(0)

    assert len(bench.fired) == 2


def test_all_timers_are_forgotten_at_once(bench: Bench) -> None:
    bench.set("a", 100)
    bench.set("b", 100)

    bench.timers.clear_all()
    bench.advance(100)

    assert (bench.fired, len(bench.timers), bench.loop.pending) == ([], 0, [])


def test_renewed_timers_leave_at_most_half_of_the_heap_stale(bench: Bench) -> None:
    for number in range(5_000):
        bench.set(f"lease/{number % 50}", 20_000 + number)

    entries = len(bench.timers._heap)

    assert len(bench.timers) == 50
    assert entries <= 2 * (50 + STALE_SLACK) + 2


def test_renewing_a_lease_keeps_the_handle(bench: Bench) -> None:
    bench.set("lease", 5_000)
    for number in range(100):
        bench.set("lease", 5_000 + number)

    assert len(bench.loop.handles) == 1


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 200), st.booleans())))
def test_each_live_timer_fires_exactly_once(acts: list[tuple[str, int, bool]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bench = Bench()
        patch.setattr(asyncio, "get_running_loop", lambda: bench.loop)
        expected: dict[str, int] = {}
        for key, at, clear in acts:
            if clear:
                bench.timers.clear(key)
                expected.pop(key, None)
            else:
                bench.set(key, at)
                expected[key] = at
        bench.advance(200)

    assert sorted(bench.fired) == sorted(expected)
    assert [expected[key] for key in bench.fired] == sorted(expected.values())


def test_a_timer_tells_how_late_it_is(bench: Bench) -> None:
    bench.set("a", 100)

    bench.clock.advance(5_100)
    bench.timers.check()

    assert bench.late_ms == 5_000
