"""Routes that steer: pause and resume at four levels, edit a task, act on many tasks."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec

from agentcom.core import facts
from agentcom.hub.limits_guard import Traffic
from agentcom.model.bulk import BulkAct
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.identity import CredentialKind
from agentcom.model.ids import TaskId
from agentcom.model.limits import BULK_REFUSALS, REASON_CHARS
from agentcom.model.pause import ALL, machine_scope
from agentcom.model.policy import Action
from agentcom.model.replies import BulkShown, Done, Refusal, TaskChanged
from agentcom.protocol.asked import EditAsked, ManyAsked, Nothing, PauseAsked
from agentcom.protocol.shown import PauseList
from agentcom.transport.http_call import PREFIX, Call, Endpoint, Handler

MACHINE: Final = CredentialKind.MACHINE
AGENT: Final = CredentialKind.AGENT
_TASKS: Final = f"{PREFIX}/tasks"


class StopWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why everything shall end."""

    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] = ""


async def _pauses(call: Call) -> PauseList:
    return call.hall.fleet.pauses(call.who)


async def _bulk(call: Call) -> BulkShown:
    return call.hall.fleet.bulk(call.who, call.named())


async def _edit(call: Call) -> object:
    asked = call.given(EditAsked)
    task = await call.hall.queries.find(call.who, call.named())
    return await call.ask(facts.Edit(task.id, asked.version, asked.change()))


async def _task_scope(call: Call) -> str:
    task = await call.hall.queries.find(call.who, call.named())
    return f"task:{task.id}"


async def _project_scope(call: Call) -> str:
    project = call.named()
    if project != call.who.project:
        raise NotFound("there is no such project, or not for this token")
    return f"project:{project}"


async def _pool_scope(call: Call) -> str:
    return f"pool:{call.named()}"


async def _agent_scope(call: Call) -> str:
    return f"agent:{call.hall.fleet.find_agent(call.who, call.named()).id}"


async def _machine_scope(call: Call) -> str:
    return machine_scope(call.hall.fleet.find_machine(call.who, call.named()).id)


async def _user_scope(call: Call) -> str:
    return f"user:{(await call.hall.people.user(call.who, call.named())).id}"


async def _everything(_call: Call) -> str:
    return ALL


Scope = Callable[[Call], Awaitable[str]]


def _pausing(scope: Scope) -> Handler:
    async def pause(call: Call) -> object:
        asked = call.given(PauseAsked)
        body = facts.Pause(await scope(call), True, asked.reason, asked.stop)
        return await call.ask(body)

    return pause


def _stopping(scope: Scope) -> Handler:
    async def stop(call: Call) -> object:
        body = facts.Pause(await scope(call), True, call.given(StopWanted).reason, stop=True)
        reply = await call.ask(body)
        kind, _, name = body.scope.partition(":")
        if kind == "machine":
            rows = await call.hall.credentials.list(kinds=(MACHINE, AGENT))
            call.hall.auth.cut(row.id for row in rows if row.machine == name)
        return reply

    return stop


def _resuming(scope: Scope) -> Handler:
    async def resume(call: Call) -> object:
        return await call.ask(facts.Pause(await scope(call), paused=False))

    return resume


def _many(act: BulkAct) -> Handler:
    async def many(call: Call) -> object:
        asked = call.given(ManyAsked)
        hall, who = call.hall, call.who
        if bool(asked.tasks) == (asked.filter is not None):
            raise InvalidInput("filter", "give either tasks or a filter")
        if asked.filter is not None:
            tasks, states = await hall.chooser.choose(who, act, asked.filter)
        else:
            found = [await hall.queries.find(who, text) for text in asked.tasks]
            tasks, states = [task.id for task in found], ()
        if asked.dry_run:
            shown = tuple(Refusal(task, "dry_run", act.value) for task in tasks[:BULK_REFUSALS])
            return BulkShown(id=TaskId(""), act=act, tasks=len(tasks), refused=shown)
        body = facts.ActOnMany(act, tuple(dict.fromkeys(tasks)), states, asked.reason)
        return await call.ask(body, asked=asked)

    return many


def _post(path: str, access: Action, handler: Handler, summary: str, **more: Any) -> Endpoint:
    return Endpoint(
        method="POST",
        path=path,
        access=access,
        handler=handler,
        summary=summary,
        keyed=True,
        **more,
    )


def _both(path: str, access: Action, scope: Scope, what: str) -> tuple[Endpoint, Endpoint]:
    close = f"Give {what} no new attempts"
    lift = f"Let {what} go on"
    traffic = Traffic.QUERY if access is Action.TASK_PAUSE else Traffic.ADMIN
    more: dict[str, Any] = {"body_optional": True, "reply": Done, "traffic": traffic}
    return (
        _post(f"{path}/pause", access, _pausing(scope), close, body=PauseAsked, **more),
        _post(f"{path}/resume", access, _resuming(scope), lift, body=Nothing, **more),
    )


def _stops(path: str, access: Action, scope: Scope, what: str) -> tuple[Endpoint, Endpoint]:
    stop = f"End at once what {what} runs, and give nothing new until it is released"
    more: dict[str, Any] = {"body_optional": True, "reply": Done, "traffic": Traffic.ADMIN}
    lift = f"Let {what} work again after a stop"
    return (
        _post(f"{path}/stop", access, _stopping(scope), stop, body=StopWanted, **more),
        _post(f"{path}/release", access, _resuming(scope), lift, body=Nothing, **more),
    )


ENDPOINTS: Final = (
    Endpoint(
        method="PATCH",
        path=f"{_TASKS}/{{id}}",
        access=Action.TASK_EDIT,
        handler=_edit,
        summary="Change a task that has not begun",
        body=EditAsked,
        reply=TaskChanged,
        keyed=True,
    ),
    _post(
        f"{PREFIX}/bulk/cancel",
        Action.TASK_CANCEL,
        _many(BulkAct.CANCEL),
        "End many tasks",
        body=ManyAsked,
        reply=BulkShown,
        cost=20,
    ),
    _post(
        f"{PREFIX}/bulk/retry",
        Action.TASK_RETRY,
        _many(BulkAct.RETRY),
        "Reopen many failed or cancelled tasks",
        body=ManyAsked,
        reply=BulkShown,
        cost=20,
    ),
    Endpoint(
        method="GET",
        path=f"{PREFIX}/bulk/{{id}}",
        access=Action.TASK_READ,
        handler=_bulk,
        summary="Show how far an act on many tasks is",
        reply=BulkShown,
    ),
    *_both(f"{_TASKS}/{{id}}", Action.TASK_PAUSE, _task_scope, "a task"),
    *_both(f"{PREFIX}/projects/{{id}}", Action.PROJECT_PAUSE, _project_scope, "a project"),
    *_both(f"{PREFIX}/pools/{{id}}", Action.POOL_PAUSE, _pool_scope, "a pool"),
    *_both(PREFIX, Action.POOL_PAUSE, _everything, "everything"),
    *_stops(f"{PREFIX}/agents/{{id}}", Action.AGENT_PAUSE, _agent_scope, "an agent"),
    *_stops(f"{PREFIX}/machines/{{id}}", Action.MACHINE_REMOVE, _machine_scope, "a machine"),
    *_stops(f"{PREFIX}/users/{{id}}", Action.PROJECT_PAUSE, _user_scope, "work of a person"),
    Endpoint(
        method="GET",
        path=f"{PREFIX}/pauses",
        access=Action.TASK_READ,
        handler=_pauses,
        summary="List what is paused beside single tasks",
        reply=PauseList,
    ),
)
