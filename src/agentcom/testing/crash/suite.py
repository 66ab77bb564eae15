"""All crash states in one run: power loss, kills, full and failing disks; and what was found."""

import asyncio
import gc
import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from agentcom import app
from agentcom.testing.crash import broken, damage, full, kills, moving, power, recording
from agentcom.testing.crash.hub import How, Strike
from agentcom.testing.crash.operations import Kind
from agentcom.testing.crash.power import Tally

PROCESSES: Final = 2
PART_OPERATIONS: Final = 100
MOVING_SPARSER: Final = 3  # there are more such sizes, and each takes twice as long
BROKEN: Final = (Kind.SYNC, Kind.SYNC_FOLDER, Kind.WRITE, Kind.TRUNCATE, Kind.CREATE, Kind.UNLINK)
"""What fails once, each with error EIO; and reads."""
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system in memory, if this system has it

Say = Callable[[str], None]
_T = TypeVar("_T")
_R = TypeVar("_R")


class Effort(NamedTuple):
    """How much is tried."""

    lives: int
    migrations: int
    recoveries: int
    mixtures: int
    kills: int | None
    """None: at every operation."""
    full_every: int
    """Points of the full disk that are left out, but for one in so many."""
    broken_every: int
    """The same for operations that fail."""
    moves: int
    """Lives in which tasks move to the archive."""
    spots: int
    """Random places of each kind of damage to a file."""
    seed: int = 1

    def names(self) -> Sequence[str]:
        """Return the lives to record."""
        kinds = [("life", self.lives), ("migration", self.migrations)]
        kinds += [("recovery", self.recoveries), (power.MOVES, self.moves)]
        return [f"{kind}-{self.seed + n}" for kind, count in kinds for n in range(count)]


QUICK: Final = Effort(3, 1, 7, 4, kills=104, full_every=9, broken_every=3, moves=1, spots=8)
WHOLE: Final = Effort(40, 4, 40, 8, kills=None, full_every=1, broken_every=1, moves=8, spots=120)


class Outcome(msgspec.Struct):
    """What a run counted, and every violation with the words that repeat it."""

    operations: int = 0
    built: int = 0
    whole: int = 0
    digests: set[bytes] = msgspec.field(default_factory=set)
    lost: int = 0
    corrupt: int = 0
    broken: int = 0
    kills: int = 0
    acknowledged: int = 0
    moves: set[bytes] = msgspec.field(default_factory=set)
    """Of the digests, those of a store and its archive."""
    full_points: int = 0
    refused: int = 0
    failures: int = 0
    sync_failures: int = 0
    failed_hubs: int = 0
    damaged: int = 0
    violations: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """What happened, and the `--state` of it."""


def memory_folder() -> Path:
    """Return a new folder, in memory where this system has such a file system."""
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="agentcom-crash-", dir=parent))


def run(folder: Path, effort: Effort, say: Say) -> Outcome:
    """Try everything, in `folder`; never raises for what it finds."""
    outcome = Outcome()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, initializer=gc.freeze) as pool:
        lose_power(folder / "power", effort, outcome, say, pool)
        fill_disks(folder / "full", effort, outcome, say, pool)
        break_disks(folder / "broken", effort, outcome, say, pool)
        damage_files(folder / "damage", effort, outcome, say, pool)
    asyncio.run(kill_hubs(folder / "kills", effort, outcome, say))
    return outcome


def lose_power(
    folder: Path, effort: Effort, outcome: Outcome, say: Say, pool: ProcessPoolExecutor
) -> None:
    """Judge the states of all lives."""
    folder.mkdir()
    names = effort.names()
    for done, name in enumerate(names):
        path = folder / f"{name}.recording"
        made = power.recorded(name, folder / "lives")
        made.save(path)
        count = made.operations()
        outcome.operations += count
        jobs = [
            pool.submit(
                _judged, path, folder, range(start, start + PART_OPERATIONS), effort.mixtures
            )
            for start in range(power.begins(made), count, PART_OPERATIONS)
        ]
        for job in as_completed(jobs):
            _add(outcome, name, job.result())
            bad = outcome.lost + outcome.corrupt + outcome.broken
            say(
                f"power loss: {name} ({done + 1} of {len(names)}),"
                f" {len(outcome.digests)} distinct states, {bad} bad"
            )
        path.unlink()


def fill_disks(
    folder: Path, effort: Effort, outcome: Outcome, say: Say, pool: ProcessPoolExecutor
) -> None:
    """Let the disk be full at many sizes."""
    points = full.points(folder)[:: effort.full_every]
    for point, filled in _each(pool, _filled, folder, points):
        outcome.full_points += 1
        outcome.refused += filled.refused or not filled.opened
        since = "after" if point.after_open else "empty"
        state = f"full:{point.room_bytes}:{since}"
        outcome.violations += [(f"{point}: {problem}", state) for problem in filled.problems]
        say(f"full disk: {outcome.full_points} of {len(points)} sizes")
    sizes = moving.sizes(folder)[:: MOVING_SPARSER * effort.full_every]
    for room, problems in _each(pool, _moved, folder, sizes):
        outcome.full_points += 1
        outcome.violations += [(problem, f"move:{room}") for problem in problems]
        say(f"full disk: {len(sizes)} sizes while tasks are archived")


def break_disks(
    folder: Path, effort: Effort, outcome: Outcome, say: Say, pool: ProcessPoolExecutor
) -> None:
    """Let one operation fail, the first, the second, and so on until a life is not long enough."""
    for kind in (*BROKEN, Kind.READ):
        for wave in itertools.count():
            first, every = wave * 16 * effort.broken_every + 1, effort.broken_every
            numbers = range(first, first + 16 * every, every)
            found = list(_each(pool, _broken, folder, [(kind, number) for number in numbers]))
            for (_, number), one in found:
                outcome.failures += one.failed
                outcome.sync_failures += one.failed and kind is Kind.SYNC
                state = f"broken:{kind}:{number}"
                outcome.violations += [(problem, state) for problem in one.problems]
            say(f"failing disk: {outcome.failures} operations failed, now each {kind}")
            if not all(one.failed for _, one in found):
                break


def damage_files(
    folder: Path, effort: Effort, outcome: Outcome, say: Say, pool: ProcessPoolExecutor
) -> None:
    """Damage a hub's files in every way, at many places."""
    spots = damage.spots(effort.spots)
    for spot, problem in _each(pool, _damaged, folder, spots):
        outcome.damaged += 1
        outcome.violations += [] if problem is None else [(problem, f"damage:{spot}")]
        say(f"damaged files: {outcome.damaged} of {len(spots)}")


async def kill_hubs(folder: Path, effort: Effort, outcome: Outcome, say: Say) -> None:
    """Kill hub after hub."""
    strikes = await kills.strikes(folder / "peace")
    if effort.kills is not None:
        strikes = kills.sample(strikes, effort.kills, seed=effort.seed)
    store: kills.Struck | None = None
    for number, strike in enumerate(strikes):
        if store is None or not number % kills.FRESH_EVERY:
            outcome.acknowledged += store.acknowledged if store is not None else 0
            store = kills.Struck(folder / f"store-{number}", seed=effort.seed)
            await store.live(None)
        for one in await store.struck(strike):
            outcome.kills += one.exit_code == kills.KILLED
            outcome.violations += [(problem, f"kill:{strike}") for problem in one.problems]
        say(f"killed hubs: {outcome.kills} of {len(strikes)}")
    outcome.acknowledged += store.acknowledged if store is not None else 0
    await _fail_hubs(folder / "failing", effort, outcome)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # noqa: SLF001 - else its CPU is not counted


async def _fail_hubs(folder: Path, effort: Effort, outcome: Outcome) -> None:
    """Let the sync of each file fail under a hub, which has to end with an error."""
    store = kills.Struck(folder, seed=effort.seed)
    await store.live(None)
    for file in ("-wal", app.STORE_FILE, "-last-commit"):
        strike = Strike(Kind.SYNC, file, 2, How.FAIL)
        one = await store.live(strike)
        outcome.failed_hubs += 1
        problems = [*one.problems] if one.exit_code == 1 else [f"it ended with {one.exit_code}"]
        outcome.violations += [(problem, f"kill:{strike}") for problem in problems]


def _each(
    pool: ProcessPoolExecutor, work: Callable[[Path, _T], _R], folder: Path, asked: Sequence[_T]
) -> Iterator[tuple[_T, _R]]:
    jobs: dict[Future[_R], _T] = {pool.submit(work, folder, one): one for one in asked}
    for job in as_completed(jobs):
        yield jobs[job], job.result()


def _add(outcome: Outcome, name: str, tally: Tally) -> None:
    outcome.built += tally.built
    outcome.whole += tally.whole
    outcome.digests |= tally.digests
    if name.startswith(power.MOVES):
        outcome.moves |= tally.digests
    for fault, operation, number, what in tally.violations:
        outcome.lost += fault == "lost"
        outcome.corrupt += fault == "corrupt"
        outcome.broken += fault == "broken"
        outcome.violations.append((what, f"{name}:{operation}:{number}"))


def _judged(path: Path, folder: Path, part: range, mixtures: int) -> Tally:
    place = folder / f"judge-{os.getpid()}"
    return power.judged(place, _loaded(path), mixtures=mixtures, part=part)


@lru_cache(maxsize=1)
def _loaded(path: Path) -> recording.Recording:
    return recording.load(path)


def _filled(folder: Path, point: full.Point) -> full.Filled:
    return full.fill(folder / f"{os.getpid()}", point)


def _moved(folder: Path, room_bytes: int) -> list[str]:
    return moving.fill(folder / f"{os.getpid()}", room_bytes)


def _damaged(folder: Path, spot: damage.Spot) -> str | None:
    bench = _bench(folder / f"{os.getpid()}")
    return asyncio.run(bench.problem(damage.ALL[spot.name], spot.seed, large=spot.large))


@lru_cache(maxsize=1)
def _bench(folder: Path) -> damage.Bench:
    folder.mkdir(parents=True)
    bench = damage.Bench(folder)
    asyncio.run(bench.prepare())
    return bench


def _broken(folder: Path, one: tuple[Kind, int]) -> broken.Breakage:
    return broken.break_once(folder / f"{os.getpid()}", *one)
