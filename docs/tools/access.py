"""Generated blocks about who gets what behind each door; all of it comes from the one table.

`LINES` has every route, frame, call and tool with what guards it. `tests/transport/test_access.py`
asks a real hub for each, as everyone, and compares the answers with `verdict`.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, get_args

from agentcom.hub.limits_guard import (
    ALL_PER_ADDRESS,
    FAILURES_PER_ADDRESS,
    FAILURES_PER_KEY,
    OPEN_PER_ADDRESS,
    RATES,
)
from agentcom.model import policy
from agentcom.model.errors import AgentComError
from agentcom.model.identity import Identity, Role, Scope
from agentcom.model.ids import MachineId, ProjectId, UserId
from agentcom.model.policy import Action, Reach
from agentcom.model.rates import Rate
from agentcom.protocol import frames
from agentcom.protocol.call_table import RULES
from agentcom.protocol.calls import name_of
from agentcom.transport import ws_client, ws_machine
from agentcom.transport.http import endpoints
from agentcom.transport.http_call import Gate
from agentcom.transport.http_mcp_tools import TOOLS
from agentcom.transport.ws_following import FOLLOWED
from docs.tools.blocks import code, table

ELSEWHERE: Final = ProjectId("elsewhere")
_OWN: Final = UserId("own")
_OTHER: Final = UserId("other")
_CALLS: Final = "/api/v1/calls/"


class Door(StrEnum):
    """Where someone comes in."""

    HTTP = "HTTP"
    FRAME = "WebSocket frame"
    LOG = "WebSocket, followed log"
    CALL = "call"
    TOOL = "MCP tool"


class Line(NamedTuple):
    """One thing that can be asked for."""

    door: Door
    name: str
    access: Action | Gate
    at_work: bool = False
    """An agent may, too, for the task that it works on."""

    @property
    def names(self) -> bool:
        """Whether its address names one thing."""
        return "{" in self.name


def lines() -> Iterator[Line]:
    """Yield all of them."""
    for endpoint in endpoints():
        if not endpoint.path.startswith(_CALLS):
            yield Line(Door.HTTP, f"{endpoint.method} {endpoint.path}", endpoint.access)
    yield from _frames()
    for log, action in FOLLOWED.items():
        yield Line(Door.LOG, log, action)
    for kind, rule in RULES.items():
        yield Line(Door.CALL, name_of(kind), rule.action)
    calls = {name_of(kind) for kind in RULES}
    for tool in TOOLS:
        if tool.name not in calls:
            yield Line(Door.TOOL, tool.name, tool.access, tool.at_work)


def _frames() -> Iterator[Line]:
    clients = get_args(frames.FromClient)
    for frame in clients:
        if frame not in (frames.CallFrame, frames.Subscribe):  # they have tables of their own
            access = ws_client.ACCESS.get(frame, Gate.SIGNED_IN)
            yield Line(Door.FRAME, _tag(frame), access)
    for frame in get_args(frames.FromMachine):
        if frame not in clients:
            yield Line(Door.FRAME, _tag(frame), ws_machine.ACCESS)


def verdict(
    line: Line,
    who: Identity | None,
    *,
    owner: UserId | None = None,
    project: ProjectId | None = None,
) -> str:
    """Return what someone is answered: `yes`, or the code of the refusal.

    `owner` and `project` are those of the thing that is meant; by default one's own.
    """
    if line.access is Gate.OPEN:
        return "yes"
    if who is None:
        return "not_authenticated"
    if line.access is Gate.SIGNED_IN or (line.at_work and who.role is Role.AGENT):
        return "yes"
    try:
        policy.authorize(who, Action(line.access), owner=owner or who.user, project=project)
    except AgentComError as error:
        return error.code
    return "yes"


# Blocks -------------------------------------------------------------------------------------------

_COLUMNS: Final[Mapping[str, Identity]] = MappingProxyType(
    {
        role.value: Identity(
            role=role,
            user=_OWN,
            credential="",
            machine=MachineId("m") if role is Role.AGENT else None,
        )
        for role in (Role.VIEWER, Role.SUBMITTER, Role.OPERATOR, Role.ADMIN, Role.AGENT)
    }
)
_FOREIGN: Final = Identity(role=Role.ADMIN, user=_OWN, credential="", project=ELSEWHERE)


def matrix() -> str:
    """Return who is answered what, for each door."""
    parts = []
    for door in Door:
        rows = [_row(line) for line in lines() if line.door is door]
        heads = [door.value, *_COLUMNS, "no token", "another project"]
        parts.append(table(heads, rows))
    return "\n\n".join(parts)


def _row(line: Line) -> Sequence[str]:
    cells = [_cell(line, who) for who in _COLUMNS.values()]
    return [code(line.name), *cells, _said(verdict(line, None)), _foreign(line)]


def _cell(line: Line, who: Identity) -> str:
    own, other = verdict(line, who), verdict(line, who, owner=_OTHER)
    if own == "yes" and line.at_work and who.role is Role.AGENT:
        return "at work"
    return "own" if (own, other) == ("yes", "not_found") else _said(own)


def _foreign(line: Line) -> str:
    """Return what an admin of another project is answered about things of this one."""
    said = verdict(line, _FOREIGN)
    if said != "yes" or isinstance(line.access, Gate):
        return _said(said)
    return code("not_found") if line.names else "of its own"


def _said(answer: str) -> str:
    return answer if answer == "yes" else code(answer)


def scopes() -> str:
    """Return what each scope lets through."""
    rows = []
    for action in Action:
        cells = []
        for scope in Scope:
            who = Identity(role=Role.ADMIN, user=_OWN, credential="", scopes=(scope,))
            cells.append("" if policy.reach(who, action) is Reach.NONE else "yes")
        if any(cells):
            rows.append([code(action.value), *cells])
    return table(["action", *(scope.value for scope in Scope)], rows)


def costs() -> str:
    """Return what weighs more than a plain read."""
    rows = [
        (code(f"{one.method} {one.path}"), one.traffic.value, one.cost)
        for one in endpoints()
        if one.cost > 1 and one.traffic is not None
    ]
    rows += [
        (code(f"call {name_of(kind)}"), "talk", rule.cost)
        for kind, rule in RULES.items()
        if rule.cost > 1
    ]
    return table(["request", "budget", "cost"], rows)


def budgets() -> str:
    """Return how much each identity and each address may ask for."""
    rows = [(kind.value, "an identity", *_rate(rate)) for kind, rate in RATES.items()]
    rows.append(("without a token", "an address", *_rate(OPEN_PER_ADDRESS)))
    rows.append(("HTTP, with good tokens", "an address", *_rate(ALL_PER_ADDRESS)))
    rows.append(("wrong tokens", "an address", *_rate(FAILURES_PER_ADDRESS)))
    rows.append(("wrong secrets", "a token's id", *_rate(FAILURES_PER_KEY)))
    return table(["budget", "of", "units", "every", "at once"], rows)


def _rate(rate: Rate) -> tuple[int, str, int]:
    return rate.units, f"{rate.per_ms // 1_000} s", rate.burst


def _tag(frame: type[frames.Frame]) -> str:
    return str(frame.__struct_config__.tag)
