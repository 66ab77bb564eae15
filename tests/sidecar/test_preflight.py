"""Agents that cannot work are told as such, before a task finds out."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.sidecar import computer
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.preflight import Preflight
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.testagent import TestAgent
from agentcom.testing.waiting import PATIENCE_S
from tests.sidecar.sidecar_world import ADA, BOB, RUNTIMES, config

GIB = 1 << 30
CY = AgentConfig(name=AgentId("cy"), runtime="testagent")


class Login(TestAgent):
    """A program whose login comes and goes."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def preflight(self, settings: Mapping[str, str]) -> base.Preflight:
        if self._flag.exists():
            return super().preflight(settings)
        return base.Preflight(
            runtime=self.name, ready=False, problem="not logged in", fix="testagent login"
        )


class Room:
    """A disk with so much room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 100 * GIB
        monkeypatch.setattr(computer, "free_bytes", lambda _folder: self.free)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(monkeypatch)


@pytest.fixture
def machine(tmp_path: Path, room: Room) -> Config:
    return config(tmp_path)


def named(specs: tuple[AgentSpec, ...]) -> dict[str, AgentSpec]:
    return {spec.name: spec for spec in specs}


class Told:
    """What the machine hears."""

    def __init__(self) -> None:
        self.facts: list[values.Described] = []

    async def __call__(self, fact: values.Described) -> None:
        self.facts.append(fact)


async def test_an_agent_that_cannot_work_names_the_fix_and_the_other_goes_on(
    machine: Config, tmp_path: Path
) -> None:
    runtimes = {**RUNTIMES, "testagent": Login(tmp_path / "login")}

    found = named(await Preflight(machine, runtimes).first())

    assert found[ADA].problem == "not logged in: testagent login"
    assert found[BOB].problem == ""
    assert "disk_gb=50" in found[ADA].capabilities


async def test_an_agent_without_a_runtime_is_told_as_such(machine: Config) -> None:
    found = named(await Preflight(machine, {"command": RUNTIMES["command"]}).first())

    assert "no runtime testagent" in found[ADA].problem
    assert found[BOB].problem == ""


async def test_a_change_is_told_once(machine: Config, tmp_path: Path) -> None:
    flag, told = tmp_path / "login", Told()
    preflight = Preflight(machine, {**RUNTIMES, "testagent": Login(flag)})
    await preflight.first()

    await preflight.glance(told)
    assert told.facts == []
    flag.touch()
    await preflight.glance(told)
    await preflight.glance(told)

    (fact,) = told.facts
    assert named(fact.agents)[ADA].problem == ""


async def test_a_full_disk_stops_new_work_and_a_little_room_does_not_start_it(
    machine: Config, room: Room
) -> None:
    preflight = Preflight(machine, RUNTIMES)
    for gib, stopped in (3.0, False), (1.9, True), (2.1, True), (2.6, False), (2.1, False):
        room.free = int(gib * GIB)

        problems = {spec.problem for spec in preflight.look()}

        assert all("free some space" in it for it in problems) is stopped, gib
        assert (problems == {""}) is not stopped, gib


async def test_the_bound_of_the_disk_can_be_set(machine: Config, room: Room) -> None:
    room.free = 1
    settings = msgspec.structs.replace(machine.machine.settings, disk_free_min_mb=0)
    free = msgspec.structs.replace(
        machine, machine=msgspec.structs.replace(machine.machine, settings=settings)
    )

    assert {spec.problem for spec in Preflight(free, RUNTIMES).look()} == {""}


async def test_what_an_agent_is_set_to_offer_comes_before_what_is_found(machine: Config) -> None:
    agent = msgspec.structs.replace(CY, capabilities=("python=2.7", "gpu"))
    home = machine.home
    home.save(msgspec.structs.replace(machine.machine, agents=(agent,)))

    (spec,) = Preflight(home.load(), RUNTIMES).look()

    own = [it for it in spec.capabilities if it.partition("=")[0] in {"python", "gpu"}]
    assert own == ["python=2.7", "gpu"]
    assert any(it.startswith("git=") for it in spec.capabilities)


async def test_agents_come_and_go_and_who_left_stays_known(machine: Config) -> None:
    preflight, told = Preflight(machine, RUNTIMES), Told()
    await preflight.first()
    ada, bob = machine.machine.agents
    leaves = msgspec.structs.replace(ada, leaving=True)
    machine.home.save(msgspec.structs.replace(machine.machine, agents=(leaves, bob, CY)))

    preflight.reload()
    await preflight.glance(told)

    assert set(named(told.facts[0].agents)) == {BOB, "cy"}
    assert machine.agent(AgentId("cy")) == CY
    assert machine.agent(ADA) == leaves


async def test_a_file_that_cannot_be_read_changes_nothing(machine: Config) -> None:
    preflight, told = Preflight(machine, RUNTIMES), Told()
    await preflight.first()
    (machine.home.root / "machine.json").write_text("{")

    preflight.reload()
    await preflight.glance(told)

    assert told.facts == []


async def test_a_repository_that_lets_nobody_push_is_told(machine: Config) -> None:
    preflight, told = Preflight(machine, RUNTIMES), Told()
    await preflight.first()

    preflight.shut_out("https://forge.example/Acme/api.git")
    preflight.shut_out("https://forge.example/" + "long" * 30)
    await preflight.glance(told)

    shut = [it for it in told.facts[0].agents[0].capabilities if it.startswith("no-push")]
    assert shut == ["no-push=forge.example/acme/api"]


async def test_the_watch_looks_when_it_is_told_of_a_change(machine: Config) -> None:
    preflight, heard = Preflight(machine, RUNTIMES), asyncio.Event()
    await preflight.first()

    async def tell(_: values.Fact) -> None:
        heard.set()

    watch = asyncio.create_task(preflight.watch(tell))
    preflight.shut_out("https://forge.example/acme/api")
    async with asyncio.timeout(PATIENCE_S):
        await heard.wait()
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch


async def test_a_start_does_not_wait_for_a_program_that_hangs(
    machine: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcom.sidecar.preflight.FIRST_S", 0.01)
    preflight = Preflight(machine, RUNTIMES)
    never = asyncio.Event()
    monkeypatch.setattr(preflight, "_look", never.wait)

    assert set(named(await preflight.first())) == {ADA, BOB}
