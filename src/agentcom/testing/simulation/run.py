"""One run: a fleet is built from a seed, lives, is broken, comes to rest, and is judged."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog

from agentcom.hub import faults
from agentcom.model.errors import AgentComError
from agentcom.store.failures import StoreFailed
from agentcom.testing.simulation.kernel import HOUR
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Violation
from agentcom.testing.simulation.world import World

_SHARES: Final = {"engine: forget everything": 0.25}
"""Fault points that happen less often than others: a crash shows nearly as much."""


class Failure(msgspec.Struct, frozen=True):
    """A promise that was broken."""

    invariant: str
    detail: str
    at_us: int
    lines: tuple[str, ...]


class Outcome(msgspec.Struct, kw_only=True):
    """What became of a run."""

    options: Options
    failure: Failure | None
    digest: str
    hours: float
    steps: int
    counts: Mapping[str, int]
    checks: Mapping[str, int]
    acts: tuple[tuple[int, str], ...] = ()


def simulate(options: Options) -> Outcome:
    """Run one seed to its end; never raises for what it finds."""
    with _silence() as unexpected:
        world = World(options, unexpected)
        with _fault_points(options, lambda: world.network.quiet) as points:
            return _lived(world, options, points)


def _lived(world: World, options: Options, points: Counter[str]) -> Outcome:
    failure = None
    try:
        world.live()
    except Violation as violation:
        failure = _failure(world, violation.invariant, violation.detail)
    except Exception as error:  # noqa: BLE001  # a bug of the sidecar, to be seen as one
        failure = _failure(world, "no part fails of itself", repr(error))
    finally:
        world.hub.end()
    return Outcome(
        options=options,
        failure=failure,
        digest=world.trace.digest,
        hours=world.kernel.now_us / HOUR,
        steps=world.kernel.steps,
        counts=dict(world.trace.counts + points),
        checks=dict(world.trace.checks),
        acts=tuple(world.nemesis.numbers),
    )


def _failure(world: World, invariant: str, detail: str) -> Failure:
    return Failure(invariant, detail, world.kernel.now_us, tuple(world.trace.lines))


@contextmanager
def _fault_points(options: Options, is_quiet: Callable[[], bool]) -> Iterator[Counter[str]]:
    """Have the hub's fault points do what is rare, as often as the options say."""
    counts: Counter[str] = Counter()
    rng = random.Random(f"{options.seed}/points")

    def chance(name: str) -> bool:
        if is_quiet():
            return False
        rare = rng.random() < options.buggify * _SHARES.get(name, 1)
        counts[f"point: {name}"] += rare
        return rare

    faults.chance = chance if options.buggify else None
    try:
        yield counts
    finally:
        faults.chance = None


@contextmanager
def _silence() -> Iterator[list[str]]:
    """Keep the hub's log from being printed; what fails in it unexpectedly is collected."""
    unexpected: list[str] = []

    def look(_logger: Any, _method: str, event: Mapping[str, Any]) -> str:
        error = event.get("exc_info")
        known = AgentComError | StoreFailed | Violation
        if isinstance(error, BaseException) and not isinstance(error, known):
            unexpected.append(f"{event.get('event')}: {error!r}")
        raise structlog.DropEvent

    before = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(
        processors=[look],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield unexpected
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)
