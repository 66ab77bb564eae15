"""A hub's metrics are there, closed in their labels, and cost nothing until somebody asks."""

import contextlib
import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from agentcom.core.facts import Fact, Submit
from agentcom.hub.backup_schedule import Copies
from agentcom.hub.config import HubConfig
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.readings import AGE_MS, Readings
from agentcom.model.backup import Backup, Drilled
from agentcom.model.batch import Append
from agentcom.model.errors import RateLimited
from agentcom.model.event import EventKind, TaskEvent, task_log
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, Fence, MachineId, ProjectId, TaskId, UserId, WallTime
from agentcom.model.notify import Destination, DestinationKind
from agentcom.model.task import TaskSpec, TaskState
from agentcom.model.usage import Usage
from agentcom.telemetry import metrics
from agentcom.telemetry.metrics import Metrics
from tests.hub.doubles import ManualClock
from tests.hub.service_house import ANN, MINUTE_MS, ServiceHouse, person

MANY = 10_000
RATE = "agentcom_rate_limited_total"


def families(measured: Metrics) -> dict[str, Metric]:
    text = measured.render().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(measured: Metrics, name: str, **labels: str) -> float:
    found = measured.registry.get_sample_value(name, labels)
    assert found is not None, name
    return found


def series(measured: Metrics) -> int:
    return sum(len(family.samples) for family in measured.registry.collect())


@pytest.fixture
async def house() -> ServiceHouse:
    return ServiceHouse()


async def test_ten_thousand_of_everything_add_no_series(house: ServiceHouse) -> None:
    async with house.at_work():
        live(house, 2_000)
        before = series(house.services.metrics)
        live(house, MANY)
        after = series(house.services.metrics)

    assert after == before
    shed = [value(house.services.metrics, RATE, traffic=kind) for kind in Traffic]
    assert min(shed) >= MANY // len(Traffic)


def live(house: ServiceHouse, count: int) -> None:
    """Let tasks, agents, machines, people and models of many names pass, of all kinds."""
    services = house.services
    failures, kinds, states = list(FailureClass), list(EventKind), list(TaskState)
    for number in range(count):
        event = TaskEvent(
            kind=kinds[number % len(kinds)],
            task=TaskId(f"t{number}"),
            state=states[number % len(states)],
            at=WallTime(number),
            cause=f"c{number}",
            attempt=1,
            agent=AgentId(f"agent{number}"),
            machine=MachineId(f"m{number}"),
            failure=failures[number % len(failures)] if number % 3 else None,
        )
        services.journal.publish(number, [Append(task_log(event.task), event)])
        services.switchboard.on_spent(usage(number))
        who = person(f"user{number}").identity
        traffic = list(Traffic)[number % len(Traffic)]
        for _ in range(2):
            with contextlib.suppress(RateLimited):
                services.budgets.spend(who, traffic, house.clock.now(), 1_000_000)


def usage(number: int) -> Usage:
    return Usage(
        task=TaskId(f"t{number}"),
        fence=Fence(1, 1),
        turn=1,
        project=ProjectId(f"p{number}"),
        submitter=UserId(f"u{number}"),
        agent=AgentId(f"a{number}"),
        account=f"account{number}",
        model=f"model-{number}",
        runtime=f"runtime-{number}",
        input=100,
        cached=60,
        written=10,
        output=5,
        cost_micros=None if number % 3 else 1_000_000,
        included=number % 3 == 1,
        unpriced=number % 3 == 2,
        at=WallTime(0),
        day=0,
    )


async def test_what_was_spent_is_counted_by_kind(house: ServiceHouse) -> None:
    for number in range(3):
        house.services.switchboard.on_spent(usage(number))

    measured = house.services.metrics
    kinds = ("input", "cached", "written", "output")
    tokens = [value(measured, "agentcom_tokens_total", kind=kind) for kind in kinds]
    assert tokens == [90, 180, 30, 15]
    assert value(measured, "agentcom_cost_usd_total") == 1
    for billing in ("priced", "included", "unpriced"):
        assert value(measured, "agentcom_turns_total", billing=billing) == 1


async def test_the_oldest_of_the_queue_is_known_without_a_look_at_all_of_it(
    house: ServiceHouse,
) -> None:
    async with house.at_work():
        for _ in range(2):
            spec = TaskSpec(title="t", prompt="p", needs=("nobody",))
            await house.services.engine.ask(Fact(body=Submit((spec,)), actor=ANN.identity))
            house.clock.advance(MINUTE_MS)

        assert value(house.services.metrics, metrics.QUEUE_OLDEST_SECONDS) == 120
        tasks = list(house.services.engine.view.tasks.values())

    again = ServiceHouse()
    again.services.journal.take_up(tasks)
    again.clock.advance(5 * MINUTE_MS)
    assert again.services.journal.oldest_s() == 300


async def test_states_that_nothing_is_in_are_there_as_zero(house: ServiceHouse) -> None:
    async with house.at_work():
        measured = house.services.metrics

        assert value(measured, metrics.TASKS, state="queued") == 0
        assert value(measured, metrics.AGENTS, state="blocked") == 0
        assert value(measured, metrics.MACHINES, state="away") == 0
        assert value(measured, metrics.CONNECTIONS, door="stream") == 0
        assert value(measured, metrics.ALERTS_FIRING, rule="disk_low") == 0


async def test_the_outbox_is_counted_by_the_kind_of_destination(house: ServiceHouse) -> None:
    told, measured = house.services.alerting.notifications, house.services.metrics
    kind, owner = DestinationKind.SLACK, UserId("ann")
    async with house.at_work():
        for name in ("team", "others"):
            await told.add(
                Destination(name=name, kind=kind, shown="x", owner=owner, at=WallTime(0))
            )
            await told.test(name)
        await told.park("others", "it is gone")

        assert value(measured, metrics.NOTICES_WAITING, kind="slack") == 2
        assert value(measured, metrics.NOTICES_WAITING, kind="email") == 0
        assert value(measured, metrics.DESTINATIONS_PARKED, kind="slack") == 1


async def test_an_attempt_is_counted_by_how_it_ended(house: ServiceHouse) -> None:
    await house.services.engine.start(1)

    def told(kind: EventKind, state: TaskState, **fields: object) -> Append:
        event = TaskEvent(
            kind=kind,
            task=TaskId("t"),
            state=state,
            at=WallTime(0),
            attempt=1,
            **fields,  # type: ignore[arg-type] # by name
        )
        return Append(task_log(event.task), event)

    crashed, lost = FailureClass.CRASHED, FailureClass.LEASE_LOST
    house.services.journal.publish(
        1,
        [
            told(EventKind.FAILED, TaskState.WAITING, failure=crashed, machine="m"),
            told(EventKind.RETURNED, TaskState.QUEUED, failure=lost, machine="m"),
            told(EventKind.COMPLETED, TaskState.COMPLETED, machine="m"),
            told(EventKind.CANCELLED, TaskState.CANCELLED),
        ],
    )

    measured = house.services.metrics
    for outcome in ("crashed", "lease_lost", "completed"):
        assert value(measured, "agentcom_attempts_ended_total", outcome=outcome) == 1
    assert "cancelled" not in str(families(measured)["agentcom_attempts_ended"].samples)
    assert value(measured, "agentcom_leases_lost_total") == 1


class Made:
    """Copies, as far as they are listed."""

    def __init__(self, *made: Backup) -> None:
        self.made = made
        self.looks = 0

    def listed(self) -> tuple[Backup, ...]:
        self.looks += 1
        return self.made


def copy(at: int, drilled: int | None = None) -> Backup:
    return Backup(
        name=f"b{at}",
        at=WallTime(at),
        number=1,
        incarnation=1,
        bytes=1,
        sha256="",
        took_ms=1,
        drilled=None if drilled is None else Drilled(at=WallTime(drilled), rows=1, base=f"b{at}"),
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_copies_store_and_disk_are_read_when_asked_for_and_not_too_often(
    clock: ManualClock, tmp_path: Path
) -> None:
    store = tmp_path / "hub.sqlite"
    store.write_bytes(b"x" * 10)
    (tmp_path / "hub.sqlite-wal").write_bytes(b"x" * 3)
    now = clock.now().wall
    made = Made(copy(now - 5_000), copy(now - 9_000, drilled=now - 8_000))
    measured = Metrics()
    copies: Copies = made  # type: ignore[assignment] # only what is listed is asked for
    readings = Readings(HubConfig(home=tmp_path), clock, store.name, copies)
    readings.show(measured)

    for _ in range(3):
        await readings.refresh()

    assert made.looks == 1
    assert value(measured, metrics.BACKUP_AGE_SECONDS) == 5
    assert value(measured, metrics.BACKUP_DRILL_AGE_SECONDS) == 8
    assert value(measured, metrics.BACKUPS) == 2
    assert value(measured, metrics.STORE_BYTES, file="store") == 10
    assert value(measured, metrics.STORE_BYTES, file="store-wal") == 3
    assert value(measured, metrics.DISK_FREE_BYTES, folder="home") > 0
    made.made = ()
    clock.advance(AGE_MS)
    await readings.refresh()
    assert value(measured, metrics.BACKUPS) == 0
    assert str(value(measured, metrics.BACKUP_AGE_SECONDS)) == "nan"


async def test_every_name_is_a_metric_and_every_metric_has_a_name(house: ServiceHouse) -> None:
    async with house.at_work():
        copies: Copies = Made()  # type: ignore[assignment] # only what is listed is asked for
        config = HubConfig(home=Path("/nowhere"))
        Readings(config, house.clock, "hub.sqlite", copies).show(house.services.metrics)
        shown = {name for name in families(house.services.metrics) if name.startswith("agentcom_")}
    shown = {name for name in shown if not name.endswith("_created")}
    named = {v for v in vars(metrics).values() if re.fullmatch(r"agentcom_\w+", str(v))}

    assert shown == named
