"""Versions of the hub side by side, at work in turns: which of them is quicker.

Run: python -m bench.versions build/main build/compiled [--workers 16] [--rounds 3] [--seconds 1].
Each folder has a package `agentcom` (the `src` of a checkout; `bench.compiled` makes another one).
Clients and machines are this checkout's. A rate counts only beside the others of its run; begin
with `chrt -f 1` where other programs want the processor, and keep it to ten seconds.
"""

import argparse
import contextlib
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from agentcom.testing.hub_process import HubProcess
from agentcom.testing.peers import Peer, peer
from bench import scenarios
from bench.load import client, machine

Side = tuple[HubProcess, Peer, Peer]


def measure(
    trees: Sequence[Path], *, workers: int, rounds: int, seconds: float
) -> Iterator[tuple[Path, scenarios.Row]]:
    """Yield a row for each version in each round; one round before them is not counted."""
    with contextlib.ExitStack() as stack:
        sides = [_start(stack, tree, workers) for tree in trees]
        warm = max(64, int(scenarios.WARM * seconds / 2))
        sizes = [warm] * len(sides)
        for number in range(rounds + 1):
            for at, (hub, submitter, far) in enumerate(sides):
                row = scenarios.work(hub, submitter, far, ("run", sizes[at]))
                if number:
                    yield trees[at], row
                else:
                    sizes[at] = max(64, int(row["per_s"] * seconds))
        for _, submitter, _ in sides:
            submitter.tell(None)


def _start(stack: contextlib.ExitStack, tree: Path, workers: int) -> Side:
    with mock.patch.dict(os.environ, PYTHONPATH=str(tree.resolve(strict=True))):
        hub = stack.enter_context(HubProcess())
    submitter = stack.enter_context(peer(client, hub.url, hub.user("ada")))
    submitter.hear()
    return hub, submitter, stack.enter_context(peer(machine, hub.url, hub.machine("w"), workers))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", type=Path, nargs="+")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    found: dict[Path, list[scenarios.Row]] = {tree: [] for tree in options.trees}
    rows = measure(
        list(found), workers=options.workers, rounds=options.rounds, seconds=options.seconds
    )
    for tree, row in rows:
        found[tree].append(row)
        print(f"{tree}: {row['per_s']:.0f}/s, hub {row['cpu_us']:.0f} us each", flush=True)
    for tree, of_one in found.items():
        rate, cpu = (statistics.median(row[name] for row in of_one) for name in ("per_s", "cpu_us"))
        print(f"median of {tree}: {rate:.0f}/s, hub {cpu:.0f} us each")


if __name__ == "__main__":
    main()
