"""`agentcom demo`: the product's main promise, shown in front of you in some fifteen seconds."""

import sys
import time
from pathlib import Path
from typing import Final

import click

RUNTIMES: Final = ("test", "codex", "claude")


@click.command()
@click.option("--runtime", type=click.Choice(RUNTIMES), default="test", show_default=True)
@click.option("--keep", is_flag=True, help="Keep the folder, also on success.")
@click.option("--folder", type=click.Path(path_type=Path), help="By default a new one in /tmp.")
def demo(runtime: str, keep: bool, folder: Path | None) -> int:
    """Run three agents on a real git repository, and kill one of the machines on purpose.

    A hub and three sidecars start as processes of yours, on loopback only. Six tasks with
    dependencies make a project's tests pass. In the middle one machine is killed; its task goes
    on elsewhere from the last checkpoint, and what the killed one had is refused, and kept.

    \b
    Examples:
      agentcom demo
      agentcom demo --runtime codex --keep
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    began = time.monotonic()
    model = "no key" if runtime == "test" else f"{runtime} with a scripted model, no key"
    click.echo(f"3 agents, real git, {model}; lease 3 s (normally 20 s)")
    sys.stdout.flush()
    from agentcom.cli import demo_run

    return demo_run.main(runtime=runtime, keep=keep, folder=folder, began=began)
