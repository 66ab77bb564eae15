"""The tools of tasks: what the routes of tasks offer, for people and for agents at work.

What an agent submits is a sub-task of its own task, narrowed by the core as every sub-task is.
"""

import hashlib
from typing import Annotated, Final

import msgspec

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.hub import acting
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.queries import TaskFilter
from agentcom.hub.requests import check_key, payload_hash
from agentcom.hub.services import ask
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer
from agentcom.model import policy
from agentcom.model.errors import NotAllowed, Stale
from agentcom.model.failure import FailureClass
from agentcom.model.ids import Fence, TaskId
from agentcom.model.limits import LEASE_TTL_MAX_MS, NOTICE_CHARS, REASON_CHARS, SUMMARY_CHARS
from agentcom.model.policy import Action
from agentcom.model.replies import Done, Explanation, Submitted, TaskChanged
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import StopReason, TaskState
from agentcom.protocol.asked import TaskAsked
from agentcom.protocol.calls import Id, Limit, WaitMs
from agentcom.protocol.frames import Progress
from agentcom.protocol.shown import ResultList, TaskPage, TaskShown
from agentcom.protocol.told import Work
from agentcom.transport.http_mcp_tool import Brief, Effect, Guest, Tool


class _Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True,
             forbid_unknown_fields=True):  # fmt: skip
    pass


class TaskList(_Asked, frozen=True, kw_only=True):
    """List tasks of the project, newest first."""

    state: tuple[TaskState, ...] = ()
    submitter: str | None = None
    """A user, or `@me`."""
    q: str | None = None
    """Part of the title."""
    cursor: str | None = None
    limit: Limit = 20


class TaskNamed(_Asked, frozen=True, kw_only=True):
    """One task."""

    task: Id
    """Its id, or a part that no other has."""


class TaskCancel(TaskNamed, frozen=True, kw_only=True):
    """A task that shall end."""

    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] = ""


class TaskProgress(_Asked, frozen=True, kw_only=True):
    """What an attempt is doing."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=NOTICE_CHARS)]


class TaskTake(_Asked, frozen=True, kw_only=True):
    """Ask for work."""

    wait_ms: WaitMs = 0
    """With nothing to do, wait so long for something."""


class TaskHeld(_Asked, frozen=True, kw_only=True):
    """An attempt that an external agent works on."""

    task: Id
    fence: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,16}\.[0-9]{1,16}$")]
    """As `task_take` told it."""


class TaskFinish(TaskHeld, frozen=True, kw_only=True):
    """The end of an attempt."""

    done: bool
    """False: it could not be done, and `summary` says why."""
    summary: Annotated[str, msgspec.Meta(min_length=1, max_length=SUMMARY_CHARS)]
    branch: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] | None = None
    """Where the work is, already pushed."""
    commit: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}([0-9a-f]{24})?$")] | None = None


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a task whose attempt has ended."""

    state: TaskState


class Renewed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The lease of an attempt runs on."""

    lease_ms: int = LEASE_TTL_MAX_MS
    stop: StopReason | None = None
    """Set: end the work now, and say so by `task_finish`."""


async def _submit(guest: Guest, asked: TaskAsked, key: str | None) -> Answer:
    speaker = guest.speaker()
    _spend(guest, speaker, Traffic.SUBMIT)
    body = facts.Submit((asked.spec(),), speaker.task, speaker.fence)
    return await _ask(guest, speaker, body, key)


async def _list(guest: Guest, asked: TaskList, _key: str | None) -> Answer:
    speaker = _reader(guest)
    wanted = TaskFilter(**msgspec.structs.asdict(asked))
    return await guest.hall.queries.tasks(speaker.identity, wanted)


async def show(guest: Guest, asked: TaskNamed, _key: str | None) -> Answer:
    """Return all about one task; raises `NotFound`."""
    return await guest.hall.queries.task(_reader(guest).identity, asked.task)


async def _results(guest: Guest, asked: TaskNamed, _key: str | None) -> Answer:
    return await guest.hall.queries.results(_reader(guest).identity, asked.task)


async def _why(guest: Guest, asked: TaskNamed, _key: str | None) -> Answer:
    speaker = _reader(guest)
    task = await guest.hall.queries.find(speaker.identity, asked.task)
    return await _ask(guest, speaker, facts.Explain(task.id), None)


async def _cancel(guest: Guest, asked: TaskCancel, key: str | None) -> Answer:
    speaker = _actor(guest, Action.TASK_CANCEL)
    task = await guest.hall.queries.find(speaker.identity, asked.task)
    return await _ask(guest, speaker, facts.Cancel(task.id, asked.reason), key)


async def _retry(guest: Guest, asked: TaskNamed, key: str | None) -> Answer:
    speaker = _actor(guest, Action.TASK_RETRY)
    task = await guest.hall.queries.find(speaker.identity, asked.task)
    return await _ask(guest, speaker, facts.Retry(task.id), key)


async def _progress(guest: Guest, asked: TaskProgress, _key: str | None) -> Answer:
    speaker = guest.speaker()
    if speaker.task is None or speaker.fence is None:
        raise NotAllowed("only an agent at work has progress to report")
    _spend(guest, speaker, Traffic.PROGRESS)
    report = Progress(task=speaker.task, fence=speaker.fence, text=asked.text)
    if not guest.hall.feeds.progress(speaker.identity, report):
        raise Stale("this attempt is not yours, or is over")
    return Done()


async def _take(guest: Guest, asked: TaskTake, _key: str | None) -> Answer:
    _spend_by(guest, Traffic.QUERY)
    return await guest.hall.externals.take(guest.identity, wait_ms=asked.wait_ms)


async def _renew(guest: Guest, asked: TaskHeld, _key: str | None) -> Answer:
    _spend_by(guest, Traffic.QUERY)
    task, fence = TaskId(asked.task), _fence(asked.fence)
    return Renewed(stop=await guest.hall.externals.renew(guest.identity, task, fence))


async def _finish(guest: Guest, asked: TaskFinish, _key: str | None) -> Answer:
    _spend_by(guest, Traffic.QUERY)
    result = Result(
        status=ResultStatus.DONE if asked.done else ResultStatus.FAILED,
        failure=None if asked.done else FailureClass.AGENT,
        message="" if asked.done else asked.summary[:REASON_CHARS],
        summary=asked.summary,
        branch=asked.branch,
        commit=asked.commit,
    )
    task, fence = TaskId(asked.task), _fence(asked.fence)
    return Finished(state=await guest.hall.externals.finish(guest.identity, task, fence, result))


def _fence(text: str) -> Fence:
    incarnation, _, attempt = text.partition(".")
    return Fence(int(incarnation), int(attempt))


def _spend_by(guest: Guest, traffic: Traffic) -> None:
    guest.hall.budgets.spend(guest.identity, traffic, guest.hall.clock.now())


def _reader(guest: Guest) -> Speaker:
    return _actor(guest, Action.TASK_READ)


def _actor(guest: Guest, action: Action) -> Speaker:
    speaker = guest.speaker()
    # Whose task it is, the core looks up, and asks again where that matters.
    policy.authorize(speaker.identity, action, owner=speaker.identity.user)
    _spend(guest, speaker, Traffic.QUERY)
    return speaker


def _spend(guest: Guest, speaker: Speaker, traffic: Traffic) -> None:
    guest.hall.budgets.spend(speaker.identity, traffic, guest.hall.clock.now())


async def _ask(guest: Guest, speaker: Speaker, body: facts.Body, key: str | None) -> Answer:
    """Bring a fact to the pool; a key is one of its speaker's task, not of the whole machine."""
    if key is not None:
        key = check_key(key)
    if key is not None and speaker.task is not None:
        key = hashlib.sha256(f"{speaker.task} {key}".encode()).hexdigest()
    fact = Fact(
        body=body,
        actor=speaker.identity,
        cause=guest.cause,
        key=key,
        payload=None if key is None else payload_hash(body),
        origin=acting.now().origin,
    )
    return await ask(guest.hall.engine, fact, ask_ms=guest.hall.ask_ms)


TOOLS: Final = (
    Tool(
        name="task_submit",
        says="Submit a task to the fleet. An agent's is a sub-task of the task it works on.",
        kind=TaskAsked,
        reply=Submitted,
        access=Action.TASK_SUBMIT,
        effect=Effect.ADDS,
        keyed=True,
        brief=Brief("Submit a task; an agent's is a sub-task.", ("title", "prompt", "needs")),
        run=_submit,
        at_work=True,
    ),
    Tool(
        name="task_show",
        says="Show all about one task: state, specification, newest result, what it does now.",
        kind=TaskNamed,
        reply=TaskShown,
        access=Action.TASK_READ,
        effect=Effect.READS,
        keyed=False,
        brief=Brief("Show a task with its result.", ("task",)),
        run=show,
    ),
    Tool(
        name="task_list",
        says="List tasks of the project, newest first.",
        kind=TaskList,
        reply=TaskPage,
        access=Action.TASK_READ,
        effect=Effect.READS,
        keyed=False,
        brief=Brief("List tasks, newest first.", ("state", "q")),
        run=_list,
    ),
    Tool(
        name="task_results",
        says="List the results of a task, kept ones too.",
        kind=TaskNamed,
        reply=ResultList,
        access=Action.TASK_READ,
        effect=Effect.READS,
        keyed=False,
        brief=None,
        run=_results,
    ),
    Tool(
        name="task_why",
        says="Explain why a task is where it is, and what happens next.",
        kind=TaskNamed,
        reply=Explanation,
        access=Action.TASK_READ,
        effect=Effect.READS,
        keyed=False,
        brief=None,
        run=_why,
    ),
    Tool(
        name="task_cancel",
        says="End a task.",
        kind=TaskCancel,
        reply=TaskChanged,
        access=Action.TASK_CANCEL,
        effect=Effect.REMOVES,
        keyed=True,
        brief=None,
        run=_cancel,
    ),
    Tool(
        name="task_retry",
        says="Reopen a failed or cancelled task.",
        kind=TaskNamed,
        reply=TaskChanged,
        access=Action.TASK_RETRY,
        effect=Effect.ADDS,
        keyed=True,
        brief=None,
        run=_retry,
    ),
    Tool(
        name="task_progress",
        says="Say in a few words what one does now; only of the task that one works on.",
        kind=TaskProgress,
        reply=Done,
        access=Action.MACHINE_SESSION,
        effect=Effect.REPEATS,
        keyed=False,
        brief=None,
        run=_progress,
    ),
    Tool(
        name="task_take",
        says="Take work, as an external agent; or show the work that one has.",
        kind=TaskTake,
        reply=Work,
        access=Action.MACHINE_SESSION,
        effect=Effect.REPEATS,
        keyed=False,
        brief=None,
        run=_take,
    ),
    Tool(
        name="task_renew",
        says="Keep the task that one took; due every few minutes, or it goes to others after ten.",
        kind=TaskHeld,
        reply=Renewed,
        access=Action.MACHINE_SESSION,
        effect=Effect.REPEATS,
        keyed=False,
        brief=None,
        run=_renew,
    ),
    Tool(
        name="task_finish",
        says="End the task that one took: done, or not and why.",
        kind=TaskFinish,
        reply=Finished,
        access=Action.MACHINE_SESSION,
        effect=Effect.REPEATS,
        keyed=False,
        brief=None,
        run=_finish,
    ),
)
