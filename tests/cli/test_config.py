"""`agentcom config`: what is set and why, everything that is wrong, and what can be set."""

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest

from agentcom.cli import config, explaining
from agentcom.cli.errors import Exit
from agentcom.model import settings
from agentcom.model.ids import MachineId
from agentcom.sidecar.config import Home, MachineConfig, Settings
from tests.cli.terminal import Here


@pytest.fixture
def hub(home: Path) -> Path:
    """The folder of the hub that `up` would start."""
    folder = home / "hub"
    folder.mkdir()
    return folder


def test_each_value_says_where_it_comes_from(
    agentcom: Here, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub / "hub.toml").write_text('\nlog_level = "debug"\n[limits]\nrates = false\n')
    monkeypatch.setenv("AGENTCOM_HUB_PORT", "7421")

    said = agentcom("config", "show", "--changed", "--json", "setting,value,origin,line")

    rows = {row["setting"]: row for row in json.loads(said.out)}
    assert rows["hub.log_level"]["line"] == 2
    assert rows["hub.limits.rates"]["value"] is False
    assert rows["hub.port"] == {
        "setting": "hub.port",
        "value": 7421,
        "origin": "AGENTCOM_HUB_PORT",
        "line": None,
    }
    assert said.code == 0


def test_one_setting_can_be_asked_for_by_its_own_name(agentcom: Here, hub: Path) -> None:
    assert agentcom("config", "show", "port").lines == [["hub.port", "7420", "default"]]
    missing = agentcom("config", "show", "prot")
    assert missing.code == Exit.MISSING
    assert "config explain port" in missing.err


def test_a_secret_is_never_shown() -> None:
    setting = settings.Setting("x.token", str, "", MachineConfig, "hub", False, False, "")
    marked = setting._replace(name="url", secret=True)

    for it in (setting, marked):
        assert "hush" not in explaining.text(it, "hush-hush")
        assert "hush" not in str(explaining.public(it, "hush-hush"))
    plain = setting._replace(name="url")
    assert explaining.text(plain, "https://u:hush@h") == '"https://u:[redacted]@h"'


def test_everything_wrong_with_a_file_is_said_with_its_line(agentcom: Here, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text('prot = 1\nhost = "0.0.0.0"\ntls = "of"\n[backups]\nkeep = 0\n')

    said = agentcom("config", "check", str(file))

    assert said.code == Exit.FAILED
    assert said.out.splitlines() == [
        f"{file} line 1: prot: there is no such setting; did you mean port?",
        f"{file} line 3: tls: Invalid enum value 'of'",
        f"{file} line 5: backups.keep: Expected a whole number >= 1",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices = 3", "line 1: prices: Expected a table, got a whole number"),
        ('\n[prices."x*"]\ninptu = 1', "line 2: prices: Object contains unknown field `inptu`"),
        ('hosts = "a"', "line 1: hosts: Expected a list, got text"),
        ("[[limits]]\nrates = true", "line 1: limits: it is a table: [limits]"),
        ('\n[outgoing]\nallow = ["??"]', "line 3: outgoing.allow: allow: '??'"),
        ('trusted_proxies = ["::/0"]', "line 1: trusted_proxies: everybody is no proxy"),
        ("port = 1\nport = 2", "line 2: it is not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_file(
    agentcom: Here, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "f.toml").write_text(text)

    assert said in agentcom("config", "check", str(tmp_path / "f.toml")).out


def test_a_mark_at_the_beginning_is_no_mistake(agentcom: Here, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_bytes(b"\xef\xbb\xbfport = 1\n")

    assert agentcom("config", "check", str(tmp_path / "f.toml")).code == 0


def test_what_does_not_fit_together_is_said_with_its_line(agentcom: Here, tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('port = 1\ncertificate = "/a.pem"\n')

    said = agentcom("config", "check", str(file), "--json", "line,setting")

    assert json.loads(said.out) == [{"line": 2, "setting": "certificate"}]


def test_a_good_file_is_good_and_a_missing_one_is_not(agentcom: Here, tmp_path: Path) -> None:
    (tmp_path / "sidecar.toml").write_text('[checks]\nnetwork = "none"\n')

    assert agentcom("config", "check", str(tmp_path / "sidecar.toml")).code == 0
    assert agentcom("config", "check", str(tmp_path / "none.toml")).code == Exit.FAILED


def test_a_machine_s_settings_lie_over_what_programs_wrote(
    agentcom: Here, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Home(home / "machine")
    stored = Settings(keep_ms=7, drain_ms=8)
    known = MachineConfig(hub="http://127.0.0.1:1", machine=MachineId("01m"), settings=stored)
    machine.save(known, "acm_mch_x")
    (home / "machine" / "sidecar.toml").write_text("keep_ms = 9\ndisk_free_min_mb = 1\n")
    monkeypatch.setenv("AGENTCOM_SIDECAR_DISK_FREE_MIN_MB", "2")

    said = agentcom("config", "show", "--program", "sidecar", "--changed", "--json")

    rows = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(said.out)}
    assert rows["sidecar.keep_ms"][0] == 9
    assert rows["sidecar.drain_ms"] == (8, "machine.json")
    assert rows["sidecar.disk_free_min_mb"] == (2, "AGENTCOM_SIDECAR_DISK_FREE_MIN_MB")


def test_a_setting_is_explained_from_its_own_source(agentcom: Here) -> None:
    said = agentcom("config", "explain", "hub.limits.body_bytes_max", "--json")

    row = json.loads(said.out)
    assert row["meaning"] == "The largest body of a request."
    assert (row["type"], row["bounds"]) == ("whole number", "at least 1_024, at most 67_108_864")
    assert (row["default"], row["hot"], row["since"]) == ("1048576", False, "0.1.0")
    assert row["environment"] == "AGENTCOM_HUB_LIMITS_BODY_BYTES_MAX"


def test_a_name_that_both_programs_have_is_explained_for_both(agentcom: Here) -> None:
    said = agentcom("config", "explain", "drain_ms")

    assert [line[1] for line in said.lines if line[0] == "setting"] == [
        "hub.drain_ms",
        "sidecar.drain_ms",
    ]


def test_every_setting_has_a_meaning_and_every_variable_is_its_own() -> None:
    rows = config.explained()

    assert [row["setting"] for row in rows if not row["meaning"]] == []
    variables = [row["environment"] for row in rows if row["environment"]]
    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize("name", ["hub", "sidecar"])
def test_the_schema_takes_what_the_program_takes(agentcom: Here, name: str) -> None:
    schema = json.loads(agentcom("config", "schema", name).out)

    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    good = {"hub": {"port": 1, "limits": {"rates": False}}, "sidecar": {"keep_ms": 1}}[name]
    assert validator.is_valid(good)
    assert not validator.is_valid({"prot": 1})
    shown = schema["$defs"][{"hub": "HubConfig", "sidecar": "Settings"}[name]]["properties"]
    assert all(one["description"] for field, one in shown.items() if "x-hot" in one)
    assert "home" not in shown
