"""A machine's settings: a person's file over what programs wrote, and taken up on a signal."""

from pathlib import Path

import pytest

from agentcom.model.ids import MachineId
from agentcom.sidecar import settings
from agentcom.sidecar.config import Config, Home, MachineConfig, Settings


@pytest.fixture
def config(tmp_path: Path) -> Config:
    home = Home(tmp_path)
    stored = Settings(keep_ms=7)
    machine = MachineConfig(hub="http://127.0.0.1:1", machine=MachineId("01m"), settings=stored)
    home.save(machine, "acm_mch_x")
    return home.load()


def write(config: Config, text: str) -> None:
    (config.home.root / settings.FILE_NAME).write_text(text)


def test_the_later_one_wins_name_by_name(config: Config) -> None:
    write(config, 'drain_ms = 3\nkeep_ms = 9\n[checks]\nnetwork = "none"\n')

    found = settings.effective(config, environment={"AGENTCOM_SIDECAR_DRAIN_MS": "4"})

    assert (found.keep_ms, found.drain_ms, found.checks.network) == (9, 4, "none")


def test_what_a_person_wrote_stays_out_of_what_programs_write(config: Config) -> None:
    write(config, "drain_ms = 3\n")

    begun = settings.started(config)
    config.home.save(config.home.load().machine)

    assert begun.machine.settings.drain_ms == 3
    assert config.home.load().machine.settings == Settings(keep_ms=7)


@pytest.mark.parametrize("text", ["drain_ms = -1", "drian_ms = 1", "drain_ms = [", "checks = 1"])
def test_a_start_refuses_what_cannot_be_used(config: Config, text: str) -> None:
    write(config, text)

    with pytest.raises(settings.SettingsInvalid, match=r"sidecar\.toml"):
        settings.started(config)


def test_a_signal_takes_up_what_is_hot_and_leaves_the_rest(config: Config) -> None:
    begun = settings.started(config)
    write(config, "disk_free_min_mb = 1\nkeep_ms = 9\n")

    settings.reload(begun)

    assert begun.machine.settings == Settings(keep_ms=7, disk_free_min_mb=1)


def test_a_signal_with_a_bad_file_changes_nothing(config: Config) -> None:
    begun = settings.started(config)
    write(config, "disk_free_min_mb = 1\nkeep_ms = -9\n")

    settings.reload(begun)

    assert begun.machine.settings == Settings(keep_ms=7)
