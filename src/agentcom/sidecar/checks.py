"""How a result is checked and landed: what the task, the base and the operator say, in that order.

Everything is read from the base commit, never from the agent's branch.
"""

import os

import msgspec

from agentcom.model import errors, limits, project_file
from agentcom.model.project_file import CachedPaths, ProjectFile, Submodules
from agentcom.model.task import LandPolicy, TaskSpec
from agentcom.model.verification import Check, Report
from agentcom.sidecar import landing
from agentcom.sidecar.config import Settings
from agentcom.sidecar.repositories import Cache


class CheckPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is run on a commit, and what happens to it then."""

    checks: tuple[Check, ...] = ()
    setup: tuple[Check, ...] = ()
    environment: dict[str, str] = {}
    """Variables of set-up, agent and checks, beside what each has anyway."""
    modules: bool = False
    """Whether the files of submodules are there."""
    cache: CachedPaths = CachedPaths()
    """What set-up makes, if it may be kept."""
    land: LandPolicy = LandPolicy.BRANCH
    corrections: int = limits.CORRECTIONS
    """How often the agent may mend what the checks find."""


async def plan(
    spec: TaskSpec, settings: Settings, cache: Cache | None, base_commit: str | None
) -> CheckPlan:
    """Return the checks of the task, else of the base's file, else those that a person confirmed.

    Raises:
        InvalidInput: a command or the base's file is not understood.
        GitFailed: the base's file could not be read.
    """
    wanted = tuple(project_file.parse_command(command) for command in spec.verify)
    if cache is None or base_commit is None:
        return CheckPlan(checks=wanted, corrections=_or(spec.corrections, limits.CORRECTIONS))
    says = await landing.read_project_file(cache, base_commit)
    confirmed = settings.repositories.get(cache.url)
    fallback = confirmed.verify if confirmed is not None else ()
    return CheckPlan(
        checks=wanted or says.verify or tuple(map(project_file.parse_command, fallback)),
        setup=says.setup,
        environment=_environment(says),
        modules=says.submodules is Submodules.FETCH,
        cache=says.cache,
        land=says.land if spec.land is None else spec.land,
        corrections=_or(spec.corrections, says.corrections),
    )


def _environment(says: ProjectFile) -> dict[str, str]:
    passed = {name: os.environ[name] for name in says.pass_env if name in os.environ}
    return {**passed, **says.env}


def _or(wanted: int | None, otherwise: int) -> int:
    return otherwise if wanted is None else wanted


async def plan_again(
    spec: TaskSpec,
    settings: Settings,
    cache: Cache,
    *,
    checked_on: str | None,
    base: str,
    first: Report | None,
) -> CheckPlan:
    """Return the checks of work that was checked before, now that its base moved to `base`.

    They are those of today's base and those that made the work good (`first`, where it is known).

    Raises:
        Conflict: this machine does not have those checks, so it can tell nothing about the work.
        ProjectFileInvalid: a command or the base's file is not understood.
        GitFailed: the base's file could not be read.
    """
    now = await plan(spec, settings, cache, base)
    before = now if checked_on in {None, base} else await plan(spec, settings, cache, checked_on)
    known = {check.what for check in now.checks}
    wanted = (*now.checks, *(check for check in before.checks if check.what not in known))
    ran = {check.name for check in first.checks} if first is not None else set()
    missing = ran - {check.name for check in (*wanted, *now.setup, *before.setup)}
    if missing or not wanted:
        lacks = ", ".join(sorted(missing)) or "any check of this repository"
        raise errors.Conflict(
            f"the base moved and this machine does not have {lacks}: not landed unverified; "
            f"confirm the checks here, name them in {project_file.FILE_NAME}, or merge by hand"
        )
    return msgspec.structs.replace(now, checks=wanted)
