from agentcom.hub.clock import StepWatch, SystemClock
from agentcom.model.ids import Instant, Now, WallTime


def at(instant: int, wall: int) -> Now:
    return Now(Instant(instant), WallTime(wall))


def test_the_system_clock_never_runs_backwards() -> None:
    clock = SystemClock()

    first, second = clock.now(), clock.now()

    assert second.instant >= first.instant
    assert first.wall > 1_700_000_000_000


def test_a_wall_clock_that_runs_evenly_makes_no_step() -> None:
    watch = StepWatch(at(1_000, 50_000))

    assert watch.step_ms(at(61_000, 110_900)) == 0


def test_a_step_is_told_once_and_with_its_size() -> None:
    watch = StepWatch(at(1_000, 50_000))

    assert watch.step_ms(at(2_000, 3_651_000)) == 3_600_000
    assert watch.step_ms(at(3_000, 3_652_000)) == 0


def test_a_step_back_is_negative() -> None:
    watch = StepWatch(at(1_000, 50_000))

    assert watch.step_ms(at(2_000, 41_000)) == -10_000
