"""What is asked for at each line of the matrix: a request that only its right can refuse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentcom.model.ids import UserId
from agentcom.model.policy import Action
from tests.access.world import AGENT, MARK, PAT, SUE


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request, and whose thing it is about."""

    thing: str | None = None
    """The kind of thing whose id takes the place of `{id}`, in the address or the body."""
    owner: UserId | None = None
    """Whose it is; None: the project's."""
    body: Any = None
    query: str = ""
    guard: Action | None = None
    """What guards this thing, if that is not what guards the route."""
    others: str | None = None
    """What everyone but its owner is answered, whatever the table says of their role."""
    seen: bool = False
    """Everybody sees that it is there: who may only change their own is told so."""
    said: str = ""
    """Words of a refusal that has nothing to do with rights."""
    stream: bool = False
    once: bool = False
    """It can be done only once, so not before the end."""
    named: bool = False
    """It is about something of this project that is named in the body."""


TASK: Final = "task"
RULE: Final = "disk_low"
_SILENCE: Final = {"rule": RULE, "ms": 60_000, "reason": "x"}
_WEBHOOK: Final = {"name": "{new}", "kind": "webhook", "url": "https://127.0.0.1/x"}
_NO_PLACE: Final = "destination"
HTTP: Final[Mapping[str, tuple[Sample, ...]]] = {
    "POST /api/v1/tasks": (Sample(body={"title": "t", "prompt": "p", "needs": ["never"]}),),
    "GET /api/v1/tasks": (Sample(),),
    "GET /api/v1/tasks/{id}": (Sample(thing=TASK),),
    "GET /api/v1/tasks/{id}/why": (Sample(thing=TASK),),
    "GET /api/v1/waits": (Sample(),),
    "GET /api/v1/tasks/{id}/results": (Sample(thing=TASK),),
    "GET /api/v1/tasks/{id}/events": (Sample(thing=TASK), Sample(thing=TASK, stream=True)),
    "GET /api/v1/tasks/{id}/logs": (Sample(thing=TASK),),
    "POST /api/v1/tasks/{id}/cancel": (Sample(thing=TASK, owner=SUE),),
    "POST /api/v1/tasks/{id}/retry": (Sample(thing=TASK, owner=SUE),),
    "POST /api/v1/tasks/{id}/adopt": (Sample(thing=TASK, body={"attempt": 1}, said="kept result"),),
    "POST /api/v1/tasks/{id}/land": (Sample(thing=TASK, body={}),),
    "POST /api/v1/tasks/{id}/approve": (
        Sample(thing=TASK, owner=SUE, body={}, said="no result to approve"),
    ),
    "POST /api/v1/tasks/{id}/reject": (Sample(thing=TASK, owner=SUE, body={}),),
    "GET /api/v1/groups": (Sample(),),
    "GET /api/v1/groups/{id}": (Sample(thing="group"),),
    "GET /api/v1/groups/{id}/graph": (Sample(thing="group"),),
    "POST /api/v1/groups/{id}/cancel": (Sample(thing="group"),),
    "POST /api/v1/groups/{id}/retry": (Sample(thing="group"),),
    "GET /api/v1/tasks/{id}/graph": (Sample(thing=TASK),),
    "GET /api/v1/agents": (Sample(),),
    "GET /api/v1/agents/{id}": (Sample(thing="agent"),),
    "POST /api/v1/agents/{id}/pause": (Sample(thing="agent"),),
    "POST /api/v1/agents/{id}/resume": (Sample(thing="agent"),),
    "GET /api/v1/accounts": (Sample(),),
    "POST /api/v1/accounts/{id}/resume": (Sample(thing="account"),),
    "GET /api/v1/machines": (Sample(),),
    "POST /api/v1/machines/invite": (Sample(body={}),),
    "GET /api/v1/machines/{id}": (Sample(thing="box"),),
    "DELETE /api/v1/machines/{id}": (Sample(thing="machine"),),
    "POST /api/v1/machines/{id}/drain": (Sample(thing="machine"),),
    "POST /api/v1/machines/{id}/resume": (Sample(thing="machine"),),
    "POST /api/v1/machines/{id}/restart": (Sample(thing="machine"),),
    "GET /api/v1/limits": (Sample(),),
    "POST /api/v1/limits": (Sample(body={"scope": f"key:{MARK}", "concurrency": 5}),),
    "DELETE /api/v1/limits": (Sample(thing="limit", query="?scope={id}"),),
    "POST /api/v1/schedules": (Sample(body={"name": "{new}", "cron": "0 0 1 1 *", "task": {
        "title": "t", "prompt": "p", "needs": ["never"]}}),),
    "GET /api/v1/schedules": (Sample(),),
    "GET /api/v1/schedules/{id}": (Sample(thing="schedule"),),
    "POST /api/v1/schedules/{id}/pause": (Sample(thing="schedule", owner=SUE),),
    "POST /api/v1/schedules/{id}/resume": (Sample(thing="schedule", owner=SUE),),
    "POST /api/v1/schedules/{id}/run": (Sample(thing="schedule", owner=SUE),),
    "DELETE /api/v1/schedules/{id}": (Sample(thing="schedule", owner=SUE),),
    "GET /api/v1/users": (Sample(),),
    "POST /api/v1/users": (Sample(body={"name": "{new}", "role": "viewer"}),),
    "POST /api/v1/service-accounts": (Sample(body={"name": "{new}", "role": "viewer"}),),
    "DELETE /api/v1/users/{id}": (Sample(thing="user"),),
    "POST /api/v1/enrol": (Sample(body={"code": "none"}, said="this token is not valid"),),
    "GET /api/v1/tokens": (Sample(),),
    "POST /api/v1/tokens": (
        Sample(body={}),
        Sample(body={"owner": SUE}, owner=SUE),
        Sample(body={"agent": "{new}"}, guard=Action.MACHINE_INVITE),
    ),
    "POST /api/v1/tokens/{id}/rotate": (
        Sample(thing="self"),
        Sample(thing="token", owner=SUE, guard=Action.CREDENTIAL_ROTATE),
    ),
    "DELETE /api/v1/tokens/{id}": (Sample(thing="token", owner=SUE),),
    "GET /api/v1/status": (Sample(),),
    "GET /api/v1/whoami": (Sample(),),
    "POST /api/v1/drain": (Sample(once=True),),
    "GET /metrics": (Sample(),),
    "GET /healthz": (Sample(),),
    "GET /readyz": (Sample(),),
    "GET /api/v1/cost": (Sample(),),
    "GET /api/v1/budgets": (Sample(),),
    "POST /api/v1/budgets": (
        Sample(body={"scope": "submitter:{new}", "limits": {"tokens": 1_000_000}}),
    ),
    "DELETE /api/v1/budgets": (Sample(thing="budget", query="?scope={id}"),),
    "PATCH /api/v1/tasks/{id}": (Sample(thing=TASK, owner=SUE, body={"version": 1, "title": "u"}),),
    # Each of many tasks is refused on its own, later; see the test of it.
    "POST /api/v1/bulk/cancel": (Sample(thing=TASK, body={"tasks": ["{id}"]}),),
    "POST /api/v1/bulk/retry": (Sample(thing=TASK, body={"tasks": ["{id}"]}),),
    "GET /api/v1/bulk/{id}": (Sample(thing="bulk"),),
    "POST /api/v1/tasks/{id}/pause": (Sample(thing=TASK, owner=SUE),),
    "POST /api/v1/tasks/{id}/resume": (Sample(thing=TASK, owner=SUE),),
    "POST /api/v1/projects/{id}/pause": (Sample(thing="project"),),
    "POST /api/v1/projects/{id}/resume": (Sample(thing="project"),),
    "POST /api/v1/pools/{id}/pause": (Sample(thing="pool"),),
    "POST /api/v1/pools/{id}/resume": (Sample(thing="pool"),),
    "POST /api/v1/pause": (Sample(),),
    "POST /api/v1/resume": (Sample(),),
    "GET /api/v1/pauses": (Sample(),),
    "GET /api/v1/mail/events": (Sample(stream=True),),
    "GET /api/v1/channels/{id}/events": (Sample(thing="channel", stream=True),),
    "GET /api/v1/presence/events": (Sample(stream=True),),
    "POST /api/v1/blobs": (Sample(body=b"bytes"),),
    "GET /api/v1/blobs/{id}": (Sample(thing="blob"),),
    "POST /api/v1/forge-events": (Sample(body={}, said="forge"),),
    "POST /mcp": (
        Sample(body={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}),
    ),
    "GET /api/v1/openapi.json": (Sample(),),
    "GET /api/v1/asyncapi.json": (Sample(),),
    "PATCH /api/v1/schedules/{id}": (
        Sample(thing="schedule", owner=SUE, body={"version": 1, "cron": "0 0 2 1 *"}),
    ),
    "POST /api/v1/reload": (Sample(),),
    "GET /api/v1/log-level": (Sample(),),
    "PUT /api/v1/log-level": (Sample(body={"level": "usual"}),),
    "GET /api/v1/audit": (Sample(),),
    "GET /api/v1/audit/export": (Sample(),),
    "POST /api/v1/agents/{id}/stop": (Sample(thing="agent"),),
    "POST /api/v1/agents/{id}/release": (Sample(thing="agent"),),
    "POST /api/v1/machines/{id}/stop": (Sample(thing="machine"),),
    "POST /api/v1/machines/{id}/release": (Sample(thing="machine"),),
    "GET /api/v1/users/{id}/removal": (Sample(thing="user"),),
    "POST /api/v1/users/{id}/stop": (Sample(thing="user"),),
    "POST /api/v1/users/{id}/release": (Sample(thing="user"),),
    "GET /api/v1/alerts": (Sample(),),
    "POST /api/v1/alerts/ack": (Sample(body={"alert": "disk_low"}, said="alert"),),
    "POST /api/v1/alerts/silences": (Sample(body=_SILENCE),),
    "DELETE /api/v1/alerts/silences/{id}": (Sample(thing="silence"),),
    "GET /api/v1/alert-rules": (Sample(),),
    "POST /api/v1/alert-rules": (Sample(body={"name": RULE, "enabled": True}),),
    "DELETE /api/v1/alert-rules/{id}": (Sample(thing="rule"),),
    "POST /api/v1/alert-rules/{id}/test": (Sample(thing="rule"),),
    "GET /api/v1/destinations": (Sample(),),
    "POST /api/v1/destinations": (Sample(body=_WEBHOOK),),
    "DELETE /api/v1/destinations/{id}": (Sample(thing="destination", said=_NO_PLACE),),
    "POST /api/v1/destinations/{id}/test": (Sample(thing="destination", said=_NO_PLACE),),
    "POST /api/v1/destinations/{id}/resume": (Sample(thing="destination", said=_NO_PLACE),),
    "POST /api/v1/destinations/{id}/rotate": (Sample(thing="destination", said=_NO_PLACE),),
    "POST /api/v1/destinations/{id}/link": (Sample(thing="destination", said=_NO_PLACE),),
    "POST /api/v1/destinations/{id}/unlink": (Sample(thing="destination", said=_NO_PLACE),),
}  # fmt: skip

_ROOM: Final = {"channel": "{id}"}
_NOTE: Final = {"name": "{id}"}
CALLS: Final[Mapping[str, tuple[Sample, ...]]] = {
    "message_send": (Sample(body={"to": [SUE], "body": MARK}, named=True),),
    "message_broadcast": (Sample(body={"body": MARK}, said="no other agent"),),
    "inbox_read": (Sample(body={}),),
    "message_ack": (Sample(thing="letter", owner=SUE, body={"messages": ["{id}"]}),),
    "message_show": (Sample(thing="letter", owner=SUE, body={"message": "{id}"}),),
    "thread_read": (Sample(thing="letter", owner=SUE, body={"message": "{id}"}),),
    "channel_create": (Sample(body={"channel": "{new}"}),),
    "channel_list": (Sample(body={}),),
    "channel_show": (
        Sample(thing="channel", body=_ROOM),
        Sample(thing="den", body=_ROOM, owner=SUE, others="not_found"),
    ),
    "channel_post": (
        Sample(thing="channel", body={**_ROOM, "body": "x"}),
        Sample(thing="den", body={**_ROOM, "body": "x"}, owner=SUE, others="not_found"),
    ),
    "channel_history": (
        Sample(thing="channel", body=_ROOM),
        Sample(thing="den", body=_ROOM, owner=SUE, others="not_found"),
    ),
    "channel_join": (
        Sample(thing="channel", body=_ROOM),
        Sample(thing="den", body=_ROOM, owner=SUE, others="not_found"),
    ),
    "channel_leave": (Sample(thing="channel", body=_ROOM),),
    "channel_member": (
        Sample(thing="channel", body={**_ROOM, "name": PAT}, owner=SUE, seen=True),
    ),
    "channel_change": (
        Sample(thing="channel", body={**_ROOM, "topic": "x"}, owner=SUE, seen=True),
    ),
    "channel_delete": (Sample(thing="channel", body=_ROOM, owner=SUE, seen=True),),
    "note_write": (Sample(body={"name": "{new}", "text": "x"}),),
    "note_read": (Sample(thing="note", body=_NOTE),),
    "note_list": (Sample(body={}),),
    "note_history": (Sample(thing="note", body=_NOTE),),
    "note_delete": (Sample(thing="note", body=_NOTE),),
    "search": (Sample(body={"text": MARK}),),
    "lock_acquire": (Sample(body={"globs": ["{new}"], "ttl_ms": 60_000}),),
    "lock_release": (
        Sample(thing="lock", body={"lock": "{id}"}, owner=SUE, others="not_allowed"),
        Sample(thing="lock", body={"lock": "{id}", "force": True}, owner=SUE,
               guard=Action.LOCK_BREAK),
    ),
    "lock_list": (Sample(body={}),),
    "ask_put": (Sample(body={"question": MARK, "to": SUE}, named=True),),
    "ask_show": (Sample(thing="ask", owner=SUE, body={"ask": "{id}"}),),
    "ask_list": (Sample(body={}),),
    "ask_answer": (Sample(thing="ask", owner=SUE, body={"ask": "{id}", "answer": "x"}),),
    "ask_withdraw": (
        Sample(thing="ask", owner=PAT, body={"ask": "{id}"}, others="not_found"),
    ),
    "whoami": (Sample(body={}),),
    "presence_list": (Sample(body={}),),
}  # fmt: skip

_NAMED: Final = {"task": "{id}"}
_HELD: Final = {**_NAMED, "fence": "1.1"}
TOOLS: Final[Mapping[str, tuple[Sample, ...]]] = {
    "task_submit": (Sample(body={"title": "t", "prompt": "p", "needs": ["never"]}),),
    "task_show": (Sample(thing=TASK, body=_NAMED),),
    "task_list": (Sample(body={}),),
    "task_results": (Sample(thing=TASK, body=_NAMED),),
    "task_why": (Sample(thing=TASK, body=_NAMED),),
    "task_cancel": (Sample(thing=TASK, owner=SUE, body=_NAMED),),
    "task_retry": (Sample(thing=TASK, owner=SUE, body=_NAMED),),
    "task_progress": (Sample(body={"text": "x"}),),
    "task_take": (Sample(body={}, said="only an external agent"),),
    "task_renew": (Sample(thing=TASK, body=_HELD, said="only an external agent"),),
    "task_finish": (
        Sample(thing=TASK, body={**_HELD, "done": True, "summary": "x"},
               said="only an external agent"),
    ),
}  # fmt: skip

_KEY: Final = {"key": "{new}"}
_FENCED: Final = {"task": "{id}", "fence": [1, 1]}
_MACHINES: Final[Mapping[str, Any]] = {
    "machine": {"agents": []},
    "heartbeat": {"n": 1, "session": 1, "held": []},
    "accept": _FENCED,
    "decline": {**_FENCED, "reason": "x"},
    "progress": _FENCED,
    "checkpoint": {**_FENCED, "commit": "a" * 40},
    "finish": {**_FENCED, "result": {"status": "done"}},
    "stopped": _FENCED,
    "landed": {**_FENCED, "landing": {"status": "landed", "commit": "a" * 40}},
    "usage": {**_FENCED, "turns": []},
    "mail_taken": {"agent": AGENT, "seqs": []},
    "reviewed": {**_FENCED, "outcome": "merged"},
    "log_part": {"key": "{new}"},
}
FRAMES: Final[Mapping[str, tuple[Sample, ...]]] = {
    "hello": (Sample(body={}, said="hello was said already"),),
    "submit": (Sample(body={**_KEY, "tasks": [{"title": "t", "prompt": "p", "needs": ["no"]}]}),),
    "cancel": (Sample(thing=TASK, owner=SUE, body={**_KEY, "task": "{id}"}),),
    "unsubscribe": (Sample(body={**_KEY, "log": "*"}),),
    **{name: (Sample(thing=TASK, body=body),) for name, body in _MACHINES.items()},
}
LOGS: Final[Mapping[str, tuple[Sample, ...]]] = {
    "mail": (Sample(),),
    "channel/": (
        Sample(thing="channel"),
        Sample(thing="den", owner=SUE, others="not_found"),
    ),
    "presence": (Sample(),),
    "task/": (Sample(thing=TASK),),
    "*": (Sample(),),
}
