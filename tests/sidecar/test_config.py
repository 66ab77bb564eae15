from pathlib import Path

import pytest

from agentcom.model import errors, limits
from agentcom.model.ids import AgentId, MachineId
from agentcom.sidecar import computer
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig

MACHINE = MachineConfig(
    hub="https://hub.example.com",
    machine=MachineId("m1"),
    fingerprint="ab" * 32,
    agents=(AgentConfig(name=AgentId("ada"), runtime="testagent", slots=2),),
)


def test_what_join_writes_is_what_the_sidecar_reads(tmp_path: Path) -> None:
    home = Home(tmp_path / "m1")
    home.save(MACHINE, "acm_mch_secret")

    config = home.load()

    assert config.machine == MACHINE
    assert config.token == "acm_mch_secret"


def test_the_token_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "m1")

    home.save(MACHINE, "acm_mch_secret")

    assert (home.root / "token").stat().st_mode & 0o777 == 0o600
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert "secret" not in (home.root / "machine.json").read_text()


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.save(MACHINE, "acm_mch_secret")
    (tmp_path / "token").chmod(0o640)

    with pytest.raises(errors.NotAllowed, match="chmod 600"):
        home.load()


def test_a_home_without_a_machine_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="agentcom join"):
        Home(tmp_path).load()


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.save(MACHINE, "acm_mch_secret")
    (tmp_path / "machine.json").write_text('{"hub": 3}')

    with pytest.raises(errors.InvalidInput, match=r"machine\.json"):
        home.load()


def test_one_process_holds_an_identity_at_a_time(tmp_path: Path) -> None:
    with Home(tmp_path).lock():
        with pytest.raises(errors.Conflict), Home(tmp_path).lock():
            pass
        with Home(tmp_path / "other").lock():
            pass

    with Home(tmp_path).lock():
        pass


def test_what_a_machine_tells_of_its_host_is_within_the_hubs_bounds() -> None:
    told = computer.facts()

    assert {"os", "arch", "cpus", "memory", "agentcom"} <= told.keys()
    assert len(told) <= limits.HOST_FACTS_MAX
    assert all(0 < len(value) <= limits.HOST_CHARS for value in told.values())
