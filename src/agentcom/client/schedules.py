"""Schedules of a hub, as a program or the command line asks for them."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from agentcom.client.http import HttpCalls
from agentcom.model.replies import Done
from agentcom.model.schedule import Schedule
from agentcom.protocol.asked import ScheduleAsked
from agentcom.protocol.shown import ScheduleList, ScheduleShown

_PATH: Final = "/schedules"


class ScheduleCalls:
    """The calls of schedules; each raises what the hub refused it with."""

    def __init__(self, http: HttpCalls) -> None:
        self._http = http

    async def add(self, wanted: ScheduleAsked) -> ScheduleShown:
        """Add a schedule of one's own."""
        return await self._http.post(_PATH, ScheduleShown, wanted)

    async def all(self) -> list[Schedule]:
        """Return every schedule of the project, by name."""
        found: list[Schedule] = []
        cursor: str | None = None
        while True:
            page = await self._http.get(_PATH, ScheduleList, {"cursor": cursor})
            found += page.schedules
            cursor = page.next
            if cursor is None:
                return found

    async def get(self, name: str) -> ScheduleShown:
        """Return one schedule and its coming times."""
        return await self._http.get(_path(name), ScheduleShown)

    async def edit(self, name: str, change: Mapping[str, Any]) -> ScheduleShown:
        """Give a schedule new values, if it still has the version that `change` names."""
        return await self._http.call("PATCH", _path(name), ScheduleShown, body=change)

    async def pause(self, name: str) -> ScheduleShown:
        """Let a schedule rest."""
        return await self._http.post(f"{_path(name)}/pause", ScheduleShown)

    async def resume(self, name: str) -> ScheduleShown:
        """Let a schedule go on."""
        return await self._http.post(f"{_path(name)}/resume", ScheduleShown)

    async def run(self, name: str, *, key: str | None = None) -> ScheduleShown:
        """Let a schedule run at once, once per `key`."""
        return await self._http.post(f"{_path(name)}/run", ScheduleShown, key=key)

    async def remove(self, name: str) -> Done:
        """Remove a schedule; its tasks stay."""
        return await self._http.call("DELETE", _path(name), Done)


def _path(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"
