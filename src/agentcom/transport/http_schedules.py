"""Routes of schedules: add, list, show, edit, pause, resume, run, remove."""

from typing import Any, Final

from agentcom.hub.limits_guard import Traffic
from agentcom.model.ids import DEFAULT_PROJECT, UserId
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.model.schedule import Schedule
from agentcom.protocol.asked import Nothing, ScheduleAsked, ScheduleEditAsked
from agentcom.protocol.shown import ScheduleList, ScheduleShown
from agentcom.transport.http_call import PREFIX, Call, Endpoint
from agentcom.transport.http_fleet import PageAsked

_SCHEDULES: Final = f"{PREFIX}/schedules"
_SCHEDULE: Final = f"{_SCHEDULES}/{{id}}"


async def _add(call: Call) -> ScheduleShown:
    asked = call.given(ScheduleAsked)
    wanted = Schedule(
        id="",
        project=DEFAULT_PROJECT,
        owner=UserId(""),
        name=asked.name,
        cron=asked.cron,
        zone=asked.zone,
        task=asked.task.spec(),
        missed=asked.missed,
        overlap=asked.overlap,
        start_within_ms=asked.start_within_ms,
        paused=asked.paused,
    )
    return _shown(call, await call.hall.schedules.add(call.who, wanted))


async def _list(call: Call) -> ScheduleList:
    asked = call.asked(PageAsked)
    return call.hall.schedules.listed(call.who, cursor=asked.cursor, limit=asked.limit)


async def _show(call: Call) -> ScheduleShown:
    return _shown(call, call.hall.schedules.find(call.who, call.named()))


async def _edit(call: Call) -> ScheduleShown:
    asked = call.given(ScheduleEditAsked)
    edited = await call.hall.schedules.edit(call.who, call.named(), asked.change(), asked.version)
    return _shown(call, edited)


async def _pause(call: Call) -> ScheduleShown:
    return _shown(call, await call.hall.schedules.pause(call.who, call.named()))


async def _resume(call: Call) -> ScheduleShown:
    return _shown(call, await call.hall.schedules.resume(call.who, call.named()))


async def _run(call: Call) -> ScheduleShown:
    call.hall.budgets.spend(call.who, Traffic.SUBMIT, call.now, 1)
    return _shown(call, await call.hall.schedules.run_now(call.who, call.named(), call.key))


async def _remove(call: Call) -> Done:
    await call.hall.schedules.remove(call.who, call.named())
    return Done("removed; the tasks that it submitted stay")


def _shown(call: Call, schedule: Schedule) -> ScheduleShown:
    return ScheduleShown(schedule, call.hall.schedules.coming(schedule))


def _act(verb: str, handler: Any, summary: str, *, keyed: bool = False) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"{_SCHEDULE}/{verb}",
        access=Action.SCHEDULE_CHANGE,
        handler=handler,
        summary=summary,
        body=Nothing,
        body_optional=True,
        reply=ScheduleShown,
        keyed=keyed,
    )


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path=_SCHEDULES,
        access=Action.SCHEDULE_CREATE,
        handler=_add,
        summary="Add a schedule of one's own",
        body=ScheduleAsked,
        reply=ScheduleShown,
        status=201,
    ),
    Endpoint(
        method="GET",
        path=_SCHEDULES,
        access=Action.SCHEDULE_READ,
        handler=_list,
        summary="List schedules by name",
        query=PageAsked,
        reply=ScheduleList,
    ),
    Endpoint(
        method="GET",
        path=_SCHEDULE,
        access=Action.SCHEDULE_READ,
        handler=_show,
        summary="Show one schedule and its coming times",
        reply=ScheduleShown,
    ),
    Endpoint(
        method="PATCH",
        path=_SCHEDULE,
        access=Action.SCHEDULE_CHANGE,
        handler=_edit,
        summary="Change a schedule; a run that is under way keeps what it was given",
        body=ScheduleEditAsked,
        reply=ScheduleShown,
    ),
    _act("pause", _pause, "Let a schedule rest"),
    _act("resume", _resume, "Let a schedule go on; times that passed are not made up for"),
    _act("run", _run, "Let a schedule run at once, whatever its times say", keyed=True),
    Endpoint(
        method="DELETE",
        path=_SCHEDULE,
        access=Action.SCHEDULE_CHANGE,
        handler=_remove,
        summary="Remove a schedule; the tasks that it submitted stay",
        reply=Done,
    ),
)
