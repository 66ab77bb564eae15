from hypothesis import given
from hypothesis import strategies as st

from agentcom.model.ids import Instant
from agentcom.model.rates import Limiter, Rate

TEN_A_SECOND = Rate(10, 1_000, 5)


def at(ms: int) -> Instant:
    return Instant(ms)


def test_a_burst_fits_and_the_next_one_waits_for_its_turn() -> None:
    limiter = Limiter(TEN_A_SECOND)

    assert [limiter.take("a", at(1_000)) for _ in range(6)] == [0, 0, 0, 0, 0, 100]


def test_after_the_wait_it_fits() -> None:
    limiter = Limiter(TEN_A_SECOND)
    for _ in range(5):
        limiter.take("a", at(1_000))

    assert limiter.take("a", at(1_099)) == 1
    assert limiter.take("a", at(1_100)) == 0


def test_a_refused_take_costs_nothing() -> None:
    limiter = Limiter(TEN_A_SECOND)
    for _ in range(100):
        limiter.take("a", at(1_000))

    assert limiter.wait_ms("a", at(1_000)) == 100


def test_keys_do_not_share_a_bucket() -> None:
    limiter = Limiter(TEN_A_SECOND)
    limiter.take("a", at(1_000), 5)

    assert limiter.take("a", at(1_000)) > 0
    assert limiter.take("b", at(1_000)) == 0


def test_a_pause_never_saves_up_more_than_a_burst() -> None:
    limiter = Limiter(TEN_A_SECOND)
    limiter.take("a", at(1_000))

    assert limiter.take("a", at(9_000_000), 5) == 0
    assert limiter.take("a", at(9_000_000)) == 100


def test_what_costs_more_than_a_burst_takes_the_whole_bucket() -> None:
    limiter = Limiter(TEN_A_SECOND)

    assert limiter.take("a", at(1_000), 50) == 0
    assert limiter.take("a", at(1_000), 1) == 100


def test_who_goes_on_failing_waits_longer_but_not_for_ever() -> None:
    limiter = Limiter(TEN_A_SECOND, debt_max_ms=60_000)
    for _ in range(8):
        limiter.charge("a", at(1_000))

    assert limiter.wait_ms("a", at(1_000)) == 400
    for _ in range(10_000):
        limiter.charge("a", at(1_000))
    assert limiter.wait_ms("a", at(1_000)) == 60_100


def test_a_forgotten_key_starts_anew() -> None:
    limiter = Limiter(TEN_A_SECOND)
    limiter.take("a", at(1_000), 5)

    limiter.forget("a")

    assert limiter.take("a", at(1_000)) == 0


def test_a_flood_of_keys_costs_bounded_memory_and_the_oldest_goes_first() -> None:
    limiter = Limiter(TEN_A_SECOND, keys_max=10)
    limiter.take("first", at(1_000), 5)
    for number in range(9):
        limiter.take(str(number), at(1_000))
    limiter.charge("first", at(1_000))

    limiter.take("one more", at(1_000))

    assert len(limiter) == 10
    assert limiter.wait_ms("first", at(1_000)) > 0


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 5)), min_size=1))
def test_no_window_ever_admits_more_than_rate_and_burst(acts: list[tuple[int, int]]) -> None:
    limiter = Limiter(TEN_A_SECOND)
    now, admitted = 1_000, 0
    for pause, cost in acts:
        now += pause
        if limiter.take("a", at(now), cost) == 0:
            admitted += cost

    assert admitted <= 5 + (now - 1_000) / 100


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 5)), min_size=1))
def test_the_wait_it_names_is_right(acts: list[tuple[int, int]]) -> None:
    limiter = Limiter(TEN_A_SECOND)
    now = 1_000
    for pause, cost in acts:
        now += pause
        wait = limiter.take("a", at(now), cost)
        if wait:
            assert limiter.wait_ms("a", at(now + wait - 1), cost) == 1
            assert limiter.wait_ms("a", at(now + wait), cost) == 0
