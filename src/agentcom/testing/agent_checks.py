"""What an installed agent CLI does under its driver: real runs against the scripted model.

Each check is one thing that happens to an agent, and what its driver has to make of it. The runs
are those of a sidecar: the same supervisor, the same watchdog, the same verdict. Nothing leaves
this computer. Checks that need a hub are in `agent_fleet.py`.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.model.ids import Fence, TaskId, WallTime
from agentcom.sidecar import process, results, survivors
from agentcom.sidecar.config import Settings
from agentcom.sidecar.machine_values import Key, Noted, Spent
from agentcom.sidecar.runtime import base
from agentcom.sidecar.watching import Watch
from agentcom.testing import scenario
from agentcom.testing.mock_llm.answers import Entry
from agentcom.testing.waiting import until

RUN_S: Final = 300.0
"""One run of a slow program on a busy machine; the longest give up on their model after 100 s."""
SILENCE_MS: Final = 20_000
"""After which a silent agent is stopped here, or after twice what its whole first run took."""
GRACE_MS: Final = 1_000
GONE_S: Final = 10.0
"""A supervisor that has written down the end is gone in some milliseconds."""
MESSAGE_CHARS: Final = 200
"""Of what a run said that was not as expected."""
DONE: Final = "done"
_KEPT: Final = ("PATH", "LANG")
_WITHOUT_TOOLS: Final = frozenset({"aider"})
"""Their models edit by text, so that no command of theirs can be met while it runs."""
_NAMED_BY_MINUTE: Final = frozenset({"gemini"})
"""They lose a session that is taken up in the minute in which it began."""
MINUTE_S: Final = 60.0
WITHOUT_MODEL: Final = frozenset({"testagent"})
"""They do by themselves what a prompt's steps say."""
_KEY: Final = Key(TaskId("doctor"), Fence(1, 1))

Act = Callable[[process.AgentProcess], Awaitable[object]]


class Differs(Exception):
    """A check found something else than it expects; the message says what."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happens to an agent."""

    name: str
    expected: str
    script: str = ""
    steps: tuple[scenario.Step, ...] = ()
    """Instead of those that the script has."""
    hurts: signal.Signals | None = None
    """What is sent to its leading process while a command of it runs."""


HUGE: Final = (scenario.Huge(1 << 20), scenario.Say("Done."))
"""A quarter of a million tokens: what still fits into the largest windows, twice."""

CHECKS: Final = (
    Check(name="success", script="edit", expected=DONE),
    Check(name="failing agent", script="fails", expected=FailureClass.AGENT),
    Check(name="dead key", script="auth", expected=FailureClass.AUTH),
    Check(name="quota", script="quota-reset", expected=FailureClass.QUOTA),
    Check(name="500 for ever", script="model-down", expected=FailureClass.MODEL_UNAVAILABLE),
    Check(name="garbage output", script="garbage", expected=DONE),
    Check(name="huge output", script="huge", steps=HUGE, expected=DONE),
    Check(name="hang", script="hang", expected=FailureClass.NO_PROGRESS),
    Check(name="crash", hurts=signal.SIGSEGV, expected=FailureClass.CRASHED),
    Check(name="cancel", hurts=signal.SIGTERM, expected="stopped, 0 processes left"),
    Check(name="SIGKILL of agent", hurts=signal.SIGKILL, expected=FailureClass.CRASHED),
    Check(name="resume", script="fix", expected="same session"),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one check; `passed` is None if this program cannot do it at all."""

    runtime: str
    version: str
    scenario: str
    passed: bool | None
    expected: str
    found: str
    duration_ms: int


class Ran(msgspec.Struct, frozen=True):
    """One run and what it left."""

    verdict: base.Verdict
    tree: Path
    session: str | None


class Bench:
    """Where one CLI is checked."""

    def __init__(
        self,
        runtime: base.Runtime,
        settings: Mapping[str, str],
        folder: Path,
        log: Sequence[Entry],
    ) -> None:
        """`log` is what the model server was asked, and grows."""
        self._runtime = runtime
        self._settings = settings
        self._folder = folder
        self._log = log
        self._silence_ms = SILENCE_MS
        self._measured = False
        self.version = runtime.preflight(settings).version

    async def row(self, check: Check) -> Row:
        """Return what came of a check."""
        return await rated(
            self._runtime.name, self.version, check.name, self._expected(check), self._found(check)
        )

    def _expected(self, check: Check) -> str:
        silent = not self._runtime.reports_progress
        if check.name == "hang" and silent:
            return FailureClass.DEADLINE  # without a stream only the deadline bounds it
        return check.expected

    async def _found(self, check: Check) -> str:
        if check.name == "resume":
            return await self._resumed()
        if check.hurts is not None:
            return await self._hurt(check, check.hurts)
        if check.name == "hang" and not self._measured:
            await self._found(CHECKS[0])  # how long it takes at all
        began = time.monotonic()
        prompt = f"<<mock:{check.script}>> Do what the script says."
        if check.steps:
            prompt = scenario.render(list(check.steps), scenario=check.script)
        ran = await self._run(check.name, prompt)
        took_ms = int((time.monotonic() - began) * 1_000)
        asked = any(entry.scenario == check.script for entry in self._log)
        if not asked and self._runtime.name not in WITHOUT_MODEL:
            raise Differs(f"its model was never asked: {_said(ran.verdict)}")
        if check.script == "edit" and ran.verdict.failure is None:
            _look_at(ran.tree / "hello.txt", "hello\n")
            self._silence_ms, self._measured = max(SILENCE_MS, 2 * took_ms), True
        said = _said(ran.verdict)
        as_expected = said == self._expected(check)
        return said if as_expected else f"{said}: {ran.verdict.message[:MESSAGE_CHARS]}"

    async def _hurt(self, check: Check, number: signal.Signals) -> str:
        runs = self._folder / check.name / "tree" / "at-work"
        command = scenario.Shell(("sh", "-c", f"touch {runs.name}; exec sleep 120"))
        prompt = scenario.render([command, scenario.Say("Done.")])
        if self._runtime.name in _WITHOUT_TOOLS:
            prompt = "<<mock:hang>> Do what the script says."
        before = len(self._log)

        def at_work() -> bool:
            return runs.exists() or asked_for_text(self._runtime, self._log[before:])

        async def act(running: process.AgentProcess) -> None:
            await until(at_work, patience_s=RUN_S)
            if number is signal.SIGTERM:
                await running.stop(base.Stop.CANCELLED)
                return
            record = survivors.read_record(running.attempt_dir)
            assert record is not None
            assert record.leader is not None
            os.kill(record.leader, number)

        ran = await self._run(check.name, prompt, act=act)
        stopped = number is signal.SIGTERM and ran.verdict.failure is FailureClass.AGENT
        return check.expected if stopped else _said(ran.verdict)

    async def _resumed(self) -> str:
        if not self._runtime.takes_turns:
            raise Unable("each run is a new session")
        place = "resume"
        first = await self._run(place, "<<mock:edit>> Do what the script says.")
        if first.verdict.failure is not None or first.session is None:
            raise Differs(f"the first run: {_said(first.verdict)}, session {first.session}")
        if self._runtime.name in _NAMED_BY_MINUTE:
            await asyncio.sleep(MINUTE_S - time.time() % MINUTE_S)
        again = await self._run(place, "<<mock:fix>> Go on.", resume=first.session)
        if again.verdict.failure is not None:
            raise Differs(_said(again.verdict))
        _look_at(again.tree / "hello.txt", "hello, fixed\n")
        if again.session != first.session:
            raise Differs("another session")
        return "same session"

    async def _run(
        self, name: str, prompt: str, *, resume: str | None = None, act: Act | None = None
    ) -> Ran:
        place = self._folder / name
        tree = place / "tree"
        if not tree.exists():
            await asyncio.to_thread(make_tree, tree)
        attempt = place / f"attempt-{len(list(place.glob('attempt-*')))}"
        tag = f"doctor-{self._runtime.name}-{name.replace(' ', '-')}@{place.parent.parent.name}"
        launch = self._runtime.launch(self._job(place, prompt, tag, resume))
        hangs = "mock:hang" in prompt and act is None
        silence_ms = self._silence_ms if hangs else int(RUN_S * 1_000)
        silent = hangs and not self._runtime.reports_progress
        deadline_ms = self._silence_ms if silent else int(RUN_S * 1_000)
        bounds = process.ProcessLimits(deadline_ms=deadline_ms, grace_ms=GRACE_MS)
        running = await process.start(attempt, launch, limits=bounds, attempt=tag)
        settings = Settings(first_event_ms=silence_ms, between_events_ms=silence_ms)
        watch = Watch(_KEY, self._runtime, settings, tell=_told)
        try:
            async with _while_running(act, running):
                verdict = await watch.follow(running)
        finally:
            await running.stop(base.Stop.CANCELLED)
            left = await asyncio.to_thread(left_over, tag, attempt)
        if left:
            raise Differs(f"{left} processes were left")
        return Ran(verdict, tree, verdict.session or watch.session)

    def _job(self, place: Path, prompt: str, tag: str, resume: str | None) -> base.Job:
        home = place / "home"
        home.mkdir(parents=True, exist_ok=True)
        task_file = place / "task.md"
        task_file.write_text(prompt, "utf-8")
        return base.Job(
            task="doctor",
            attempt=tag,
            prompt=prompt,
            task_file=str(task_file),
            worktree=str(place / "tree"),
            home=str(home),
            resume=resume,
            settings=self._settings,
            environment={name: os.environ[name] for name in _KEPT if name in os.environ},
        )


class Unable(Exception):
    """What a check asks for is nothing that this program does; the message says why."""


def asked_for_text(runtime: base.Runtime, log: Sequence[Entry]) -> bool:
    """Say whether an agent without tools is at work: its model was asked."""
    return runtime.name in _WITHOUT_TOOLS and any(entry.scenario for entry in log)


async def rated(
    runtime: str, version: str, scenario_name: str, expected: str, finding: Awaitable[str]
) -> Row:
    """Return the row of a check whose outcome is being found."""
    began = time.monotonic()
    passed: bool | None
    try:
        async with asyncio.timeout(2 * RUN_S):
            found = await finding
        passed = found == expected
    except Unable as unable:
        found, passed = str(unable), None
    except (process.NotStarted, TimeoutError, Differs) as error:
        found, passed = str(error) or f"no end in {2 * RUN_S:.0f} s", False
    return Row(
        runtime=runtime,
        version=version,
        scenario=scenario_name,
        passed=passed,
        expected=expected,
        found=found,
        duration_ms=int((time.monotonic() - began) * 1_000),
    )


def make_tree(tree: Path) -> None:
    """Make a repository with one commit."""
    tree.mkdir(parents=True)
    git(tree, "init", "-q", "-b", "main")
    git(tree, "commit", "-q", "--allow-empty", "-m", "Start")


def git(folder: Path, *words: str) -> str:
    """Return what git says in a folder."""
    identity = ("-c", "user.name=Doctor", "-c", "user.email=doctor@agentcom.invalid")
    done = subprocess.run(  # noqa: S603 - git itself; no shell
        ["git", *identity, *words],  # noqa: S607 - the person's own git
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def left_over(tag: str, attempt: Path) -> int:
    """Return how many processes had to be killed after the supervisor had gone."""
    record = survivors.read_record(attempt)
    deadline = time.monotonic() + GONE_S
    while record is not None and survivors.supervisor_runs(record):
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return survivors.kill_survivors(tag, attempt)


@contextlib.asynccontextmanager
async def _while_running(act: Act | None, running: process.AgentProcess) -> AsyncIterator[None]:
    """Do something to a running agent; a deed that never comes to pass ends with the run."""
    if act is None:
        yield
        return

    async def do() -> None:
        await act(running)

    doing = asyncio.create_task(do())
    try:
        yield
    finally:
        if not doing.done():
            doing.cancel()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError, ProcessLookupError):
            await doing


async def _told(fact: Noted | Spent) -> None:
    del fact


def _said(verdict: base.Verdict) -> str:
    """Return the class of a verdict as the hub would have it."""
    result = results.of_verdict(verdict, now=WallTime(int(time.time() * 1_000)), zone=UTC)
    if result.failure is None:
        return DONE
    return result.failure.value


def _look_at(file: Path, text: str) -> None:
    found = file.read_text("utf-8") if file.exists() else None
    if found != text:
        raise Differs(f"{file.name} holds {found!r}")


def as_json(row: Row) -> dict[str, Any]:
    """Return the row as the command line shows it."""
    return msgspec.structs.asdict(row)
