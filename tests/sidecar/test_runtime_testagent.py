import contextlib
import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model.failure import FailureClass
from agentcom.sidecar import process, processes
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.testagent import TestAgent
from agentcom.testing import scenario


def job(root: Path, prompt: str, *, resume: str | None = None) -> base.Job:
    worktree = root / "worktree"
    worktree.mkdir(exist_ok=True)
    return base.Job(
        task="t1",
        attempt=f"t1-1.1-{os.getpid()}-{root.name}",
        prompt=prompt,
        task_file=str(root / "task.json"),
        worktree=str(worktree),
        home=str(root / "home"),
        resume=resume,
        environment={"PATH": os.environ["PATH"]},
    )


def git(worktree: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", "-C", worktree, *arguments], text=True)


async def start(root: Path, steps: list[scenario.Step] | str) -> process.AgentProcess:
    prompt = steps if isinstance(steps, str) else scenario.render(steps)
    launch = TestAgent().launch(job(root, prompt))
    return await process.start(root / "attempt", launch, limits=process.ProcessLimits(grace_ms=300))


async def run(
    root: Path, steps: list[scenario.Step] | str
) -> tuple[list[base.RuntimeEvent], base.Verdict]:
    running = await start(root, steps)
    parser = TestAgent().parser()
    events: list[base.RuntimeEvent] = []
    async for _, line in running.lines():
        events.extend(parser.feed(line))
    return events, parser.finish(await running.wait())


async def test_an_edit_is_one_whole_turn(tmp_path: Path) -> None:
    wanted: list[scenario.Step] = [
        scenario.Say("I begin"),
        scenario.Write("src/a.txt", "text\n"),
        scenario.Say("I am done"),
    ]
    events, verdict = await run(tmp_path, wanted)

    assert (tmp_path / "worktree/src/a.txt").read_text() == "text\n"
    assert [type(event).__name__ for event in events] == [
        *("SessionStarted", "Text", "ToolStarted", "ToolEnded", "Text", "Usage", "TurnEnded")
    ]
    assert verdict.failure is None
    assert verdict.summary == "I am done"
    assert verdict.session
    assert verdict.usage.output > 0


async def test_a_commit_is_made_without_any_git_settings(tmp_path: Path) -> None:
    worktree = Path(job(tmp_path, "").worktree)
    git(worktree, "init", "-q")
    _, verdict = await run(
        tmp_path, [scenario.Write("a.txt", "a"), scenario.Commit("Add a; $(id)")]
    )

    assert verdict.failure is None
    assert git(worktree, "log", "--format=%s") == "Add a; $(id)\n"


async def test_the_newest_marker_wins(tmp_path: Path) -> None:
    _, verdict = await run(tmp_path, "first <<mock:auth>>, and later <<mock:say>>")

    assert verdict.failure is None


async def test_the_task_file_speaks_when_the_prompt_names_no_scenario(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text(json.dumps({"prompt": "<<mock:quota>>", "id": "t1"}))
    _, verdict = await run(tmp_path, "-read the task file")

    assert verdict.failure is FailureClass.QUOTA


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("auth", FailureClass.AUTH),
        ("rate-limit", FailureClass.RATE_LIMIT),
        ("model-down", FailureClass.MODEL_UNAVAILABLE),
        ("refuse", FailureClass.REFUSED),
        ("context-full", FailureClass.CONTEXT_FULL),
        ("crash", FailureClass.CRASHED),
        ("no-such-scenario", FailureClass.AGENT),
    ],
)
async def test_a_fault_has_its_class(tmp_path: Path, name: str, failure: FailureClass) -> None:
    _, verdict = await run(tmp_path, f"<<mock:{name}>>")

    assert verdict.failure is failure
    assert verdict.message


async def test_exit_zero_without_a_final_record_is_no_success(tmp_path: Path) -> None:
    _, verdict = await run(tmp_path, [scenario.Say("nearly"), scenario.ExitWith(0)])

    assert verdict.failure is FailureClass.CRASHED


async def test_a_retry_loop_shows_as_the_same_tool_again_and_again(tmp_path: Path) -> None:
    events, _ = await run(tmp_path, [scenario.Loop(4)])

    titles = [event.title for event in events if isinstance(event, base.ToolStarted)]
    assert titles == ["read hello.txt"] * 4


async def test_garbage_and_endless_lines_become_raw_and_change_nothing(tmp_path: Path) -> None:
    wanted: list[scenario.Step] = [
        scenario.Garbage(5_000),
        scenario.Huge(3 << 20),
        scenario.Say("still here"),
    ]
    events, verdict = await run(tmp_path, wanted)

    assert verdict.failure is None
    assert verdict.summary == "still here"
    raw = [event.line for event in events if isinstance(event, base.Raw)]
    assert raw
    assert max(len(line) for line in raw) < 10_000


async def test_a_link_does_not_lead_a_write_out_of_the_worktree(tmp_path: Path) -> None:
    (Path(job(tmp_path, "").worktree) / "out").symlink_to(tmp_path)
    _, verdict = await run(tmp_path, [scenario.Write("out/leak.txt", "x")])

    assert verdict.failure is FailureClass.AGENT
    assert not (tmp_path / "leak.txt").exists()


async def test_an_orphan_dies_with_a_hanging_agent(tmp_path: Path) -> None:
    running = await start(tmp_path, "<<mock:orphan>>")
    orphan = 0
    async with contextlib.aclosing(running.lines()) as lines:
        async for _, line in lines:
            event = msgspec.json.decode(line, type=base.RuntimeEvent)
            if isinstance(event, base.Text):
                orphan = int(event.text.split()[1])
                break
    assert processes.read_entry(orphan) is not None

    ended = await running.stop(base.Stop.NO_PROGRESS)
    assert processes.read_entry(orphan) is None
    assert TestAgent().parser().finish(ended).failure is FailureClass.NO_PROGRESS


async def test_it_waits_for_what_others_do(tmp_path: Path) -> None:
    running = await start(tmp_path, [scenario.WaitFor("go"), scenario.Say("went")])
    (tmp_path / "worktree/go").touch()

    assert await running.wait() == base.Exit(code=0)


async def test_a_resumed_run_keeps_its_session(tmp_path: Path) -> None:
    launch = TestAgent().launch(job(tmp_path, "<<mock:say>>", resume="session-7"))
    running = await process.start(tmp_path / "attempt", launch)
    parser = TestAgent().parser()
    async for _, line in running.lines():
        parser.feed(line)

    assert parser.finish(await running.wait()).session == "session-7"


def test_a_long_prompt_goes_by_the_task_file(tmp_path: Path) -> None:
    launch = TestAgent().launch(job(tmp_path, "x" * 200_000))

    assert not any(argument.startswith("--prompt") for argument in launch.argv)


@given(st.lists(st.binary(max_size=200)))
def test_no_bytes_upset_the_parser(lines: list[bytes]) -> None:
    parser = TestAgent().parser()
    for line in lines:
        parser.feed(line)

    assert parser.finish(base.Exit(code=0)).failure is not None
