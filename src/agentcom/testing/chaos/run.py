"""One run: start a fleet, load it, break it, let it come to rest, and check what was promised."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Final, NamedTuple

from agentcom.model.errors import AgentComError
from agentcom.model.event import EventKind
from agentcom.testing.chaos import beliefs, checks
from agentcom.testing.chaos.faults import AGENT, SILENCE_EVERY, SUPERVISOR, Faults, rows
from agentcom.testing.chaos.fleet import CLIENT, MACHINES, TWIN, Fleet, NotStarted, fleet_in
from agentcom.testing.chaos.lines import LineFault, Lines, lines_to
from agentcom.testing.chaos.load import Load, connected

REST_S: Final = 60.0
"""After the last fault every task ends within this, and every report is acknowledged."""
TELL_EVERY_S: Final = 5.0
PROCESSES: Final = "I22"
_LOOK_AGAIN_S: Final = 0.2
STORE: Final = "hub.sqlite"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do."""

    kills: int
    """Of the hub, of sidecars and of agents, each at least."""
    seed: int
    seconds_max: float
    silence_every: int = SILENCE_EVERY
    git_share: float = 0.06


class Checked(NamedTuple):
    """One invariant: its number in docs/guides/chaos.md, and how often it was looked at."""

    number: str
    name: str
    checks: int
    violations: int


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    seed: int
    problems: list[str] = field(default_factory=list)
    faults: list[tuple[str, int]] = field(default_factory=list)
    figures: list[tuple[str, object]] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    hub_kills: int = 0
    fewest_kills: int = 0
    """Of the hub, of sidecars and of agents, the fewest: less than planned if time was up."""

    def check(self, number: str, invariant: str, problems: Sequence[str], *, checks: int) -> None:
        """Count one invariant's violations among so many checks."""
        self.checked.append(Checked(number, invariant, checks, len(problems)))
        self.problems += problems


async def run(folder: Path, plan: Plan, say: Say) -> Outcome:
    """Run the whole suite once in `folder`; never raises for what it finds."""
    outcome = Outcome(plan.seed)
    with fleet_in(folder) as fleet:
        try:
            await _run(fleet, plan, outcome, say)
        except* NotStarted as group:
            failed = [str(error) for error in group.exceptions]
            outcome.check(PROCESSES, "every process starts again", failed, checks=1)
        except* AgentComError as group:
            refused = [f"an ordinary request was refused: {e}" for e in group.exceptions]
            found = [*refused, *fleet.dead()]
            outcome.check(PROCESSES, "ordinary requests are answered", found, checks=1)
    return outcome


async def _run(fleet: Fleet, plan: Plan, outcome: Outcome, say: Say) -> None:
    began = time.monotonic()
    origin = await asyncio.to_thread(checks.make_origin, fleet.folder)
    fleet.launch_hub()
    await fleet.hub_ready()
    load = Load(random.Random(f"{plan.seed}/load"), origin, git_share=plan.git_share)  # noqa: S311 - a seed repeats it
    between: list[Sequence[str]] = []

    async def inspect() -> None:
        promised = tuple(load.acknowledged)
        found = await checks.inspect(fleet.folder / "hub" / STORE, promised)
        between.append(found.problems)

    async with lines_to(fleet.port) as lines:
        faults = Faults(
            fleet,
            seed=plan.seed,
            kills=plan.kills,
            inspect=inspect,
            lines=lines,
            silence_every=plan.silence_every,
        )
        late = await _live(fleet, load, faults, lines, plan.seconds_max, say)
    rested_ms = fleet.now() - faults.last_at
    tasks, processes = len(load.acknowledged), 1 + len(MACHINES)
    outcome.check("I15", "every task ends within 60 s of the last fault", late, checks=tasks)
    outcome.check(PROCESSES, "no process ends by itself", fleet.dead(), checks=processes)
    bad = await fleet.stop()
    outcome.check(PROCESSES, "the fleet stops in good order", bad, checks=processes)
    outcome.check("I2", "a repeated request has one effect", load.problems, checks=load.repeated)
    damage = [problem for problems in between for problem in problems]
    outcome.check("I8", "the store of a killed hub is whole", damage, checks=len(between))
    found = await checks.inspect(fleet.folder / "hub" / STORE, load.acknowledged)
    outcome.hub_kills, outcome.fewest_kills = faults.hub_kills, faults.fewest_kills
    outcome.faults = list(rows(faults.counts))
    outcome.figures = [("hub start, mean ms", _mean(faults.starts_ms))]
    _judge(fleet, load, origin, outcome, found)
    outcome.figures += [
        ("seconds from the last fault to rest", round(rested_ms / 1_000, 1)),
        ("seconds in all", round(time.monotonic() - began)),
    ]


async def _live(
    fleet: Fleet, load: Load, faults: Faults, lines: Lines, seconds_max: float, say: Say
) -> Sequence[str]:
    """Load the fleet while it is broken, and return what has not come to rest afterwards."""
    async with await connected(lines.url(CLIENT), fleet.token) as client:
        await fleet.enrol(client, lines.url)
        for name in MACHINES:
            fleet.start(name)
        async with asyncio.TaskGroup() as group:
            follower = group.create_task(load.follow(client))
            submitter = group.create_task(load.submit_forever(client))
            teller = group.create_task(_tell(load, faults, say))
            await faults.run(seconds_max=seconds_max)
            submitter.cancel()
            teller.cancel()
            say(f"{_so_far(load, faults)}; coming to rest")
            late = await _rest(fleet, load, faults)
            follower.cancel()
    return late


async def _tell(load: Load, faults: Faults, say: Say) -> None:
    """Say how it goes, until cancelled."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        say(f"{time.monotonic() - began:5.0f} s  {_so_far(load, faults)}")


def _so_far(load: Load, faults: Faults) -> str:
    counts = faults.counts
    lines = sum(counts[kind] for kind in LineFault)
    kills = f"killed: hub {faults.hub_kills}, sidecars {faults.sidecar_kills}"
    killed = f"{kills}, agents {counts[AGENT] + counts[SUPERVISOR]}"
    ended = f"{len(load.acknowledged) - load.open} of {len(load.acknowledged)} tasks ended"
    return f"{killed}; lines hurt: {lines}; {ended}"


async def _rest(fleet: Fleet, load: Load, faults: Faults) -> Sequence[str]:
    """Wait until everything has ended and is acknowledged; return what has not in time."""
    left_s = REST_S - (fleet.now() - faults.last_at) / 1_000
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(left_s):
            await load.all_ended()
            while any(_held(fleet)):  # noqa: ASYNC110 - other processes empty these folders
                await asyncio.sleep(_LOOK_AGAIN_S)
    open_tasks = [task for task in load.acknowledged if task not in load.ended]
    return [f"no end of task {task} was heard in time" for task in open_tasks]


def _held(fleet: Fleet) -> Sequence[Path]:
    return [path for name in MACHINES for path in fleet.home(name).outbox.glob("held/*.json")]


def _judge(
    fleet: Fleet, load: Load, origin: Path, outcome: Outcome, found: checks.Findings
) -> None:
    believed: list[beliefs.Belief] = []
    finished: list[beliefs.Finished] = []
    for name in MACHINES:
        mine, done = beliefs.read(name, fleet.lease_log(name), fleet.died)
        # What a twin finishes is gone with its computer; what it believes counts.
        twins, _ = beliefs.read(name, fleet.lease_log(f"{name}{TWIN}"), fleet.died)
        believed += [*mine, *twins]
        finished += done
    check, tasks = outcome.check, len(found.tasks)
    lost = [problem for problem in found.problems if "acknowledged" in problem]
    check("I1", "no acknowledged task is lost", lost, checks=len(load.acknowledged))
    check("I15", "every task has ended", checks.all_ended(found), checks=tasks)
    overlaps = beliefs.overlaps(believed)
    check("I3", "never two holders of one task", overlaps, checks=len(believed))
    dropped = checks.nothing_dropped(fleet, found, finished)
    check("I21", "no finished result is dropped", dropped, checks=len(finished))
    never = checks.never_issued(found)
    check("I4", "no result of an attempt that was never issued", never, checks=len(found.results))
    merged = checks.merged_once(origin, found, load.merging)
    check("I5", "completed work is in the base exactly once", merged, checks=len(load.merging))
    other = [problem for problem in found.problems if problem not in lost]
    check("I14", "the store verifies, and its rows agree", other, checks=tasks)
    left = [f"process {entry.pid} was left alive" for entry in fleet.leftovers()]
    check(PROCESSES, "no agent process is left alive", left, checks=checks.fences(found))
    outcome.figures += _figures(fleet, load, found, finished)


def _figures(
    fleet: Fleet, load: Load, found: checks.Findings, finished: Sequence[beliefs.Finished]
) -> list[tuple[str, object]]:
    states = Counter(task.state.value for task in found.tasks.values())
    reasons = Counter(str(t.failure) for t in found.tasks.values() if t.failure is not None)
    first = {(one.task, one.fence): one.at for one in reversed(finished)}
    offline = [at for at in first.values() if any(a <= at <= b for a, b in fleet.hub_down)]
    stale = [row for row in found.results if not row.applied]
    attempts = checks.fences(found)
    return [
        ("tasks acknowledged", len(load.acknowledged)),
        ("tasks by end", _listed(states)),
        ("failures by class", _listed(reasons)),
        ("requests asked again", load.retried),
        ("attempts", attempts),
        ("issued again", attempts - sum(task.attempt > 0 for task in found.tasks.values())),
        ("given back by a silent or empty machine", found.events[EventKind.RETURNED]),
        ("taken up again by their old holder", found.events[EventKind.RESUMED]),
        ("results finished", len(first)),
        ("of them while the hub was down", len(offline)),
        ("stale results kept", len(stale)),
    ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _mean(values: Sequence[int]) -> int:
    return round(mean(values)) if values else 0
