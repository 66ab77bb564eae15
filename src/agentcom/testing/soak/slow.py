"""Slow consumers: who stops reading is let go, comes back without a gap, and disturbs nobody.

Followers over sockets and event streams, and a machine, stop reading while tens of thousands of
records are published. Rounds without them and with them take turns, so that the time from submit
to end of the others can be compared.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Final

from agentcom.app import STORE_FILE
from agentcom.model.event import task_log
from agentcom.model.ids import TaskId
from agentcom.store.sqlite import SqliteStore
from agentcom.telemetry import events
from agentcom.testing.hub_process import HubProcess, resident_bytes
from agentcom.testing.peers import Peer, more_files, peer
from agentcom.testing.soak.audit import audit
from agentcom.testing.soak.bars import Outcome, Say, quantile
from agentcom.testing.soak.fleet import fleet
from agentcom.testing.soak.people import people
from agentcom.testing.soak.probe import Probe
from agentcom.testing.soak.readers import readers
from agentcom.transport.socket import CLOSE_SLOW, PortLimits

QUEUED_BYTES: Final = PortLimits().send_bytes_max
"""No socket may have more than this on its way."""
RATIO: Final = 1.5
"""The median of the others' times, with slow consumers to without."""
TAIL_RATIO: Final = 2.0
CPU_RATIO: Final = 1.5
"""The hub's CPU in rounds with slow consumers, to rounds without."""
STARVED: Final = 0.2
"""If the hub had no core for more of the time, other programs decide the others' times."""
NOISE_MS: Final = 25.0
"""A time may grow by its ratio or by this: below it, it is the computer's noise."""
PATIENCE_S: Final = 180.0
WORK: Final = "work"
SLOW: Final = "slow"
SLOW_TTL_MS: Final = 8_000
"""The slow machine's lease: two beats without an answer, and it knows that the line is dead."""
_MIB: Final = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many, for how long."""

    sockets: int = 8
    streams: int = 4
    rounds: int = 4
    round_s: float = 20.0
    tasks_per_s: float = 300.0
    checkpoints_per_s: float = 1_500.0
    slow_tasks: int = 400
    slow_prompt_bytes: int = 20_000
    """400 assignments of 20 KB are twice what a socket may queue."""
    lets_go: bool = True
    """False: so little is published that nobody need be let go."""


def run(plan: Plan, say: Say) -> Outcome:
    """Take turns with and without slow consumers; return what was found."""
    more_files()
    outcome = Outcome("slow")
    with HubProcess() as hub:
        ada, bob = hub.user("ada"), hub.user("bob")
        workers = [hub.machine(f"w{number}") for number in range(2)]
        with (
            peer(fleet, hub.url, workers, agents=8, slots=2, capabilities=(WORK,)) as far,
            peer(
                fleet, hub.url, [hub.machine("s")], agents=16, slots=25, name="s",
                capabilities=(SLOW,), ttl_ms=SLOW_TTL_MS,
            ) as hung,
            peer(people, hub.url, ada) as crowd,
            peer(readers, hub.url, bob) as slow,
        ):  # fmt: skip
            parts = _Slow(plan, say, outcome, hub, far, hung, crowd, slow)
            parts.run()
            tasks, watched, shown = crowd.ask(("tasks",)), parts.watched, slow.ask(("look",))
            for one in (far, hung, crowd, slow):
                one.tell(None)
        say("reading the store")
        outcome.exactly("hub ends in good order", hub.stop(), 0)
        _judge(plan, outcome, hub, shown, watched)
        found = asyncio.run(audit(hub.home, tasks))
        outcome.none("every accepted task ended once, by the rows", found.problems)
        outcome.exactly("attempts beyond the first, by the rows", found.again, 0)
        outcome.counts = f"{found.tasks:,} tasks, {found.records:,} records"
    return outcome


@dataclass(slots=True)
class Rounds:
    """What rounds of one kind took."""

    times_s: list[float] = field(default_factory=list)
    """From submit to end, of each task."""
    cpu_s: float = 0.0
    grown: list[int] = field(default_factory=list)
    starved: list[float] = field(default_factory=list)
    """The share of each round in which the hub wanted a core and had none."""
    longest_s: float = 0.0

    def quantile_ms(self, part: float) -> float:
        """Return the time that a part of all tasks did not exceed."""
        return quantile(self.times_s, part) * 1_000

    def __str__(self) -> str:
        """Say it in a line."""
        return f"p50 {self.quantile_ms(0.5):.1f} ms, p99 {self.quantile_ms(0.99):.1f} ms"


class _Slow:
    """One hub with its quick and its slow consumers."""

    def __init__(
        self,
        plan: Plan,
        say: Say,
        outcome: Outcome,
        hub: HubProcess,
        far: Peer,
        hung: Peer,
        crowd: Peer,
        slow: Peer,
    ) -> None:
        self._plan = plan
        self._say = say
        self._outcome = outcome
        self._hub = hub
        self._far = far
        self._hung = hung
        self._crowd = crowd
        self._slow = slow
        self.watched = TaskId("")
        """The task whose feed the event streams follow."""

    def run(self) -> None:
        plan = self._plan
        self._far.ask(("open",))
        self._hung.ask(("open",))
        (self.watched,) = self._crowd.ask(("submit", "hold", 1, (WORK,)))
        self._slow.ask(("make", plan.sockets, plan.streams, self.watched))
        self._crowd.ask(("pace", 50.0, 2.0, (WORK,)))  # warm
        without, beside = Rounds(), Rounds()
        for number in range(plan.rounds):
            self._round(without)
            self._say(f"round {number + 1} of {plan.rounds}: {without} without slow ones")
            self._stalled(beside)
            self._say(f"round {number + 1} of {plan.rounds}: {beside} with slow ones")
        self._far.ask(("finish",))
        self._crowd.ask(("settle",), PATIENCE_S)
        self._judge_others(without, beside)
        self._judge(without, beside)

    def _round(self, rounds: "Rounds") -> None:
        """Publish for a while, and add what it took."""
        plan, hub = self._plan, self._hub
        before, cpu_s = resident_bytes(hub.pid), hub.cpu_s()
        with Probe(hub) as probe:
            self._crowd.ask(("submit", "work", plan.slow_tasks, (SLOW,), plan.slow_prompt_bytes))
            self._far.ask(("checkpoints", plan.checkpoints_per_s, plan.round_s))
            pace = ("pace", plan.tasks_per_s, plan.round_s, (WORK,))
            rounds.times_s += self._crowd.ask(pace, PATIENCE_S)
        rounds.cpu_s += hub.cpu_s() - cpu_s
        rounds.grown.append(max(probe.resident) - before)
        rounds.starved.append(probe.starved_s / plan.round_s)
        rounds.longest_s = max(rounds.longest_s, *probe.waits_s)

    def _stalled(self, rounds: "Rounds") -> None:
        """The same while many do not read; then they read on, and must get everything."""
        self._slow.ask(("come",))
        self._slow.ask(("reach", *self._newest()), PATIENCE_S)
        self._slow.ask(("stall",))
        self._hung.ask(("pause",))
        self._round(rounds)
        self._hung.ask(("resume",))
        self._slow.ask(("resume",))
        self._crowd.ask(("settle", 1), PATIENCE_S)
        self._slow.ask(("reach", *self._newest()), PATIENCE_S)
        self._slow.ask(("leave",))

    def _newest(self) -> tuple[int, int]:
        """Return the newest sequence of all logs, and of the watched task's, as people see them."""
        newest: tuple[int, int] = self._crowd.ask(("newest", self.watched))
        return newest

    def _judge_others(self, without: "Rounds", beside: "Rounds") -> None:
        outcome = self._outcome
        starved = max(*without.starved, *beside.starved)
        for name, part, allowed in (("median", 0.5, RATIO), ("99th percentile", 0.99, TAIL_RATIO)):
            plain, now = without.quantile_ms(part), beside.quantile_ms(part)
            limit = max(allowed * plain, plain + NOISE_MS)
            outcome.figures[f"{name}, with slow ones to without"] = round(now / plain, 2)
            if starved <= STARVED:
                outcome.at_most(f"others, {name} with slow ones", now, round(limit, 1), "ms")
        outcome.at_most(
            "hub's CPU, with slow ones to without", beside.cpu_s / without.cpu_s, CPU_RATIO
        )
        outcome.figures |= {
            "without": str(without),
            "with": str(beside),
            "hub_had_no_core_for": f"{starved:.0%} of the worst round",
            "small_answer_most_ms": round(beside.longest_s * 1_000, 1),
        }

    def _judge(self, without: "Rounds", beside: "Rounds") -> None:
        plan, outcome = self._plan, self._outcome
        consumers = plan.sockets + plan.streams + 1
        # Caches of the hub grow in both; only what came with the slow ones is theirs.
        more = [b - max(0, a) for a, b in zip(without.grown, beside.grown, strict=True)]
        most = max(more) / consumers / _MIB
        bound = QUEUED_BYTES / _MIB
        outcome.at_most("memory that the hub grew by, for each slow one", most, bound, "MiB")
        hung = self._hung.ask(("look",))
        lost = sum(hung["lost"].values())
        wanted = plan.rounds if plan.lets_go else 0
        outcome.at_least("slow machine: connections that ended", lost, wanted)
        outcome.exactly("slow machine: issued again", hung["issued_again"], 0)
        outcome.figures |= {
            "slow_consumers": consumers,
            "hub_grew_mib": [round(one / _MIB, 1) for one in more],
            "machine_lost": {str(code): n for code, n in hung["lost"].items()},
        }


def _judge(
    plan: Plan, outcome: Outcome, hub: HubProcess, shown: list[dict[str, Any]], watched: TaskId
) -> None:
    """Hold what the slow ones have read against the hub's log and its store."""
    all_seqs, task_seqs = asyncio.run(_sequences(hub, watched))
    sockets = [one for one in shown if one["kind"] == "socket"]
    streams = [one for one in shown if one["kind"] == "stream"]
    gaps = [f"{one['taken']} of {one['last']}" for one in sockets if one["taken"] != one["last"]]
    behind = sum(seq > min(one["last"] for one in sockets) for seq in all_seqs)
    outcome.none("sockets: sequences missed", gaps)
    wrong = [
        f"{one['taken']} of {len(read)}"
        for one in streams
        if one["taken"] != len(read := [seq for seq in task_seqs if seq <= one["last"]])
    ]
    outcome.none("event streams: sequences missed", wrong)
    closed = _closed_as_slow(hub)
    again = min(one["begun"] for one in streams)
    if plan.lets_go:
        wanted = plan.sockets * plan.rounds
        outcome.at_least(f"sockets closed with {CLOSE_SLOW}, by the hub's log", closed, wanted)
        outcome.at_least("event streams: begun, each", again, 2 * plan.rounds)
    outcome.figures |= {
        "published_records": len(all_seqs),
        "published_after_the_last_read": behind,
        "records_of_the_watched_task": len(task_seqs),
        "closed_as_slow": closed,
        "repeated": sum(one["repeated"] for one in shown),
        "close_codes_seen": sorted({str(code) for one in sockets for code in one["codes"]}),
    }


async def _sequences(hub: HubProcess, task: TaskId) -> tuple[list[int], list[int]]:
    store = SqliteStore(hub.home / STORE_FILE)
    await store.open()
    try:
        everything = await store.read(None, 0, 1 << 30)
        own = await store.read(task_log(task), 0, 1 << 30)
        return [record.seq for record in everything], [record.seq for record in own]
    finally:
        await store.close()


def _closed_as_slow(hub: HubProcess) -> int:
    lines = [json.loads(line) for line in hub.log.read_bytes().splitlines() if line[:1] == b"{"]
    return sum(
        line.get("event") == events.CONNECTION_CLOSED and line.get("code") == CLOSE_SLOW
        for line in lines
    )
