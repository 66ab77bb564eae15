import asyncio
from dataclasses import dataclass, replace

import pytest

from agentcom.hub.auth import IDLE_TTL_MS, Authenticator
from agentcom.hub.credentials import ROTATION_GRACE_MS, Credentials, Grant
from agentcom.model.batch import Batch
from agentcom.model.errors import (
    Conflict,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    StorageFull,
)
from agentcom.model.identity import CredentialKind, Role, Scope
from agentcom.model.ids import MachineId, UserId
from agentcom.store.base import Full, Verdict
from tests.hub.doubles import CountingIds, ManualClock, YieldingStore

ADA = UserId("ada")
BOB = UserId("bob")
PERSON = Grant(owner=ADA, role=Role.SUBMITTER, kind=CredentialKind.USER)
MACHINE = Grant(owner=ADA, role=Role.AGENT, kind=CredentialKind.MACHINE, machine=MachineId("m1"))


class FullStore(YieldingStore):
    async def commit(self, batch: Batch) -> Verdict:
        return Full()


@dataclass
class House:
    store: YieldingStore
    clock: ManualClock
    auth: Authenticator
    credentials: Credentials


def build(store: YieldingStore) -> House:
    clock, ids = ManualClock(), CountingIds()
    auth = Authenticator(store, clock, ids)
    return House(store, clock, auth, Credentials(auth, store, clock, ids))


@pytest.fixture
def house() -> House:
    return build(YieldingStore())


async def test_tokens_end_by_themselves_unless_somebody_says_otherwise(house: House) -> None:
    machine, _ = await house.credentials.mint(MACHINE)
    person, _ = await house.credentials.mint(PERSON)

    assert machine.expires_at == house.clock.wall + IDLE_TTL_MS
    assert person.expires_at == house.clock.wall + IDLE_TTL_MS
    for ttl_ms, ends in ((1_000, house.clock.wall + 1_000), (0, None)):
        other, _ = await house.credentials.mint(replace(PERSON, ttl_ms=ttl_ms))
        assert (other.expires_at, other.idle_ms) == (ends, 0)


@pytest.mark.parametrize(
    "grant",
    [
        Grant(owner=ADA, role=Role.AGENT, kind=CredentialKind.USER),
        Grant(owner=ADA, role=Role.ADMIN, kind=CredentialKind.MACHINE, machine=MachineId("m")),
        Grant(owner=ADA, role=Role.ADMIN, kind=CredentialKind.AGENT),
        Grant(owner=ADA, role=Role.AGENT, kind=CredentialKind.MACHINE),
        Grant(owner=ADA, role=Role.VIEWER, kind=CredentialKind.USER, machine=MachineId("m")),
        Grant(owner=ADA, role=Role.VIEWER, kind=CredentialKind.USER, ttl_ms=-1),
        Grant(owner=ADA, role=Role.VIEWER, kind=CredentialKind.USER, note="n" * 201),
    ],
)
async def test_what_does_not_go_together_is_refused(house: House, grant: Grant) -> None:
    with pytest.raises(InvalidInput):
        await house.credentials.mint(grant)


async def test_a_rotated_token_and_its_successor_both_work_for_the_grace(house: House) -> None:
    old, old_text = await house.credentials.mint(MACHINE)
    before = await house.auth.authenticate(old_text)
    house.clock.advance(1_000)

    new, new_text = await house.credentials.rotate(old.id)

    after = await house.auth.authenticate(new_text)
    assert (after.machine, after.role, after.user) == (before.machine, before.role, before.user)
    assert new.expires_at == house.clock.wall + IDLE_TTL_MS
    house.clock.advance(ROTATION_GRACE_MS - 1)
    await house.auth.authenticate(old_text)
    house.clock.advance(1)
    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(old_text)
    await house.auth.authenticate(new_text)


@pytest.mark.parametrize("ttl_ms", [None, 0, 1_000])
async def test_a_successor_has_the_rights_and_the_span_of_what_it_replaces(
    house: House, ttl_ms: int | None
) -> None:
    scopes = (Scope.SUBMIT, Scope.READ, Scope.READ)
    old, _ = await house.credentials.mint(
        replace(PERSON, ttl_ms=ttl_ms, scopes=scopes, service=True, note="n")
    )
    new, text = await house.credentials.rotate(old.id, grace_ms=500)

    who = await house.auth.authenticate(text)
    assert who.scopes == (Scope.READ, Scope.SUBMIT)
    assert who.service
    same = ("role", "owner", "project", "note", "scopes", "service", "idle_ms", "expires_at")
    assert all(getattr(new, name) == getattr(old, name) for name in same)
    assert (await house.credentials.get(old.id)).replaced_by == new.id


async def test_only_people_and_programs_have_scopes(house: House) -> None:
    with pytest.raises(InvalidInput):
        await house.credentials.mint(replace(MACHINE, scopes=(Scope.READ,)))


async def test_what_has_ended_cannot_be_rotated(house: House) -> None:
    credential, _ = await house.credentials.mint(PERSON)
    await house.credentials.revoke(credential.id)

    with pytest.raises(NotFound):
        await house.credentials.rotate(credential.id)
    with pytest.raises(NotFound):
        await house.credentials.rotate("unknown0")


async def test_writes_that_meet_all_have_their_effect(house: House) -> None:
    credential, text = await house.credentials.mint(PERSON)
    await house.auth.authenticate(text)

    await asyncio.gather(
        house.credentials.rotate(credential.id),
        house.credentials.revoke(credential.id),
        house.auth.flush(),
        return_exceptions=True,
    )

    assert (await house.credentials.get(credential.id)).revoked_at == house.clock.wall


async def test_a_full_disk_is_said_as_such() -> None:
    house = build(FullStore())

    with pytest.raises(StorageFull):
        await house.credentials.mint(PERSON)


async def test_a_full_disk_does_not_break_the_writing_of_uses(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = await house.credentials.mint(PERSON)
    await house.auth.authenticate(text)

    async def full(_batch: Batch) -> Verdict:
        return Full()

    monkeypatch.setattr(house.store, "commit", full)

    await house.auth.flush()


async def test_a_listing_goes_over_all_pages_and_filters(house: House) -> None:
    for _ in range(150):
        await house.credentials.mint(PERSON)
    machine, _ = await house.credentials.mint(MACHINE)

    assert len(await house.credentials.list()) == 151
    assert await house.credentials.list(owner=ADA, kinds=[CredentialKind.MACHINE]) == [machine]
    assert await house.credentials.list(owner=BOB) == []


async def test_removing_a_machine_ends_its_tokens_only(house: House) -> None:
    _, text = await house.credentials.mint(MACHINE)
    await house.credentials.mint(MACHINE)
    _, person = await house.credentials.mint(PERSON)

    assert await house.credentials.revoke_machine(MachineId("m1")) == 2

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(text)
    await house.auth.authenticate(person)


async def test_a_removed_user_loses_their_tokens_but_their_machines_go_on(house: House) -> None:
    text = await house.credentials.ensure_admin(ADA)
    assert text is not None
    _, machine = await house.credentials.mint(MACHINE)

    await house.credentials.remove_user(ADA)

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(text)
    await house.auth.authenticate(machine)
    assert await house.credentials.remove_user(ADA) == 0  # a second time is harmless
    with pytest.raises(NotFound):
        await house.credentials.remove_user(BOB)


async def test_the_first_admin_is_made_once(house: House) -> None:
    text = await house.credentials.ensure_admin(ADA)

    assert text is not None
    assert (await house.auth.authenticate(text)).role is Role.ADMIN
    assert await house.credentials.ensure_admin(ADA) is None
    assert await house.credentials.ensure_admin(BOB) is None


async def test_of_parallel_starts_one_makes_the_first_admin(house: House) -> None:
    texts = await asyncio.gather(*(house.credentials.ensure_admin(ADA) for _ in range(5)))

    assert sum(text is not None for text in texts) == 1


async def test_a_removed_admin_is_not_revived_by_a_start(house: House) -> None:
    await house.credentials.ensure_admin(ADA)
    await house.credentials.remove_user(ADA)

    with pytest.raises(Conflict):
        await house.credentials.ensure_admin(ADA)
    assert await house.credentials.ensure_admin(BOB) is not None
