"""How a result is checked and landed: what the task, the base and the operator say, in that order.

Everything is read from the base commit, never from the agent's branch.
"""

import msgspec

from agentcom.model import project_file
from agentcom.model.task import LandPolicy, TaskSpec
from agentcom.model.verification import Check
from agentcom.sidecar import landing
from agentcom.sidecar.config import Settings
from agentcom.sidecar.repositories import Cache


class CheckPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is run on a commit, and what happens to it then."""

    checks: tuple[Check, ...] = ()
    setup: tuple[Check, ...] = ()
    land: LandPolicy = LandPolicy.BRANCH


async def plan(
    spec: TaskSpec, settings: Settings, cache: Cache | None, base_commit: str | None
) -> CheckPlan:
    """Return the checks of the task, else of the base's file, else those that a person confirmed.

    Raises:
        ProjectFileInvalid: a command or the base's file is not understood.
        GitFailed: the base's file could not be read.
    """
    wanted = tuple(project_file.parse_command(command) for command in spec.verify)
    if cache is None or base_commit is None:
        return CheckPlan(checks=wanted)
    text = await landing.read_base_file(cache, base_commit, project_file.FILE_NAME)
    says = project_file.parse_project_file(text or "")
    confirmed = settings.repositories.get(cache.url)
    fallback = confirmed.verify if confirmed is not None else ()
    return CheckPlan(
        checks=wanted or says.verify or tuple(map(project_file.parse_command, fallback)),
        setup=says.setup,
        land=says.land if spec.land is None else spec.land,
    )
