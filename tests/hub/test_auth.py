import asyncio
from dataclasses import dataclass, replace

import msgspec
import pytest

from agentcom.hub.auth import BEARERS, IDLE_TTL_MS, USED_EVERY_MS, Authenticator
from agentcom.hub.credentials import Credentials, Grant
from agentcom.hub.limits_guard import FAILURES_PER_ADDRESS, FAILURES_PER_KEY
from agentcom.model import token_text
from agentcom.model.batch import Table
from agentcom.model.errors import NotAuthenticated, RateLimited
from agentcom.model.identity import Credential, CredentialKind, Identity, Role
from agentcom.model.ids import MachineId, UserId
from agentcom.testing.waiting import PATIENCE_S
from tests.hub.doubles import CountingIds, ManualClock, YieldingStore

ADA = UserId("ada")
PERSON = Grant(owner=ADA, role=Role.SUBMITTER, kind=CredentialKind.USER)
MACHINE = Grant(owner=ADA, role=Role.AGENT, kind=CredentialKind.MACHINE, machine=MachineId("m1"))
ADDRESS = "192.0.2.1"


@dataclass
class House:
    store: YieldingStore
    clock: ManualClock
    auth: Authenticator
    credentials: Credentials


@pytest.fixture
def house() -> House:
    store, clock, ids = YieldingStore(), ManualClock(), CountingIds()
    auth = Authenticator(store, clock, ids)
    return House(store, clock, auth, Credentials(auth, store, clock, ids))


def wrong(text: str) -> str:
    """Return a well-formed token with the id of `text` and another secret."""
    parsed = token_text.parse(text)
    assert parsed is not None
    return token_text.compose(parsed.kind, parsed.id, "0" * token_text.SECRET_CHARS)


async def test_a_token_names_who_it_was_made_for(house: House) -> None:
    credential, text = await house.credentials.mint(MACHINE)

    identity = await house.auth.authenticate(text)

    assert identity == Identity(
        role=Role.AGENT, user=ADA, credential=credential.id, machine=MachineId("m1")
    )


async def test_the_store_never_sees_the_text_of_a_token(house: House) -> None:
    credential, text = await house.credentials.mint(PERSON)

    stored = await house.credentials.get(credential.id)

    assert text[17:60] not in repr(stored)


async def test_the_wrong_secret_is_refused_before_and_after_the_right_one(house: House) -> None:
    _, text = await house.credentials.mint(PERSON)

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(wrong(text))
    await house.auth.authenticate(text)
    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(wrong(text))


async def test_unknown_and_wrong_tokens_get_the_same_answer(house: House) -> None:
    _, text = await house.credentials.mint(PERSON)
    unknown = token_text.compose(CredentialKind.USER, "zzzzzzzz", "0" * 43)

    answers = set()
    for token in (unknown, wrong(text), "garbage", ""):
        with pytest.raises(NotAuthenticated) as refused:
            await house.auth.authenticate(token)
        answers.add(refused.value.message)

    assert len(answers) == 1


async def test_garbage_costs_no_look_into_the_store(house: House) -> None:
    _, text = await house.credentials.mint(PERSON)
    house.store.reads = 0

    for token in ("garbage", text[:-1] + ("0" if text[-1] != "0" else "1"), "acm_usr_"):
        with pytest.raises(NotAuthenticated):
            await house.auth.authenticate(token)

    assert house.store.reads == 0


async def test_a_kind_never_passes_for_another(house: House) -> None:
    _, text = await house.credentials.mint(PERSON)

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(text, kinds={CredentialKind.MACHINE})


async def test_an_enrolment_code_is_no_bearer_whatever_a_door_allows(house: House) -> None:
    grant = Grant(
        owner=ADA, role=Role.VIEWER, kind=CredentialKind.ENROLMENT, uses=1, grants=Role.ADMIN
    )
    _, code = await house.credentials.mint(grant)

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(code, kinds=set(CredentialKind))
    assert CredentialKind.ENROLMENT not in BEARERS


async def test_a_bearer_token_is_no_enrolment_code(house: House) -> None:
    _, text = await house.credentials.mint(PERSON)

    with pytest.raises(NotAuthenticated):
        await house.auth.enrolment(text)


async def test_a_storm_of_known_machines_reads_nothing(house: House) -> None:
    tokens = [(await house.credentials.mint(MACHINE))[1] for _ in range(50)]
    await asyncio.gather(*(house.auth.authenticate(text) for text in tokens))
    house.store.reads = house.store.writes = 0

    await asyncio.gather(*(house.auth.authenticate(text) for text in tokens * 20))

    assert (house.store.reads, house.store.writes) == (0, 0)


async def test_a_token_ends_when_it_expires_also_in_the_cache(house: House) -> None:
    _, text = await house.credentials.mint(
        Grant(owner=ADA, role=Role.VIEWER, kind=CredentialKind.USER, ttl_ms=1_000)
    )
    await house.auth.authenticate(text)

    house.clock.advance(1_000)

    with pytest.raises(NotAuthenticated, match="expired"):
        await house.auth.authenticate(text)


async def test_a_revoked_token_is_refused_at_once(house: House) -> None:
    credential, text = await house.credentials.mint(PERSON)
    identity = await house.auth.authenticate(text)

    await house.credentials.revoke(credential.id)

    with pytest.raises(NotAuthenticated, match="revoked"):
        await house.auth.authenticate(text)
    assert not house.auth.is_live(identity)


async def test_a_revocation_during_the_look_up_wins(house: House) -> None:
    credential, text = await house.credentials.mint(PERSON)

    async def revoke() -> None:
        await house.credentials.revoke(credential.id)

    outcomes = await asyncio.gather(
        *(house.auth.authenticate(text) for _ in range(5)),
        revoke(),
        return_exceptions=True,
    )

    assert outcomes[-1] is None
    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(text)


async def test_listeners_learn_which_token_ended_until_they_leave(house: House) -> None:
    first, _ = await house.credentials.mint(PERSON)
    second, _ = await house.credentials.mint(PERSON)
    heard: list[str] = []
    leave = house.auth.on_revoked(heard.append)

    await house.credentials.revoke(first.id)
    await house.credentials.revoke(first.id)
    leave()
    await house.credentials.revoke(second.id)

    assert heard == [first.id]


async def test_an_expired_token_in_use_is_told_to_the_listeners(house: House) -> None:
    credential, text = await house.credentials.mint(
        Grant(owner=ADA, role=Role.VIEWER, kind=CredentialKind.USER, ttl_ms=1_000)
    )
    heard: list[str] = []
    house.auth.on_revoked(heard.append)
    await house.auth.authenticate(text)

    house.auth.sweep()
    assert heard == []
    house.clock.advance(1_000)
    house.auth.sweep()

    assert heard == [credential.id]


async def test_a_rotated_token_ends_open_connections_after_its_grace(house: House) -> None:
    old, text = await house.credentials.mint(PERSON)
    await house.auth.authenticate(text)
    heard: list[str] = []
    house.auth.on_revoked(heard.append)

    await house.credentials.rotate(old.id, grace_ms=1_000)
    house.clock.advance(999)
    house.auth.sweep()
    assert heard == []
    house.clock.advance(1)
    house.auth.sweep()

    assert heard == [old.id]


async def test_a_rotation_without_grace_ends_open_connections_at_once(house: House) -> None:
    old, text = await house.credentials.mint(PERSON)
    await house.auth.authenticate(text)
    heard: list[str] = []
    house.auth.on_revoked(heard.append)

    await house.credentials.rotate(old.id, grace_ms=0)

    assert heard == [old.id]


async def test_the_service_wakes_for_a_grace_that_ends_before_it_meant_to_look(
    house: House,
) -> None:
    old, text = await house.credentials.mint(PERSON)
    await house.auth.authenticate(text)
    await house.auth.flush()
    heard = asyncio.Event()
    house.auth.on_revoked(lambda _: heard.set())
    running = asyncio.create_task(house.auth.run())
    await asyncio.sleep(0)  # it waits now

    await house.credentials.rotate(old.id, grace_ms=1)
    house.clock.advance(1)

    async with asyncio.timeout(PATIENCE_S):
        await heard.wait()
    running.cancel()


async def test_a_machine_that_works_is_welcome_for_ever(house: House) -> None:
    _, text = await house.credentials.mint(MACHINE)
    heard: list[str] = []
    house.auth.on_revoked(heard.append)

    for _ in range(200):
        house.clock.advance(86_400_000)
        house.auth.sweep()
        await house.auth.authenticate(text)
        await house.auth.flush()

    assert heard == []


async def test_a_machine_that_never_lets_go_of_its_connection_is_in_use(house: House) -> None:
    credential, text = await house.credentials.mint(MACHINE)
    await house.auth.authenticate(text)
    house.auth.hold(lambda: [credential.id])
    heard: list[str] = []
    house.auth.on_revoked(heard.append)

    for _ in range(200):
        house.clock.advance(86_400_000)
        house.auth.sweep()
        await house.auth.flush()

    assert heard == []
    await house.auth.authenticate(text)


async def test_the_end_of_a_machines_token_is_written_once_a_day(house: House) -> None:
    credential, text = await house.credentials.mint(MACHINE)
    await house.auth.authenticate(text)
    await house.auth.flush()
    house.auth.hold(lambda: [credential.id])
    house.store.writes = 0

    for _ in range(48):
        house.clock.advance(3_600_000)
        await house.auth.flush()

    assert house.store.writes == 2


async def test_a_token_that_is_used_lives_on_and_one_with_a_date_does_not(house: House) -> None:
    used = (await house.credentials.mint(PERSON))[1]
    dated = (await house.credentials.mint(replace(PERSON, ttl_ms=IDLE_TTL_MS * 2)))[1]
    endless = (await house.credentials.mint(replace(PERSON, ttl_ms=0)))[1]

    for _ in range(3):
        house.clock.advance(IDLE_TTL_MS - 1)
        await house.auth.authenticate(used)
        await house.auth.flush()

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(dated)
    await house.auth.authenticate(endless)


async def test_a_token_of_a_machine_from_before_is_kept_by_its_use(house: House) -> None:
    credential, text = await house.credentials.mint(MACHINE)
    key = (Table.CREDENTIAL, credential.id)
    before = msgspec.structs.replace(credential, idle_ms=0)
    house.store._rows[Table.CREDENTIAL][credential.id] = before

    house.clock.advance(IDLE_TTL_MS - 1)
    await house.auth.authenticate(text)
    await house.auth.flush()
    house.clock.advance(IDLE_TTL_MS - 1)

    await house.auth.authenticate(text)
    (row,) = await house.store.get([key])
    assert isinstance(row, Credential)
    assert row.idle_ms == 0


@pytest.mark.parametrize("grant", [MACHINE, PERSON], ids=["machine", "person"])
async def test_who_is_silent_is_forgotten(house: House, grant: Grant) -> None:
    _, text = await house.credentials.mint(grant)
    await house.auth.authenticate(text)
    await house.auth.flush()

    house.clock.advance(IDLE_TTL_MS)

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(text)


async def test_use_does_not_keep_a_rotated_token_of_a_machine(house: House) -> None:
    old, text = await house.credentials.mint(MACHINE)
    house.clock.advance(2 * 86_400_000)
    await house.credentials.rotate(old.id, grace_ms=1_000)

    await house.auth.authenticate(text)
    await house.auth.flush()
    house.clock.advance(1_000)

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(text)


async def test_a_token_that_ended_while_nobody_knew_it_ends_its_connections(house: House) -> None:
    credential, _ = await house.credentials.mint(
        Grant(owner=ADA, role=Role.VIEWER, kind=CredentialKind.USER, ttl_ms=1_000)
    )
    house.auth.hold(lambda: [credential.id])
    heard: list[str] = []
    house.auth.on_revoked(heard.append)
    house.clock.advance(1_000)

    await house.auth.flush()

    assert heard == [credential.id]


async def test_a_revocation_beside_the_write_of_a_held_token_stays(house: House) -> None:
    credential, text = await house.credentials.mint(MACHINE)
    house.auth.hold(lambda: [credential.id])

    await asyncio.gather(house.auth.flush(), house.credentials.revoke(credential.id))

    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(text)


async def test_a_use_is_written_later_and_at_most_once_a_minute(house: House) -> None:
    credential, text = await house.credentials.mint(PERSON)
    house.store.writes = 0
    for _ in range(100):
        await house.auth.authenticate(text)
    await house.auth.flush()

    house.clock.advance(USED_EVERY_MS - 1)
    await house.auth.authenticate(text)
    await house.auth.flush()

    assert house.store.writes == 1
    row = await house.credentials.get(credential.id)
    assert row.last_used == house.clock.wall - USED_EVERY_MS + 1
    house.clock.advance(1)
    await house.auth.authenticate(text)
    await house.auth.flush()
    assert house.store.writes == 2


async def test_a_write_of_a_use_never_undoes_a_revocation(house: House) -> None:
    credential, text = await house.credentials.mint(PERSON)
    await house.auth.authenticate(text)

    await asyncio.gather(house.auth.flush(), house.credentials.revoke(credential.id))

    assert (await house.credentials.get(credential.id)).revoked_at is not None
    with pytest.raises(NotAuthenticated):
        await house.auth.authenticate(text)


async def test_guessing_from_one_address_is_slowed_down(house: House) -> None:
    _, text = await house.credentials.mint(PERSON)
    for _ in range(FAILURES_PER_ADDRESS.burst):
        with pytest.raises(NotAuthenticated):
            await house.auth.authenticate("garbage", address=ADDRESS)

    with pytest.raises(RateLimited):
        await house.auth.authenticate("garbage", address=ADDRESS)
    with pytest.raises(RateLimited):
        await house.auth.authenticate(text, address=ADDRESS)
    await house.auth.authenticate(text, address="192.0.2.2")


async def test_failures_of_others_never_lock_out_a_token_that_is_known(house: House) -> None:
    _, text = await house.credentials.mint(PERSON)
    await house.auth.authenticate(text, address=ADDRESS)
    for _ in range(200):
        with pytest.raises((NotAuthenticated, RateLimited)):
            await house.auth.authenticate(wrong(text), address=ADDRESS)

    await house.auth.authenticate(text, address=ADDRESS)


async def test_a_forgotten_machine_does_not_lock_out_its_neighbours(house: House) -> None:
    revoked, old = await house.credentials.mint(MACHINE)
    _, good = await house.credentials.mint(MACHINE)
    await house.credentials.revoke(revoked.id)
    answers = []
    for _ in range(FAILURES_PER_KEY.burst + 5):
        with pytest.raises((NotAuthenticated, RateLimited)) as refused:
            await house.auth.authenticate(old, address=ADDRESS)
        answers.append(type(refused.value))

    await house.auth.authenticate(good, address=ADDRESS)

    assert answers == [NotAuthenticated] * FAILURES_PER_KEY.burst + [RateLimited] * 5


async def test_the_service_wakes_for_a_use_when_their_time_has_come(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential, text = await house.credentials.mint(PERSON)
    monkeypatch.setattr("agentcom.hub.auth.USED_EVERY_MS", 1)
    flushed = asyncio.Event()
    sweep = house.auth.sweep

    def swept() -> None:
        sweep()
        flushed.set()

    monkeypatch.setattr(house.auth, "sweep", swept)
    service = asyncio.create_task(house.auth.run())
    await asyncio.sleep(0)  # it waits now
    await house.auth.authenticate(text)
    await asyncio.wait_for(flushed.wait(), PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        while (await house.credentials.get(credential.id)).last_used is None:  # noqa: ASYNC110  # a row has no event
            await asyncio.sleep(0)
    service.cancel()
