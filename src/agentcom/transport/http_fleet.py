"""Routes of agents and machines: list, show, pause, drain, remove, invite."""

from typing import Any, Final

import msgspec

from agentcom.core import facts
from agentcom.hub.enrolment import CODE_TTL_MS
from agentcom.hub.limits_guard import Traffic
from agentcom.model import limits
from agentcom.model.errors import Conflict
from agentcom.model.ids import WallTime
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.protocol import frames
from agentcom.protocol.asked import MachineInvited, Nothing
from agentcom.protocol.shown import (
    AccountList,
    AgentList,
    AgentShown,
    Invitation,
    MachineList,
    MachineShown,
)
from agentcom.transport.http_call import PREFIX, Call, Endpoint

_AGENTS: Final = f"{PREFIX}/agents"
_ACCOUNTS: Final = f"{PREFIX}/accounts"
_MACHINES: Final = f"{PREFIX}/machines"


class PageAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of a listing to show."""

    cursor: str | None = None
    limit: int = limits.PAGE_MAX


async def _agents(call: Call) -> AgentList:
    asked = call.asked(PageAsked)
    return call.hall.fleet.agents(call.who, cursor=asked.cursor, limit=asked.limit)


async def _agent(call: Call) -> AgentShown:
    return call.hall.fleet.agent(call.who, call.named())


async def _pause(call: Call) -> object:
    agent = call.hall.fleet.find_agent(call.who, call.named())
    return await call.ask(facts.PauseAgent(agent.id, paused=True))


async def _resume(call: Call) -> object:
    agent = call.hall.fleet.find_agent(call.who, call.named())
    return await call.ask(facts.PauseAgent(agent.id, paused=False))


async def _accounts(call: Call) -> AccountList:
    asked = call.asked(PageAsked)
    return call.hall.fleet.accounts(call.who, cursor=asked.cursor, limit=asked.limit)


async def _open_account(call: Call) -> object:
    account = call.hall.fleet.find_account(call.who, call.named())
    return await call.ask(facts.ResumeAccount(account.id))


async def _machines(call: Call) -> MachineList:
    asked = call.asked(PageAsked)
    return call.hall.fleet.machines(call.who, cursor=asked.cursor, limit=asked.limit)


async def _machine(call: Call) -> MachineShown:
    return call.hall.fleet.machine(call.who, call.named())


async def _drain(call: Call) -> object:
    machine = call.hall.fleet.find_machine(call.who, call.named())
    return await call.ask(facts.DrainMachine(machine.id, draining=True))


async def _undrain(call: Call) -> object:
    machine = call.hall.fleet.find_machine(call.who, call.named())
    return await call.ask(facts.DrainMachine(machine.id, draining=False))


async def _restart(call: Call) -> Done:
    """Order it; it is not stored, since a machine that is away starts anew by itself."""
    machine = call.hall.fleet.find_machine(call.who, call.named())
    if not call.hall.bring(machine.id, frames.Drain(retry_after_ms=0, restart=True)):
        raise Conflict(f"machine {machine.name} is not connected")
    await call.hall.audit.done(Action.MACHINE_DRAIN, f"machine:{machine.id}", how="restart")
    return Done("restarts")


async def _remove(call: Call) -> object:
    # The token first: whatever happens in between, a repeat finds the machine and goes on.
    machine = call.hall.fleet.find_machine(call.who, call.named(), removed=call.key is not None)
    await call.hall.credentials.revoke_machine(machine.id)
    return await call.ask(facts.RemoveMachine(machine.id))


async def _invite(call: Call) -> Invitation:
    asked = call.given(MachineInvited)
    ttl_ms = asked.ttl_ms or CODE_TTL_MS
    code = await call.hall.enrolment.invite_machine(
        call.who, ttl_ms=ttl_ms, uses=asked.uses, name=asked.name
    )
    return invitation(call, code, ttl_ms)


def invitation(call: Call, code: str, ttl_ms: int) -> Invitation:
    """Return a code together with what its holder needs to find and to trust this hub."""
    address = call.hall.address()
    pinned = f"{code}@sha256:{address.fingerprint}" if address.fingerprint else code
    return Invitation(
        code=pinned,
        url=address.url,
        join=f"{address.url}#{pinned}",
        expires_at=WallTime(call.now.wall + ttl_ms),
    )


def _read(path: str, action: Action, handler: Any, summary: str, **more: Any) -> Endpoint:
    return Endpoint(
        method="GET", path=path, access=action, handler=handler, summary=summary, **more
    )


def _change(path: str, action: Action, handler: Any, summary: str) -> Endpoint:
    return Endpoint(
        method="POST",
        path=path,
        access=action,
        handler=handler,
        summary=summary,
        body=Nothing,
        body_optional=True,
        reply=Done,
        keyed=True,
        traffic=Traffic.ADMIN,
    )


ENDPOINTS: Final = (
    _read(_AGENTS, Action.AGENT_READ, _agents, "List agents", query=PageAsked, reply=AgentList),
    _read(f"{_AGENTS}/{{id}}", Action.AGENT_READ, _agent, "Show one agent", reply=AgentShown),
    _change(f"{_AGENTS}/{{id}}/pause", Action.AGENT_PAUSE, _pause, "Give an agent no new work"),
    _change(f"{_AGENTS}/{{id}}/resume", Action.AGENT_PAUSE, _resume, "Give an agent work again"),
    _read(
        _ACCOUNTS,
        Action.AGENT_READ,
        _accounts,
        "List the accounts that agents use, and whether they have quota",
        query=PageAsked,
        reply=AccountList,
    ),
    _change(
        f"{_ACCOUNTS}/{{id}}/resume",
        Action.AGENT_PAUSE,
        _open_account,
        "Give the agents of an account work again",
    ),
    _read(
        _MACHINES,
        Action.MACHINE_READ,
        _machines,
        "List machines",
        query=PageAsked,
        reply=MachineList,
    ),
    Endpoint(
        method="POST",
        path=f"{_MACHINES}/invite",
        access=Action.MACHINE_INVITE,
        handler=_invite,
        summary="Make a code by which machines join",
        body=MachineInvited,
        body_optional=True,
        reply=Invitation,
        status=201,
        traffic=Traffic.ADMIN,
    ),
    _read(
        f"{_MACHINES}/{{id}}", Action.MACHINE_READ, _machine, "Show one machine", reply=MachineShown
    ),
    Endpoint(
        method="DELETE",
        path=f"{_MACHINES}/{{id}}",
        access=Action.MACHINE_REMOVE,
        handler=_remove,
        summary="Take a machine out of the fleet, and end its token",
        reply=Done,
        keyed=True,
        traffic=Traffic.ADMIN,
    ),
    _change(
        f"{_MACHINES}/{{id}}/drain", Action.MACHINE_DRAIN, _drain, "Give a machine no new work"
    ),
    _change(
        f"{_MACHINES}/{{id}}/resume", Action.MACHINE_DRAIN, _undrain, "Give a machine work again"
    ),
    _change(
        f"{_MACHINES}/{{id}}/restart",
        Action.MACHINE_DRAIN,
        _restart,
        "Have a machine's process start anew; what it runs goes on",
    ),
)
