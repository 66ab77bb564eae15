import asyncio
import os
import sys
from pathlib import Path

import pytest

from agentcom.model.declaring import of_line
from agentcom.model.verification import Check, CheckKind
from agentcom.sidecar import processes, verify

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

SHORT_GRACE = verify.VerifyLimits(grace_ms=100)
SHORT = verify.VerifyLimits(check_ms_max=300, grace_ms=100)


def sh(script: str, name: str = "check") -> Check:
    return Check(name, ("sh", "-c", script))


def left_of(attempt: str) -> list[int]:
    tag = f"AGENTCOM_ATTEMPT={attempt}".encode()
    return [pid for pid in processes.read_table() if tag in processes.read_environment(pid)]


async def test_exit_zero_of_all_checks_is_verified(tmp_path: Path) -> None:
    report = await verify.verify(tmp_path, [sh("true", "a"), sh("echo hi", "b")], commit="c0ffee")

    assert report.verified
    assert report.commit == "c0ffee"
    assert [(check.name, check.output_tail) for check in report.checks] == [
        ("a", ""),
        ("b", "hi\n"),
    ]


async def test_no_checks_verify_nothing(tmp_path: Path) -> None:
    assert not (await verify.verify(tmp_path, [], commit="c0ffee")).verified


async def test_a_check_that_fails_does_not_hide_the_next(tmp_path: Path) -> None:
    checks = [sh("echo broken >&2; exit 3"), sh("true")]
    report = await verify.verify(tmp_path, checks, commit="c0ffee")

    assert not report.verified
    assert [check.exit_code for check in report.checks] == [3, 0]
    assert report.checks[0].output_tail == "broken\n"


async def test_a_failed_setup_ends_the_verification(tmp_path: Path) -> None:
    setup = [sh("exit 1", "setup")]
    report = await verify.verify(tmp_path, [sh("true")], commit="c0ffee", setup=setup)

    assert [check.name for check in report.checks] == ["setup"]
    assert not report.verified


async def test_checks_run_in_the_worktree_after_the_setup(tmp_path: Path) -> None:
    setup = [sh("echo built > artefact")]
    report = await verify.verify(tmp_path, [sh("cat artefact")], commit="c0ffee", setup=setup)

    assert report.verified
    assert report.checks[-1].output_tail == "built\n"


async def test_a_time_out_kills_the_whole_tree(tmp_path: Path) -> None:
    script = "trap '' TERM; setsid sleep 600 & (sleep 601 &) ; sleep 602"
    report = await verify.verify(tmp_path, [sh(script)], SHORT, commit="c", attempt="verify-tree")

    assert report.checks[0].timed_out
    assert not report.checks[0].passed
    assert report.checks[0].duration_ms >= 300
    assert left_of("verify-tree") == []


async def test_the_checks_own_time_out_counts_too(tmp_path: Path) -> None:
    check = Check("slow", ("sleep", "600"), timeout_ms=100)

    assert (await verify.verify(tmp_path, [check], commit="c")).checks[0].timed_out


async def test_a_check_that_leaves_a_server_behind_passes_and_the_server_dies(
    tmp_path: Path,
) -> None:
    report = await verify.verify(
        tmp_path, [sh("setsid sleep 600 & exit 0")], commit="c", attempt="verify-server"
    )

    assert report.verified
    assert left_of("verify-server") == []


async def test_a_missing_program_is_a_failed_check(tmp_path: Path) -> None:
    report = await verify.verify(tmp_path, [Check("x", ("no-such-tool",))], commit="c")

    assert not report.verified
    assert report.checks[0].exit_code == 127
    assert "no-such-tool" in report.checks[0].output_tail


async def test_a_check_that_is_killed_failed(tmp_path: Path) -> None:
    report = await verify.verify(tmp_path, [sh("kill -9 $$")], commit="c")

    assert (report.checks[0].passed, report.checks[0].exit_code) == (False, -9)


async def test_a_check_sees_no_key_and_a_home_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-secret")
    report = await verify.verify(tmp_path, [sh("env; ls -A $HOME $TMPDIR")], commit="c")

    names = {
        line.split("=")[0] for line in report.checks[0].output_tail.splitlines() if "=" in line
    }
    allowed = {"PATH", "HOME", "TMPDIR", "LANG", "TERM", "CI", "AGENTCOM_ATTEMPT"}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == allowed
    assert f"HOME={os.environ['HOME']}\n" not in report.checks[0].output_tail


async def test_the_tails_of_all_checks_fit_the_bound_and_failures_get_most(tmp_path: Path) -> None:
    flood = "i=0; while [ $i -lt 3000 ]; do echo line number $i; i=$((i+1)); done; echo end; "
    bounds = verify.VerifyLimits(output_tail_bytes=10_000, passed_tail_bytes=500)
    checks = [sh(flood), sh(flood + "exit 1"), sh(flood)]
    report = await verify.verify(tmp_path, checks, bounds, commit="c")

    sizes = [len(check.output_tail) for check in report.checks]
    assert sizes == [500, 9_000, 500]
    assert all(check.output_tail.endswith("end\n") for check in report.checks)


async def test_control_characters_do_not_reach_the_report(tmp_path: Path) -> None:
    report = await verify.verify(
        tmp_path, [sh(r"printf '\033[31mred\033[0m\a\377\0\tok\n'")], commit="c"
    )

    assert report.checks[0].output_tail == "red\ufffd\tok\n"


async def test_cancelling_a_verification_leaves_nothing(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; trap '' TERM; sleep 600 & wait; sleep 600"
    os.mkfifo(tmp_path / "pid")
    running = asyncio.create_task(
        verify.verify(tmp_path, [sh(script)], SHORT_GRACE, commit="c", attempt="verify-cancel")
    )
    pid = int(await asyncio.to_thread((tmp_path / "pid").read_text))
    assert processes.read_entry(pid) is not None
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert left_of("verify-cancel") == []


async def test_a_check_is_never_read_by_a_shell(tmp_path: Path) -> None:
    program = "import os, sys; print(sys.argv[1], os.listdir())"
    argv = (sys.executable, "-c", program, "$(touch pwned); `id`")
    report = await verify.verify(tmp_path, [Check("x", argv)], commit="c")

    assert report.checks[0].output_tail == "$(touch pwned); `id` []\n"


async def test_files_are_looked_for_in_the_tree_as_it_was_committed(tmp_path: Path) -> None:
    (tmp_path / "README").touch()
    checks = [of_line("verify", "exists:README"), of_line("verify", "absent:built")]

    report = await verify.verify(tmp_path, checks, commit="c", setup=[sh("touch built")])

    assert [(check.passed, check.setup) for check in report.checks] == [
        (True, True),
        (True, False),
        (True, False),
    ]


@pytest.mark.parametrize(
    ("script", "at_least", "passed", "said"),
    [
        ("echo 3 passed in 1s", None, True, "3 passed"),
        ("echo 'Ran 0 tests in 0.0s'; echo; echo OK", None, False, "no test ran; none may fail"),
        ("echo 'Ran 0 tests in 0.0s'; echo; echo OK", 0, True, "no test ran"),
        ("echo 1 failed, 3 passed in 1s", None, False, "3 passed, 1 failed; none may fail"),
        ("echo 3 passed in 1s", 4, False, "3 passed; none may fail, and at least 4 must pass"),
        ("true", None, True, ""),
        ("true", 1, False, "its summary is not understood"),
    ],
)
async def test_what_tests_say_counts_beside_their_exit_code(
    tmp_path: Path, script: str, at_least: int | None, passed: bool, said: str
) -> None:
    check = Check("t", ("sh", "-c", script), kind=CheckKind.TESTS, tests_min=at_least)

    (found,) = (await verify.verify(tmp_path, [check], commit="c")).checks

    assert found.passed is passed
    assert found.said.startswith(said)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not bound the data of a process")
async def test_a_check_that_takes_too_much_memory_fails(tmp_path: Path) -> None:
    greedy = (sys.executable, "-c", "x = bytearray(200 << 20)")
    bounded = Check("greedy", greedy, memory_bytes=64 << 20)

    report = await verify.verify(tmp_path, [bounded, Check("free", greedy)], commit="c")

    assert [check.passed for check in report.checks] == [False, True]
    assert "MemoryError" in report.checks[0].output_tail


async def test_a_bounded_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    check = Check("x", ("no-such-program",), memory_bytes=64 << 20)

    (found,) = (await verify.verify(tmp_path, [check], commit="c")).checks

    assert "no-such-program: No such file" in found.output_tail
    assert found.exit_code == 127


async def test_a_report_keeps_so_much_output_as_a_check_allows(tmp_path: Path) -> None:
    check = Check("loud", ("sh", "-c", "seq 9999; exit 1"), output_bytes=10)

    (found,) = (await verify.verify(tmp_path, [check], commit="c")).checks

    assert found.output_tail == "9998\n9999\n"


async def test_a_check_is_told_its_base(tmp_path: Path) -> None:
    report = await verify.verify(
        tmp_path, [sh('test "$AGENTCOM_BASE" = abc')], commit="c", base="abc"
    )

    assert report.verified
