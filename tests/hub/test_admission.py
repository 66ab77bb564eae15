import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.hub.admission import Admission, Load, Overloaded
from agentcom.hub.limits_guard import Budgets, Traffic
from agentcom.model import limits
from agentcom.model.errors import RateLimited
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import UserId
from tests.hub.doubles import ManualClock

ADA = Identity(role=Role.SUBMITTER, user=UserId("ada"), credential="c1")


class Hub:
    """A hub that decides so many requests in a second, in turns of a twentieth of one."""

    TURN_MS = 50

    def __init__(self, per_s: int) -> None:
        self.clock = ManualClock()
        self.admission = Admission(self.clock, lambda: self.waiting)
        self.per_turn = per_s * self.TURN_MS // 1_000
        self.waiting = 0
        self.admitted: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def turn(self, asked: dict[str, int]) -> None:
        """Let identities ask for so much, then decide what fits into one turn."""
        for name, count in asked.items():
            for _ in range(count):
                try:
                    self.admission.check(name, Traffic.SUBMIT)
                except Overloaded:
                    self.refused[name] = self.refused.get(name, 0) + 1
                else:
                    self.admitted[name] = self.admitted.get(name, 0) + 1
                    self.waiting += 1
        done = min(self.waiting, self.per_turn)
        self.waiting -= done
        self.clock.advance(self.TURN_MS)
        self.admission.turned(done, self.TURN_MS / 1_000)

    def seconds(self, count: float, asked: dict[str, int]) -> None:
        for _ in range(int(count * 1_000 / self.TURN_MS)):
            self.turn(asked)


def test_a_hub_that_keeps_up_refuses_nobody() -> None:
    hub = Hub(per_s=1_000)

    hub.seconds(60, {"ada": 25, "bob": 25})

    assert hub.refused == {}
    assert hub.admission.load is Load.CALM


def test_ten_times_too_much_is_refused_and_what_waits_stays_bounded() -> None:
    hub = Hub(per_s=1_000)

    hub.seconds(20, {f"u{n}": 50 for n in range(10)})

    assert sum(hub.admitted.values()) > 0.6 * 20_000
    assert hub.waiting < 5_000
    assert sum(hub.refused.values()) > 8 * 20_000


def test_who_asks_for_little_gets_all_of_it_beside_those_who_flood() -> None:
    hub = Hub(per_s=1_000)
    hub.seconds(5, {f"u{n}": 50 for n in range(10)})
    hub.admitted.clear()
    hub.refused.clear()

    hub.seconds(20, {"quiet": 1, **{f"u{n}": 50 for n in range(10)}})

    floods = [hub.admitted[f"u{n}"] for n in range(10)]
    assert hub.refused.get("quiet", 0) < 0.05 * 20 * 20
    assert max(floods) < 1.3 * min(floods)


def test_it_is_over_by_itself_soon_after_the_load_is() -> None:
    hub = Hub(per_s=1_000)
    hub.seconds(20, {f"u{n}": 50 for n in range(10)})
    assert hub.admission.load > 0

    hub.seconds(5, {"ada": 5})

    assert hub.admission.load is Load.CALM
    hub.refused.clear()
    hub.seconds(5, {"ada": 30})
    assert hub.refused == {}


def test_an_idle_hub_forgets_that_it_was_busy() -> None:
    clock, waiting = ManualClock(), [4_000]
    admission = Admission(clock, lambda: waiting[0])
    for _ in range(20):
        clock.advance(1_000)
        admission.turned(512, 1.0)
    assert admission.load > 0

    waiting[0] = 0
    for _ in range(5):
        clock.advance(1_000)
        admission.beat(0.0)

    assert admission.load is Load.CALM


def full() -> Admission:
    clock = ManualClock()
    admission = Admission(clock, lambda: 10)
    admission.turned(1, 0.01)
    admission.beat(0.0)
    clock.advance(1_000)
    admission.beat(0.0)
    assert admission.load is Load.FULL
    return admission


def test_an_engine_that_stands_still_is_full() -> None:
    admission = full()

    with pytest.raises(Overloaded) as refused:
        admission.check("ada", Traffic.SUBMIT)

    assert refused.value.retry_after_ms >= limits.OVERLOAD_RETRY_MS
    assert (refused.value.status, refused.value.code) == (429, "overloaded")


def test_submits_and_reads_go_first_and_progress_is_skipped() -> None:
    admission = full()

    for traffic in (Traffic.SUBMIT, Traffic.QUERY):
        with pytest.raises(Overloaded):
            admission.check("ada", traffic)
    for traffic in (Traffic.ADMIN, Traffic.TALK):
        admission.check("ada", traffic)
    assert admission.skips()
    assert admission.sheds("POST", "/api/v1/tasks") is not None
    assert admission.sheds("GET", "/api/v1/agents") is not None
    assert admission.sheds("GET", "/healthz") is None
    assert admission.sheds("POST", "/api/v1/tasks/x/cancel") is None


def test_one_slow_commit_is_no_overload() -> None:
    clock = ManualClock()
    admission = Admission(clock, lambda: 0)
    for seconds in (0.01, 0.01, 1.5, 0.01, 0.01):
        clock.advance(100)
        admission.turned(1, seconds)

    assert admission.load is Load.CALM


def test_a_budget_asks_the_gate_before_it_takes_anything() -> None:
    now = ManualClock().now()
    budgets = Budgets(gate=full())

    with pytest.raises(RateLimited):
        budgets.spend(ADA, Traffic.SUBMIT, now)
    assert not budgets.admits(ADA, Traffic.PROGRESS, now)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20_000), st.floats(0, 10), st.integers(0, 2_000), st.integers(0, 3)
        ),
        max_size=60,
    )
)
def test_whatever_happens_it_comes_to_rest(steps: list[tuple[int, float, int, int]]) -> None:
    clock, waiting = ManualClock(), [0]
    admission = Admission(clock, lambda: waiting[0])
    for backlog, seconds, ms, asks in steps:
        clock.advance(ms)
        waiting[0] = backlog
        admission.turned(min(backlog, limits.TURN_FACTS_MAX), seconds)
        admission.beat(seconds)
        for _ in range(asks):
            with contextlib.suppress(Overloaded):
                admission.check("ada", Traffic.SUBMIT, 100)

    waiting[0] = 0
    for _ in range(5):
        clock.advance(1_000)
        admission.beat(0.0)

    assert admission.load is Load.CALM
