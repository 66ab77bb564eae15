"""Routes of tasks: submit, list, show, explain, follow, cancel, retry, adopt."""

from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from agentcom.core import facts
from agentcom.core.review_facts import LandAsked
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.queries import TaskFilter, reporter
from agentcom.model import limits, numerals
from agentcom.model.event import task_log
from agentcom.model.policy import Action
from agentcom.model.replies import Explanation, Submitted, TaskChanged, Waits
from agentcom.protocol.asked import (
    AdoptAsked,
    CancelAsked,
    DecideAsked,
    LandWanted,
    Nothing,
    TaskAsked,
    TasksAsked,
)
from agentcom.protocol.shown import EventPage, LogTail, ResultList, TaskPage, TaskShown
from agentcom.transport import decoding, http_events
from agentcom.transport.http_call import PREFIX, Call, Endpoint

_TASKS: Final = f"{PREFIX}/tasks"
_TASK: Final = f"{_TASKS}/{{id}}"


class _Peek(msgspec.Struct):
    tasks: msgspec.Raw = msgspec.Raw()


class OneOrMany:
    """A body that is one task, or an object with several."""

    body_kinds = (TaskAsked, TasksAsked)

    def choose(self, data: bytes) -> type[TaskAsked | TasksAsked]:
        """Return which of both a body is; raises as decoding does."""
        return TasksAsked if bytes(decoding.decode(data, _Peek).tasks) else TaskAsked


class EventsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records of a feed to show."""

    after: Annotated[int, msgspec.Meta(ge=0, le=numerals.MOST)] = 0
    limit: int = limits.PAGE_MAX
    progress: bool = False
    """In an event stream: progress, too."""


class LogsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of which log; by default the end of the newest, as far as the hub has it."""

    offset: Annotated[int, msgspec.Meta(ge=0, le=numerals.MOST)] | None = None
    """In bytes; with an attempt, 0 by default. Such a part comes from the attempt's machine."""
    attempt: Annotated[int, msgspec.Meta(ge=1)] | None = None


async def _submit(call: Call) -> object:
    body = call.body
    asked = body.tasks if isinstance(body, TasksAsked) else (call.given(TaskAsked),)
    call.hall.budgets.spend(call.who, Traffic.SUBMIT, call.now, len(asked))
    reply = await call.ask(facts.Submit(tuple(task.spec() for task in asked)))
    content = msgspec.json.encode(reply)
    tasks = msgspec.json.decode(content, type=Submitted).tasks
    headers = {"cache-control": "no-store"}
    if len(tasks) == 1:
        headers["location"] = f"{_TASKS}/{tasks[0]}"
    return Response(content, 201, headers, "application/json")


async def _list(call: Call) -> TaskPage:
    return await call.hall.queries.tasks(call.who, call.asked(TaskFilter))


async def _show(call: Call) -> TaskShown:
    return await call.hall.queries.task(call.who, call.named())


async def _why(call: Call) -> object:
    task = await call.hall.queries.find(call.who, call.named())
    reply = await call.ask(facts.Explain(task.id), keyed=False)
    assert isinstance(reply, Explanation)
    if not task.state.held:
        return reply
    activity = call.hall.feeds.activities.describe(task.id)
    return msgspec.structs.replace(reply, activity=activity)


async def _waits(call: Call) -> Waits:
    return call.hall.fleet.waits(call.who)


async def _results(call: Call) -> ResultList:
    return await call.hall.queries.results(call.who, call.named())


async def _events(call: Call) -> object:
    asked = call.asked(EventsAsked)
    feeds, queries = call.hall.feeds, call.hall.queries
    if http_events.wants_stream(call):
        task = await queries.find(call.who, call.named())
    else:
        task, kept = await queries.look(call.who, call.named())
        if kept is None:
            await feeds.check(call.who, task_log(task.id), after=asked.after)
        return await queries.events(call.who, task.id, after=asked.after, limit=asked.limit)
    after = http_events.last_event(call, asked.after)
    await feeds.check(call.who, task_log(task.id), after=after)
    return http_events.stream(call, task.id, after=after, progress=asked.progress)


async def _logs(call: Call) -> LogTail:
    asked = call.asked(LogsAsked)
    return await call.hall.queries.logs(
        call.who, call.named(), offset=asked.offset, attempt=asked.attempt
    )


async def _cancel(call: Call) -> object:
    task = await call.hall.queries.find(call.who, call.named())
    return await call.ask(facts.Cancel(task.id, call.given(CancelAsked).reason))


async def _retry(call: Call) -> object:
    task = await call.hall.queries.find(call.who, call.named())
    return await call.ask(facts.Retry(task.id))


async def _adopt(call: Call) -> object:
    asked = call.given(AdoptAsked)
    queries = call.hall.queries
    task = await queries.find(call.who, call.named())
    kept = await queries.kept(task.id, asked.attempt)
    named = {machine: call.hall.fleet.machine_name(machine) for machine in kept}
    machine = reporter(named, asked.attempt, asked.machine)
    return await call.ask(facts.Adopt(task.id, kept[machine], machine))


async def _land(call: Call) -> object:
    task = await call.hall.queries.find(call.who, call.named())
    return await call.ask(LandAsked(task.id, call.given(LandWanted).land))


async def _approve(call: Call) -> object:
    return await _decide(call, approved=True)


async def _reject(call: Call) -> object:
    return await _decide(call, approved=False)


async def _decide(call: Call, *, approved: bool) -> object:
    task = await call.hall.queries.find(call.who, call.named())
    return await call.ask(facts.Decide(task.id, approved, call.given(DecideAsked).message))


def _change(verb: str, action: Action, handler: Any, summary: str, body: Any) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"{_TASK}/{verb}",
        access=action,
        handler=handler,
        summary=summary,
        body=body,
        body_optional=body is not AdoptAsked,
        reply=TaskChanged,
        keyed=True,
    )


def _read(path: str, action: Action, handler: Any, summary: str, **more: Any) -> Endpoint:
    return Endpoint(
        method="GET", path=path, access=action, handler=handler, summary=summary, **more
    )


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path=_TASKS,
        access=Action.TASK_SUBMIT,
        handler=_submit,
        summary="Submit one task, or several at once: all of them, or none",
        body=OneOrMany(),
        reply=Submitted,
        status=201,
        keyed=True,
        traffic=None,
    ),
    _read(
        _TASKS,
        Action.TASK_READ,
        _list,
        "List tasks, newest first",
        query=TaskFilter,
        reply=TaskPage,
        cost=5,
    ),
    _read(_TASK, Action.TASK_READ, _show, "Show one task", reply=TaskShown),
    _read(
        f"{_TASK}/why",
        Action.TASK_READ,
        _why,
        "Explain why a task is where it is, and what happens next",
        reply=Explanation,
        cost=5,
    ),
    _read(
        f"{PREFIX}/waits",
        Action.TASK_READ,
        _waits,
        "Show which tasks wait for which: behind limits, files and dependencies",
        reply=Waits,
        cost=5,
    ),
    _read(
        f"{_TASK}/results",
        Action.TASK_READ,
        _results,
        "List the results of a task, kept ones too",
        reply=ResultList,
    ),
    _read(
        f"{_TASK}/events",
        Action.EVENTS_READ,
        _events,
        "Read, or follow, what happens to a task",
        query=EventsAsked,
        reply=EventPage,
        also="text/event-stream",
    ),
    _read(
        f"{_TASK}/logs",
        Action.TASK_READ,
        _logs,
        "Read the end, or any part, of an attempt's log",
        query=LogsAsked,
        reply=LogTail,
    ),
    _change("cancel", Action.TASK_CANCEL, _cancel, "End a task", CancelAsked),
    _change("retry", Action.TASK_RETRY, _retry, "Reopen a failed or cancelled task", Nothing),
    _change("adopt", Action.TASK_ADOPT, _adopt, "Take a kept result as the task's", AdoptAsked),
    _change("land", Action.TASK_ADOPT, _land, "Bring a task's branch into its base", LandWanted),
    _change("approve", Action.TASK_APPROVE, _approve, "Say yes to what asks for it", DecideAsked),
    _change(
        "reject", Action.TASK_APPROVE, _reject, "Say no to what asks for approval", DecideAsked
    ),
)
