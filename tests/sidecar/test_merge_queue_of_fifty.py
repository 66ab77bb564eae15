"""Fifty branches through the merge queue, with a machine that is killed while it lands."""

import asyncio
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from agentcom.model.limits import LAND_BATCH_MAX
from agentcom.sidecar import repositories
from agentcom.sidecar.merge_queue import Candidate
from agentcom.testing.waiting import until
from tests.sidecar.git_origin import Origin
from tests.sidecar.test_merge_queue import Bench, landed

NAMES = [f"t{number:02}" for number in range(50)]
CONFLICTS = 5
BROKEN = 3
KILLED_AT = 2
"""The batch at which the machine dies, twice: before its push, and right after it."""


def land(folder: Path, origin: Origin, batch: Sequence[Candidate]) -> None:
    """Land a batch in a process of its own."""
    asyncio.run(Bench(folder, origin).land(*batch))


async def killed_while_it_lands(bench: Bench, batch: Sequence[Candidate], *, pushed: bool) -> None:
    """Kill the process that lands a batch, while it verifies or once the base has moved."""
    context = multiprocessing.get_context("spawn")
    before = bench.origin.tip()
    process = context.Process(target=land, args=(bench.folder, bench.origin, batch))
    process.start()
    try:
        if pushed:
            await until(lambda: bench.origin.tip() != before)
        else:
            await until(lambda: any((bench.folder / "scratch").glob("*")))
            assert bench.origin.tip() == before
    finally:
        process.kill()
        await asyncio.to_thread(process.join)


async def prepared(
    bench: Bench, clashing: Collection[str], broken: Collection[str]
) -> Sequence[Candidate]:
    """Do the work of all, of which some do not go together and some break a check."""
    work = []
    for name in NAMES:
        files = {f"{name}.txt": name}
        if name == NAMES[0] or name in clashing:
            files = {"README": f"{name}\n"}  # the first one wins
        elif name in broken:
            files = {f"broken-{name}": "x"}
        work.append(await bench.work(name, files))
    return work


@pytest.mark.slow
async def test_fifty_land_in_order_with_the_base_green_at_every_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "RETRY_S", 0.0)
    origin = Origin(tmp_path / "forge")
    bench = Bench(tmp_path / "machine", origin)
    odd = random.Random(1).sample(NAMES[1:], CONFLICTS + BROKEN)
    clashing, broken = set(odd[:CONFLICTS]), set(odd[CONFLICTS:])
    work = await prepared(bench, clashing, broken)

    began = time.monotonic()
    ended: dict[str, str] = {}
    verifications = 0
    for number, first in enumerate(range(0, len(work), LAND_BATCH_MAX)):
        batch = work[first : first + LAND_BATCH_MAX]
        if number == KILLED_AT:
            await killed_while_it_lands(bench, batch, pushed=False)
            await killed_while_it_lands(bench, batch, pushed=True)
        ended |= await bench.land(*batch)
        assert bench.queue is not None
        verifications += bench.queue.verified
    took_s = time.monotonic() - began

    good = [name for name in NAMES if name not in clashing | broken]
    assert landed(origin) == good
    assert ended == {
        **dict.fromkeys(good, "landed"),
        **dict.fromkeys(clashing, "conflict"),
        **dict.fromkeys(broken, "verification"),
    }
    for commit in origin.log_commits():
        assert not any(path.startswith("broken") for path in origin.files(commit))
    counts = ", ".join(f"{count} {how}" for how, count in sorted(Counter(ended.values()).items()))
    sys.stdout.write(
        f"\n{len(NAMES)} branches: {counts}; {verifications} verifications, 2 kills,"
        f" {took_s:.0f} s from the first landing to the last\n"
    )
