"""Many seeds on all cores: what `agentcom simulate` and the gate run."""

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agentcom.testing.simulation import mutants, shrink
from agentcom.testing.simulation.kernel import MINUTE
from agentcom.testing.simulation.options import Options, draw
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


MESSAGE_FAULTS: Final = (
    "fault: dropped",
    "fault: doubled",
    "fault: delayed",
    "fault: held back",
    "fault: cut",
    "fault: half-open",
    "fault: overtaken by a newer connection",
)


def run(
    seeds: Sequence[int],
    hours: float,
    *,
    jobs: int,
    mutant: str = "",
    often: str = "",
    among: str = "",
) -> Generator[Outcome, None, None]:
    """Run seeds in `jobs` processes and yield each outcome as it comes.

    Whatever a seed says, the nemesis acts as `often` names every few minutes, and agents and people
    do what `among` names.
    """
    with _workers(jobs, mutant) as pool:
        waiting: set[Future[Outcome]] = set()
        left = iter(seeds)
        for seed in left:
            options = draw(seed, hours)
            if often:
                every_us = {**options.every_us, often: OFTEN_US}
                options = msgspec.structs.replace(options, every_us=every_us)
            if among:
                options = msgspec.structs.replace(options, **{among: True})
            waiting.add(pool.submit(_one, options))
            if len(waiting) < 2 * jobs:
                continue
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from sorted((future.result() for future in done), key=_seed)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from sorted((future.result() for future in done), key=_seed)


def replay(options: Options, *, smaller: bool = False, mutant: str = "") -> Outcome:
    """Run once more in a process of its own; `smaller` makes a failing run small."""
    with _workers(1, mutant) as pool:
        outcome: Outcome = pool.submit(_one, options).result()
        if smaller and outcome.failure is not None:
            outcome = pool.submit(shrink.shrink, outcome).result()
        return outcome


def _begin(_mutant: str) -> None:
    gc.freeze()  # what is imported stays
    gc.set_threshold(GARBAGE_MAX)


def _one(options: Options) -> Outcome:
    return simulate(options)


def _seed(outcome: Outcome) -> int:
    return outcome.options.seed


@contextmanager
def _workers(jobs: int, mutant: str) -> Iterator[ProcessPoolExecutor]:
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = HASH_SEED
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
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before
