"""A hub takes up changed settings while it runs, or keeps all that it has."""

from pathlib import Path

import pytest

from agentcom import app
from agentcom.hub import config as hub_config
from agentcom.hub.config import Bounds, HubConfig
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.reloading import Adjust, ConfigKept, Make, Reloader
from agentcom.hub.services import Services
from agentcom.model import settings
from agentcom.model.errors import AgentComError, RateLimited
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import UserId
from agentcom.store.memory import MemoryStore
from tests.hub.doubles import ManualClock


class Doors:
    """Adjustments that tell what became of them."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.fails = ""

    def adjustment(self, name: str) -> Adjust:
        def adjust(_config: HubConfig) -> Make:
            if name == self.fails:
                raise AgentComError(f"{name} is bad")
            return lambda: self.made.append(name)

        return adjust


@pytest.fixture
def doors() -> Doors:
    return Doors()


def reloader(doors: Doors, home: Path) -> Reloader:
    def reread() -> HubConfig:
        return hub_config.load(flags={"home": home}, environment={})

    names = ("log_level", "hosts", "limits.rates", "backups")
    return Reloader(reread(), reread, {name: doors.adjustment(name) for name in names})


def test_hot_settings_are_taken_up_and_the_others_are_named(doors: Doors, tmp_path: Path) -> None:
    hub = reloader(doors, tmp_path)
    (tmp_path / "hub.toml").write_text('port = 1\nlog_level = "debug"\n[backups]\nkeep = 2\n')

    first, again = hub.reload(who="ann"), hub.reload(who="ann")

    assert first.applied == ("log_level", "backups.keep")
    assert doors.made == ["log_level", "backups"]
    assert again.applied == ()
    assert first.restart == again.restart == ("port",)


@pytest.mark.parametrize("text", ["log_level = 3", "log_level = [", 'log_levle = "debug"'])
def test_a_bad_file_changes_nothing_and_is_told(doors: Doors, tmp_path: Path, text: str) -> None:
    hub = reloader(doors, tmp_path)
    (tmp_path / "hub.toml").write_text(f"[limits]\nrates = false\n{text}\n")

    with pytest.raises(ConfigKept, match=r"hub\.toml"):
        hub.reload(who="ann")
    hub.signalled()
    assert doors.made == []


def test_one_change_that_cannot_be_made_keeps_the_others_out(doors: Doors, tmp_path: Path) -> None:
    hub = reloader(doors, tmp_path)
    doors.fails = "hosts"
    (tmp_path / "hub.toml").write_text('log_level = "debug"\nhosts = ["a.example"]\n')

    with pytest.raises(ConfigKept, match="hosts is bad"):
        hub.reload(who="ann")
    assert doors.made == []
    doors.fails = ""
    assert hub.reload(who="ann").applied == ("hosts", "log_level")


async def test_every_hot_setting_has_an_adjustment_and_no_other(tmp_path: Path) -> None:
    config = HubConfig(home=tmp_path, port=0, store="memory")
    known = app.adjustments_of(config)

    hot = {name for name, it in settings.describe(HubConfig).items() if it.hot}
    assert {name for name in hot if not known.keys() & {name, name.rpartition(".")[0]}} == set()
    tables = {name.rpartition(".")[0] for name in hot}
    assert {name for name in known if name not in hot and name not in tables} == set()


async def test_budgets_of_callers_come_and_go(tmp_path: Path) -> None:
    clock = ManualClock()
    services = Services(HubConfig(home=tmp_path, store="memory"), MemoryStore(), clock)
    ann = Identity(role=Role.ADMIN, user=UserId("ann"), credential="c")
    adjust = services.adjustments()["limits.rates"]

    def spend_much() -> None:
        for _ in range(1_000):
            services.budgets.spend(ann, Traffic.ADMIN, clock.now())

    with pytest.raises(RateLimited):
        spend_much()
    adjust(HubConfig(home=tmp_path, limits=Bounds(rates=False)))()
    spend_much()
    adjust(HubConfig(home=tmp_path))()
    with pytest.raises(RateLimited):
        spend_much()
