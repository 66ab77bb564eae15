"""Where the hub's settings come from, and which it refuses."""

from pathlib import Path

import pytest

from agentcom.core.prices import Price
from agentcom.hub.config import ConfigInvalid, HubConfig, LogLevel, load


def test_a_hub_without_settings_listens_on_loopback_only(tmp_path: Path) -> None:
    config = load(environment={"AGENTCOM_HOME": str(tmp_path)})

    assert (config.home, config.host, config.port) == (tmp_path, "127.0.0.1", 7420)
    assert not config.uses_tls


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text('port = 1\nlease_ttl_ms = 3000\nlog_level = "debug"\n')
    environment = {"AGENTCOM_HUB_PORT": "2", "AGENTCOM_HUB_LEASE_TTL_MS": "4000"}

    config = load(flags={"home": tmp_path, "port": 3, "host": None}, environment=environment)

    assert (config.port, config.lease_ttl_ms, config.log_level) == (3, 4000, LogLevel.DEBUG)


def test_lists_are_written_with_commas_in_the_environment(tmp_path: Path) -> None:
    environment = {"AGENTCOM_HOME": str(tmp_path), "AGENTCOM_HUB_HOSTS": "a.example, b.example"}

    assert load(environment=environment).hosts == ("a.example", "b.example")


def test_off_loopback_the_hub_speaks_tls_by_itself(tmp_path: Path) -> None:
    config = load(flags={"home": tmp_path, "host": "0.0.0.0"}, environment={})

    assert config.uses_tls


def test_clear_text_off_loopback_must_be_meant(tmp_path: Path) -> None:
    flags = {"home": tmp_path, "host": "0.0.0.0", "tls": "off"}

    with pytest.raises(ConfigInvalid, match="--insecure"):
        load(flags=flags, environment={})
    assert not load(flags=flags | {"insecure": True}, environment={}).uses_tls


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "prot"),
        ("port = 70000", "port"),
        ("port = [", "TOML"),
        ("lease_ttl_ms = 5", "lease_ttl_ms"),
        ('home = "elsewhere"', "AGENTCOM_HOME"),
        ('certificate = "a.pem"', "belong together"),
        ("[limits]\nbody_bytes = 1", "body_bytes"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "hub.toml").write_text(text)

    with pytest.raises(ConfigInvalid, match=said):
        load(flags={"home": tmp_path}, environment={})


def test_a_file_that_others_can_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text("port = 1\n")
    path.chmod(0o666)

    with pytest.raises(ConfigInvalid, match="chmod"):
        load(flags={"home": tmp_path}, environment={})


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="there is no settings file"):
        load(flags={"home": tmp_path}, environment={}, file=tmp_path / "other.toml")


def test_bounds_of_the_port_have_a_section_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text("[limits]\nbody_bytes_max = 2048\n")

    assert load(flags={"home": tmp_path}, environment={}).limits.body_bytes_max == 2048


def test_settings_can_be_made_without_a_file(tmp_path: Path) -> None:
    assert HubConfig(home=tmp_path, port=0).loopback


def test_an_operator_names_prices_of_models(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text('[prices]\n"my-*" = { input = 3, output = 4 }\n')

    config = load(flags={"home": tmp_path}, environment={})

    assert config.prices == {"my-*": Price(input=3, output=4)}
