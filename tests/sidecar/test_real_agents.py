"""What the agents' real programs do in an attempt of a sidecar, before a scripted model."""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from agentcom.model.result import ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.sidecar import processes, sandbox
from agentcom.sidecar.attempts import Attempts
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.confines import Confines, Sandbox
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.claude import Claude
from agentcom.sidecar.runtime.codex import Codex
from agentcom.testing.mock_llm import server
from tests.sidecar.git_origin import Origin
from tests.sidecar.real_cli import TEST_TIMEOUT_S, installed
from tests.sidecar.sidecar_world import ADA, Told, config, end_all, record

FIXED = "sh -c 'grep -q fixed hello.txt || { echo it must say so: \"<<mock:fix>>\"; exit 1; }'"
"""Fails what the scripted model writes first; its output has it do better."""
RUNTIMES: Mapping[str, base.Runtime] = {"claude": Claude(), "codex": Codex()}

pytestmark = [
    pytest.mark.skipif(not processes.has_table(), reason="looks at /proc"),
    pytest.mark.timeout(TEST_TIMEOUT_S),
    pytest.mark.xdist_group("real-agents"),
]
Site = Callable[[str, Sandbox], tuple[Attempts, Told]]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Return what makes a machine with one agent, by its program and where that runs."""
    made: list[Config] = []
    async with server.serve(log=lambda _entry: None) as model:

        def make(name: str, where: Sandbox) -> tuple[Attempts, Told]:
            settings = {"base_url": model.url, "model": "scripted", "binary": installed(name)}
            confines = Confines(sandbox=where)
            agent = AgentConfig(name=ADA, runtime=name, settings=settings, confines=confines)
            known = config(tmp_path)
            machine = msgspec.structs.replace(known.machine, agents=(agent,))
            known.home.save(machine, "ac_mch_x")
            made.append(known.home.load())
            told = Told()
            return Attempts(made[0], runtimes=RUNTIMES, tell=told.tell), told

        yield make
    for one in made:
        end_all(one.home)


def spec(origin: Origin, *verify: str) -> TaskSpec:
    prompt = "<<mock:edit>> Do what the script says."
    return TaskSpec(title="A task", prompt=prompt, verify=verify, repo=origin.url)


@pytest.mark.parametrize("name", sorted(RUNTIMES))
async def test_a_program_mends_in_its_session_what_the_checks_found(
    name: str, site: Site, tmp_path: Path
) -> None:
    origin = Origin(tmp_path / "forge")
    work, told = site(name, Sandbox.OFF)
    await work.run(record(spec(origin, FIXED)), adopt=False)

    result = told.result
    assert (result.status, result.failure, result.corrections) == (ResultStatus.DONE, None, 1)
    assert result.commit is not None
    assert origin.show(result.commit, "hello.txt") == "hello, fixed"


@pytest.mark.parametrize("name", sorted(RUNTIMES))
async def test_a_program_does_its_task_inside_the_sandbox(
    name: str, site: Site, tmp_path: Path
) -> None:
    found = sandbox.probe()
    if not found.program:
        pytest.skip(f"no sandbox: {found.problem}")
    origin = Origin(tmp_path / "forge")
    work, told = site(name, Sandbox.REQUIRED)
    await work.run(record(spec(origin, "grep -q hello hello.txt")), adopt=False)

    result = told.result
    assert (result.status, result.failure, result.message) == (ResultStatus.DONE, None, "")
    assert result.commit is not None
    assert origin.show(result.commit, "hello.txt") == "hello"
