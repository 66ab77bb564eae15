"""The demo itself: it must pass, be quick, and leave nothing, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentcom.cli import agent_doctor, demo_checks, demo_project
from agentcom.cli.demo_checks import Story, Wrong
from agentcom.cli.demo_project import git
from agentcom.model.ids import TaskId
from agentcom.testing import scenario
from agentcom.testing.scenario import Shell, Write

LIMIT_S = 150
"""Far beyond what it takes, 20 s on two busy cores: only a demo that hangs comes here."""
COMMAND = [sys.executable, "-P", "-m", "agentcom.cli.main", "demo"]


def processes_of(folder: Path) -> list[int]:
    """The processes whose command line or working directory names the folder."""
    found = []
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            words += str(Path(f"/proc/{pid}/cwd").readlink())
        except OSError:
            continue
        if str(folder) in words and pid != os.getpid():
            found.append(pid)
    return found


@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.xdist_group("demo")
def test_the_demo_passes_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "demo"

    done = subprocess.run(
        [*COMMAND, "--folder", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )

    lines = done.stdout.splitlines()
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert lines[0] == "3 agents, real git, no key; lease 3 s (normally 20 s)"
    assert lines[-1].endswith("PASS main green, 6/6 merged, 0 lost")
    assert sum("SIGKILL agent + sidecar" in line for line in lines) == 1
    assert sum("REFUSED, kept" in line for line in lines) == 1
    assert not folder.exists()
    assert processes_of(folder) == []


@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.xdist_group("demo")
def test_a_demo_that_is_interrupted_ends_its_processes_and_keeps_its_folder(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "demo"
    with subprocess.Popen(
        [*COMMAND, "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "starts" in line:
                demo.send_signal(signal.SIGTERM)
                break
        _, said = demo.communicate(timeout=LIMIT_S)

    assert demo.returncode == 130
    assert f"kept: {folder}" in said
    assert processes_of(folder) == []


@pytest.mark.cli
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runtime", ["codex", "claude"])
def test_the_demo_passes_with_a_real_program(tmp_path: Path, runtime: str) -> None:
    if agent_doctor.program_of(runtime) is None:
        pytest.skip(f"{runtime} IS NOT INSTALLED: run python tests/tools/install_clis.py")

    done = subprocess.run(
        [*COMMAND, "--runtime", runtime, "--folder", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, (done.stdout, done.stderr)


def test_the_scripts_turn_a_red_project_green(tmp_path: Path) -> None:
    origin = demo_project.make_origin(tmp_path)
    work = tmp_path / "project"
    tests = [sys.executable, "-m", "unittest", "-q"]
    before = subprocess.run(tests, cwd=work, capture_output=True, check=False).returncode

    for spec in demo_project.tasks(origin, tmp_path / "go"):
        for step in scenario.steps(spec.prompt):
            if isinstance(step, Write):
                (work / step.path).write_text(step.text)
            elif isinstance(step, Shell):
                subprocess.run(step.argv, cwd=work, capture_output=True, check=True)

    after = subprocess.run(tests, cwd=work, capture_output=True, check=False).returncode
    assert (before, after) == (1, 0)


def test_a_task_that_was_lost_is_found_out(tmp_path: Path) -> None:
    demo_project.make_origin(tmp_path)
    story = Story(victim=TaskId("x"), checkpoint="", tasks=(), results=())

    with pytest.raises(Wrong, match="no second attempt"):
        demo_checks.check(tmp_path, story)


def test_a_base_that_moved_back_is_found_out(tmp_path: Path) -> None:
    origin = demo_project.make_origin(tmp_path)
    work = tmp_path / "project"
    identity = ("-c", "user.name=T", "-c", "user.email=t@agentcom.invalid")
    git(work, *identity, "commit", "-q", "--amend", "--allow-empty", "-m", "Other")
    git(work, "push", "-q", "--force", str(origin), "main")

    with pytest.raises(Wrong, match="forward"):
        demo_checks.check(tmp_path, Story(victim=TaskId("x"), checkpoint="", tasks=(), results=()))


def test_a_process_that_died_by_itself_is_found_out(tmp_path: Path) -> None:
    story = Story(victim=TaskId("x"), checkpoint="", tasks=(), results=(), dead=("cy",))

    with pytest.raises(Wrong, match="cy died"):
        demo_checks.check(tmp_path, story)
