from hypothesis import given
from hypothesis import strategies as st

from agentcom.hub.identifiers import SystemRng, UuidIds
from tests.hub.doubles import EPOCH_MS, ManualClock

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def number(identifier: str) -> int:
    value = 0
    for digit in identifier:
        value = value * 32 + DIGITS.index(digit)
    return value


def test_an_id_is_a_version_7_uuid_of_its_time() -> None:
    value = number(UuidIds(ManualClock()).new())

    assert value < 1 << 128
    assert value >> 80 == EPOCH_MS
    assert value >> 76 & 0xF == 7
    assert value >> 62 & 0b11 == 0b10


def test_an_id_has_26_digits_in_lower_case() -> None:
    identifier = UuidIds(ManualClock()).new()

    assert len(identifier) == 26
    assert identifier == identifier.lower()


@given(st.lists(st.integers(-5_000, 5_000), max_size=50))
def test_every_id_sorts_after_the_one_before_however_the_clock_moves(steps: list[int]) -> None:
    clock = ManualClock()
    ids = UuidIds(clock)
    made = [ids.new()]

    for step in steps:
        clock.wall += step
        made += [ids.new(), ids.new()]

    assert made == sorted(set(made))


def test_more_ids_than_the_counter_has_run_ahead_of_the_clock() -> None:
    ids = UuidIds(ManualClock())

    made = [ids.new() for _ in range(10_000)]

    assert made == sorted(set(made))
    assert number(made[-1]) >> 80 > EPOCH_MS


def test_two_sources_make_different_ids_in_the_same_millisecond() -> None:
    clock = ManualClock()

    assert UuidIds(clock).new() != UuidIds(clock).new()


def test_the_same_entropy_makes_the_same_ids_and_the_same_chance() -> None:
    clock = ManualClock()

    assert UuidIds(clock, bytes).new() == UuidIds(clock, bytes).new()
    assert SystemRng(bytes).random() == 0
    assert SystemRng(lambda count: b"\xff" * count).random() == 1 - 2.0**-53


def test_chance_is_at_least_0_and_below_1() -> None:
    rng = SystemRng()

    assert all(0 <= rng.random() < 1 for _ in range(100))
