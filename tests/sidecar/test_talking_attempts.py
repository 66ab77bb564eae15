"""Attempts of an agent that is talked to: letters, words to its task, permissions, stops."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentcom.model.address import Address
from agentcom.model.ids import AgentId
from agentcom.model.result import ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from agentcom.sidecar import attempt_files, process, processes, runs
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.attempts import Attempts
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.confines import OPEN
from agentcom.sidecar.machine_mail import Mail, box_of
from agentcom.sidecar.runtime.acp import Acp
from agentcom.testing.waiting import until
from tests.sidecar.letters import letter
from tests.sidecar.sidecar_world import (
    RUNTIMES,
    TASK,
    WRITE,
    Told,
    attempt_key,
    config,
    end_all,
    left_behind,
    prompt,
    record,
)

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

EVE = AgentId("eve")
SAYS = "answer me <<mock:say>>"
PROGRAM = f"{sys.executable} -P -m agentcom.testing.acp_agent"


class Desk:
    """Attempts of one machine with a talking agent, and its letters."""

    def __init__(self, machine: Config) -> None:
        self.machine = machine
        self.told = Told()
        self.taken: list[frames.MailTaken] = []
        self.mail = Mail(self.taken.append)
        self.attempts = Attempts(
            machine, runtimes={**RUNTIMES, "acp": Acp()}, tell=self.told.tell, mail=self.mail
        )

    @property
    def folder(self) -> Path:
        return self.machine.home.attempt(attempt_key().text)

    @property
    def said(self) -> list[str]:
        return (self.folder / attempt_files.SAID).read_text().splitlines()

    @property
    def output(self) -> str:
        return (self.folder / attempt_files.STDOUT).read_text()

    def seen(self, box: AgentId = EVE) -> list[int]:
        return [seq for one in self.taken if one.seen and one.agent == box for seq in one.seqs]


def desk_of(root: Path, *faults: str, **settings: str) -> Desk:
    made = config(root)
    command = " ".join([PROGRAM, *(f"--fault={fault}" for fault in faults)])
    eve = AgentConfig(
        name=EVE, runtime="acp", settings={"command": command, **settings}, confines=OPEN
    )
    patient = msgspec.structs.replace(made.machine.settings, stop_grace_ms=10_000)
    agents = (*made.machine.agents, eve)
    machine = msgspec.structs.replace(made.machine, agents=agents, settings=patient)
    return Desk(msgspec.structs.replace(made, machine=machine))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = desk_of(tmp_path)
    yield made
    end_all(made.machine.home)


def task(*steps: Any) -> values.Record:
    return record(TaskSpec(title="A task", prompt=prompt(*steps)), agent=EVE)


async def working(desk: Desk, made: values.Record) -> asyncio.Task[None]:
    running = asyncio.create_task(desk.attempts.run(made, adopt=False))
    await desk.told.wait_for(values.PhaseReached)
    return running


async def test_letters_begin_a_turn_in_the_same_process(desk: Desk, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    running = await working(desk, task(WRITE, {"wait_for": str(gate)}, {"say": "Written."}))
    desk.mail.take(frames.MailFrame(agent=EVE, letters=(letter(6, SAYS),)))
    gate.touch()
    await running

    assert desk.told.result.status is ResultStatus.DONE
    assert desk.seen() == [6]
    assert desk.said[-1] == "prompt-2"
    assert not runs.folder(desk.folder, 2).exists()
    spent = [
        fact.turn.turn for fact in desk.told.all(values.Spent) if isinstance(fact, values.Spent)
    ]
    assert spent == [1, 2]


async def test_a_word_to_the_task_comes_as_a_turn_of_its_attempt(
    desk: Desk, tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    running = await working(desk, task({"wait_for": str(gate)}, WRITE))
    word = letter(1, SAYS, to=(Address(f"task:{TASK}"),))
    desk.mail.take(frames.MailFrame(agent=box_of(TASK), letters=(word,)))
    gate.touch()
    await running

    assert desk.seen(box_of(TASK)) == [1]
    assert desk.said[-1] == "prompt-2"


async def test_a_word_that_was_there_before_is_in_the_first_prompt(desk: Desk) -> None:
    word = letter(1, "mind the printer", to=(Address(f"task:{TASK}"),))
    desk.mail.take(frames.MailFrame(agent=box_of(TASK), letters=(word,)))

    await desk.attempts.run(task(WRITE), adopt=False)

    assert desk.seen(box_of(TASK)) == [1]
    assert (
        b"> mind the printer"
        in msgspec.json.decode((desk.folder / attempt_files.OPENING).read_bytes())[
            "prompt"
        ].encode()
    )


async def test_a_turn_that_letters_began_outlives_the_sidecar(desk: Desk, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    made = task(WRITE, {"wait_for": str(gate)})
    running = await working(desk, made)
    desk.mail.take(frames.MailFrame(agent=EVE, letters=(letter(1, SAYS), letter(2, SAYS))))
    gate.touch()
    await until(lambda: desk.seen() == [1, 2])
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    after = Desk(desk.machine)
    await after.attempts.run(made, adopt=True)

    assert after.told.result.status is ResultStatus.DONE
    assert after.seen() == [1, 2]
    assert after.said.count("prompt-2") == 1
    told = after.told.all(values.Spent)
    assert [fact.turn.turn for fact in told if isinstance(fact, values.Spent)] == [1, 2]


async def test_a_stop_asks_the_agent_first(desk: Desk, tmp_path: Path) -> None:
    made = task({"say": "I wait."}, {"wait_for": str(tmp_path / "never")})
    running = await working(desk, made)
    await desk.told.wait_for(values.Noted)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    await desk.attempts.wind_down(made, stale=False)

    assert '"stopReason":"cancelled"' in desk.output
    ended = process.ended(desk.folder)
    assert ended is not None
    assert (ended.code, ended.stop) == (0, "cancelled")
    assert not left_behind(desk.machine.home)


async def test_an_agent_that_asks_where_nobody_is_gets_a_no(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, "permission", permissions="ask")

    await desk.attempts.run(task(WRITE, {"say": "Without it, then."}), adopt=False)

    assert desk.told.result.summary == "Without it, then."
    assert not (desk.machine.home.scratch(TASK) / "hello.txt").exists()
    end_all(desk.machine.home)
