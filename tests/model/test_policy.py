import pytest

from agentcom.model.errors import NotAllowed, NotFound
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import MachineId, ProjectId, UserId
from agentcom.model.policy import Action, Reach, authorize, check_grant, reach

ADA = UserId("ada")
BOB = UserId("bob")
COLUMNS = (Role.VIEWER, Role.SUBMITTER, Role.OPERATOR, Role.ADMIN, Role.AGENT)
# One row for every action: "-" never, "o" what is one's own, "a" anything in the project.
MATRIX = """
    task:submit        - a a a -
    task:read          a a a a a
    task:cancel        - o a a -
    task:retry         - o a a -
    task:adopt         - - a a -
    task:approve       - o a a -
    agent:read         a a a a a
    agent:pause        - - a a -
    limit:read         a a a a -
    limit:set          - - a a -
    machine:read       a a a a -
    machine:invite     - - a a -
    machine:drain      - - a a -
    machine:remove     - - a a -
    machine:session    - - - - a
    schedule:read      a a a a -
    schedule:create    - a a a -
    schedule:change    - o a a -
    user:read          - - a a -
    user:invite        - - - a -
    user:remove        - - - a -
    token:read         o o o a -
    token:create       o o o a -
    token:rotate       o o o a -
    token:rotate:self  a a a a a
    token:revoke       o o o a -
    events:read        a a a a -
    hub:read           a a a a -
    hub:manage         - - - a -
    metrics:read       a a a a -
    cost:read          a o a a -
    budget:set         - - a a -
    task:edit          - o a a -
    task:pause         - o a a -
    project:pause      - - a a -
    pool:pause         - - - a -
    message:send       - a a a a
    message:read       o o o o o
    channel:read       a a a a a
    channel:post       - a a a a
    channel:create     - a a a a
    channel:manage     - o a a o
    note:read          a a a a a
    note:write         - a a a a
    lock:read          a a a a a
    lock:acquire       - a a a a
    lock:break         - - a a -
    ask:put            - a a a a
    ask:read           o o a a o
    ask:answer         - o a a o
"""
REACHES = {"-": Reach.NONE, "o": Reach.OWN, "a": Reach.ANY}
EXPECTED = {
    (role, Action(action)): REACHES[letter]
    for action, *letters in (line.split() for line in MATRIX.strip().splitlines())
    for role, letter in zip(COLUMNS, letters, strict=True)
}
TALK = ("message", "channel", "note", "lock", "ask")
CELLS = [(role, action) for role in Role for action in Action]


def identity(role: Role) -> Identity:
    machine = MachineId("m1") if role is Role.AGENT else None
    return Identity(role=role, user=ADA, credential="c1", machine=machine)


@pytest.mark.parametrize(("role", "action"), CELLS)
def test_every_cell_of_the_table_is_as_it_is_written_here(role: Role, action: Action) -> None:
    assert reach(role, action) is EXPECTED[role, action]


@pytest.mark.parametrize(("role", "action"), CELLS)
def test_a_right_reaches_as_far_as_its_cell_says(role: Role, action: Action) -> None:
    who = identity(role)

    match EXPECTED[role, action]:
        case Reach.NONE:
            with pytest.raises(NotAllowed):
                authorize(who, action, owner=ADA)
        case Reach.OWN:
            authorize(who, action, owner=ADA)
            for stranger in (BOB, None):
                with pytest.raises(NotFound):
                    authorize(who, action, owner=stranger)
        case Reach.ANY:
            authorize(who, action)
            authorize(who, action, owner=BOB)


@pytest.mark.parametrize(("role", "action"), CELLS)
def test_nobody_reaches_into_another_project(role: Role, action: Action) -> None:
    with pytest.raises((NotAllowed, NotFound)):
        authorize(identity(role), action, owner=ADA, project=ProjectId("other"))


def test_a_machine_speaks_for_its_agents_and_does_nothing_in_the_name_of_its_owner() -> None:
    allowed = {action for action in Action if reach(Role.AGENT, action) is not Reach.NONE}
    talk = {action for action in Action if action.partition(":")[0] in TALK}

    own = {Action.MACHINE_SESSION, Action.CREDENTIAL_ROTATE_SELF}
    own |= {Action.AGENT_READ, Action.TASK_READ}
    assert allowed == own | talk - {Action.LOCK_BREAK}


@pytest.mark.parametrize(
    ("giver", "given"),
    [
        (Role.ADMIN, Role.ADMIN),
        (Role.OPERATOR, Role.OPERATOR),
        (Role.OPERATOR, Role.VIEWER),
        (Role.VIEWER, Role.VIEWER),
    ],
)
def test_one_may_give_what_one_has(giver: Role, given: Role) -> None:
    check_grant(identity(giver), given)


@pytest.mark.parametrize(
    ("giver", "given"),
    [
        (Role.OPERATOR, Role.ADMIN),
        (Role.SUBMITTER, Role.OPERATOR),
        (Role.VIEWER, Role.SUBMITTER),
        (Role.ADMIN, Role.AGENT),
        (Role.AGENT, Role.VIEWER),
    ],
)
def test_nobody_gives_more_than_they_have(giver: Role, given: Role) -> None:
    with pytest.raises(NotAllowed):
        check_grant(identity(giver), given)
