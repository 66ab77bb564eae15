"""Alerts in the store: told once, kept over a restart, acknowledged, silenced; and their rules."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentcom.core.alert_readings import Backups
from agentcom.core.view import PoolView
from agentcom.hub.activities import Activities
from agentcom.hub.alert_figures import Sampler
from agentcom.hub.alerts import Alerts
from agentcom.hub.notifications import Notifications
from agentcom.hub.writing import Writer
from agentcom.model import limits
from agentcom.model.alert import AlertRule, AlertState, RuleName, Severity
from agentcom.model.alert_rules import RULES
from agentcom.model.audit import AuditEntry
from agentcom.model.batch import Table
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.ids import DEFAULT_POOL, UserId, WallTime
from agentcom.model.notify import Destination, DestinationKind, Notice
from agentcom.store.base import Query, Store
from agentcom.store.memory import MemoryStore
from tests.hub.doubles import EPOCH_MS, CountingIds, ManualClock, YieldingStore

MINUTE_MS = 60_000
STALE = RuleName.BACKUP_STALE


def slack(name: str, **fields: Any) -> Destination:
    return Destination(
        name=name,
        kind=DestinationKind.SLACK,
        shown="https://hooks.example",
        owner=UserId("ann"),
        at=WallTime(EPOCH_MS),
        **fields,
    )


class House:
    """Alerts of a hub whose copies are as old as a test says."""

    def __init__(self, store: Store, clock: ManualClock, tmp: Path) -> None:
        self.store, self.clock = store, clock
        writer = Writer(store, clock, IDS)
        self.notifications = Notifications(store, writer, clock, IDS)
        self.ended = {"completed": 0, "failed": 0, "cancelled": 0}
        view = PoolView(DEFAULT_POOL, incarnation=1, term=1)
        sampler = Sampler(
            lambda: view,
            Activities(),
            ended=lambda: self.ended,
            backlog=lambda: 0,
            home=tmp,
            now=clock.now(),
        )
        self.copied_at = WallTime(clock.wall)
        sampler.read_backups = lambda: Backups(newest_at=self.copied_at, failed=0, reason="")
        self.alerts = Alerts(
            store, writer, clock, IDS, sampler=sampler, notifications=self.notifications
        )

    async def load(self) -> "House":
        await self.notifications.load()
        await self.alerts.load()
        await self.quiet(RuleName.DISK_LOW)  # the disk of whoever runs this
        return self

    async def quiet(self, name: RuleName) -> None:
        await self.alerts.set_rule(msgspec.structs.replace(RULES[name].default, enabled=False))

    async def look(self, minutes: int = 1) -> None:
        self.clock.advance(minutes * MINUTE_MS)
        await self.alerts.look()

    async def notices(self) -> list[Notice]:
        page = await self.store.query(Query(table=Table.NOTICE, after=""))
        return list(page.rows)  # type: ignore[arg-type]  # the rows of this table

    def states(self) -> dict[str, AlertState]:
        return {one.key: one.state for one in self.alerts.listed(everything=True)}


IDS = CountingIds()


@pytest.fixture
async def house(tmp_path: Path) -> House:
    house = await House(MemoryStore(), ManualClock(), tmp_path).load()
    await house.notifications.add(slack("team"))
    return house


async def restarted(house: House, tmp_path: Path) -> House:
    again = House(house.store, house.clock, tmp_path)
    again.copied_at = house.copied_at
    return await again.load()


async def test_what_goes_wrong_is_told_once_and_its_end_too(house: House) -> None:
    await house.look()
    assert not house.alerts.listed(everything=True)
    house.copied_at = WallTime(0)
    await house.look()
    await house.look()
    assert house.alerts.firing() == {"backup_stale": 1}
    house.copied_at = WallTime(house.clock.wall)
    await house.look()
    await house.look()

    assert house.alerts.firing() == {}
    told = await house.notices()
    assert [notice.event for notice in told] == ["alert.fired", "alert.resolved"]
    assert "agentcom backup now" in told[0].text
    assert told[0].link == "guides/alerts.md#backup-stale"
    assert house.states() == {"backup_stale": AlertState.RESOLVED}


async def test_a_restart_neither_repeats_nor_forgets(house: House, tmp_path: Path) -> None:
    house.copied_at = WallTime(0)
    await house.look()
    acked = await house.alerts.acknowledge("backup_stale", "ann")

    again = await restarted(house, tmp_path)
    await again.look()

    assert again.alerts.find("backup_stale") == acked
    assert len(await again.notices()) == 1
    again.copied_at = WallTime(again.clock.wall)
    await again.look()
    assert [one.event for one in await again.notices()] == ["alert.fired", "alert.resolved"]


async def test_a_start_with_empty_windows_ends_no_alert(house: House, tmp_path: Path) -> None:
    for minute in range(4):
        house.ended = {"completed": 0, "failed": 20 * minute, "cancelled": 0}
        await house.look()
    assert house.states() == {"failure_rate": AlertState.FIRING}

    again = await restarted(house, tmp_path)
    await again.look()
    assert again.states() == {"failure_rate": AlertState.FIRING}
    for _ in range(11):
        await again.look()

    assert again.states() == {"failure_rate": AlertState.RESOLVED}
    assert len(await again.notices()) == 2


async def test_an_alert_and_its_notice_are_one_write(tmp_path: Path) -> None:
    store = YieldingStore()
    house = await House(store, ManualClock(), tmp_path).load()
    await house.notifications.add(slack("team"))
    house.copied_at, before = WallTime(0), store.writes
    await house.look()

    assert store.writes == before + 1
    assert len(await house.notices()) == 1


async def test_who_is_told_is_a_matter_of_rule_severity_and_project(house: House) -> None:
    await house.notifications.add(slack("oncall", severity=Severity.CRITICAL))
    await house.notifications.add(slack("disk", rules=(RuleName.DISK_LOW,)))
    await house.notifications.add(slack("web", projects=("web",)))
    house.copied_at = WallTime(0)
    await house.look()

    assert {one.destination for one in await house.notices()} == {"team", "oncall"}


async def test_a_rule_names_who_is_told_of_it(house: House) -> None:
    await house.notifications.add(slack("night"))
    rule = msgspec.structs.replace(RULES[STALE].default, to=("night",))
    await house.alerts.set_rule(rule)
    house.copied_at = WallTime(0)
    await house.look()

    assert [one.destination for one in await house.notices()] == ["night"]


async def test_a_silence_keeps_quiet_until_it_ends(house: House, tmp_path: Path) -> None:
    made = await house.alerts.silence(STALE, "", ms=10 * MINUTE_MS, reason="known", by="ann")
    house.copied_at = WallTime(0)
    await house.look()
    assert house.states() == {"backup_stale": AlertState.FIRING}

    again = await restarted(house, tmp_path)
    await again.look()
    assert again.alerts.silences() == [made]
    assert not await again.notices()
    await again.look(minutes=10)

    assert len(await again.notices()) == 1
    assert again.alerts.silences() == []


async def test_a_silence_can_be_ended(house: House) -> None:
    made = await house.alerts.silence(STALE, "", ms=10 * MINUTE_MS, reason="known", by="ann")
    await house.alerts.end_silence(made.id[-4:])

    assert house.alerts.silences() == []
    with pytest.raises(NotFound):
        await house.alerts.end_silence(made.id)


@pytest.mark.parametrize(("ms", "reason"), [(0, "x"), (limits.SILENCE_MAX_MS + 1, "x"), (1, " ")])
async def test_a_silence_has_an_end_and_a_reason(house: House, ms: int, reason: str) -> None:
    with pytest.raises(InvalidInput):
        await house.alerts.silence(STALE, "", ms=ms, reason=reason, by="ann")


async def test_a_rule_that_was_changed_stays_so_and_can_go_back(
    house: House, tmp_path: Path
) -> None:
    rule = msgspec.structs.replace(RULES[STALE].default, threshold=MINUTE_MS)
    await house.alerts.set_rule(rule)
    again = await restarted(house, tmp_path)
    await again.look(minutes=2)
    assert again.states() == {"backup_stale": AlertState.FIRING}

    await again.alerts.reset_rule(STALE)
    await again.look()

    assert again.states() == {"backup_stale": AlertState.RESOLVED}
    rows = (await again.store.query(Query(table=Table.ALERT_RULE, after=""))).rows
    assert [row.name for row in rows if isinstance(row, AlertRule)] == [RuleName.DISK_LOW]


@pytest.mark.parametrize(
    "fields", [{"threshold": 101}, {"threshold": -1}, {"for_ms": -1}, {"cooldown_ms": 1 << 40}]
)
async def test_numbers_that_are_not_possible_are_refused(
    house: House, fields: dict[str, Any]
) -> None:
    rule = RULES[RuleName.FAILURE_RATE].default

    with pytest.raises(InvalidInput):
        await house.alerts.set_rule(msgspec.structs.replace(rule, **fields))


async def test_a_rule_cannot_name_a_destination_that_is_not_there(house: House) -> None:
    rule = msgspec.structs.replace(RULES[STALE].default, to=("nobody",))

    with pytest.raises(NotFound):
        await house.alerts.set_rule(rule)


async def test_a_rule_that_is_put_off_ends_its_alert(house: House) -> None:
    house.copied_at = WallTime(0)
    await house.look()
    await house.quiet(STALE)
    await house.look()

    assert house.states() == {"backup_stale": AlertState.RESOLVED}


async def test_only_what_fires_is_acknowledged(house: House) -> None:
    with pytest.raises(NotFound):
        await house.alerts.acknowledge("backup_stale", "ann")
    house.copied_at = WallTime(0)
    await house.look()
    house.copied_at = WallTime(house.clock.wall)
    await house.look()

    with pytest.raises(Conflict):
        await house.alerts.acknowledge("backup_stale", "ann")


async def test_a_rule_is_tested_without_an_alert(house: House) -> None:
    assert await house.alerts.test(STALE) == 1

    (notice,) = await house.notices()
    assert "test" in notice.title
    assert not house.alerts.listed(everything=True)


async def test_what_is_over_for_long_goes(house: House) -> None:
    house.copied_at = WallTime(0)
    await house.look()
    house.copied_at = WallTime(house.clock.wall)
    await house.look()
    await house.alerts.silence(STALE, "", ms=MINUTE_MS, reason="x", by="ann")

    assert await house.alerts.prune(WallTime(house.clock.wall)) == 0
    house.clock.advance(limits.ALERTS_KEEP_MS)
    assert await house.alerts.prune(WallTime(house.clock.wall)) == 2
    assert not house.alerts.listed(everything=True)


async def test_a_destination_that_was_removed_is_told_nothing_more(house: House) -> None:
    house.copied_at = WallTime(0)
    await house.look()
    await house.notifications.remove("team")

    assert not await house.notices()
    house.copied_at = WallTime(house.clock.wall)
    await house.look()
    assert not await house.notices()


async def test_what_people_do_stands_in_the_audit_log(house: House) -> None:
    house.copied_at = WallTime(0)
    await house.look()
    await house.alerts.acknowledge("backup_stale", "ann")
    made = await house.alerts.silence(STALE, "", ms=MINUTE_MS, reason="SECRET", by="ann")
    await house.alerts.end_silence(made.id)
    await house.notifications.remove("team")

    entries = (await house.store.query(Query(table=Table.AUDIT, after=""))).rows
    found = [(one.target, one.detail["how"]) for one in entries if isinstance(one, AuditEntry)]
    assert found[-5:] == [
        ("destination:team", "add"),
        ("alert:backup_stale", "acknowledge"),
        ("alert:backup_stale", "silence"),
        ("alert:backup_stale", "end silence"),
        ("destination:team", "remove"),
    ]
    assert "SECRET" not in str(entries)
