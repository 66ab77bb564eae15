"""Where a hub under load spends its time: a sampling profile, by part and by function.

Run: python -m bench.sampled [--seconds 8] [--workers 16] after `make bench-peers`, whose
environment has the sampler (py-spy). The hub is the ordinary process, looked at from outside.
"""

import argparse
import contextlib
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from agentcom.testing.hub_process import HubProcess
from agentcom.testing.peers import peer
from bench import slices
from bench.load import client, machine

SAMPLER: Final = Path(__file__).parent.parent / "build/peers/venv/bin/py-spy"
PER_S: Final = 250
PARTS: Final = (
    ("commit: SQLite, fsync", ("agentcom/store/",)),
    ("deciding", ("/core/",)),
    ("sockets and frames, in and out", ("agentcom/transport/", "agentcom/protocol/")),
    ("the hub around it: batches, budgets, feeds", ("agentcom/hub/", "agentcom/model/")),
    ("log and metrics", ("agentcom/telemetry/", "structlog", "prometheus")),
)
REST: Final = "the rest: the event loop itself, parts without a name here"
WAITING: Final = ("wait (threading.py", "_worker (concurrent/", "Writer._take (")
"""Innermost functions of threads that have nothing to do, though the sampler thinks otherwise."""
Stack = tuple[list[str], int]


def stacks(raw: str) -> Iterator[Stack]:
    """Yield each busy stack of py-spy's `raw` format, outermost frame first, with its samples."""
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        stack = frames.split(";")
        if not any(mark in stack[-1] for mark in WAITING):
            yield stack, int(count)


def by_part(found: Sequence[Stack]) -> Counter[str]:
    """Return samples by part: that of the innermost frame which belongs to one."""
    counts: Counter[str] = Counter()
    for frames, count in found:
        counts[next(filter(None, map(_part, reversed(frames))), REST)] += count
    return counts


def by_function(found: Sequence[Stack]) -> Counter[str]:
    """Return samples by the innermost function, lines of one function together."""
    counts: Counter[str] = Counter()
    for frames, count in found:
        counts[frames[-1].rpartition(":")[0]] += count
    return counts


def _part(frame: str) -> str | None:
    return next((name for name, marks in PARTS if any(mark in frame for mark in marks)), None)


def sample(*, workers: int, seconds: float) -> list[Stack]:
    """Return the stacks of a hub while it works as fast as it can."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hub = stack.enter_context(HubProcess())
        submitter = stack.enter_context(peer(client, hub.url, hub.user("ada")))
        far = stack.enter_context(peer(machine, hub.url, hub.machine("w"), workers))
        submitter.hear()
        far.ask("work")
        submitter.ask(("run", 1_000))
        submitter.tell(("hold", seconds + 3))
        words = [SAMPLER, "record", "-p", hub.pid, "-d", int(seconds), "-r", PER_S, "-f", "raw"]
        subprocess.run([*map(str, words), "-o", folder / "raw"], check=True, capture_output=True)
        submitter.hear()
        far.ask("stop")
        submitter.tell(None)
        return list(stacks((folder / "raw").read_text("utf-8")))


def main() -> None:
    """Sample and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--workers", type=int, default=16)
    options = parser.parse_args()
    slices.shorten()
    found = sample(workers=options.workers, seconds=options.seconds)
    total = sum(count for _, count in found)
    for title, counts in (("By part", by_part(found)), ("By function", by_function(found))):
        print(f"{title}, of {total} samples")
        for name, count in counts.most_common(30):
            print(f"  {count / total:6.1%}  {name}")


if __name__ == "__main__":
    main()
