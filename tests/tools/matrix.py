"""Run every driver through every check, and write docs/reference/drivers.md from what came of it.

    python -m tests.tools.matrix [CLI ...]

One program at a time; what was found of the others before is kept, with its date.
"""

import argparse
import asyncio
import os
import platform
import shutil
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
    "the last two) on your computer.\n\n"
    "*yes*: the verdict, its class and what was left are as they should be. *-*: this program "
    "cannot do it. **no**: see below.\n"
)


class Found(msgspec.Struct, frozen=True):
    """What was found of one program, and on which day."""

    version: str
    day: str
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
    try:
        async with server.serve(log=log.append) as model:
            settings = {"base_url": model.url, "model": "scripted", "binary": program}
            if runtime.name in agent_checks.WITHOUT_MODEL:
                settings = {}
            async for row in found_of(runtime, settings, folder, log, only):
                rows.append(row)
                tell(_line(row))
                publish(runtime.name, rows)
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


def publish(name: str, rows: Sequence[Row]) -> None:
    """Write the page anew; what was found of others before is kept."""
    found = msgspec.json.decode(KEPT.read_bytes(), type=dict[str, Found]) if KEPT.exists() else {}
    day = datetime.now(UTC).date().isoformat()
    new = {row.scenario for row in rows}
    kept = found[name].rows if name in found else ()
    both = sorted((*(row for row in kept if row.scenario not in new), *rows), key=_place)
    found[name] = Found(rows[0].version, day, machine(), tuple(both))
    KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    PAGE.write_text(page(found), "utf-8")


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
