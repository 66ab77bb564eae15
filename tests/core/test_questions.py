"""When the one timer of a question comes."""

from agentcom.core import ask_facts, questions
from agentcom.core.effects import SetTimer
from agentcom.model import limits
from agentcom.model.address import Address
from agentcom.model.ids import Now, WallTime
from agentcom.testing.world import machine
from tests.core.acts import LOST_MS, Pool


def asked(deadline_ms: int = 900_000) -> Pool:
    world = Pool()
    task = world.running()
    row = world.task(task)
    body = ask_facts.PutAsk(
        question="q",
        asker=Address("agent:m1"),
        task=task,
        fence=row.fence,
        deadline_ms=deadline_ms,
    )
    world.ask(body, machine("m1"))
    return world


def due_in(world: Pool, now: Now | None = None) -> list[int]:
    now = now or world.now
    found = questions.timers(world.view, now)
    return [timer.at - now.instant for timer in found if isinstance(timer, SetTimer)]


def test_the_attempts_patience_comes_before_the_deadline() -> None:
    world = asked()

    assert due_in(world) == [limits.ASK_HOLD_MS]
    assert due_in(asked(deadline_ms=5_000)) == [5_000]
    world.advance(LOST_MS)  # its machine is gone, and nobody has patience any more
    assert due_in(world) == [900_000 - LOST_MS]


def test_a_clock_that_was_set_back_makes_no_attempt_wait_longer() -> None:
    world = asked()
    early = Now(world.now.instant, WallTime(world.now.wall - 3_600_000))

    assert due_in(world, early) == [limits.ASK_HOLD_MS]


def test_a_timer_that_is_late_comes_at_once() -> None:
    world = asked(deadline_ms=1_000)
    late = Now(world.now.instant, WallTime(world.now.wall + 60_000))

    assert due_in(world, late) == [0]
