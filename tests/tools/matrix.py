"""Run every driver through every check, and write docs/reference/drivers.md from what came of it.

    python -m tests.tools.matrix [CLI ...]

One program at a time; what was found of the others before is kept, with its date and the commit
that it was found at. Several of these may run at once, each for programs of its own.
"""

import argparse
import asyncio
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from agentcom.cli import enrol
from agentcom.sidecar.runtime import base
from agentcom.testing import agent_checks, agent_fleet
from agentcom.testing.agent_checks import Row
from agentcom.testing.mock_llm import server
from agentcom.testing.mock_llm.answers import Entry
from tests.tools.install_clis import binary_of

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"
PAGE: Final = REFERENCE / "drivers.md"
KEPT: Final = REFERENCE / "drivers.json"
_MARKS: Final = {True: "yes", False: "**no**", None: "-"}
INTRODUCTION: Final = (
    "# Drivers\n\n"
    "What each agent's program does under its driver, tried on one machine: {machine}. Every run "
    "is a real program before a scripted model on loopback, under the supervisor and the watchdog "
    "of a sidecar; the last three rows go through a hub and a sidecar that are processes of their "
    "own. `make matrix` writes this page; `agentcom agent doctor NAME` runs the checks (all but "
    "the last two) on your computer. Below each program stands the commit that all its cells were "
    "found at.\n\n"
    "*yes*: the verdict, its class and what was left are as they should be. *-*: this program "
    "cannot do it. **no**: see below.\n"
)


class Found(msgspec.Struct, frozen=True):
    """What was found of one program, on which day, and with which code of ours."""

    version: str
    day: str
    commit: str
    """Several, if some rows were tried again later."""
    machine: str
    rows: tuple[Row, ...]


def main() -> int:
    """Check the wanted programs, write the page; the exit code says whether all is well."""
    known = enrol.runtimes()
    names = [name for name in known if name not in {"command", "external"}]
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", help=f"of {', '.join(names)}")
    arguments.add_argument("--only", action="append", help="a check; the others' rows are kept")
    given = arguments.parse_args()
    wanted = given.names or names
    passed = True
    for name in wanted:
        program = binary_of(name)
        if name not in agent_checks.WITHOUT_MODEL and not program.exists():
            tell(f"{name}: not installed (make clis CLIS={name})")
            continue
        passed &= asyncio.run(check(known[name], str(program), given.only))
    return int(not passed)


async def check(runtime: base.Runtime, program: str, only: Sequence[str] | None) -> bool:
    """Run all checks of one program, and publish each as it ends; say whether none failed."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="agentcom-matrix-"))
    log: list[Entry] = []
    rows: list[Row] = []
    commit = code()
    try:
        async with server.serve(log=log.append) as model:
            settings = {"base_url": model.url, "model": "scripted", "binary": program}
            if runtime.name in agent_checks.WITHOUT_MODEL:
                settings = {}
            async for row in found_of(runtime, settings, folder, log, only):
                rows.append(row)
                tell(_line(row))
                publish(runtime.name, commit, rows)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return all(row.passed is not False for row in rows)


async def found_of(
    runtime: base.Runtime,
    settings: Mapping[str, str],
    folder: Path,
    log: list[Entry],
    only: Sequence[str] | None,
) -> AsyncIterator[Row]:
    """Yield what came of each check."""
    bench = agent_checks.Bench(runtime, settings, folder / runtime.name, log)
    for one in agent_checks.CHECKS:
        if not only or one.name in only:
            yield await bench.row(one)
    if not only or agent_fleet.TOOL in only:
        yield await agent_fleet.tool_row(runtime, settings, folder / "hub")
    async for row in agent_fleet.outage_rows(runtime, settings, folder / "out", log, only):
        yield row


def publish(name: str, commit: str, rows: Sequence[Row]) -> None:
    """Write the page anew; what was found of others before is kept."""
    with KEPT.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = msgspec.json.decode(file.read(), type=dict[str, Found])
        found[name] = joined(found.get(name), commit, rows)
        file.seek(0)
        file.write(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        file.truncate()
        PAGE.write_text(page(found), "utf-8")


def joined(before: Found | None, commit: str, rows: Sequence[Row]) -> Found:
    """Return what was found now, beside the rows that were not tried again."""
    new = {row.scenario for row in rows}
    kept = [row for row in before.rows if row.scenario not in new] if before is not None else []
    earlier = before.commit.split(", ") if before is not None and kept else []
    commits = ", ".join(dict.fromkeys((*earlier, commit)))
    both = tuple(sorted((*kept, *rows), key=_place))
    return Found(rows[0].version, datetime.now(UTC).date().isoformat(), commits, machine(), both)


def page(found: Mapping[str, Found]) -> str:
    """Return the page."""
    names = sorted(found)
    scenarios = max(([row.scenario for row in one.rows] for one in found.values()), key=len)
    head = ["| check |", *(f" {name} |" for name in names)]
    lines = ["".join(head), "|---|" + "---|" * len(names)]
    lines.append("| version |" + "".join(f" {found[name].version} |" for name in names))
    for scenario in scenarios:
        cells = (_cell(found[name].rows, scenario) for name in names)
        lines.append(f"| {scenario} |" + "".join(f" {cell} |" for cell in cells))
    lines.append("| tried on |" + "".join(f" {found[name].day} |" for name in names))
    lines.append("| tried at |" + "".join(f" {found[name].commit} |" for name in names))
    introduction = INTRODUCTION.format(machine=found[names[0]].machine)
    notes = [
        f"- {name}, {row.scenario}: {_plain(row.found)}"
        + (f" (expected: {row.expected})" if row.passed is False else "")
        for name in names
        for row in found[name].rows
        if row.passed is not True
    ]
    said = "\n".join(notes) or "Nothing."
    return f"{introduction}\n" + "\n".join(lines) + f"\n\n## What is not *yes*\n\n{said}\n"


def machine() -> str:
    """Return what this computer is."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{platform.system()}, {os.cpu_count()} cores, {pages >> 30} GiB"


def code() -> str:
    """Return the commit of this checkout, and whether its program differs from that."""
    asked = ("git", "-C", str(REFERENCE), "describe", "--always", "--abbrev=10", "--match=")
    commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    source = ("git", "-C", str(REFERENCE.parents[1]), "diff", "--quiet", "HEAD", "--", "src")
    same = subprocess.run(source, capture_output=True, check=False).returncode == 0
    return commit if same else f"{commit} and changes"


def tell(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _place(row: Row) -> int:
    checks = [one.name for one in agent_checks.CHECKS]
    return [*checks, agent_fleet.TOOL, *agent_fleet.OUTAGES].index(row.scenario)


def _cell(rows: Sequence[Row], scenario: str) -> str:
    row = next((row for row in rows if row.scenario == scenario), None)
    if row is None:
        return "not tried"
    took = f", {row.duration_ms / 1_000:.0f} s" if row.passed else ""
    return f"{_MARKS[row.passed]}{took}"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:300]


def _line(row: Row) -> str:
    mark = {True: "ok", False: "FAIL", None: "-"}[row.passed]
    took = row.duration_ms / 1_000
    return f"{row.runtime:<10} {row.scenario:<20} {mark:<5} {took:6.1f} s  {_plain(row.found)}"


if __name__ == "__main__":
    sys.exit(main())
