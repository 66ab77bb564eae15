"""What is measured with work in the hub: lifecycles a second, dispatch time, and depth.

A lifecycle is: submit (the call returns after the hub's acknowledgement, which is after its
commit), assignment, accept, finish, and the submitter's feed has shown the end.
"""

import contextlib
import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

from agentcom.testing.hub_process import HubProcess
from agentcom.testing.peers import Peer, peer
from bench.load import client, fill, machine

FILLERS: Final = 4  # people who fill the queue: each may submit 10,000 tasks a second
FILL_S_MAX: Final = 240.0  # a machine that is slower has a shorter queue, and the figures say so
ROUND_S_MAX: Final = 180.0
WARM: Final = 1_500  # lifecycles that are not counted
_MEDIANS: Final = ("cpu_us", "client_cpu_us", "machine_cpu_us", "hub_cores")

Row = dict[str, Any]
Say = Callable[[str], None]


def lifecycles(workers: Sequence[int], *, rounds: int, seconds: float, say: Say) -> list[Row]:
    """Return a row for each number of workers: the median of rounds in turns."""
    found: dict[int, list[Row]] = {count: [] for count in workers}
    with HubProcess() as hub, contextlib.ExitStack() as stack:
        submitter = stack.enter_context(peer(client, hub.url, hub.user("ada")))
        submitter.hear()
        machines = {
            count: stack.enter_context(peer(machine, hub.url, hub.machine(f"w{count}"), count))
            for count in workers
        }
        warm = WARM if seconds >= 1 else WARM // 20
        sizes = dict.fromkeys(workers, warm)
        for number, count in itertools.product(range(rounds + 1), workers):
            row = work(hub, submitter, machines[count], ("run", sizes[count]))
            if not number:  # the first round warms up and says how long the others shall be
                sizes[count] = max(64, int(row["per_s"] * seconds))
                continue
            found[count].append(row)
            say(f"W={count:<3} {row['per_s']:7.0f}/s  hub {row['cpu_us']:5.0f} us each")
        submitter.tell(None)
    return [{"workers": count, **_summary(found[count])} for count in workers]


def work(hub: HubProcess, submitter: Peer, far: Peer, asked: tuple[str, float]) -> Row:
    """Let the machine work while the submitter does what it is asked."""
    far.tell("work")
    far.hear()
    before = [process.cpu_s() for process in (hub, submitter, far)]
    submitter.tell(asked)
    count, took_s = submitter.hear(ROUND_S_MAX)
    after = [process.cpu_s() for process in (hub, submitter, far)]
    far.tell("stop")
    far.hear()
    cpu_us = [(b - a) / max(1, count) * 1e6 for a, b in zip(before, after, strict=True)]
    return {
        "count": count,
        "per_s": count / took_s,
        "cpu_us": cpu_us[0],
        "client_cpu_us": cpu_us[1],
        "machine_cpu_us": cpu_us[2],
        "hub_cores": cpu_us[0] * count / took_s / 1e6,
    }


def _summary(rows: Sequence[Row]) -> Row:
    rates = [row["per_s"] for row in rows]
    return {
        "per_s": statistics.median(rates),
        "per_s_min": min(rates),
        "per_s_max": max(rates),
        **{name: statistics.median(row[name] for row in rows) for name in _MEDIANS},
        "rounds": rates,
    }


def dispatch(*, workers: int, per_s: float, count: int) -> Row:
    """Return the time from the call of submit to the first line of the handler."""
    with (
        HubProcess() as hub,
        peer(client, hub.url, hub.user("ada")) as submitter,
        peer(machine, hub.url, hub.machine("w"), workers) as far,
    ):
        submitter.hear()
        far.tell("work")
        far.hear()
        submitter.tell(("run", min(200, count)))  # warm
        submitter.hear()
        submitter.tell(("pace", per_s, count))
        called: dict[str, int] = submitter.hear(count / per_s + 60)
        far.tell("stop")
        began: dict[str, int] = far.hear()
        submitter.tell(None)
    times_ms = sorted((began[task] - at) / 1e6 for task, at in called.items())
    return {
        "workers": workers,
        "per_s": per_s,
        "count": len(times_ms),
        "p50_ms": times_ms[len(times_ms) // 2],
        "p99_ms": times_ms[int(len(times_ms) * 0.99)],
        "min_ms": times_ms[0],
        "max_ms": times_ms[-1],
    }


def depth(depths: Sequence[int], *, workers: int, rounds: int, seconds: float, say: Say) -> Row:
    """Return rows for queues of several lengths, all measured in turns, and the ratio."""
    rows: dict[int, Row] = {}
    found: dict[int, list[Row]] = {size: [] for size in depths}
    with contextlib.ExitStack() as stack:
        hubs = {size: stack.enter_context(HubProcess()) for size in depths}
        submitters = {}
        for size, hub in hubs.items():
            rows[size] = _fill(hub, size)
            say(
                f"{size:>9,} queued: {rows[size]['submits_per_s']:7.0f} submits/s, "
                f"{rows[size]['bytes_each']:5.0f} bytes each"
            )
            submitters[size] = stack.enter_context(peer(client, hub.url, hub.user("ada")))
            submitters[size].hear()
        machines = {
            size: stack.enter_context(peer(machine, hub.url, hub.machine("w"), workers))
            for size, hub in hubs.items()
        }
        for number, size in itertools.product(range(rounds + 1), depths):
            row = work(hubs[size], submitters[size], machines[size], ("hold", seconds))
            if number:  # the first one warms up
                found[size].append(row)
                say(f"{size:>9,} queued: {row['per_s']:7.0f}/s  hub {row['cpu_us']:5.0f} us each")
        for size in depths:
            rows[size] |= _summary(found[size]) | {"queued_at_end": _queued(hubs[size])}
            submitters[size].tell(None)
    return _compared([rows[size] for size in depths])


def _compared(rows: list[Row]) -> Row:
    first, last = rows[0], rows[-1]
    added = last["queued"] - rows[-2]["queued"] if len(rows) > 1 else last["queued"]
    grown = last["bytes"] - (rows[-2]["bytes"] if len(rows) > 1 else 0)
    return {
        "rows": rows,
        "throughput_ratio": last["per_s"] / first["per_s"],
        "cpu_ratio": last["cpu_us"] / first["cpu_us"],
        "bytes_each_marginal": grown / added,
    }


def _fill(hub: HubProcess, size: int) -> Row:
    tokens = [hub.user(f"filler{number}") for number in range(FILLERS)]
    before = hub.cost()
    with peer(fill, hub.url, tokens, size, FILL_S_MAX) as filler:
        count, took_s = filler.hear(FILL_S_MAX + 150)
    after = hub.cost()
    grown = after.private_bytes - before.private_bytes
    return {
        "queued": count,
        "submits_per_s": count / took_s,
        "submit_cpu_us": (after.cpu_s - before.cpu_s) / count * 1e6,
        "bytes": grown,
        "bytes_each": grown / count,
    }


def _queued(hub: HubProcess) -> int:
    return int(hub.status()["tasks"].get("queued", 0))
