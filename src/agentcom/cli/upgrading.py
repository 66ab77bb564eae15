"""How another version takes over, step by step, and how it is taken back.

    installing --> stopping --> starting --> done
         |             |            |
         +-------------+------------+--> undoing --> restoring --> as before

Each step is written down before it is begun, and can be begun again: whoever is killed leaves a
file from which `agentcom upgrade --resume` goes on. What the new version does is done by processes
of it, since this one still has the old code; what the old version does after it is back, by
processes of that.
"""

import contextlib
import importlib.metadata
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agentcom import app
from agentcom.cli import background, context, installed, output, services
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.installed import Kept
from agentcom.cli.upgrade_plan import Plan, Step, alone, folder, forget, note, unfinished
from agentcom.hub import config as hub_config
from agentcom.hub.clock import SystemClock
from agentcom.model import backup
from agentcom.model.errors import AgentComError

LOOK_S: Final = 120.0
"""The checks of `agentcom doctor --scratch` on a busy small machine."""
UP_S: Final = 180.0
"""A start that brings a large store to another format."""
BACK_S: Final = 600.0
"""Stop, put the store back, start: as long as a copy of the store takes, and more."""
STARTS: Final = 2
"""A hub that is killed as it starts, by a person or for want of memory, is no bad version."""
_SPARE_BYTES: Final = 64 << 20
_COPIES: Final = 2
"""Of the store: one before the upgrade, and the one that a change of format makes by itself."""


def run(*, version: str | None, source: str | None) -> tuple[str, str]:
    """Install a version and go on with it; return the version of before and the one of now.

    Raises:
        CommandFailed: it cannot be installed here, or does not work; then the old one is back.
    """
    with alone():
        if unfinished() is not None:
            raise CommandFailed(
                "an upgrade was interrupted",
                hint="agentcom upgrade --resume",
                exit_code=Exit.STALE,
                code="conflict",
            )
        installed.check_place()
        old = importlib.metadata.version(installed.PACKAGE)
        wanted = source or (f"{installed.PACKAGE}=={version}" if version else installed.PACKAGE)
        _check_room()
        kept = installed.keep(wanted, folder())
        plan = Plan(
            step=Step.INSTALLING,
            old=old,
            names=tuple(_running()),
            service=services.active(),
            wheels=kept.wheels,
            added=kept.added,
        )
        note(plan)
        try:
            installed.install(wanted)
            plan = note(plan, new=_version())
            _look()
        except CommandFailed as error:
            plan = note(plan, step=Step.UNDOING, why=error.message)
        if plan.step is Step.INSTALLING and plan.new == old:
            forget()
            return old, old
        if plan.step is Step.INSTALLING:
            plan = note(plan, step=Step.STOPPING)
        plan = _forward(plan)
    return _ended(plan)


def resume() -> tuple[str, str]:
    """Go on with an upgrade that was interrupted; return as `run`.

    Raises:
        CommandFailed: there is none, someone is at it, or it was taken back.
    """
    with alone():
        plan = unfinished()
        if plan is None:
            raise CommandFailed("no upgrade was interrupted", hint="agentcom upgrade")
        if plan.step is Step.INSTALLING:  # half of the packages may be there
            plan = note(plan, step=Step.UNDOING, why="the upgrade was interrupted")
        if plan.step is Step.RESTORING:
            _restore(plan)
            return plan.new, plan.old
        plan = _forward(plan)
    return _ended(plan)


def restart() -> None:
    """Start what runs here anew, with the program that is installed now.

    Raises:
        CommandFailed: it does not come up.
    """
    names, service = _running(), services.active()
    if not names and not service:
        output.talk("note: nothing runs here: agentcom up")
        return
    _stop(names, service=service)
    _start(names, service=service)


# Forward ------------------------------------------------------------------------------------------


def _forward(plan: Plan) -> Plan:
    """Do the steps that are left; return the plan as it ended: started, or with old packages."""
    try:
        if plan.step is Step.STOPPING:
            _stop(plan.names, service=plan.service)
            plan = note(plan, step=Step.STARTING, copy=_copied())
        if plan.step is Step.STARTING:
            _start_patiently(plan)
            forget()
            return plan
    except (AgentComError, OSError) as error:
        plan = note(plan, step=Step.UNDOING, why=_words(error))
    installed.put_back(Kept(plan.wheels, plan.added))
    if plan.copy is None and set(plan.names) <= set(_running()):
        forget()  # nothing was stopped
        return plan
    return note(plan, step=Step.RESTORING)


def _ended(plan: Plan) -> tuple[str, str]:
    """Return the versions; what is left of taking it back is done by the version that is back.

    Raises:
        CommandFailed: it was taken back.
    """
    if plan.step is Step.STARTING:
        return plan.old, plan.new
    also = _give_back(plan) if plan.step is Step.RESTORING else ""
    raise CommandFailed(
        f"{plan.why}; version {plan.old} is installed again{also}",
        hint="agentcom doctor" if not also else f"less {context.home() / 'logs' / 'hub.log'}",
    )


def _give_back(plan: Plan) -> str:
    """Have the old version start as it was; return what to add to the refusal if it does not."""
    done = installed.run(*background.program("upgrade", "--resume"), bound_s=BACK_S)
    for line in done.stderr.splitlines():
        if line.startswith("note: "):
            output.talk(line)
    if done.returncode == 0:
        return ""
    return f"; and {plan.old} did not start again: {done.stderr.strip()}"


def _start_patiently(plan: Plan) -> None:
    for _ in range(STARTS - 1):
        if not _failing(plan):
            return
        _stop(plan.names, service=plan.service)
    _start(plan.names, service=plan.service)


def _failing(plan: Plan) -> bool:
    try:
        _start(plan.names, service=plan.service)
    except CommandFailed:
        return True
    return False


def _start(names: Sequence[str], *, service: bool) -> None:
    if service:
        services.begin()
        if not background.wait_for(background.all_up, timeout_s=UP_S):
            raise CommandFailed("the service did not come up", hint="agentcom service show")
    elif names:
        agents = [] if "sidecar" in names else ["--no-agents"]
        installed.ask(*background.program("up", *agents), bound_s=UP_S)
    if "hub" in names:  # it has said that it is ready; now it has to answer
        installed.ask(*background.program("status"), bound_s=LOOK_S)
    for name in names:
        if name not in ("hub", "sidecar"):
            output.talk(f"note: {name} has stopped: agentcom sidecar run --home FOLDER")


def _stop(names: Sequence[str], *, service: bool) -> None:
    if service:
        services.end()
    for name in names:
        background.stop(name)
    _end_nameless()


def _end_nameless() -> None:
    """End a hub of this home that nobody has recorded: who started it was killed meanwhile."""
    try:
        pid = int(app.files.lock(context.hub_home()).read_bytes() or b"0")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if os.fsencode(context.hub_home()) in words and b"run" in words:
        process = background.Process(pid, background.start_time(pid))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        background.wait_for(lambda: not process.alive, timeout_s=background.STOP_S)


def _running() -> list[str]:
    return [name for name in background.recorded() if background.running(name) is not None]


def _version() -> str:
    return installed.ask(*background.program("--version"), bound_s=LOOK_S).split()[-1]


def _look() -> None:
    """Have the new version try itself in a scratch folder, while the old one still serves."""
    installed.ask(*background.program("doctor", "--scratch"), bound_s=LOOK_S)


# The store ----------------------------------------------------------------------------------------


def _check_room() -> None:
    store = app.files.path_of(context.hub_home())
    if store.exists():
        needed = _COPIES * store.stat().st_size + _SPARE_BYTES
        installed.check_room(store.parent, needed, "for copies of the store")


def _copied() -> str | None:
    """Copy the store of the hub that has just stopped; return the copy's name."""
    home = context.hub_home()
    if not app.files.path_of(home).exists():
        return None
    config = hub_config.load(flags={"home": home.absolute()})
    return app.open_copies(config.backup_folder).take(home, SystemClock().now).name


def _restore(plan: Plan) -> None:
    """Give the old version a store that it can read, and start it."""
    _stop(plan.names, service=plan.service)
    if plan.copy is not None and _is_newer():
        config = hub_config.load(flags={"home": context.hub_home().absolute()})
        _put_back(config.backup_folder, plan.copy, config)
    _start(plan.names, service=plan.service)
    forget()


def _is_newer() -> bool:
    have, known = app.files.formats(context.hub_home())
    return have > known


def _put_back(copies: Path, name: str, config: hub_config.HubConfig) -> None:
    try:  # with the journal, if there is one, what the new version took in is there, too
        made = app.open_files(config.home).restore(copies, name=name, point=backup.NEWEST)
    except AgentComError:
        made = app.open_files(config.home).restore(copies, name=name, point=backup.COPY_ONLY)
    output.talk(
        f"note: the store is that of {name}, and {made.replayed} batches since;"
        f" what the newer version made of it is in {made.replaced}"
    )
    if made.lost_count:
        first = ", ".join(task[-6:] for task in made.lost[:10])
        output.talk(
            f"note: {made.lost_count} tasks that the newer version took in are lost: {first}"
        )


def _words(error: AgentComError | OSError) -> str:
    return error.message if isinstance(error, AgentComError) else str(error)
