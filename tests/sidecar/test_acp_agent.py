"""Agents of the Agent Client Protocol that behave badly, before the sidecar's own means."""

import asyncio
from pathlib import Path

import pytest

from agentcom.model.failure import FailureClass
from agentcom.sidecar import process, processes
from agentcom.sidecar.runtime import base
from agentcom.testing import scenario
from agentcom.testing.waiting import until
from tests.sidecar.driving import track

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

LONG = scenario.render([scenario.Say("I wait."), scenario.Shell(("sleep", "120"))])


@pytest.mark.parametrize(
    ("name", "prompt", "failure"),
    [
        ("acp,login", "<<mock:edit>>", FailureClass.AUTH),
        ("acp,version", "<<mock:edit>>", FailureClass.AGENT),
        ("acp", "<<mock:crash>>", FailureClass.CRASHED),
        ("acp", "<<mock:refuse>>", FailureClass.REFUSED),
        ("acp", "<<mock:quota-reset>>", FailureClass.QUOTA),
        ("acp", "<<mock:garbage>>", None),
        ("acp", "<<mock:huge>>", None),
    ],
)
async def test_what_goes_wrong_is_told_apart(
    tmp_path: Path, name: str, prompt: str, failure: FailureClass | None
) -> None:
    async with track(name, tmp_path) as agent:
        verdict = await agent.run(prompt)

        assert verdict.failure is failure, verdict.message
        assert not agent.left()


@pytest.mark.parametrize("name", ["acp,forgets", "acp,no-load"])
async def test_a_session_that_is_gone_is_begun_anew(tmp_path: Path, name: str) -> None:
    async with track(name, tmp_path) as agent:
        verdict = await agent.run("<<mock:edit>>", resume="long-gone")

        assert verdict.failure is None
        assert verdict.session != "long-gone"


async def test_who_ignores_a_cancel_and_stays_is_ended_with_all_it_started(
    tmp_path: Path,
) -> None:
    async with track("acp,deaf,stays", tmp_path) as agent:
        running = await agent.start(LONG)
        following = asyncio.create_task(agent.follow(running))
        await until(lambda: agent.tool is not None)

        ended = await running.stop(base.Stop.CANCELLED)
        await following

        assert (ended.signal, ended.stop) == (15, base.Stop.CANCELLED)
        assert not agent.left()


async def test_a_stop_without_a_sidecar_also_asks_first(tmp_path: Path) -> None:
    """A deadline passes while nobody follows: the supervisor knows what to say."""
    async with track("acp", tmp_path) as agent:
        agent.grace_ms = 10_000
        running = await agent.start(LONG)
        following = asyncio.create_task(agent.follow(running))
        await until(lambda: agent.tool is not None)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

        alone = await process.attach(running.attempt_dir)
        assert alone is not None
        ended = await alone.stop(base.Stop.DEADLINE)
        verdict = await agent.follow(alone)

        assert (ended.code, ended.stop) == (0, base.Stop.DEADLINE)
        assert verdict.failure is FailureClass.DEADLINE
        assert [one.stop for one in agent.events() if isinstance(one, base.TurnEnded)] == [
            "cancelled"
        ]
