import msgspec
import pytest

from agentcom.model.errors import InvalidInput, NotAllowed, NotFound
from agentcom.model.identity import Identity, Role, Scope
from agentcom.model.ids import DEFAULT_PROJECT, MachineId, ProjectId, UserId
from agentcom.model.policy import (
    GRANTING,
    SHARED,
    Action,
    Reach,
    authorize,
    check_grant,
    project_for,
    reach,
)

replace = msgspec.structs.replace

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
    alert:read         a a a a -
    alert:steer        - - a a -
    notify:read        - - a a -
    notify:manage      - - - a -
    chat:link          - o o o -
    audit:read         - - - a -
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
    assert reach(identity(role), action) is EXPECTED[role, action]


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
    allowed = {action for action in Action if reach(identity(Role.AGENT), action) is not Reach.NONE}
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


CHANGES = (
    "submit",
    "cancel",
    "set",
    "remove",
    "invite",
    "create",
    "post",
    "send",
    "write",
    "pause",
)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.SUBMITTER, Role.OPERATOR, Role.ADMIN])
@pytest.mark.parametrize("scope", list(Scope))
def test_a_scope_takes_away_and_never_adds(role: Role, scope: Scope) -> None:
    whole, confined = identity(role), replace(identity(role), scopes=(scope,))

    assert all(reach(confined, action) in (Reach.NONE, reach(whole, action)) for action in Action)
    assert reach(confined, Action.CREDENTIAL_ROTATE_SELF) is Reach.ANY
    assert not any(reach(confined, action) for action in GRANTING)


def test_who_may_only_read_changes_nothing() -> None:
    confined = replace(identity(Role.ADMIN), scopes=(Scope.READ,))
    allowed = {action.value for action in Action if reach(confined, action)}

    assert not [name for name in allowed if name.rpartition(":")[2] in CHANGES]
    assert {"task:read", "cost:read"} <= allowed


def test_scopes_add_up() -> None:
    both = replace(identity(Role.ADMIN), scopes=(Scope.SUBMIT, Scope.METRICS))
    allowed = {action for action in Action if reach(both, action)}

    wanted = {Action.TASK_SUBMIT, Action.METRICS_READ, Action.HUB_READ}
    assert allowed == wanted | {Action.CREDENTIAL_ROTATE_SELF}
    with pytest.raises(NotAllowed, match="scopes"):
        authorize(both, Action.TASK_READ)


def test_a_program_lets_nobody_in() -> None:
    program = replace(identity(Role.ADMIN), service=True)

    barred = {action for action in Action if not reach(program, action)}
    assert barred == GRANTING | {Action.MACHINE_SESSION}


def test_what_is_shared_is_reached_from_the_hubs_own_project_only() -> None:
    stranger = replace(identity(Role.ADMIN), project=ProjectId("other"))

    barred = {action for action in Action if not reach(stranger, action)}
    assert barred == SHARED | {Action.MACHINE_SESSION}


def test_only_the_hubs_own_project_lets_others_into_another_one() -> None:
    ours, theirs = identity(Role.ADMIN), replace(identity(Role.ADMIN), project=ProjectId("other"))

    assert project_for(ours, ProjectId("web")) == "web"
    assert project_for(theirs, None) == "other"
    for project in (DEFAULT_PROJECT, ProjectId("web")):
        with pytest.raises(NotAllowed):
            project_for(theirs, project)
    with pytest.raises(InvalidInput):
        project_for(ours, ProjectId("../web"))
