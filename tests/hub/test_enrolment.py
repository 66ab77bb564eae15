import asyncio

import pytest

from agentcom.core import facts
from agentcom.hub.auth import Authenticator
from agentcom.hub.credentials import Credentials
from agentcom.hub.enrolment import CODE_TTL_MS, FIRST_ADMIN, Enrolment, first_admin
from agentcom.model.errors import (
    InvalidInput,
    NameTaken,
    NotAllowed,
    NotAuthenticated,
    RateLimited,
    Timeout,
)
from agentcom.model.identity import CredentialKind, Identity, Role
from agentcom.model.ids import UserId
from tests.hub.doubles import CountingIds, ManualClock, YieldingStore

ADMIN = Identity(role=Role.ADMIN, user=UserId("ada"), credential="c1")
OPERATOR = Identity(role=Role.OPERATOR, user=UserId("olga"), credential="c2")


class Pool:
    """Stands for the engine: names are taken once."""

    def __init__(self) -> None:
        self.machines: dict[str, facts.Enrol] = {}
        self.actors: list[Identity] = []
        self.failure: Exception | None = None

    async def submit(self, body: facts.Body, actor: Identity) -> object:
        assert isinstance(body, facts.Enrol)
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        if body.name in self.machines:
            raise NameTaken
        self.machines[body.name] = body
        self.actors.append(actor)
        return None


class House:
    def __init__(self) -> None:
        self.store, self.clock, ids = YieldingStore(), ManualClock(), CountingIds()
        self.auth = Authenticator(self.store, self.clock, ids)
        self.credentials = Credentials(self.auth, self.store, self.clock, ids)
        self.pool = Pool()
        self.enrolment = Enrolment(
            self.auth, self.credentials, self.store, self.clock, ids, self.pool.submit
        )


@pytest.fixture
def house() -> House:
    return House()


async def test_a_machine_joins_by_a_code_and_gets_a_token_of_its_own(house: House) -> None:
    code = await house.enrolment.invite_machine(OPERATOR)

    joined = await house.enrolment.redeem(code + "@sha256:" + "0" * 64, "laptop")

    identity = await house.auth.authenticate(joined.token, kinds={CredentialKind.MACHINE})
    assert identity == joined.identity
    assert (identity.role, identity.user) == (Role.AGENT, "olga")
    assert house.pool.machines["laptop"].machine == identity.machine
    assert house.pool.actors == [identity]


async def test_a_person_joins_by_a_code_that_names_them(house: House) -> None:
    code = await house.enrolment.invite_user(ADMIN, "bob", Role.SUBMITTER)

    joined = await house.enrolment.redeem(code, "mallory")

    identity = await house.auth.authenticate(joined.token, kinds={CredentialKind.USER})
    assert (identity.user, identity.role, joined.name) == ("bob", Role.SUBMITTER, "bob")


async def test_exactly_one_of_many_parallel_attempts_wins(house: House) -> None:
    code = await house.enrolment.invite_machine(OPERATOR)

    outcomes = await asyncio.gather(
        *(house.enrolment.redeem(code, f"m{number}") for number in range(20)),
        return_exceptions=True,
    )

    refused = [it for it in outcomes if isinstance(it, BaseException)]
    assert {type(it) for it in refused} <= {NotAuthenticated, RateLimited}
    assert (len(refused), len(house.pool.machines)) == (19, 1)


async def test_as_many_win_as_there_are_uses(house: House) -> None:
    code = await house.enrolment.invite_machine(OPERATOR, uses=5)

    outcomes = await asyncio.gather(
        *(house.enrolment.redeem(code, f"m{number}") for number in range(9)),
        return_exceptions=True,
    )

    assert sum(isinstance(it, NotAuthenticated) for it in outcomes) == 4
    assert len(house.pool.machines) == 5


async def test_of_parallel_attempts_to_become_one_person_one_wins(house: House) -> None:
    code = await house.enrolment.invite_user(ADMIN, "bob", Role.VIEWER)

    outcomes = await asyncio.gather(
        *(house.enrolment.redeem(code) for _ in range(10)), return_exceptions=True
    )

    assert sum(isinstance(it, Exception) for it in outcomes) == 9
    assert len(await house.credentials.list(owner=UserId("bob"))) == 1


async def test_a_refused_name_leaves_the_code_usable_and_no_token_behind(house: House) -> None:
    await house.enrolment.redeem(await house.enrolment.invite_machine(OPERATOR), "laptop")
    code = await house.enrolment.invite_machine(OPERATOR)

    with pytest.raises(NameTaken):
        await house.enrolment.redeem(code, "laptop")

    assert len(await house.credentials.list(kinds=[CredentialKind.MACHINE])) == 1
    await house.enrolment.redeem(code, "desktop")
    with pytest.raises(NotAuthenticated):
        await house.enrolment.redeem(code, "third")


async def test_an_unknown_outcome_leaves_the_use_taken(house: House) -> None:
    code = await house.enrolment.invite_machine(OPERATOR)
    house.pool.failure = Timeout()

    with pytest.raises(Timeout):
        await house.enrolment.redeem(code, "laptop")

    with pytest.raises(NotAuthenticated):
        await house.enrolment.redeem(code, "laptop")


async def test_a_code_expires(house: House) -> None:
    code = await house.enrolment.invite_machine(OPERATOR)

    house.clock.advance(CODE_TTL_MS)

    with pytest.raises(NotAuthenticated):
        await house.enrolment.redeem(code, "laptop")


async def test_a_revoked_code_lets_nobody_in(house: House) -> None:
    code = await house.enrolment.invite_machine(OPERATOR)
    (row,) = await house.credentials.list(kinds=[CredentialKind.ENROLMENT])

    await house.credentials.revoke(row.id)

    with pytest.raises(NotAuthenticated):
        await house.enrolment.redeem(code, "laptop")


async def test_a_code_may_give_the_machine_its_name(house: House) -> None:
    code = await house.enrolment.invite_machine(OPERATOR, name="build-1")

    joined = await house.enrolment.redeem(code, "something-else")

    assert joined.name == "build-1"


@pytest.mark.parametrize("name", ["", "hub", "Laptop", "a b", "-x"])
async def test_a_bad_name_takes_no_use(house: House, name: str) -> None:
    code = await house.enrolment.invite_machine(OPERATOR)

    with pytest.raises(InvalidInput):
        await house.enrolment.redeem(code, name)

    await house.enrolment.redeem(code, "laptop")


@pytest.mark.parametrize("role", [Role.SUBMITTER, Role.VIEWER, Role.AGENT])
async def test_who_may_not_invite_machines_gets_no_code(house: House, role: Role) -> None:
    actor = Identity(role=role, user=UserId("bob"), credential="c3")

    with pytest.raises(NotAllowed):
        await house.enrolment.invite_machine(actor)


async def test_only_an_admin_invites_people(house: House) -> None:
    with pytest.raises(NotAllowed):
        await house.enrolment.invite_user(OPERATOR, "bob", Role.VIEWER)


async def test_nobody_is_invited_to_be_a_machine(house: House) -> None:
    with pytest.raises(NotAllowed):
        await house.enrolment.invite_user(ADMIN, "bob", Role.AGENT)


async def test_a_name_that_was_ever_used_is_not_given_again(house: House) -> None:
    await house.enrolment.redeem(await house.enrolment.invite_user(ADMIN, "bob", Role.VIEWER))
    await house.credentials.remove_user(UserId("bob"))

    with pytest.raises(NameTaken):
        await house.enrolment.invite_user(ADMIN, "bob", Role.VIEWER)


async def test_who_lost_a_token_gets_another_by_a_new_code(house: House) -> None:
    first = await house.enrolment.redeem(
        await house.enrolment.invite_user(ADMIN, "bob", Role.VIEWER)
    )
    await house.credentials.revoke(first.identity.credential)

    again = await house.enrolment.redeem(
        await house.enrolment.invite_user(ADMIN, "bob", Role.VIEWER)
    )

    assert (again.identity.user, again.identity.role) == ("bob", Role.VIEWER)
    assert again.token != first.token


async def test_a_code_changes_nobody_s_role(house: House) -> None:
    await house.enrolment.redeem(await house.enrolment.invite_user(ADMIN, "bob", Role.VIEWER))

    with pytest.raises(NameTaken, match="whose role is viewer"):
        await house.enrolment.invite_user(ADMIN, "bob", Role.ADMIN)


async def test_a_code_for_a_user_who_was_removed_meanwhile_lets_nobody_in(house: House) -> None:
    await house.enrolment.redeem(await house.enrolment.invite_user(ADMIN, "bob", Role.VIEWER))
    code = await house.enrolment.invite_user(ADMIN, "bob", Role.VIEWER)
    await house.credentials.remove_user(UserId("bob"))

    with pytest.raises(NotAuthenticated):
        await house.enrolment.redeem(code)


@pytest.mark.parametrize(
    ("uses", "ttl_ms", "name"), [(0, 1, None), (1_001, 1, None), (1, 0, None), (2, 1, "m")]
)
async def test_codes_have_bounds(house: House, uses: int, ttl_ms: int, name: str | None) -> None:
    with pytest.raises(InvalidInput):
        await house.enrolment.invite_machine(OPERATOR, uses=uses, ttl_ms=ttl_ms, name=name)


@pytest.mark.parametrize(
    ("os_user", "name"),
    [
        ("ada", "ada"),
        ("Ada Lovelace", "ada-lovelace"),
        ("root", FIRST_ADMIN),
        ("...", FIRST_ADMIN),
        ("x" * 100, "x" * 63),
    ],
)
def test_the_first_admin_is_named_after_the_user_of_the_computer(os_user: str, name: str) -> None:
    assert first_admin(os_user) == name
