"""Routes of log levels: what the hub logs now, and more or less of it for a while."""

from typing import Final

from agentcom.hub.limits_guard import Traffic
from agentcom.model.errors import Conflict
from agentcom.model.policy import Action
from agentcom.protocol.levels import LogLevelAsked, LogLevelShown, LogLevelsShown
from agentcom.protocol.live import LogLevelFrame
from agentcom.telemetry import levels
from agentcom.transport.http_call import PREFIX, Call, Endpoint

_PATH: Final = f"{PREFIX}/log-level"


async def _show(call: Call) -> LogLevelsShown:
    return _shown(call)


async def _set(call: Call) -> LogLevelsShown:
    asked = call.given(LogLevelAsked)
    levels.check(asked.level, logger=asked.logger, for_ms=asked.for_ms)
    if asked.machine:
        return _tell(call, asked)
    await call.hall.audit.done(Action.HUB_MANAGE, "hub", how="log level", level=asked.level)
    call.hall.levels.set(asked.level, logger=asked.logger, for_ms=asked.for_ms)
    return _shown(call)


def _tell(call: Call, asked: LogLevelAsked) -> LogLevelsShown:
    machine = call.hall.fleet.find_machine(call.who, asked.machine)
    frame = LogLevelFrame(level=asked.level, logger=asked.logger, for_ms=asked.for_ms)
    if not call.hall.bring(machine.id, frame):
        raise Conflict(f"machine {machine.name} is not connected")
    left_ms = 0 if asked.level == levels.USUAL else asked.for_ms
    told = LogLevelShown(logger=asked.logger, level=asked.level, left_ms=left_ms)
    return LogLevelsShown(usual=levels.USUAL, overrides=(told,), machine=machine.id)


def _shown(call: Call) -> LogLevelsShown:
    overrides = tuple(LogLevelShown(**one._asdict()) for one in call.hall.levels.overrides())
    return LogLevelsShown(usual=call.hall.levels.usual, overrides=overrides)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=_PATH,
        access=Action.HUB_MANAGE,
        handler=_show,
        summary="Show how much the hub logs",
        reply=LogLevelsShown,
    ),
    Endpoint(
        method="PUT",
        path=_PATH,
        access=Action.HUB_MANAGE,
        handler=_set,
        summary="Let the hub, or a machine, log more or less for a while",
        body=LogLevelAsked,
        reply=LogLevelsShown,
        traffic=Traffic.ADMIN,
    ),
)
