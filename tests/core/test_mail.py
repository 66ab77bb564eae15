import pytest

from agentcom.core import mail
from agentcom.core.view import PoolView
from agentcom.model import limits
from agentcom.model.address import Address
from agentcom.model.agent import Agent, Machine
from agentcom.model.errors import CursorAhead, InvalidInput, MailboxFull, TooLarge
from agentcom.model.ids import DEFAULT_POOL, AgentId, MachineId, ProjectId, TaskId, UserId, WallTime
from agentcom.model.message import (
    Attachment,
    Delivery,
    Entry,
    Head,
    Message,
    MessageId,
)
from agentcom.model.task import Task, TaskState

ADA, BOB, ANN = Address("agent:ada"), Address("agent:bob"), Address("user:ann")
AT = WallTime(1_000)


def message(**more: object) -> Message:
    name = MessageId("m")
    fields = {"id": name, "sender": ANN, "at": AT, "body": "b", "thread": name, **more}
    return Message(**fields)  # type: ignore[arg-type]  # the tests name the fields


@pytest.mark.parametrize(
    ("body", "subject", "error"),
    [
        ("x" * (limits.MESSAGE_BYTES + 1), "", TooLarge),
        ("ä" * (limits.MESSAGE_BYTES // 2 + 1), "", TooLarge),
        ("\x01" * (limits.MESSAGE_BYTES // 2), "", TooLarge),
        ("a\0b", "", InvalidInput),
        ("b", "two\nlines", InvalidInput),
    ],
)
def test_what_no_message_may_say_is_refused(
    body: str, subject: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        mail.check_content(body, subject, ())


def test_a_message_may_be_long_and_have_lines_and_quotes() -> None:
    mail.check_content('"\n' * (limits.MESSAGE_BYTES // 2), "a subject", (Attachment("d", "n"),))


@pytest.mark.parametrize("name", ["x" * 201, "a\nb"])
def test_an_attachment_has_a_plain_name(name: str) -> None:
    with pytest.raises(InvalidInput):
        mail.check_content("b", "", (Attachment("d", name),))


def test_a_mailbox_is_full_by_messages_and_by_bytes() -> None:
    mail.check_room(Head(log="l", open=limits.MAILBOX_MAX - 1), 10, ADA)
    mail.check_room(Head(log="l", open_bytes=limits.MAILBOX_BYTES - 10), 10, ADA)

    with pytest.raises(MailboxFull, match="agent:ada"):
        mail.check_room(Head(log="l", open=limits.MAILBOX_MAX), 0, ADA)
    with pytest.raises(MailboxFull):
        mail.check_room(Head(log="l", open_bytes=limits.MAILBOX_BYTES - 9), 10, ADA)


def test_a_cursor_is_not_beyond_the_newest_message() -> None:
    mail.check_cursor(Head(log="l", seq=3), 3)
    with pytest.raises(CursorAhead, match="is 3"):
        mail.check_cursor(Head(log="l", seq=3), 4)


def test_a_place_only_goes_forward() -> None:
    place = Entry(log="l", seq=1, message=MessageId("m"))

    delivered = mail.moved(place, Delivery.DELIVERED, AT)
    seen = mail.moved(delivered, Delivery.SEEN, WallTime(2_000))
    acked = mail.moved(seen, Delivery.ACKED, WallTime(3_000))

    assert (acked.delivered_at, acked.seen_at, acked.acked_at) == (1_000, 2_000, 3_000)
    assert acked.version == 4
    assert mail.moved(seen, Delivery.DELIVERED, AT) is seen
    assert mail.moved(seen, Delivery.SEEN, AT) is seen
    assert mail.moved(acked, Delivery.EXPIRED, AT) is acked
    expired = mail.moved(place, Delivery.EXPIRED, AT)
    assert (expired.state, expired.acked_at) == (Delivery.EXPIRED, None)
    assert mail.moved(expired, Delivery.ACKED, AT) is expired


def test_a_message_is_late_when_its_time_is_over_and_nobody_took_it() -> None:
    short = message(expires_at=AT)

    assert mail.is_late(Delivery.SEEN, short, AT)
    assert not mail.is_late(Delivery.SEEN, short, WallTime(AT - 1))
    assert not mail.is_late(Delivery.ACKED, short, AT)
    assert not mail.is_late(Delivery.QUEUED, message(), AT)
    assert mail.is_late(Delivery.QUEUED, message(), WallTime(AT + limits.MESSAGE_EXPIRES_MS))


def test_a_message_is_looked_at_when_something_of_it_is_over() -> None:
    place = Entry(log="l", seq=1, message=MessageId("m"))
    keep, long = limits.MESSAGE_KEEP_MS, limits.MESSAGE_EXPIRES_MS
    short = message(expires_at=WallTime(5_000))

    assert mail.first_due(short) == 5_000
    assert mail.first_due(message()) == AT + keep
    assert mail.due_at(place, message()) == AT + long
    assert mail.due_at(place, short) == 5_000
    assert mail.due_at(mail.moved(place, Delivery.ACKED, WallTime(7)), short) == 7 + keep
    assert mail.due_at(mail.moved(place, Delivery.EXPIRED, AT), short) == 5_000 + keep


def view(*tasks: Task) -> PoolView:
    found = PoolView(DEFAULT_POOL, incarnation=1, term=None)
    found.agents[AgentId("ada")] = Agent(id=AgentId("ada"), machine=MachineId("m"), runtime="test")
    found.tasks.update((task.id, task) for task in tasks)
    found.held_by[MachineId("m")] = {task.id: None for task in tasks}
    return found


def task(name: str, agent: str, project: str = "default") -> Task:
    return Task(
        id=TaskId(name),
        project=ProjectId(project),
        submitter=UserId("ann"),
        title="t",
        changed_at=AT,
        state=TaskState.RUNNING,
        agent=AgentId(agent),
    )


def test_an_agent_is_of_its_project_and_of_those_it_works_for() -> None:
    pool = view(task("t", "ada", "other"), task("u", "bob", "third"))

    assert [row.id for row in mail.attempts(pool, AgentId("ada"))] == ["t"]
    assert mail.is_of(pool, AgentId("ada"), ProjectId("default"))
    assert mail.is_of(pool, AgentId("ada"), ProjectId("other"))
    assert not mail.is_of(pool, AgentId("ada"), ProjectId("third"))
    assert not mail.is_of(pool, AgentId("eve"), ProjectId("default"))
    assert mail.attempts(pool, AgentId("eve")) == []


def test_an_agent_works_for_one_project_or_for_none_that_can_be_named() -> None:
    assert mail.works_for(view(), AgentId("ada")) is None
    assert mail.works_for(view(task("t", "ada", "p"), task("u", "ada", "p")), AgentId("ada")) == "p"
    assert (
        mail.works_for(view(task("t", "ada", "p"), task("u", "ada", "q")), AgentId("ada")) is None
    )


def test_a_broadcast_finds_the_agents_that_meet_all_needs() -> None:
    pool = view()
    box, den = MachineId("m"), MachineId("n")
    for name, more in {
        "ada": {"capabilities": ("python=3.12",), "labels": {"team": "api"}},
        "bob": {"capabilities": ("python=3.10",), "labels": {"team": "api"}},
        "cai": {"capabilities": ("python=3.12",), "labels": {"team": "web"}},
        "dan": {"capabilities": ("python=3.12",), "labels": {"team": "api"}, "absent": True},
        "eve": {"project": ProjectId("other")},
    }.items():
        at = box if name < "c" else den
        row = Agent(id=AgentId(name), machine=at, runtime="test", **more)  # type: ignore[arg-type]  # by field
        pool.agents[row.id] = row
    pool.machines[box] = Machine(id=box, name="Box", owner=UserId("ann"), created_at=AT)

    def found(*needs: str) -> str:
        return " ".join(mail.fitting(pool, ProjectId("default"), needs))

    assert found() == "ada bob cai"
    assert found("team=api") == "ada bob"
    assert found("team=api", "python>=3.11") == "ada"
    assert found("agent!=ada") == "bob cai"
    assert found("machine=box") == "ada bob"
    assert found("gpu") == ""
    assert mail.fitting(pool, ProjectId("other"), ()) == ["eve"]
    with pytest.raises(InvalidInput):
        found("gpu gpu")
