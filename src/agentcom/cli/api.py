"""What commands ask of the hub, as rows that `output` prints: the API's own words, defaults too."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click

from agentcom.cli import context
from agentcom.cli.api_tokens import TokenCalls
from agentcom.cli.output import Row, row_of
from agentcom.client.dialling import Dial
from agentcom.client.http import HttpCalls
from agentcom.client.hub import HubClient
from agentcom.client.schedules import ScheduleCalls
from agentcom.model import replies
from agentcom.model.limits import PAGE_MAX
from agentcom.model.shared_note import Blob
from agentcom.protocol import shown
from agentcom.protocol.calls import Call

PAGES_MAX: Final = 1_000
LAST: Final = "@last"
_ID_CHARS: Final = 26

_Shown = TypeVar("_Shown")
_Found = TypeVar("_Found")


def connect(known: context.Context | None = None) -> "Hub":
    """Return a hub, by default that of this context; nothing is sent yet."""
    hub = Hub(known or context.load())
    current = click.get_current_context(silent=True)
    if current is not None:
        current.call_on_close(hub.close)
    return hub


class Hub(TokenCalls):
    """One hub and who we are there."""

    def __init__(self, known: context.Context) -> None:
        self.url = known.url
        self.token = known.token
        self.fingerprint = known.fingerprint
        self._http = HttpCalls(Dial(url=self.url, token=self.token, fingerprint=self.fingerprint))
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """Let go of the hub."""
        self._runner.run(self._http.close())
        self._runner.close()

    def with_client(self, work: Callable[[HubClient], Awaitable[_Found]]) -> _Found:
        """Return what `work` makes of a connected client."""
        _told_on_stderr()
        return self._runner.run(self._with_client(work))

    async def _with_client(self, work: Callable[[HubClient], Awaitable[_Found]]) -> _Found:
        client = await HubClient.connect(self.url, self.token, fingerprint=self.fingerprint)
        async with client:
            return await work(client)

    # Tasks --------------------------------------------------------------------------------------

    def resolve(self, text: str) -> str:
        """Return the whole id that a fragment or `@last` means."""
        found = context.last_task() if text == LAST else text
        return found if len(found) == _ID_CHARS else str(self.task(found)["id"])

    def submit(self, specs: Sequence[Row], *, key: str) -> dict[str, Any]:
        """Submit tasks, all or none."""
        answer = self._post("/tasks", {"tasks": list(specs)}, replies.Submitted, key=key)
        return row_of(answer)

    def tasks(self, *, limit: int, states: Sequence[str], **asked: Any) -> list[dict[str, Any]]:
        """Return up to `limit` tasks, newest first; what else may be asked: `TaskFilter`."""
        asked |= {"state": ",".join(states) or None}
        rows: list[dict[str, Any]] = []
        cursor = None
        for _ in range(PAGES_MAX):
            size = min(PAGE_MAX, limit - len(rows))
            params = {**asked, "limit": size, "cursor": cursor}
            page = self._get("/tasks", shown.TaskPage, params)
            rows += map(row_of, page.tasks)
            cursor = page.next
            if cursor is None or len(rows) >= limit:
                break
        return rows

    def task(self, task_id: str) -> dict[str, Any]:
        """Return one task with its specification."""
        found = self._get(f"/tasks/{quote(task_id, safe='')}", shown.TaskShown)
        body = row_of(found.body) if found.body is not None else {}
        extra = {name: body.get(name) for name in ("spec", "created_at")}
        cost = None if found.cost is None else row_of(found.cost)
        return {**row_of(found.task), **extra, "cost": cost, "archived_at": found.archived_at}

    def costs(self, **asked: Any) -> shown.CostList:
        """Return what agents spent."""
        return self._get("/cost", shown.CostList, asked)

    def budgets(self) -> list[dict[str, Any]]:
        """Return the budgets of the project."""
        found = self._get("/budgets", shown.BudgetList)
        return [row_of(one) for one in found.budgets]

    def set_budget(self, scope: str, period: str, limits: Row) -> None:
        """Give a scope a budget."""
        body = {"scope": scope, "period": period, "limits": limits}
        self._post("/budgets", body, replies.Done)

    def remove_budget(self, scope: str, period: str) -> None:
        """Take a budget away."""
        self._send("DELETE", "/budgets", {"scope": scope, "period": period})

    def why(self, task_id: str) -> dict[str, Any]:
        """Return why a task is where it is."""
        return row_of(self._get(f"/tasks/{task_id}/why", replies.Explanation))

    def waits(self) -> dict[str, Any]:
        """Return which tasks wait for which."""
        found = self._get("/waits", replies.Waits)
        return {**row_of(found), "waits": [row_of(one) for one in found.waits]}

    def results(self, task_id: str) -> list[dict[str, Any]]:
        """Return the results of a task, newest first."""
        found = self._get(f"/tasks/{task_id}/results", shown.ResultList)
        return [{**row_of(one), "result": row_of(one.result)} for one in found.results]

    def events(self, task_id: str) -> list[dict[str, Any]]:
        """Return everything that happened to a task."""
        rows: list[dict[str, Any]] = []
        after = 0
        for _ in range(PAGES_MAX):
            page = self._get(f"/tasks/{task_id}/events", shown.EventPage, {"after": after})
            rows += [{"seq": one.seq, **row_of(one.event)} for one in page.events]
            after = page.after
            if not page.more:
                break
        return rows

    def logs(self, task_id: str, **part: int | None) -> shown.LogTail:
        """Return the end of the newest log; with `offset` or `attempt`, the part from there on."""
        params = {name: value for name, value in part.items() if value is not None}
        return self._get(f"/tasks/{task_id}/logs", shown.LogTail, params)

    def act(self, task_id: str, verb: str, body: Row) -> dict[str, Any]:
        """Cancel, retry, adopt, approve or reject; return the task after it."""
        answer = self._post(f"/tasks/{task_id}/{verb}", body, replies.TaskChanged)
        return row_of(answer.task)

    def adopt(self, task_id: str, *, attempt: int, machine: str | None) -> dict[str, Any]:
        """Take a kept result as the task's own."""
        body: dict[str, Any] = {"attempt": attempt}
        return self.act(task_id, "adopt", body | ({"machine": machine} if machine else {}))

    # Groups and graphs --------------------------------------------------------------------------

    def groups(self) -> list[dict[str, Any]]:
        """Return all groups."""
        return self._all("/groups", shown.GroupList, "groups")

    def group(self, name: str) -> dict[str, Any]:
        """Return one group and its progress."""
        return row_of(self._get(f"/groups/{quote(name, safe='')}", shown.GroupShown))

    def act_on_group(self, name: str, verb: str, body: Row) -> str:
        """Cancel or retry a group; return what came of it."""
        path = f"/groups/{quote(name, safe='')}/{verb}"
        return self._post(path, body, replies.Done).detail

    def graph(self, *, task: str | None = None, group: str | None = None) -> shown.GraphShown:
        """Return the graph around a task, or of a group."""
        path = f"/groups/{quote(group, safe='')}" if group is not None else f"/tasks/{task}"
        return self._get(f"{path}/graph", shown.GraphShown)

    def edit(self, task_id: str, body: Row) -> replies.TaskChanged:
        """Change a task; `body` holds the version that was seen."""
        path = f"/tasks/{task_id}"
        return self._run(self._http.call("PATCH", path, replies.TaskChanged, body=body))

    def act_on_many(self, verb: str, body: Row, *, key: str) -> replies.BulkShown:
        """Cancel or retry many tasks; return how many, and under which id it is worked off."""
        return self._post(f"/bulk/{verb}", body, replies.BulkShown, key=key)

    def bulk(self, name: str) -> replies.BulkShown:
        """Return how far an act on many tasks is."""
        return self._get(f"/bulk/{name}", replies.BulkShown)

    def pause_scope(self, path: str, body: Row) -> None:
        """Close what is at `path` for new attempts."""
        self._post(f"{path}/pause", body, replies.Done)

    def resume_scope(self, path: str) -> None:
        """Open what is at `path` again."""
        self._post(f"{path}/resume", {}, replies.Done)

    def pauses(self) -> list[dict[str, Any]]:
        """Return what is paused beside single tasks."""
        return [row_of(one) for one in self._get("/pauses", shown.PauseList).pauses]

    # The fleet ----------------------------------------------------------------------------------

    def agents(self) -> list[dict[str, Any]]:
        """Return all agents."""
        return self._all("/agents", shown.AgentList, "agents")

    def agent(self, name: str) -> dict[str, Any]:
        """Return one agent."""
        return row_of(self._get(f"/agents/{quote(name, safe='')}", shown.AgentShown))

    def pause(self, name: str) -> None:
        """Give an agent no new tasks."""
        self._send("POST", f"/agents/{quote(name, safe='')}/pause")

    def unpause(self, name: str) -> None:
        """Give a paused agent tasks again."""
        self._send("POST", f"/agents/{quote(name, safe='')}/resume")

    def accounts(self) -> list[dict[str, Any]]:
        """Return the accounts whose quota agents use up."""
        return self._all("/accounts", shown.AccountList, "accounts")

    def open_account(self, name: str) -> None:
        """Say that an account has quota again."""
        self._send("POST", f"/accounts/{quote(name, safe='')}/resume")

    def machines(self) -> list[dict[str, Any]]:
        """Return all machines."""
        return self._all("/machines", shown.MachineList, "machines")

    def machine(self, name: str) -> dict[str, Any]:
        """Return one machine."""
        return row_of(self._get(f"/machines/{quote(name, safe='')}", shown.MachineShown))

    def drain(self, name: str, *, off: bool = False) -> None:
        """Give a machine no new tasks, or, `off`, give it tasks again."""
        self._send("POST", f"/machines/{quote(name, safe='')}/{'resume' if off else 'drain'}")

    def restart(self, name: str) -> None:
        """Have a machine's process start anew."""
        self._send("POST", f"/machines/{quote(name, safe='')}/restart")

    def remove_machine(self, name: str) -> None:
        """Take a machine out of the fleet, with its tokens."""
        self._send("DELETE", f"/machines/{quote(name, safe='')}")

    def invite_machine(self, **wanted: Any) -> dict[str, Any]:
        """Return a code by which machines join."""
        body = {name: value for name, value in wanted.items() if value is not None}
        return row_of(self._post("/machines/invite", body, shown.Invitation))

    def limits(self) -> list[dict[str, Any]]:
        """Return all limits, with what is taken of them."""
        return [row_of(one) for one in self._get("/limits", shown.LimitList).limits]

    def set_limit(self, limit: Row) -> None:
        """Set the limit of a scope."""
        self._post("/limits", limit, replies.Done)

    def drop_limit(self, scope: str) -> None:
        """Take the limit of a scope away."""
        self._send("DELETE", "/limits", {"scope": scope})

    # Schedules ----------------------------------------------------------------------------------

    def schedules(self) -> list[dict[str, Any]]:
        """Return all schedules by name."""
        return self._all("/schedules", shown.ScheduleList, "schedules")

    def schedule(self, name: str) -> dict[str, Any]:
        """Return one schedule and its coming times."""
        return _schedule_row(self._run(ScheduleCalls(self._http).get(name)))

    def add_schedule(self, wanted: Row) -> dict[str, Any]:
        """Add a schedule."""
        return _schedule_row(self._post("/schedules", wanted, shown.ScheduleShown))

    def edit_schedule(self, name: str, change: Row) -> dict[str, Any]:
        """Change a schedule; `change` holds the version that was seen."""
        return _schedule_row(self._run(ScheduleCalls(self._http).edit(name, change)))

    def act_on_schedule(self, name: str, verb: str, *, key: str | None = None) -> dict[str, Any]:
        """Pause or resume a schedule, or let it run at once."""
        path = f"/schedules/{quote(name, safe='')}/{verb}"
        return _schedule_row(self._post(path, {}, shown.ScheduleShown, key=key))

    def remove_schedule(self, name: str) -> None:
        """Remove a schedule."""
        self._run(ScheduleCalls(self._http).remove(name))

    # People and the hub -------------------------------------------------------------------------

    def users(self) -> list[dict[str, Any]]:
        """Return the people."""
        return [row for row in self._all("/users", shown.UserList, "users") if not row["removed"]]

    def invite_user(self, name: str, role: str, project: str | None = None) -> dict[str, Any]:
        """Return a code by which a person joins."""
        body = {"name": name, "role": role} | ({"project": project} if project else {})
        return row_of(self._post("/users", body, shown.Invitation))

    def call(self, method: str, path: str, kind: type[_Shown], **more: Any) -> _Shown:
        """Make one call of the HTTP interface."""
        return self._run(self._http.call(method, path, kind, **more))

    def each_line(self, path: str, take: Callable[[bytes], None]) -> None:
        """Give every line of a long answer to `take`."""
        self._run(self._http.each_line(path, take))

    def whoami(self) -> dict[str, Any]:
        """Return who the hub takes us for."""
        return row_of(self._get("/whoami", shown.Whoami))

    def status(self) -> dict[str, Any]:
        """Return how the hub is."""
        return row_of(self._get("/status", shown.HubStatus))

    def send(self, method: str, path: str, body: Row | None = None) -> bytes:
        """Make a call that has no method here, and return its answer."""
        return self._run(self._http.send(method, path, body=body)).content

    def enrol(self, code: str, name: str) -> dict[str, Any]:
        """Redeem a code."""
        return row_of(self._post("/enrol", {"code": code, "name": name}, shown.Admitted))

    # Talk ---------------------------------------------------------------------------------------

    def do(self, call: Call, kind: type[_Shown], *, key: str | None = None) -> _Shown:
        """Make one call of `protocol/calls.py` and return its answer."""
        return self._run(self._http.do(call, kind, key=key))

    def upload(self, path: Path) -> Blob:
        """Send a file, so that messages can name it."""
        params = {"name": path.name}
        return self._run(self._http.upload("/blobs", path.read_bytes(), Blob, params))

    def download(self, digest: str) -> bytes:
        """Return a file by its digest."""
        path = f"/blobs/{quote(digest, safe='')}"
        return self._run(self._http.send("GET", path)).content

    # The wire -----------------------------------------------------------------------------------

    def _all(self, path: str, kind: type[Any], field: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        cursor = None
        for _ in range(PAGES_MAX):
            page = self._get(path, kind, {"cursor": cursor, "limit": PAGE_MAX})
            rows += map(row_of, getattr(page, field))
            cursor = page.next
            if cursor is None:
                break
        return rows

    def _get(self, path: str, kind: type[_Shown], params: Row | None = None) -> _Shown:
        return self._run(self._http.call("GET", path, kind, params=params))

    def _post(
        self, path: str, body: Row | None, kind: type[_Shown], *, key: str | None = None
    ) -> _Shown:
        return self._run(self._http.call("POST", path, kind, body=body, key=key))

    def _send(self, method: str, path: str, params: Row | None = None) -> None:
        self._run(self._http.send(method, path, params=params))

    def _run(self, work: Coroutine[Any, Any, _Shown]) -> _Shown:
        return self._runner.run(work)


def _schedule_row(found: shown.ScheduleShown) -> dict[str, Any]:
    return {**row_of(found.schedule), "coming": list(found.coming)}


def _told_on_stderr() -> None:
    """Have a connection that is lost told as a note; it is no data, and comes back by itself."""
    import structlog

    def note(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        if event["event"] != "connection.lost":
            raise structlog.DropEvent
        return f"note: {event['reason']}; trying again"

    structlog.configure(
        processors=[note], logger_factory=structlog.PrintLoggerFactory(file=sys.stderr)
    )
