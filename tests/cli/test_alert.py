"""`agentcom alert` and `agentcom notify` against a real hub, as a script in a pipe sees them."""

import json
from collections.abc import Iterator

import pytest

from agentcom.cli import background
from agentcom.testing.waiting import PATIENCE_S
from tests.cli.terminal import Shell

SECRET = "https://hub.example/services/T000/B000/CANARY"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("alerts")
    shell = Shell(folder / "home", folder)
    shell("up", "--port", "0", "--no-agents")
    yield shell
    shell("down", ok=False)


@pytest.mark.xdist_group("cli-alerts")
def test_an_alert_from_its_rule_to_whoever_looks_after_it(hub: Shell) -> None:
    said = hub("alert", "rule", "set", "disk_low", "--threshold", "100", "--for", "0s")
    assert said.lines == [["disk_low", "on", "<= 100 %", "critical"]]
    rules = json.loads(hub("alert", "rule", "ls", "--json").out)
    assert [row["name"] for row in rules if row["changed"]] == ["disk_low"]

    assert background.wait_for(lambda: bool(hub("alert", "ls").lines), timeout_s=PATIENCE_S)
    assert hub("alert", "ls").lines[0][:3] == ["disk_low", "critical", "firing"]
    assert "disk_low" in hub("status").out
    assert "guides/alerts.md#disk-low" in hub("alert", "show", "disk_low").out
    assert "seen by" in hub("alert", "ack", "disk_low").out

    words = ("alert", "silence", "disk_low", "--for", "1h", "--reason", "it is known")
    silence = hub(*words).lines[0][0]
    (row,) = json.loads(hub("alert", "ls", "--json").out)
    assert (row["silenced"], row["state"], row["value"] <= 100) == (True, "firing", True)
    assert "it is known" in hub("alert", "ls").out
    assert hub("alert", "unsilence", silence).lines == [[silence, "ended"]]
    assert hub("alert", "rule", "rm", "disk_low").lines[0][2] == "<= 10 %"
    assert hub("alert", "show", "no_such", ok=False).code == 3


@pytest.mark.xdist_group("cli-alerts")
def test_a_destination_shows_nothing_that_is_secret(hub: Shell) -> None:
    added = hub("notify", "add", "team", "--kind", "slack", "--severity", "critical", stdin=SECRET)
    assert added.lines == [["team", "https://hub.example"]]
    assert "CANARY" not in hub("notify", "ls", "--json").out + hub("notify", "ls").out
    key = hub("notify", "add", "own", "--kind", "webhook", stdin="https://hub.example/x").out
    assert key.splitlines()[1].startswith("whsec_")
    assert hub("notify", "rotate", "own").out.strip() not in key
    assert "1 destinations" in hub("alert", "rule", "test", "task_waiting").out
    assert hub("notify", "link", "own", ok=False).code == 5

    inside = hub("notify", "add", "x", "--kind", "webhook", stdin="https://10.0.0.1/", ok=False)
    assert "[outgoing] allow" in inside.err
    assert hub("notify", "add", "z", "--kind", "slack", stdin="", ok=False).code == 2
    assert hub("notify", "rm", "team", "--yes").out == "team\tremoved\n"
    assert "CANARY" not in "".join(path.read_text("utf-8") for path in hub.home.rglob("*.log"))
