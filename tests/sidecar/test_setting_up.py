"""Set-up: before the agent, once for the same files, and never from what an agent left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.model.failure import FailureClass
from agentcom.model.task import TaskSpec
from agentcom.model.verification import CheckResult, Report
from agentcom.sidecar import checks, processes, results, setting_up, trees
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.checks import CheckPlan
from agentcom.sidecar.config import Config, Settings
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar.git_origin import BOB, SECOND, Origin, prepare
from tests.sidecar.sidecar_world import WRITE, attempts, config, end_all, prompt, record

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

SETUP = """
setup = "sh make.sh"
[cache]
paths = ["deps"]
key = ["lock"]
"""
MAKE = 'mkdir -p deps && cp lock deps/made && echo "$PWD" >> deps/log && echo run >> "$COUNT"\n'


@pytest.fixture
def count(tmp_path: Path) -> Path:
    path = tmp_path / "count"
    path.touch()
    return path


@pytest.fixture
def origin(tmp_path: Path, count: Path) -> Origin:
    made = Origin(tmp_path / "forge")
    files = {"make.sh": f"COUNT={count}\n{MAKE}", "lock": "1\n", ".gitignore": "deps\n"}
    made.push({".agentcom.toml": SETUP, **files})
    return made


@pytest.fixture
def fleet(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "machine")


async def plan_of(worktree: Worktree) -> CheckPlan:
    return await checks.plan(TaskSpec(title="t"), Settings(), worktree.cache, worktree.base)


async def ready(worktree: Worktree) -> None:
    report = await setting_up.make_ready(worktree, await plan_of(worktree), tag="setup-test")
    assert report is None


def runs(count: Path) -> int:
    return len(count.read_text().splitlines())


async def test_set_up_runs_once_for_the_same_files(
    fleet: Repositories, origin: Origin, count: Path
) -> None:
    one = await prepare(fleet, origin)
    await ready(one)
    await ready(one)
    two = await prepare(fleet, origin, task="t2", agent=BOB)
    await ready(two)

    assert runs(count) == 1
    assert (two.path / "deps/made").read_text() == "1\n"
    assert (two.path / "deps/log").read_text() == f"{one.path}\n"


async def test_another_lock_file_or_command_is_set_up_anew(
    fleet: Repositories, origin: Origin, count: Path
) -> None:
    await ready(await prepare(fleet, origin))
    origin.push({"lock": "2\n"})
    await ready(await prepare(fleet, origin, task="t2"))
    origin.push({".agentcom.toml": SETUP.replace("make.sh", "make.sh now")})
    await ready(await prepare(fleet, origin, task="t3"))
    origin.push({".agentcom.toml": f'env = {{ A = "1" }}\n{SETUP}'})
    last = await prepare(fleet, origin, task="t4")
    await ready(last)

    assert runs(count) == 4
    assert (last.path / "deps/made").read_text() == "2\n"


async def test_what_an_agent_changes_reaches_nobody_else(
    fleet: Repositories, origin: Origin, count: Path
) -> None:
    one = await prepare(fleet, origin)
    await ready(one)
    (one.path / "deps/made").write_text("evil\n")
    (one.path / "deps/more").write_text("evil\n")
    two = await prepare(fleet, origin, task="t2")
    await ready(two)
    async with trees.checkout(two.cache, two.base) as where:
        left = await setting_up.remaining(two.cache, two.base, where, await plan_of(two))
        checked = (where / "deps/made").read_text()

    assert left == ()
    assert sorted(place.name for place in (two.path / "deps").iterdir()) == ["log", "made"]
    assert (two.path / "deps/made").read_text() == checked == "1\n"
    assert runs(count) == 1


async def test_nothing_is_kept_of_a_folder_that_an_agent_has_seen(
    fleet: Repositories, origin: Origin, count: Path
) -> None:
    one = await prepare(fleet, origin)
    (one.path / "deps").mkdir()
    (one.path / "deps/planted").write_text("by the agent of an attempt before")
    again = await prepare(fleet, origin, SECOND)
    assert (again.path / "deps/planted").exists()  # ignored files stay in a task's folder

    await ready(again)
    two = await prepare(fleet, origin, task="t2")
    await ready(two)

    assert runs(count) == 2
    assert not (two.path / "deps/planted").exists()


async def test_nothing_is_kept_of_a_folder_with_an_agents_commits(
    fleet: Repositories, origin: Origin, count: Path
) -> None:
    other = origin.push({"make.sh": f"COUNT={count}\nmkdir deps; echo run >> $COUNT\n"}, "agent/x")
    await ready(await prepare(fleet, origin, depends_on_commits=[other]))

    assert not list((fleet.cache(origin.url).path.parent / setting_up.STOCKS).glob("*"))


async def test_a_stock_is_not_put_where_a_link_leads(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    await ready(worktree)
    plan = await plan_of(worktree)
    victim = tmp_path / "victim"
    victim.mkdir()
    async with trees.checkout(worktree.cache, worktree.base) as where:
        (where / "deps").symlink_to(victim)

        assert await setting_up.remaining(worktree.cache, worktree.base, where, plan) == plan.setup
    assert list(victim.iterdir()) == []


async def test_a_retry_on_the_same_machine_finds_its_folder_warm(
    fleet: Repositories, origin: Origin, count: Path
) -> None:
    await ready(await prepare(fleet, origin))
    second = await prepare(fleet, origin, SECOND)
    await ready(second)
    assert runs(count) == 1

    trees.discard(second.path / "deps")
    await ready(second)
    assert (second.path / "deps/made").exists()


# With an agent -----------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Config]:
    made = config(tmp_path / "house")
    yield made
    end_all(made.home)


async def test_a_set_up_that_fails_is_told_and_no_agent_starts(
    machine: Config, tmp_path: Path
) -> None:
    origin = Origin(tmp_path / "other")
    origin.push({".agentcom.toml": "setup = \"sh -c 'echo no such package; exit 3'\"\n"})
    runner, told = attempts(machine)

    await runner.run(
        record(TaskSpec(title="A task", prompt=prompt(WRITE), repo=origin.url)), adopt=False
    )

    assert told.result.failure is FailureClass.VERIFICATION
    assert "no agent was started" in told.result.message
    assert told.result.message.endswith("no such package")
    assert told.result.report is not None
    assert told.result.report.checks[0].exit_code == 3
    assert told.all(values.Spent) == []
    assert not (machine.home.attempt("t1.7.1") / "task.json").exists()


async def test_a_tool_that_this_machine_lacks_is_this_machines_failure(
    machine: Config, tmp_path: Path
) -> None:
    origin = Origin(tmp_path / "other")
    origin.push({".agentcom.toml": 'setup = "no-such-tool-here"\n'})
    runner, told = attempts(machine)

    await runner.run(
        record(TaskSpec(title="A task", prompt=prompt(WRITE), repo=origin.url)), adopt=False
    )

    assert told.result.failure is FailureClass.WORKSPACE


async def test_agent_and_checks_find_what_set_up_made_and_the_bases_variables(
    machine: Config, origin: Origin, count: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JDK", "/opt/jdk")
    checked = "sh -c 'test $MODE$JDK = x/opt/jdk && cat deps/made hello'"
    more = f'verify = "{checked}"\nenv = {{ MODE = "x" }}\npass_env = ["JDK", "NOT_HERE"]\n'
    origin.push({".agentcom.toml": more + SETUP})
    runner, told = attempts(machine)
    command = ("sh", "-c", "cat deps/made > hello && echo $MODE$JDK >> hello")
    made = TaskSpec(title="A task", command=command, repo=origin.url)

    await runner.run(record(made, agent=BOB), adopt=False)

    assert told.result.failure is None, told.result
    assert told.result.commit is not None
    assert origin.show(told.result.commit, "hello") == "1\nx/opt/jdk"
    assert runs(count) == 1


def test_what_is_said_of_a_set_up_without_output_is_whole() -> None:
    late = CheckResult(name="npm ci", passed=False, timed_out=True)

    said = results.not_ready(Report(commit="c", checks=(late,)))

    assert said.message == "set-up took too long, no agent was started: npm ci"
