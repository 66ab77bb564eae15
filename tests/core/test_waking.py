from agentcom.core import waking
from agentcom.core.view import PoolView
from agentcom.model import address, limits
from agentcom.model.address import Address
from agentcom.model.agent import Agent
from agentcom.model.ids import DEFAULT_POOL, AgentId, Instant, MachineId, TaskId
from agentcom.model.message import Sort, Urgency, Why
from tests.core.test_mail import ADA, ANN, BOB, message, task, view


def test_agents_are_woken_for_what_is_meant_for_them() -> None:
    assert waking.calls_for(message(), ADA, Why.DIRECT)
    assert waking.calls_for(message(), ADA, Why.MENTION)
    assert waking.calls_for(message(), ADA, Why.NOTICE)
    assert waking.calls_for(message(sort=Sort.ANSWER), ADA, Why.BROADCAST)


def test_whoever_works_on_a_task_is_woken_for_a_word_to_it() -> None:
    to = address.of_task(TaskId("t1"))

    assert waking.calls_for(message(), to, Why.DIRECT)
    assert waking.calls_for(message(task=TaskId("t2")), to, Why.DIRECT)
    assert not waking.calls_for(message(task=TaskId("t1")), to, Why.DIRECT)


def test_nobody_is_woken_for_less() -> None:
    assert not waking.calls_for(message(), ADA, Why.BROADCAST)
    assert not waking.calls_for(message(urgency=Urgency.LOW), ADA, Why.DIRECT)
    assert not waking.calls_for(message(), ANN, Why.DIRECT)
    assert not waking.calls_for(message(sender=ADA), ADA, Why.MENTION)


def _turns(*senders: Address) -> int:
    exchange = None
    for sender in senders:
        exchange = waking.exchanged(exchange, sender, "same")
    assert exchange is not None
    return exchange.turns


def test_turns_are_counted_and_not_messages() -> None:
    assert _turns(ADA, BOB, ADA, BOB) == 4
    assert _turns(ADA, ADA, ADA) == 1
    assert _turns(ADA, ADA, BOB, BOB, ADA) == 3


def test_an_exchange_begins_anew_when_something_happened() -> None:
    before = waking.exchanged(waking.exchanged(None, ADA, "a"), BOB, "a")

    assert waking.exchanged(before, ADA, "b") == (1, ADA, "b")
    assert not waking.is_loop(before)
    assert waking.is_loop(before._replace(turns=limits.LOOP_TURNS))
    assert not waking.is_loop(before._replace(turns=limits.LOOP_TURNS - 1))


def test_the_mark_is_another_one_when_an_attempt_begins_or_ends() -> None:
    ada, bob = AgentId("ada"), AgentId("bob")
    idle, busy, other = view(), view(task("t", "ada")), view(task("t", "bob"))
    for pool in (idle, busy, other):
        pool.agents[bob] = Agent(id=bob, machine=MachineId("m"), runtime="test")

    marks = {waking.mark(pool, ada, bob) for pool in (idle, busy)}
    assert len(marks) == 2
    assert waking.mark(busy, ada, bob) == waking.mark(busy, bob, ada)
    assert waking.mark(other, ada) == waking.mark(PoolView(DEFAULT_POOL, incarnation=1, term=1))


def test_wakes_count_for_an_hour() -> None:
    woken = tuple(map(Instant, range(limits.WAKES_MAX)))

    assert waking.is_often(woken, Instant(limits.WAKES_MAX))
    assert not waking.is_often(woken[1:], Instant(limits.WAKES_MAX))
    assert not waking.is_often(woken, Instant(limits.WAKES_MS))
    assert waking.lately(woken, Instant(limits.WAKES_MS)) == woken[1:]
