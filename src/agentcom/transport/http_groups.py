"""Routes of groups and graphs: list, show, cancel and retry groups; show what waits for what."""

import asyncio
from typing import Any, Final

from agentcom.core import facts
from agentcom.hub.limits_guard import Traffic
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.model.task import Task, TaskState
from agentcom.protocol.asked import CancelAsked, Nothing
from agentcom.protocol.shown import GraphShown, GroupList, GroupShown
from agentcom.transport.http_call import PREFIX, Call, Endpoint
from agentcom.transport.http_fleet import PageAsked

_GROUPS: Final = f"{PREFIX}/groups"
_GROUP: Final = f"{_GROUPS}/{{id}}"
_AT_ONCE: Final = 100  # retries that are asked for together


async def _list(call: Call) -> GroupList:
    asked = call.asked(PageAsked)
    return await call.hall.graphs.groups(call.who, cursor=asked.cursor, limit=asked.limit)


async def _show(call: Call) -> GroupShown:
    return await call.hall.graphs.group(call.who, call.named())


async def _graph(call: Call) -> GraphShown:
    return await call.hall.graphs.graph_of_group(call.who, call.named())


async def _task_graph(call: Call) -> GraphShown:
    dependants = call.hall.engine.view.dependants
    return await call.hall.graphs.graph_of_task(call.who, call.named(), dependants)


async def _cancel(call: Call) -> object:
    group = await call.hall.graphs.group(call.who, call.named())
    return await call.ask(facts.CancelGroup(group.name, call.given(CancelAsked).reason))


async def _retry(call: Call) -> Done:
    """Reopen what failed or was cancelled, what others depend on first."""
    tasks = await call.hall.graphs.members(call.who, call.named())
    left = [task for task in tasks if task.state in (TaskState.FAILED, TaskState.CANCELLED)]
    count = len(left)
    while left:
        done: list[bool] = []
        for at in range(0, len(left), _AT_ONCE):
            chunk = left[at : at + _AT_ONCE]
            done += await asyncio.gather(*[_reopened(call, task) for task in chunk])
        if not any(done):
            break
        left = [task for task, well in zip(left, done, strict=True) if not well]
    refused = f", {len(left)} cannot be: see agentcom task why" if left else ""
    return Done(f"{count - len(left)} tasks{refused}")


async def _reopened(call: Call, task: Task) -> bool:
    try:
        await call.ask(facts.Retry(task.id), keyed=False)
    except (Conflict, InvalidInput, NotFound):
        return False  # it goes on already, waits for one that failed, or is another person's
    return True


def _change(verb: str, action: Action, handler: Any, summary: str, body: Any) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"{_GROUP}/{verb}",
        access=action,
        handler=handler,
        summary=summary,
        body=body,
        body_optional=True,
        reply=Done,
        keyed=True,
        traffic=Traffic.ADMIN,
    )


def _read(path: str, handler: Any, summary: str, **more: Any) -> Endpoint:
    access = Action.TASK_READ
    return Endpoint(
        method="GET", path=path, access=access, handler=handler, summary=summary, **more
    )


ENDPOINTS: Final = (
    _read(_GROUPS, _list, "List groups of tasks", query=PageAsked, reply=GroupList),
    _read(_GROUP, _show, "Show a group's progress", reply=GroupShown),
    _read(
        f"{_GROUP}/graph",
        _graph,
        "Show what waits for what in a group",
        reply=GraphShown,
        cost=10,
    ),
    _change("cancel", Action.TASK_CANCEL, _cancel, "End a group's live tasks", CancelAsked),
    _change("retry", Action.TASK_RETRY, _retry, "Reopen what failed or was cancelled", Nothing),
    _read(
        f"{PREFIX}/tasks/{{id}}/graph",
        _task_graph,
        "Show what a task waits for, and what waits for it",
        reply=GraphShown,
        cost=10,
    ),
)
