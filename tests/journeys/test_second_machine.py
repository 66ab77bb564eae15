"""A second computer comes into the fleet over TLS, works, and leaves."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.cli import background
from tests.cli.terminal import Shell
from tests.journeys.stage import Stage, joining

pytestmark = pytest.mark.xdist_group("second-machine")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One hub for all: machines, people and agents of each test have names of their own."""
    folder = tmp_path_factory.mktemp("first")
    shell = Shell(folder / "home", folder)
    shell("up", "--port", "0", "--no-agents", AGENTCOM_HUB_TLS="on")
    yield shell
    shell("down", ok=False)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "second", tmp_path)
    yield shell
    shell("down", ok=False)


def invited(first: Shell, *words: str) -> str:
    line = first("machine", "invite", *words).out.strip()
    return line.removeprefix("agentcom join '").removesuffix("'")


def test_a_second_machine_joins_with_one_line_and_works(stage: Stage) -> None:
    office, box = stage.computer("office"), stage.computer("box")
    office.variables["AGENTCOM_HUB_TLS"] = "on"
    stage.say("""The hub runs here with TLS. On a network, `agentcom up --listen 0.0.0.0` does the
        same, and prints the line for the other computer.""")
    office("agentcom up --no-agents")
    code = joining(office("agentcom machine invite"))
    assert code.startswith("https://127.0.0.1:")
    stage.say("The code works once. It names the hub's certificate, which is checked first.")
    joined = box(f"agentcom join '{code}' --name box --agent helper=command")
    assert joined.splitlines()[-1] == "sidecar   connected"
    assert (box.home / "machine" / "token").stat().st_mode & 0o777 == 0o600
    refused = box(f"agentcom join '{code}' --name other --home other", code=4)
    assert "agentcom machine invite" in refused

    stage.say("Work for the fleet goes there now.")
    watched = office("agentcom submit --no-repo --command --watch -- true")
    assert "helper attempt 1" in watched
    office("agentcom machine ls")
    stage.say("When the computer is needed for something else, it gets nothing new, and leaves.")
    office("agentcom machine drain box")
    stage.learn(office)
    office("agentcom machine rm box --yes")
    assert "box" not in office("agentcom machine ls")
    assert background.wait_for(
        lambda: background.running("sidecar", home=box.home) is None, timeout_s=20
    )
    assert "(not_authenticated)" in box("agentcom up", code=4)
    stage.publish("second-machine", "A second machine")


def test_a_code_works_once(first: Shell, second: Shell, tmp_path: Path) -> None:
    address = invited(first)
    agent = ("--agent", "helper=testagent", "--no-start")
    second("join", address, "--name", "once", *agent)
    third = Shell(tmp_path / "third", tmp_path)

    refused = third("join", address, "--name", "twice", *agent, ok=False)

    assert refused.code == 4
    assert "agentcom machine invite" in refused.err
    assert not (third.home / "machine").exists()


def test_the_code_is_not_sent_to_a_hub_with_another_certificate(
    first: Shell, second: Shell
) -> None:
    address = invited(first)
    secret, _, pin = address.partition("@sha256:")
    agent = ("--name", "pinned", "--agent", "helper=testagent", "--no-start")

    refused = second("join", f"{secret}@sha256:{'0' * len(pin)}", *agent, ok=False)

    assert refused.code == 6
    assert "not the one that the join code named" in refused.err
    second("join", address, *agent)


def test_a_removed_machine_is_shut_out(first: Shell, second: Shell) -> None:
    second("join", invited(first), "--name", "removed", "--agent", "removed-agent=testagent")

    first("machine", "rm", "removed", "--yes")

    assert "removed" not in {
        row["name"] for row in json.loads(first("machine", "ls", "--json").out)
    }
    assert background.wait_for(
        lambda: background.running("sidecar", home=second.home) is None, timeout_s=20
    )
    out = second("up", ok=False)
    assert out.code == 4
    assert out.err.count("(not_") == 1
    assert "the sidecar did not start: the hub does not accept this machine's token" in out.err
    assert "{" not in out.err


def test_a_joined_machine_gets_no_hub_of_its_own(first: Shell, second: Shell) -> None:
    agent = ("--name", "hubless", "--agent", "hubless-agent=testagent", "--no-start")
    second("join", invited(first), *agent)

    second("up")

    assert not (second.home / "hub").exists()
    assert ["hubless", "ok"] in [row[:2] for row in first("machine", "ls").lines]


def test_a_person_joins_with_a_code_too(first: Shell, second: Shell) -> None:
    line = first("user", "invite", "ada", "--role", "viewer").out.strip()

    said = second("join", line.removeprefix("agentcom join '").removesuffix("'"))

    assert said.out.startswith("you are ada (viewer) at https://")
    assert second("task", "ls").code == 0
    assert second("submit", "--no-repo", "x", ok=False).code == 4


def test_who_joins_learns_which_agents_the_fleet_does_not_take(
    first: Shell, second: Shell, tmp_path: Path
) -> None:
    second("join", invited(first), "--name", "elder", "--agent", "twin=testagent")
    third = Shell(tmp_path / "third", tmp_path)

    joined = third("join", invited(first), "--name", "younger", "--agent", "twin=testagent")
    third("down")

    assert "not taken: twin: an agent on elder is called twin" in joined.err


def test_a_name_that_is_taken_comes_with_what_to_try(first: Shell, second: Shell) -> None:
    agent = ("--agent", "helper=testagent", "--no-start")
    second("join", invited(first), "--name", "same", *agent)
    third = Shell(second.home.parent / "third", second.folder)

    refused = third("join", invited(first), "--name", "same", *agent, ok=False)

    assert refused.code == 5
    assert "--name" in refused.err


def test_a_certificate_that_nobody_will_show_stops_before_the_code_is_sent(
    first: Shell, second: Shell
) -> None:
    address = invited(first).replace("https://", "http://")

    refused = second("join", address, "--agent", "helper=testagent", ok=False)

    assert refused.code == 2
    assert "names a certificate" in refused.err


def test_a_machine_tells_its_owner_that_it_makes_nobody_of_them(
    first: Shell, second: Shell
) -> None:
    agent = ("--name", "nobody", "--agent", "helper=testagent", "--no-start")
    second("join", invited(first), *agent)

    refused = second("task", "ls", ok=False)

    assert refused.code == 4
    assert "agentcom user invite" in refused.err


def test_a_code_says_how_long_it_works(first: Shell) -> None:
    assert "it works once, and for 15 min" in first("machine", "invite").err
    assert (
        "for 3 machines, and for 1 h"
        in first("machine", "invite", "--uses", "3", "--minutes", "60").err
    )


def test_a_computer_whose_folder_was_removed_comes_in_anew(second: Shell) -> None:
    second("up", "--port", "0", "--agent", "helper=testagent", AGENTCOM_HUB_TLS="on")
    shutil.rmtree(second.home / "machine")

    again = second("up", "--agent", "helper=testagent", AGENTCOM_HUB_TLS="on")

    assert "not taken: helper" in again.err
    rows = json.loads(second("machine", "ls", "--json", "id,connected").out)
    mine = json.loads((second.home / "machine" / "machine.json").read_text())["machine"]
    assert {row["id"]: row["connected"] for row in rows}[mine]
    assert len(rows) == 2


def test_a_hub_that_was_reachable_is_so_after_the_next_up(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home", tmp_path)
    up = ("up", "--port", "0", "--no-agents")

    def listening(*words: str) -> tuple[str, str]:
        said = shell(*up, *words)
        shell("down")
        return said.err, said.out

    listening("--listen", "127.0.0.2")
    again, _ = listening()
    _, ended = listening("--listen", "127.0.0.1")
    alone, _ = listening()

    assert "listens on 127.0.0.2 as before" in again
    assert "127.0.0.1" in ended
    assert "127.0.0.2" not in alone
