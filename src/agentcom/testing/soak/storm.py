"""Reconnect storms: a whole fleet loses its hub, or its network, at one moment, and comes back.

Thousands of real sessions, some of which hold running attempts. Nothing that its holder still
runs may be issued again; when the holders finish, each result is accepted once.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agentcom.model.event import EventKind
from agentcom.model.limits import LEASE_PARTS, LEASE_TTL_MS
from agentcom.model.task import TaskState
from agentcom.telemetry.metrics import LOOP_LAG_SECONDS
from agentcom.testing.hub_process import HubProcess
from agentcom.testing.peers import Peer, more_files, peer
from agentcom.testing.soak.audit import audit
from agentcom.testing.soak.bars import Outcome, Say, bound_of, quantile
from agentcom.testing.soak.fleet import fleet
from agentcom.testing.soak.people import people
from agentcom.testing.soak.probe import Probe

BACK_S: Final = 60.0
"""All must be back within this."""
LAG_S: Final = LEASE_TTL_MS / LEASE_PARTS / 1_000
"""The event loop is never later than one heartbeat, so no lease suffers; on a free computer it is a
tenth of a second."""
DRAIN_S: Final = 10.0
GIVE_UP_S: Final = 180.0
_LOOK_S: Final = 0.5
_SPARE_FILES: Final = 256
_KIB: Final = 1_024
_MIB: Final = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large a storm."""

    machines: int = 5_000
    held: int = 2_000
    drain: bool = True
    """Whether the hub is also restarted in good order."""
    roll_s: float = 30.0
    """How long the rolling storm goes on."""
    roll_share: float = 0.01
    roll_every_s: float = 0.25
    submits_per_s: float = 100.0


def run(plan: Plan, say: Say) -> Outcome:
    """Bring the fleet in, then break it in several ways; return what was found."""
    more_files(plan.machines + _SPARE_FILES)
    outcome = Outcome("storm")
    with HubProcess() as hub:
        empty = hub.cost().private_bytes
        say(f"enrolling {plan.machines:,} machines")
        tokens = hub.machines(plan.machines)
        with (
            peer(fleet, hub.url, tokens) as far,
            peer(people, hub.url, hub.user("ada")) as crowd,
            Probe(hub) as probe,
        ):
            _Storm(plan, say, outcome, hub, far, crowd).run(empty)
            tasks = crowd.ask(("tasks",))
            crowd.tell(None)
            far.tell(None)
        outcome.at_most("longest wait for a small answer", max(probe.waits_s), LAG_S, "s")
        outcome.figures |= {
            "small_answers": len(probe.waits_s),
            "hub_had_no_core_for_s": round(probe.starved_s, 1),
            "small_answer_p99_ms": round(quantile(probe.waits_s, 0.99) * 1_000, 1),
            "hub_mib_resident_most": round(max(probe.resident) / _MIB, 1),
        }
        say("reading the store")
        outcome.exactly("hub ends in good order", hub.stop(), 0)
        _judge_store(outcome, hub, tasks)
    return outcome


class _Storm:
    """One fleet and its storms."""

    def __init__(
        self, plan: Plan, say: Say, outcome: Outcome, hub: HubProcess, far: Peer, crowd: Peer
    ) -> None:
        self._plan = plan
        self._say = say
        self._outcome = outcome
        self._hub = hub
        self._far = far
        self._crowd = crowd

    def run(self, empty_bytes: int) -> None:
        plan, hub, figures = self._plan, self._hub, self._outcome.figures
        began = time.monotonic()
        came = self._far.ask(("open",), GIVE_UP_S)
        took_s = time.monotonic() - began
        self._outcome.exactly("machines that came in", came, plan.machines)
        self._crowd.ask(("submit", "hold", plan.held))
        self._until(lambda seen: seen["held"] == plan.held)
        full = hub.cost().private_bytes
        figures |= {
            "machines": plan.machines,
            "attempts_held": plan.held,
            "opened_per_s": round(plan.machines / took_s),
            "hub_mib_connected": round(full / _MIB, 1),
            "hub_kib_per_machine": round((full - empty_bytes) / plan.machines / _KIB, 1),
        }
        self._say(f"{came:,} in after {took_s:.0f} s, {plan.held:,} attempts held")
        self._kill()
        self._cut()
        self._drain()
        self._roll()
        finished = self._far.ask(("finish",), GIVE_UP_S)
        accepted, twice = self._crowd.ask(("settle",), GIVE_UP_S)
        seen = self._far.ask(("look",))
        self._outcome.exactly("held attempts that were finished in the end", finished, plan.held)
        self._outcome.exactly("tasks that were heard to end twice", twice, 0)
        self._outcome.exactly("issued again while held", seen["issued_again"], 0)
        self._outcome.exactly("orders to stop a stale attempt", seen["stale"], 0)
        self._outcome.exactly("results that were not applied", seen["not_applied"], 0)
        self._outcome.none("machines refused for good", seen["refused"])
        self._outcome.counts = (
            f"{plan.machines:,} machines, {seen['dials']:,} dials, {accepted:,} tasks"
        )
        figures |= {
            "tasks": accepted,
            "assignments": seen["assignments"],
            "acknowledged": seen["acknowledged"],
            "dials": seen["dials"],
            "connections_lost": {str(code): n for code, n in seen["lost"].items()},
        }

    def _kill(self) -> None:
        """The hub dies, and starts again on the same store."""
        hub = self._hub
        before = hub.histogram(LOOP_LAG_SECONDS)
        self._judge_lag("connecting", before, {})
        began = time.monotonic()
        hub.kill()
        hub.restart()
        ready_s = time.monotonic() - began
        self._back("hub killed", began)
        self._outcome.at_most("hub killed: hub ready again", ready_s, BACK_S, "s")
        self._judge_lag("hub killed", hub.histogram(LOOP_LAG_SECONDS), {})
        self._outcome.figures["hub_mib_after_kill"] = round(hub.cost().private_bytes / _MIB, 1)

    def _cut(self) -> None:
        """The network fails for all at one moment; the hub stays up."""
        before = self._hub.histogram(LOOP_LAG_SECONDS)
        began = self._far.ask(("cut", 1.0))
        self._back("network cut", began)
        self._judge_lag("network cut", self._hub.histogram(LOOP_LAG_SECONDS), before)
        self._outcome.figures["hub_mib_after_cut"] = round(self._hub.cost().private_bytes / _MIB, 1)

    def _drain(self) -> None:
        """The hub is restarted in good order, and has told each machine when to come back."""
        if not self._plan.drain:
            return
        began = time.monotonic()
        code = self._hub.stop()
        took_s = time.monotonic() - began
        self._outcome.exactly("hub restarted: exit code", code, 0)
        self._outcome.at_most("hub restarted: it ends within", took_s, DRAIN_S, "s")
        self._hub.restart()
        self._back("hub restarted", began)
        self._judge_lag("hub restarted", self._hub.histogram(LOOP_LAG_SECONDS), {})

    def _roll(self) -> None:
        """Some connections break all the time, while people submit."""
        plan = self._plan
        if not plan.roll_s:
            return
        before = self._hub.histogram(LOOP_LAG_SECONDS)
        self._say(f"rolling storm, {plan.submits_per_s:.0f} submits/s meanwhile")
        self._far.ask(("roll", plan.roll_share, plan.roll_every_s, plan.roll_s))
        times = self._crowd.ask(("pace", plan.submits_per_s, plan.roll_s), GIVE_UP_S)
        self._back("rolling", 0.0)
        self._judge_lag("rolling", self._hub.histogram(LOOP_LAG_SECONDS), before)
        self._outcome.figures |= {
            "rolling_tasks": len(times),
            "rolling_cuts_per_s": round(plan.machines * plan.roll_share / plan.roll_every_s),
            "rolling_end_p50_ms": round(quantile(times, 0.5) * 1_000, 1),
            "rolling_end_p99_ms": round(quantile(times, 0.99) * 1_000, 1),
        }

    def _back(self, what: str, began: float) -> None:
        """Wait until all have a session that began after a moment."""
        plan = self._plan

        def all_back(seen: dict[str, Any]) -> bool:
            back = sum(at >= began for at in seen["welcomed_at"])
            self._say(f"{what}: {back:,} of {plan.machines:,} back, {seen['dials']:,} dials")
            return bool(back == plan.machines)

        seen = self._until(all_back)
        times = [at - began for at in seen["welcomed_at"] if at >= began] or [GIVE_UP_S]
        self._outcome.exactly(f"{what}: machines back", len(times), plan.machines)
        running = self._hub.status()["tasks"].get(TaskState.RUNNING, 0)
        self._outcome.exactly(f"{what}: attempts that still run", running, plan.held)
        if not began:
            return  # there was no one moment
        self._outcome.at_most(f"{what}: the last is back after", max(times), BACK_S, "s")
        self._outcome.figures[f"{what}: half are back after, s"] = round(quantile(times, 0.5), 2)
        self._outcome.figures[f"{what}: put off by the hub"] = seen["put_off"]

    def _judge_lag(self, what: str, after: dict[float, int], before: dict[float, int]) -> None:
        since = {bound: count - before.get(bound, 0) for bound, count in after.items()}
        self._outcome.at_most(f"{what}: event loop late by", bound_of(since), LAG_S, "s")

    def _until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            seen: dict[str, Any] = self._far.ask(("look",))
            if holds(seen) or time.monotonic() > deadline:
                return seen
            time.sleep(_LOOK_S)


def _judge_store(outcome: Outcome, hub: HubProcess, tasks: list[Any]) -> None:
    found = asyncio.run(audit(hub.home, tasks))
    outcome.none("every accepted task ended once, by the rows", found.problems)
    outcome.exactly("attempts beyond the first, by the rows", found.again, 0)
    outcome.exactly("given back, by the log", found.events[EventKind.RETURNED], 0)
    outcome.exactly("completed, by the rows", found.states[TaskState.COMPLETED], len(tasks))
