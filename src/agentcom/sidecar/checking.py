"""Running the declared checks on a commit: with its submodules, its set-up and its variables."""

from pathlib import Path

from agentcom.model.verification import Report
from agentcom.sidecar import changes, setting_up
from agentcom.sidecar import verify as verification
from agentcom.sidecar.checks import CheckPlan
from agentcom.sidecar.repositories import Cache


async def run(
    plan: CheckPlan,
    cache: Cache,
    where: Path,
    *,
    base: str,
    commit: str,
    tag: str,
    confined: verification.Confined | None = None,
) -> Report:
    """Return what the checks find in `where`, a clean checkout of `commit`, made for `base`.

    Raises:
        Unfit: a submodule comes from where the base does not take any.
        GitFailed: what the commit changes could not be read, or a submodule's origin is away.
    """
    setup = await setting_up.checked_out(cache, commit, where, plan, base=base)
    change = await changes.read(cache, base, commit, plan.checks)
    return await verification.verify(
        where,
        plan.checks,
        commit=commit,
        setup=setup,
        attempt=tag,
        environment=plan.environment,
        confined=confined,
        change=change,
        base=base,
    )
