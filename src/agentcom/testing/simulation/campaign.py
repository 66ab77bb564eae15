"""Many seeds on all cores: what `agentcom simulate` and the gate run."""

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from agentcom.testing.simulation import mutants, shrink
from agentcom.testing.simulation.kernel import MINUTE, SECOND
from agentcom.testing.simulation.options import Options, draw
from agentcom.testing.simulation.planting import Mutant
from agentcom.testing.simulation.run import Outcome, simulate

OFTEN_US: Final = 4 * MINUTE
TASKS_MAX: Final = 25
"""Runs of one worker: a long campaign's memory stays that of its first runs."""
GARBAGE_MAX: Final = 10_000
"""Objects that are made before a look for garbage: nearly all go without one."""
HASH_SEED: Final = "0"
"""Python's hash seed in the workers: what a run does must not depend on it, but who knows."""


@dataclass(slots=True)
class Totals:
    """What a campaign has done so far."""

    runs: int = 0
    hours: float = 0.0
    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.runs += 1
        self.hours += outcome.hours
        self.steps += outcome.steps
        self.counts.update(outcome.counts)
        self.checks.update(outcome.checks)
        if outcome.failure is not None:
            self.failed.append(outcome)

    @property
    def message_faults(self) -> int:
        """Messages that were lost, doubled, delayed, held back, or came late."""
        return sum(self.counts[name] for name in MESSAGE_FAULTS)

    @property
    def hub_crashes(self) -> int:
        """Ends of a hub's process without a goodbye."""
        return self.counts["hub crashes"] + self.counts["hub ended by itself"]


class Caught(NamedTuple):
    """What became of a planted bug."""

    hours: float
    """Simulated, until it was caught or given up."""
    invariant: str
    """The promise that told of it; empty: it survived."""
    seed: int
    """The last one that was tried."""


MESSAGE_FAULTS: Final = (
    "fault: dropped",
    "fault: doubled",
    "fault: delayed",
    "fault: held back",
    "fault: cut",
    "fault: half-open",
    "fault: overtaken by a newer connection",
)


def run(seeds: Sequence[int], hours: float, *, jobs: int) -> Generator[Outcome, None, None]:
    """Run seeds in `jobs` processes and yield each outcome as it comes.

    Those that take long begin first, so that no process waits for another in the end.
    """
    with _hash_seed(), _workers(jobs) as pool:
        waiting: set[Future[Outcome]] = set()
        drawn = [draw(seed, hours) for seed in seeds]
        for options in sorted(drawn, key=_work, reverse=True):
            waiting.add(pool.submit(_one, options))
            if len(waiting) < 2 * jobs:
                continue
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from sorted((future.result() for future in done), key=_seed)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from sorted((future.result() for future in done), key=_seed)


def hunt(planted: Sequence[Mutant], hours: float, *, jobs: int) -> Generator[Caught, None, None]:
    """Plant each bug in a process of its own, and yield what became of it, in order.

    It is looked for in runs of `hours`, seed after seed, until one fails or its hours are over.
    """
    with _hash_seed(), ThreadPoolExecutor(jobs) as threads:
        # What may take long begins first.
        order = sorted(range(len(planted)), key=lambda at: -planted[at].hours)
        hunts = {at: threads.submit(_hunt, planted[at], hours) for at in order}
        for at in range(len(planted)):
            yield hunts[at].result()


def replay(options: Options, *, smaller: bool = False, mutant: str = "") -> Outcome:
    """Run once more in a process of its own; `smaller` makes a failing run small."""
    with _hash_seed(), _workers(1, mutant) as pool:
        outcome: Outcome = pool.submit(_one, options).result()
        if smaller and outcome.failure is not None:
            outcome = pool.submit(shrink.shrink, outcome).result()
        return outcome


def _begin(_mutant: str) -> None:
    gc.freeze()  # what is imported stays
    gc.set_threshold(GARBAGE_MAX)


def _hunt(mutant: Mutant, hours: float) -> Caught:
    with _workers(1, mutant.name) as pool:
        return pool.submit(_hunted, mutant, hours).result()


def _hunted(mutant: Mutant, hours: float) -> Caught:
    """Run seeds until one fails: the nemesis and the fleet often do what the bug is about."""
    _begin(mutant.name)
    hunted_h = 0.0
    for seed in dict.fromkeys((mutant.seed, *range(1, 1 + int(mutant.hours / hours)))):
        options = draw(seed, hours)
        every_us = {**options.every_us}
        every_us.pop("machine_bedtime", None)  # it takes work away from the other faults
        if mutant.often:
            every_us[mutant.often] = OFTEN_US
        options = msgspec.structs.replace(options, every_us=every_us, **mutant.among)
        outcome = simulate(options)
        hunted_h += outcome.hours
        if outcome.failure is not None:
            return Caught(hunted_h, outcome.failure.invariant, seed)
    return Caught(hunted_h, "", seed)


def _one(options: Options) -> Outcome:
    return simulate(options)


def _work(options: Options) -> float:
    """Return about how much work a run is, beside others: what talks and crashes costs most."""
    talk = 4 * options.mail + 2 * (options.locks + options.asks) + options.channels
    beats = options.machines * 12_000 / options.ttl_ms
    crashes = MINUTE / options.every_us.get("hub_crash", 10 * MINUTE)
    load = options.slots * options.machines * 40 * SECOND / options.work_us
    return talk + beats + 2 * crashes + load + 2 * options.limits + 50 * options.buggify


def _seed(outcome: Outcome) -> int:
    return outcome.options.seed


@contextmanager
def _workers(jobs: int, mutant: str = "") -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        # Not of this module where a bug is planted: it imports the product.
        initializer=mutants.plant if mutant else _begin,
        initargs=(mutant,),
        max_tasks_per_child=TASKS_MAX,
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _hash_seed() -> Iterator[None]:
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = HASH_SEED
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before
