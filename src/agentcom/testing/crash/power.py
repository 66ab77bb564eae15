"""Power loss at every recorded operation: all states of a recording, built and judged."""

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, assert_never

import msgspec

from agentcom.testing.crash import life, moving
from agentcom.testing.crash.judging import Fault, Judge, Violation
from agentcom.testing.crash.life import Plan, Start
from agentcom.testing.crash.moved import MovedJudge
from agentcom.testing.crash.quick import judged_stores
from agentcom.testing.crash.recording import Acked, Begun, Done, Failed, Recording
from agentcom.testing.crash.states import Choice, Disk, State, choices

LIFE_STEPS: Final = 110
MIGRATION_STEPS: Final = 24
RECOVERY_STEPS: Final = 6
MOVES: Final = "archive"
"""The kind of lives in which tasks move to the archive."""


class Place(NamedTuple):
    """Where a state stands: after which operation of a life, and which outcome."""

    operation: int
    outcome: int


class Case(NamedTuple):
    """A state that no case before it has, and what is asked of it."""

    place: Place
    choice: Choice
    state: State
    acked: int
    begun: int


class Tally(msgspec.Struct):
    """What a part of the enumeration found."""

    built: int = 0
    whole: int = 0
    """States that the whole store opened; of the others it knew what recovery makes of them."""
    digests: set[bytes] = msgspec.field(default_factory=set)
    violations: list[tuple[str, int, int, str]] = msgspec.field(default_factory=list)
    """Kind, place and words of each."""


def cases(recording: Recording, *, mixtures: int, part: range | None = None) -> Iterator[Case]:
    """Yield every state of a recording; `part` are the operations to look at."""
    known: set[object] = set()
    for number, disk, acked, begun in _moments(recording):
        if part is not None and number not in part:
            continue
        rng = random.Random(f"{recording.name}/{number}")  # noqa: S311 - a seed repeats it
        for outcome, choice in enumerate(choices(disk, rng, mixtures=mixtures)):
            key = disk.key(choice)
            if key not in known:
                known.add(key)
                yield Case(Place(number, outcome), choice, disk.build(choice), acked, begun)


def begins(recording: Recording) -> int:
    """Return the first operation that is worth losing power at: before it other lives did."""
    return moving.first_move(recording) if recording.name.startswith(MOVES) else 0


def after(recording: Recording) -> tuple[Disk, int, int]:
    """Return the disk at the end of a recording, and the steps acknowledged and begun."""
    disk, acked, begun = Disk(recording.initial), 0, 0
    for _, disk, _, _ in _moments(recording):  # noqa: B007 - the last one counts
        pass
    for entry in recording.entries:
        acked = max(acked, entry.step) if isinstance(entry, Acked) else acked
        begun = max(begun, entry.step) if isinstance(entry, Begun) else begun
    return disk, acked, begun


def _moments(recording: Recording) -> Iterator[tuple[int, Disk, int, int]]:
    """Yield after each operation its number, the disk, and the steps acknowledged and begun."""
    disk = Disk(recording.initial)
    acked = begun = number = 0
    for entry in recording.entries:
        match entry:
            case Begun(step):
                begun = max(begun, step)
            case Acked(step):
                acked = max(acked, step)
            case Failed(operation):
                disk.fail(operation)
            case Done(operation):
                disk.apply(number, operation)
                yield number, disk, acked, begun
                number += 1
            case _:
                assert_never(entry)


def judged(
    folder: Path,
    recording: Recording,
    *,
    mixtures: int,
    part: range | None,
    violations_max: int = 20,
) -> Tally:
    """Judge each distinct state of some operations, in a folder of the caller's."""

    async def run() -> Tally:
        judge = _judge_of(folder, recording)
        tally = Tally()
        steps: dict[bytes, int] = {}
        for case in cases(recording, mixtures=mixtures, part=part):
            tally.built += 1
            tally.digests.add(case.state.digest)
            try:
                await _judge(judge, case, steps)
            except Violation as violation:
                tally.violations.append((violation.fault, *case.place, str(violation)))
                if len(tally.violations) >= violations_max:
                    break
        tally.whole = judge.whole
        return tally

    with judged_stores():
        return asyncio.run(run())


def _judge_of(folder: Path, recording: Recording) -> Judge:
    moves = recording.name.startswith(MOVES)
    return (MovedJudge if moves else Judge)(folder, recording)


async def _judge(judge: Judge, case: Case, steps: dict[bytes, int]) -> None:
    """Judge a state; of one that was seen before only whether more has been promised since."""
    digest = case.state.digest
    if digest not in steps:
        steps[digest] = case.begun  # a state is convicted once
        steps[digest] = await judge.judge(case.state.files, acked=case.acked, begun=case.begun)
    elif case.acked > steps[digest]:
        raise Violation(
            Fault.LOST, f"{case.acked} steps were acknowledged, {steps[digest]} are there"
        )


def judged_again(
    folder: Path, name: str, place: Place, *, mixtures: int
) -> tuple[Case, str | None]:
    """Return one state of a life, and what is wrong with it.

    Raises:
        LookupError: the life has no such state.
    """
    made = recorded(name, folder / "lives")
    part = range(place.operation, place.operation + 1)
    found = [c for c in cases(made, mixtures=mixtures, part=part) if c.place == place]
    if not found:
        raise LookupError(f"{name} has no state {place.operation}:{place.outcome}")

    async def judge() -> str | None:
        try:
            await _judge_of(folder / "judge", made).judge(
                found[0].state.files, acked=found[0].acked, begun=found[0].begun
            )
        except Violation as violation:
            return str(violation)
        return None

    with judged_stores():
        return found[0], asyncio.run(judge())


def recorded(name: str, folder: Path) -> Recording:
    """Record the life of this name, such as `life-7`: the same operations every time.

    A `recovery` begins with what a power loss in the life of the same seed left.
    """
    kind, _, number = name.partition("-")
    seed = int(number)
    root = folder / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    if kind == MOVES:
        return moving.record(root, name)
    if kind != "recovery":
        steps, migrates = (MIGRATION_STEPS, True) if kind == "migration" else (LIFE_STEPS, False)
        return life.record(root, Plan(name, seed, steps, migrates))
    before = recorded(f"life-{seed}", folder)
    case = _some_case(before, random.Random(name))  # noqa: S311 - a seed repeats it

    async def look() -> int:
        judge = Judge(root / "look", before)
        return await judge.judge(case.state.files, acked=case.acked, begun=case.begun)

    with judged_stores():
        content = before.contents[asyncio.run(look())]
    start = Start(case.state.files, content)
    return life.record(root, Plan(name, seed, RECOVERY_STEPS), start)


def _some_case(recording: Recording, rng: random.Random) -> Case:
    """Return a state that takes some recovery: in the middle of a transaction or a checkpoint."""
    number = rng.randrange(recording.operations() // 2, recording.operations())
    found = list(cases(recording, mixtures=8, part=range(number, number + 1)))
    return rng.choice(found)
