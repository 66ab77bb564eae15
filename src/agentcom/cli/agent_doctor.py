"""Checks of installed agent CLIs: which are there, and what came of each check."""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agentcom.cli import enrol
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.sidecar.runtime import base
from agentcom.testing import agent_checks, agent_fleet
from agentcom.testing.mock_llm import server
from agentcom.testing.mock_llm.answers import Entry

CLI_FOLDER: Final = ".agent-clis"


def check(cli: str | None, binary: str | None) -> list[dict[str, Any]]:
    """Return one row for each check of each wanted CLI.

    Raises:
        CommandFailed: none of them is installed.
    """
    found = {
        name: runtime for name, runtime in enrol.runtimes().items() if name not in enrol.NO_CLI
    }
    if cli is not None and cli not in found:
        raise CommandFailed(
            f"there is no runtime {cli}",
            hint=f"agentcom agent doctor {next(iter(sorted(found)))}",
            exit_code=Exit.MISSING,
            code="not_found",
        )
    wanted = [cli] if cli is not None else sorted(found)
    programs = {name: binary or program_of(name) for name in wanted}
    installed = {name: path for name, path in programs.items() if path is not None}
    if not installed:
        raise CommandFailed(
            f"{', '.join(wanted)}: not installed",
            hint="put it on PATH, or give --binary",
            exit_code=Exit.MISSING,
            code="not_installed",
        )
    return asyncio.run(_check_all({name: found[name] for name in installed}, installed))


def program_of(name: str) -> str | None:
    """Return where a CLI is: on PATH, else in `.agent-clis` here."""
    here = Path(CLI_FOLDER, name, "bin", name).absolute()
    return shutil.which(name) or (str(here) if here.exists() else None)


async def _check_all(
    runtimes: Mapping[str, base.Runtime], programs: Mapping[str, str]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="agentcom-doctor-"))
    log: list[Entry] = []
    try:
        async with server.serve(log=log.append) as model:
            for name, runtime in runtimes.items():
                settings = {
                    "base_url": model.url,
                    "model": "scripted",
                    "binary": programs[name],
                }
                bench = agent_checks.Bench(runtime, settings, folder / name, log)
                found = [await bench.row(check) for check in agent_checks.CHECKS]
                found.append(await agent_fleet.tool_row(runtime, settings, folder / name))
                rows += map(agent_checks.as_json, found)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return rows
