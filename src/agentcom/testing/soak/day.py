"""A day of production traffic against one hub, as fast as it goes.

The day has quarters of an hour with a curve of arrivals; some bring bursts. Tasks succeed, slip,
fail, take long, wait for others, and are cancelled; machines and followers come and go. At its end
everything that was accepted has ended once, and the hub's memory is what it was.
"""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentcom.app import STORE_FILE
from agentcom.model.event import EventKind
from agentcom.telemetry.metrics import LOOP_LAG_SECONDS
from agentcom.testing.hub_process import HubProcess
from agentcom.testing.peers import Peer, more_files, peer
from agentcom.testing.soak.audit import Findings, audit
from agentcom.testing.soak.bars import Outcome, Say, bound_of, quantile, slope
from agentcom.testing.soak.fleet import fleet
from agentcom.testing.soak.people import people
from agentcom.testing.soak.probe import Probe
from agentcom.testing.soak.readers import readers
from agentcom.testing.soak.storm import LAG_S

QUARTERS: Final = 96
LAG_P99_S: Final = 0.2
GROWTH_BYTES: Final = 64.0
"""What the hub's memory may grow by with each task that has ended, once the caches of requests are
full: a tenth of what keeping a task's row would cost. That no object stays is shown by a test."""
COLD_GROWTH_BYTES: Final = 1_000.0
"""The same in a day that is too short to fill them: `RECENT_KEYS` requests are remembered."""
DISK_BYTES: Final = 4_096
"""What a task may take on disk, with its records, body and result: nothing of it is pruned."""
DISK_RATIO: Final = 1.25
"""Disk for each task in the last third of the day, to the first third."""
PATIENCE_S: Final = 600.0
SHARES: Final = (
    ("work", 0.82),
    ("chain", 0.04),
    ("slip", 0.03),
    ("fail", 0.02),
    ("long", 0.05),
    ("stay", 0.04),
)
"""What becomes of tasks: of all that arrive, how many of each kind."""
BURST_EVERY: Final = 12
BURST: Final = 0.5
"""Of a burst's quarter this share comes in bulk, at one moment."""
LONG_AWAY: Final = (5, 21, 37, 53)
"""Quarters in which machines go away for longer than their lease."""
_MIB: Final = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of a day."""

    tasks: int = 400_000
    machines: int = 50
    seed: int = 1
    growth_bytes: float = GROWTH_BYTES
    long_away_s: float = 30.0
    """Longer than a lease: what these machines held is given to others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The hub after a quarter of an hour."""

    tasks: int
    private_bytes: int
    disk_bytes: int


def run(plan: Plan, say: Say) -> Outcome:
    """Live through a day; return what was found."""
    more_files()
    outcome = Outcome("day")
    with HubProcess() as hub:
        tokens = hub.machines(plan.machines)
        with (
            peer(fleet, hub.url, tokens, agents=2, slots=2) as far,
            peer(people, hub.url, hub.user("ada")) as crowd,
            peer(readers, hub.url, hub.user("bob")) as slow,
            Probe(hub) as probe,
        ):
            day = _Day(plan, say, outcome, hub, far, crowd, slow)
            day.run()
            accepted = crowd.ask(("tasks",))
            for one in (far, crowd, slow):
                one.tell(None)
        waits = probe.waits_s
        outcome.figures |= {
            "small_answer_p99_ms": round(quantile(waits, 0.99) * 1_000, 1),
            "small_answer_most_ms": round(max(waits) * 1_000, 1),
            "hub_had_no_core_for_s": round(probe.starved_s, 1),
        }
        outcome.at_most("small answers, 99th percentile", quantile(waits, 0.99), LAG_P99_S, "s")
        outcome.at_most("small answers, longest", max(waits), LAG_S, "s")
        say("reading the store")
        outcome.exactly("hub ends in good order", hub.stop(), 0)
        found = asyncio.run(audit(hub.home, accepted))
        _judge_store(outcome, found)
    return outcome


class _Day:
    """One hub and its day."""

    def __init__(
        self,
        plan: Plan,
        say: Say,
        outcome: Outcome,
        hub: HubProcess,
        far: Peer,
        crowd: Peer,
        slow: Peer,
    ) -> None:
        self._plan = plan
        self._say = say
        self._outcome = outcome
        self._hub = hub
        self._far = far
        self._crowd = crowd
        self._slow = slow
        self._rng = random.Random(plan.seed)  # noqa: S311 - a seed repeats it
        self._samples: list[Sample] = []
        self._asked = 0
        self._arrived = 0
        self._brought: Counter[str] = Counter()
        """Of each kind, over the whole day: what one quarter rounds away, a later one brings."""

    def run(self) -> None:
        self._far.ask(("open",))
        self._slow.ask(("make", 1, 0, ""))
        began = time.monotonic()
        for number, arriving in enumerate(arrivals(self._plan.tasks)):
            self._come_and_go(number)
            accepted = self._crowd.ask(("live", *self._mix(number, arriving)), PATIENCE_S)
            self._note()
            took_s = time.monotonic() - began
            clock = f"{number // 4:02}:{number % 4 * 15:02}"
            self._say(
                f"{clock}  {accepted:,} tasks, {accepted / took_s:,.0f}/s, "
                f"hub {self._samples[-1].private_bytes / _MIB:.0f} MiB"
            )
        accepted, twice = self._crowd.ask(("settle",), PATIENCE_S)
        took_s = time.monotonic() - began
        self._slow.ask(("come",))
        self._slow.ask(("reach", *self._crowd.ask(("newest", ""))), PATIENCE_S)
        self._judge(accepted, twice, took_s)

    def _come_and_go(self, number: int) -> None:
        """Machines lose their line or go away for a while; a follower comes every other hour."""
        self._far.ask(("cut", 0.05))
        if number % 8 == 3:  # noqa: PLR2004 - every two hours
            self._far.ask(("away", 0.06, 2.0))
        if number in LONG_AWAY:
            self._far.ask(("away", 0.04, self._plan.long_away_s))
        if number % 4 == 0:
            self._slow.ask(("come",) if number % 8 else ("leave",))

    def _mix(self, number: int, arriving: int) -> tuple[dict[str, int], int]:
        """Return how many tasks of each kind a quarter brings, and how many of them in bulk."""
        self._arrived += arriving
        counts = {
            kind: round(self._arrived * share) - self._brought[kind] for kind, share in SHARES
        }
        self._brought.update(counts)
        bulk = round(arriving * BURST) if number % BURST_EVERY == BURST_EVERY // 2 else 0
        counts["work"] = max(0, counts["work"] - bulk)
        self._asked += sum(counts.values()) + counts["chain"] + bulk  # a chain is two tasks
        return counts, bulk

    def _note(self) -> None:
        ended = sum(self._hub.status()["ended"].values())
        disk = sum(path.stat().st_size for path in self._hub.home.glob(f"{STORE_FILE}*"))
        self._samples.append(Sample(ended, self._hub.cost().private_bytes, disk))

    def _judge(self, accepted: int, twice: int, took_s: float) -> None:
        outcome, samples, hub = self._outcome, self._samples, self._hub
        outcome.exactly("tasks accepted, of those that were asked for", accepted, self._asked)
        outcome.exactly("tasks that were heard to end twice", twice, 0)
        seen, (reader,) = self._far.ask(("look",)), self._slow.ask(("look",))
        outcome.exactly(
            "sequences that a follower missed who came and went",
            reader["last"] - reader["taken"], 0,
        )  # fmt: skip
        outcome.none("machines refused for good", seen["refused"])
        grown = growth(samples)
        outcome.at_most("memory for each ended task", grown, self._plan.growth_bytes, "bytes")
        lag = hub.histogram(LOOP_LAG_SECONDS)
        outcome.at_most("event loop late, 99th percentile", bound_of(lag, 0.99), LAG_P99_S, "s")
        outcome.at_most("event loop late, most", bound_of(lag), LAG_S, "s")
        first, last = disk_per_task(samples)
        outcome.at_most("disk for each task", last, DISK_BYTES, "bytes")
        outcome.at_most("disk for each task, last third to first", last / max(1, first), DISK_RATIO)
        outcome.counts = (
            f"24 h in {took_s:.0f} s, {accepted:,} tasks, {seen['assignments']:,} assignments, "
            f"{reader['last']:,} records"
        )
        outcome.figures |= {
            "tasks": accepted,
            "seconds": round(took_s),
            "tasks_per_s": round(accepted / took_s),
            "hub_cpu_us_per_task": round(hub.cpu_s() / accepted * 1e6),
            "assignments": seen["assignments"],
            "dials": seen["dials"],
            "issued_again": seen["issued_again"],
            "not_applied": seen["not_applied"],
            "hub_mib": [round(one.private_bytes / _MIB, 1) for one in samples[::8]],
            "memory_growth_bytes_per_task": round(grown, 2),
            "disk_mib": round(samples[-1].disk_bytes / _MIB),
            "disk_bytes_per_task": round(last),
        }


def arrivals(tasks: int) -> Sequence[int]:
    """Return how many tasks each quarter of an hour brings: few at night, two humps by day."""
    weights = [
        0.15
        + math.exp(-(((quarter / 4 - 10.5) / 2.2) ** 2))
        + math.exp(-(((quarter / 4 - 15.5) / 2.8) ** 2))
        for quarter in range(QUARTERS)
    ]
    total = sum(weights)
    return [max(1, round(tasks * weight / total)) for weight in weights]


def growth(samples: Sequence[Sample]) -> float:
    """Return by how many bytes the hub's memory grows with each task, after the first third.

    The median slope of all pairs of samples: a burst's peak, given back or kept, is no trend.
    """
    warm = [one for one in samples if one.tasks * 3 >= samples[-1].tasks]
    return slope([(one.tasks, one.private_bytes) for one in warm])


def disk_per_task(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the disk that each task took in the first third of them, and in the last."""
    total = samples[-1].tasks
    first = min(samples, key=lambda one: abs(one.tasks - total / 3))
    middle = min(samples, key=lambda one: abs(one.tasks - total * 2 / 3))
    last = samples[-1]
    begun = (first.disk_bytes - samples[0].disk_bytes) / max(1, first.tasks - samples[0].tasks)
    ended = (last.disk_bytes - middle.disk_bytes) / max(1, last.tasks - middle.tasks)
    return begun, ended


def _judge_store(outcome: Outcome, found: Findings) -> None:
    outcome.none("every accepted task ended once, by the rows", found.problems)
    outcome.figures |= {
        "by_state": {state.value: count for state, count in sorted(found.states.items())},
        "records": found.records,
        "attempts_beyond_the_first": found.again,
        "given_back": found.events[EventKind.RETURNED],
        "resumed": found.events[EventKind.RESUMED],
        "late_results_kept": found.late_results,
    }
