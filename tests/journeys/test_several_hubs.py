"""One person, several hubs: no token is lost, shown to another hub, or taken for another's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import Shell
from tests.journeys.stage import Stage, joining

pytestmark = pytest.mark.xdist_group("several-hubs")


@pytest.fixture(scope="module")
def corp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A hub at work for all tests: what they do to it is known to them alone."""
    folder = tmp_path_factory.mktemp("corp")
    shell = Shell(folder / "home", folder)
    shell("up", "--port", "0", "--no-agents")
    yield shell
    shell("down", ok=False)


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "mine", tmp_path)
    yield shell
    shell("down", ok=False)


def code_of(said: str) -> str:
    return said.strip().removeprefix("agentcom join '").removesuffix("'")


def hubs(shell: Shell) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((shell.home / "context.json").read_text())["hubs"]
    return found


def test_joining_as_a_person_keeps_the_admin_of_the_same_hub(corp: Shell) -> None:
    before = hubs(corp)
    code = code_of(corp("user", "invite", "bob", "--role", "viewer").out)

    joined = corp("join", code, ok=False)

    assert joined.code == 5
    assert "was not stored" in joined.err
    assert hubs(corp) == before
    token = joined.out.splitlines()[-1]
    assert json.loads(corp("status", "--json", "user", AGENTCOM_TOKEN=token).out) == {"user": "bob"}


def test_one_person_works_at_two_hubs(stage: Stage) -> None:
    corp, laptop = stage.computer("corp", person="eve"), stage.computer("laptop")
    stage.say("A hub at work, and one of my own.")
    corp("agentcom up --no-agents")
    laptop("agentcom up --no-agents")
    code = joining(corp("agentcom user invite ada"))
    stage.say("I join the one at work. Commands talk to it from then on.")
    laptop(f"agentcom join '{code}'")
    laptop("agentcom status --json user,role")
    laptop('agentcom submit --no-repo "Review the contract"')
    stage.learn(corp)
    corp("agentcom task ls")
    stage.say("My own hub is still known, with a token of its own; a word brings me back.")
    listed = laptop.ask("agentcom context ls --json url,current")
    assert [row["current"] for row in listed] == [True, False]
    laptop("agentcom context ls")
    laptop(f"agentcom context use {listed[1]['url']}")
    assert laptop.ask("agentcom status --json role") == {"role": "admin"}
    laptop("agentcom status --json user,role")
    laptop("agentcom task ls")
    stage.publish("several-hubs", "Several hubs")


def test_joining_as_a_person_replaces_on_purpose(mine: Shell) -> None:
    mine("up", "--port", "0", "--no-agents")
    code = code_of(mine("user", "invite", "bob", "--role", "viewer").out)

    mine("join", code, "--replace")

    assert json.loads(mine("status", "--json", "user").out) == {"user": "bob"}
    assert len(hubs(mine)) == 2, "the admin of the hub that runs here is still known"


def test_a_hub_of_ones_own_starts_again_after_joining_another(corp: Shell, mine: Shell) -> None:
    mine("up", "--port", "0", "--no-agents")
    own = hubs(mine)[0]["token"]
    mine("join", code_of(corp("user", "invite", "eve").out))
    assert json.loads(mine("status", "--json", "user").out) == {"user": "eve"}
    mine("down")

    again = mine("up", "--port", "0", "--no-agents")

    assert "agentcom context use" in again.err
    assert hubs(mine)[0]["token"] == own
    assert json.loads(mine("status", "--json", "role").out) == {"role": "admin"}
    mine("context", "use", hubs(mine)[1]["url"])
    assert json.loads(mine("status", "--json", "user").out) == {"user": "eve"}


def test_a_lost_token_of_the_admin_is_made_anew_by_who_owns_the_folder(mine: Shell) -> None:
    mine("up", "--port", "0", "--no-agents")
    assert mine("hub", "admin-token", ok=False).code != 0, "the hub runs"
    mine("down")
    (mine.home / "context.json").unlink()
    refused = mine("up", "--port", "0", "--no-agents", ok=False)
    assert "agentcom hub admin-token" in refused.err
    mine("down")

    token = mine("hub", "admin-token").out.strip()

    assert token.startswith("acm_usr_")
    mine("up", "--port", "0", "--no-agents")
    assert json.loads(mine("status", "--json", "role").out) == {"role": "admin"}


def test_two_machines_of_one_computer_are_started_and_stopped_apart(
    corp: Shell, mine: Shell
) -> None:
    for name in ("one", "two"):
        code = code_of(corp("machine", "invite").out)
        agent = ("--agent", f"{name}-sh=command", "--home", str(mine.home / name))
        mine("join", code, "--name", name, *agent)

    stopped = mine("down")

    assert len(stopped.lines) == 2
    assert not list((mine.home / "run").iterdir())


def test_a_machine_starts_while_its_hub_is_away(tmp_path: Path, mine: Shell) -> None:
    away = Shell(tmp_path / "away", tmp_path)
    away("up", "--port", "0", "--no-agents")
    mine("join", code_of(away("machine", "invite").out), "--agent", "one-sh=command")
    away("down")
    mine("down")

    said = mine("up")

    assert "hub not reached, trying" in said.out
    assert mine("down").lines == [["sidecar", "stopped"]]
