"""Refusals stay few however many there are; what is too old is cut off so that it can be told."""

import asyncio
from pathlib import Path

import pytest

from agentcom.hub import acting
from agentcom.hub.acting import Acting
from agentcom.hub.audit_log import KEY_FILE, AuditAsked, AuditLog, load_key
from agentcom.hub.config import HubConfig
from agentcom.hub.cursors import Cursors
from agentcom.hub.rows import write
from agentcom.model import limits
from agentcom.model.audit import AuditEntry, Door, Origin
from agentcom.model.batch import Table
from agentcom.model.errors import NotAllowed, NotAuthenticated
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import UserId
from agentcom.model.usage import DAY_MS
from agentcom.store import audit_chain
from agentcom.store.base import Query
from tests.hub.doubles import CountingIds, ManualClock, YieldingStore

ANN = Identity(role=Role.ADMIN, user=UserId("ann"), credential="c")


class House:
    def __init__(self, home: Path, keep_days: int = 10) -> None:
        self.home, self.store, self.clock, self.ids = (
            home,
            YieldingStore(),
            ManualClock(),
            CountingIds(),
        )
        config = HubConfig(home=home, audit_keep_days=keep_days)
        self.log = AuditLog(self.store, self.clock, self.ids, Cursors(), config)

    async def entries(self) -> list[AuditEntry]:
        page = await self.store.query(Query(table=Table.AUDIT, after="", limit=1_000))
        return [row for row in page.rows if isinstance(row, AuditEntry)]

    async def happen(self, count: int) -> None:
        for number in range(count):
            note = acting.note(self.clock.wall, "limit:set", f"key:{number}")  # type: ignore[arg-type]  # a NewType of int
            assert await write(self.store, self.ids, audits=[note])


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def stranger(number: int) -> Acting:
    return Acting(origin=Origin(Door.HTTP, f"10.0.0.{number}"))


async def test_refusals_that_are_alike_are_one_entry_with_a_count(house: House) -> None:
    first = house.clock.wall
    for _ in range(1_000):
        house.clock.advance(1)
        house.log.refused(stranger(1), "login", NotAuthenticated())

    await house.log.flush()

    (row,) = await house.entries()
    assert (row.count, row.since, row.at) == (1_000, first + 1, first + 1_000)
    assert (row.action, row.code, row.address) == ("login", "not_authenticated", "10.0.0.1")


async def test_of_many_different_ones_the_rest_is_one_count(house: House) -> None:
    for number in range(5_000):
        house.log.refused(stranger(number % 250), "login", NotAllowed())

    await house.log.flush()

    rows = await house.entries()
    assert len(rows) == limits.AUDIT_REFUSALS + 1
    assert sum(row.count for row in rows) == 5_000
    assert (rows[-1].action, rows[-1].address) == ("others", "")


async def test_a_single_refusal_is_there_for_whoever_looks(house: House) -> None:
    house.log.refused(stranger(1), "login", NotAuthenticated())

    page = await house.log.listed(ANN, AuditAsked())

    assert [row.action for row in page.entries] == ["login"]


async def test_what_was_counted_is_written_when_the_hub_stops(house: House) -> None:
    running = asyncio.create_task(house.log.run())
    await asyncio.sleep(0)
    house.log.refused(stranger(1), "login", NotAuthenticated())
    await asyncio.sleep(0)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert len(await house.entries()) == 1


async def test_what_is_too_old_is_cut_off_and_the_rest_is_still_a_chain(house: House) -> None:
    await house.happen(700)
    house.clock.advance(11 * DAY_MS)
    await house.happen(3)

    assert await house.log.tidy(house.clock.now().wall) == 700

    rows = await house.entries()
    keyed = [(f"{row.seq:016d}", row) for row in rows]
    found = audit_chain.verify(keyed, None, load_key(house.home))
    assert (found.first, found.findings) == (701, [])
    assert audit_chain.verify(keyed, None, b"another").findings != []
    assert [row.action for row in rows].count("audit:cut") == 2
    assert (house.home / KEY_FILE).stat().st_mode & 0o077 == 0


async def test_the_newest_entry_stays_however_old_it_is(house: House) -> None:
    await house.happen(3)
    house.clock.advance(100 * DAY_MS)

    for _ in range(3):
        await house.log.tidy(house.clock.now().wall)

    rows = await house.entries()
    assert rows
    assert audit_chain.verify([(f"{row.seq:016d}", row) for row in rows]).findings == []


async def test_with_no_end_set_nothing_is_cut_off(tmp_path: Path) -> None:
    house = House(tmp_path, keep_days=0)
    await house.happen(3)
    house.clock.advance(10_000 * DAY_MS)

    assert await house.log.tidy(house.clock.now().wall) == 0
