"""What `agentcom uninstall` finds here, and how it removes that."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from agentcom.cli import background, context, output, services
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.sidecar import leftovers, survivors
from agentcom.sidecar.config import Home

_MIB: Final = 1 << 20
_SHOWN_MAX: Final = 10


def run(*, dry_run: bool, yes: bool, lose_work: bool) -> None:
    """List what is here, and remove it.

    Raises:
        CommandFailed: something would be lost, or nobody agreed.
    """
    names = [name for name in background.recorded() if background.running(name) is not None]
    homes = [Home(path.parent) for path in sorted(context.home().glob("*/machine.json"))]
    _list(names)
    if not lose_work:
        _refuse_loss(homes)
    if dry_run:
        return
    if not yes:
        output.confirm("Stop and remove all of this?")
    services.remove()
    for name in names:
        background.stop(name)
    _end_attempts(homes)
    shutil.rmtree(context.home(), ignore_errors=True)
    if context.home().exists():  # an agent may have made folders that nobody may write
        _unprotect(context.home())
        shutil.rmtree(context.home())
    click.echo("removed")
    output.talk("note: the program itself: pip uninstall agentcom, or the tool that installed it")


def _list(names: list[str]) -> None:
    for name in names:
        click.echo(f"process\t{name}")
    if services.installed():
        click.echo(f"service\t{services.path()}")
    for path in sorted(context.home().iterdir()) if context.home().is_dir() else ():
        click.echo(f"files\t{path}\t{_size(path) / _MIB:.1f} MiB")


def _refuse_loss(homes: list[Home]) -> None:
    output.only_errors()
    found = [left for home in homes for left in asyncio.run(leftovers.find(home))]
    if not found:
        return
    for left in found[:_SHOWN_MAX]:
        output.talk(f"only here: {left.what}: {left.where}")
    raise CommandFailed(
        f"{len(found)} things would be lost",
        hint="agentcom up, and wait until they have arrived; or: agentcom uninstall --lose-work",
        exit_code=Exit.STALE,
        code="conflict",
    )


def _end_attempts(homes: list[Home]) -> None:
    """End what agents still run: their supervisors outlive the sidecar."""
    for home in homes:
        for place in sorted(home.root.glob("attempts/*/")):
            survivors.kill_survivors(home.tag(place.name), place)


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)


def _unprotect(path: Path) -> None:
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
