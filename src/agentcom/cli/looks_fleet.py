"""What `doctor` asks the hub: how this machine, its agents and waiting tasks stand."""

import asyncio
import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from agentcom.cli import api, background, context, enrol, output
from agentcom.cli.findings import NONE, OK, Found, bad, odd
from agentcom.model import refs
from agentcom.model.errors import AgentComError
from agentcom.sidecar import leftovers
from agentcom.sidecar.config import AgentConfig, Home
from agentcom.sidecar.confines import Sandbox

TASKS_LOOKED_AT: Final = 20
"""Queued tasks that are asked why; each is a request."""
UNSENT_S: Final = 600
"""A report that is older has not merely been waiting for the next connection."""
LEFT_S: Final = 14 * 86_400
"""The folder of a task that nobody has touched since."""
_GIT_S: Final = 10.0

Row = dict[str, Any]


def machine(*, hub: bool) -> list[Found]:
    """How this computer stands in its fleet; `hub`: whether the hub can be asked."""
    home = Home(context.machine_home())
    if not home.exists():
        return [Found(NONE, "this computer is no machine of a fleet")]
    try:
        mine = home.load().machine
    except AgentComError as error:
        return [bad("secret.readable", error.message, f"chmod 600 {home.root / 'token'}")]
    found = []
    recorded = "sidecar" in background.recorded()
    if background.running("sidecar") is None and not recorded:  # else `processes` has told it
        what = f"nothing runs {home.root}"
        found.append(bad("sidecar.not_running", what, "agentcom up"))
    if hub:
        found += _at_hub(mine.machine, mine.hub)
    return found or [Found(OK, f"at {mine.hub}")]


def agents() -> list[Found]:
    """The agents of this machine, and the programs that could be agents."""
    home = Home(context.machine_home())
    configured = [agent for agent in _configured(home) if not agent.leaving]
    found = [one for agent in configured for one in _agent(agent)]
    checks = enrol.preflight()
    mine = {agent.runtime for agent in configured}
    for check in checks:
        if not check.ready and check.version and check.runtime not in mine:
            what = f"{check.runtime}: {check.problem}"
            found.append(odd("agent.not_logged_in", what, check.fix))
    ready = [f"{check.runtime} {check.version}" for check in checks if check.ready]
    if not ready and not configured:
        others = [check for check in checks if not check.ready and not check.version]
        what = f"none of {', '.join(check.runtime for check in others)} is installed"
        fix = others[0].fix.partition(", or")[0] if others else "agentcom agent add --help"
        found.append(odd("agent.none", what, fix))
    names = [f"{agent.name} ({agent.runtime})" for agent in configured]
    return found or [Found(OK, ", ".join(names or ready))]


def fleet() -> list[Found]:
    """What is paused, and what waits for nobody."""
    with _hub() as hub:
        return [*_pauses(hub), *_waiting(hub)] or [Found(OK, "nothing is paused, nothing in vain")]


def _pauses(hub: api.Hub) -> list[Found]:
    return [_paused(row) for row in hub.pauses()]


def _waiting(hub: api.Hub) -> list[Found]:
    found: list[Found] = []
    lacking: dict[str, tuple[str, int]] = {}
    rows = hub.tasks(states=("queued",), submitter=None, query=None, limit=TASKS_LOOKED_AT)
    for row in rows:
        why = hub.why(row["id"])
        if why.get("missing"):
            needs = ", ".join(why["missing"])
            first, count = lacking.get(needs, (row["id"], 0))
            lacking[needs] = (first, count + 1)
    for needs, (task, count) in lacking.items():
        offered = "+".join(needs.split(", "))
        what = f"{count} of the newest queued tasks need {needs}, such as {task[-6:]}"
        fix = f"agentcom agent add NAME=RUNTIME:capabilities={offered}"
        found.append(odd("task.nobody", what, fix))
    return found


def left() -> list[Found]:
    """What of agents' work is only here."""
    home = Home(context.machine_home())
    if not home.exists():
        return [Found(NONE, "no machine here")]
    found = [*_unsent(home), *_rescued(home), *_folders(home)]
    return found or [Found(OK, "nothing is only here")]


def repository(folder: Path) -> Found:
    """The repository of a folder: whether origin answers, and takes a push."""
    url = _git(folder, "remote", "get-url", "origin")
    if url.returncode != 0:
        return Found(NONE, "not in a repository with an origin")
    place = shlex.quote(str(folder))
    asked = _git(folder, "ls-remote", "--quiet", "origin", "HEAD")
    if asked.returncode != 0:
        what = f"{url.stdout.strip()}: {_last(asked.stderr)}"
        return bad(
            "repo.unreachable", what, f"git -C {place} ls-remote origin, and mend what it says"
        )
    if _git(folder, "rev-parse", "-q", "--verify", "HEAD").returncode != 0:
        return Found(OK, f"{url.stdout.strip()} answers")
    pushed = _git(folder, "push", "--dry-run", "--quiet", "origin", "HEAD:refs/agentcom/doctor")
    if pushed.returncode != 0:
        what = f"{url.stdout.strip()}: {_last(pushed.stderr)}"
        return bad("repo.no_push", what, "get write access, or submit with --repo of a fork")
    return Found(OK, f"{url.stdout.strip()} answers, and takes a push")


def _at_hub(machine_id: str, url: str) -> Iterable[Found]:
    with _hub() as hub:
        if hub.url.rstrip("/") != url.rstrip("/"):
            return  # another hub's machine, which the one of this context knows nothing of
        row = next((row for row in hub.machines() if row["id"] == machine_id), None)
        agents = hub.agents()
    if row is None:
        what = f"{url} knows no machine {machine_id[-6:]}"
        yield bad(
            "machine.removed", what, f"mv {context.machine_home()} {context.machine_home()}.old"
        )
        return
    if row.get("draining"):
        fix = f"agentcom machine drain {row['name']} --off"
        yield odd("machine.drained", f"{row['name']} gets no new tasks", fix)
    for agent in agents:
        if agent["machine"] != machine_id:
            continue
        resume = f"agentcom agent resume {agent['id']}"
        if agent.get("quarantined"):
            yield odd("agent.quarantined", f"{agent['id']}: {agent['quarantined']}", resume)
        elif agent.get("paused"):
            yield odd("agent.paused", f"{agent['id']} gets no new tasks", resume)


def _hub() -> "contextlib.closing[api.Hub]":
    return contextlib.closing(api.Hub(context.load()))


def _paused(row: Row) -> Found:
    kind, _, name = str(row["key"]).partition(":")
    where = "--all" if kind not in ("project", "pool") else f"--{kind} {name}"
    what = f"{row['key']} by {row['by']}" + (f": {row['reason']}" if row.get("reason") else "")
    return odd("fleet.paused", what, f"agentcom resume {where}")


def _configured(home: Home) -> Sequence[AgentConfig]:
    try:
        return home.load().machine.agents if home.exists() else ()
    except AgentComError:
        return ()


def _agent(agent: AgentConfig) -> Iterable[Found]:
    known = enrol.runtimes().get(agent.runtime)
    if known is None:
        what = f"{agent.name}: there is no runtime {agent.runtime} any more"
        yield bad("agent.unready", what, f"agentcom agent rm {agent.name}")
        return
    check = known.preflight(agent.settings)
    if not check.ready:
        yield bad("agent.unready", f"{agent.name}: {check.problem}", check.fix)
    if agent.confines.sandbox is Sandbox.OFF and agent.runtime not in enrol.NO_CLI:
        offers = "+".join(agent.capabilities)
        fix = f"agentcom agent add {agent.name}={agent.runtime}:capabilities={offers}"
        fix += f",slots={agent.slots},sandbox=auto"
        yield odd("sandbox.switched_off", f"{agent.name} sees all that you see", fix)


def _unsent(home: Home) -> Iterable[Found]:
    now = time.time()
    held = sorted((home.outbox / "held").glob("*.json"))
    late = [path for path in held if now - path.stat().st_mtime > UNSENT_S]
    if late:
        what = f"{len(late)} results have not reached the hub for {UNSENT_S // 60} min"
        yield odd("report.unsent", f"{what}, such as {late[0].stem}", "agentcom up")


def _rescued(home: Home) -> Iterable[Found]:
    output.only_errors()
    for cache in leftovers.caches(home):
        for ref in asyncio.run(leftovers.unpushed(cache)):
            name = ref.removeprefix(refs.RESCUES + "/")
            at, origin = f"git -C {shlex.quote(str(cache.path))}", shlex.quote(cache.url)
            fix = f"{at} push {origin} {ref}:refs/heads/rescued/{name} && {at} update-ref -d {ref}"
            yield odd("rescue.unpushed", f"work of task {name} is only in {cache.path}", fix)


def _folders(home: Home) -> Iterable[Found]:
    now = time.time()
    folders = [
        path
        for path in home.repositories.glob("state/*/worktree.json")
        if now - path.stat().st_mtime > LEFT_S
    ]
    if folders and background.running("sidecar") is None:  # a running one tidies up by itself
        what = f"{len(folders)} folders of tasks, the oldest untouched for two weeks"
        yield odd("worktree.left", what, "agentcom up")


def _git(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        return subprocess.run(  # noqa: S603 - git, on a folder of this person
            ["git", "-C", str(folder), *words],  # noqa: S607 - the one on PATH
            env={**os.environ, **quiet},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def _last(said: str) -> str:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return next(
        (line for line in lines if line.startswith(("fatal", "error", "remote"))),
        "".join(lines[:1]),
    )
