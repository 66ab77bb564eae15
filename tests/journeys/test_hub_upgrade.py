"""The hub gets a new version while agents work; a hub of the old one then refuses the store."""

from pathlib import Path

import pytest

from agentcom.store import sqlite_open
from tests.journeys import builds
from tests.journeys.stage import Computer, Stage, joining

SUBMIT = "agentcom submit --no-repo --command"
OLD, NEW = "1.0.0", "1.1.0"


def waits(name: str) -> str:
    return f'sh -c "until test -e $HOME/{name}; do sleep 0.1; done"'


@pytest.mark.slow
def test_the_hub_is_upgraded_while_agents_work(stage: Stage) -> None:
    office, ash = stage.computer("office"), stage.computer("ash")
    newest = sqlite_open.load_migrations()[-1].number
    step = {f"store/migrations/{newest + 1:04}_next.sql": "CREATE TABLE next (a INTEGER) STRICT;\n"}
    old = builds.installed(stage.folder / "builds", OLD)
    new = builds.installed(stage.folder / "builds", NEW, step)
    office.program = ash.program = old

    stage.say(f"""Hub and machine run version {OLD}. Two agents are in the middle of their work,
        and one task waits for them.""")
    office("agentcom --version")
    office("agentcom up --no-agents")
    office.same_port()
    code = joining(office("agentcom machine invite"))
    ash(f"agentcom join '{code}' --name ash --agent ann=command:slots=2")
    tasks = [submitted(office, title) for title in ("one", "two", "three")]
    for task in tasks[:2]:
        office.until(f"agentcom task show {task}", phase="working")

    stage.say(f"""## The next version

        The hub is stopped, and {NEW} is installed, whose store has another format. One of the
        agents ends meanwhile; its machine keeps the result.""")
    office("agentcom down")
    office("touch one")
    office.program = new
    office("agentcom --version")
    stage.say("""The new hub starts on the same data. It makes a copy of the store, and then brings
        it to the new format. The machine is back by itself, with its old version.""")
    office("agentcom up --no-agents")
    assert "sqlite" in office("ls .agentcom/hub | grep format")
    ash("agentcom --version")
    nothing_is_lost(stage, office, tasks)

    back_again(stage, office, old)
    stage.publish("hub-upgrade", "The hub is upgraded")


def back_again(stage: Stage, office: Computer, old: Path) -> None:
    stage.say("""## Back to the old version?

        A hub that does not know the format of the store leaves it alone.""")
    office("agentcom down")
    new, office.program = office.program, old
    assert "install the newer version" in office("agentcom up --no-agents", code=1)
    office.program = new
    stage.say("With the new version installed again, all is there.")
    office("agentcom up --no-agents")
    assert office("agentcom task ls").count("completed") == 3


def submitted(office: Computer, title: str) -> str:
    office(f"{SUBMIT} --title {title} -- {waits(title)}")
    return office.last_task()


def nothing_is_lost(stage: Stage, office: Computer, tasks: list[str]) -> None:
    stage.say("""The second agent was not disturbed. Nothing was given out twice: each task has had
        one attempt.""")
    office.until_so("agentcom machine ls --json connected", lambda rows: rows[0]["connected"])
    office("touch two three")
    for task in tasks:
        office.until(f"agentcom task show {task}", state="completed", attempt=1, leases_lost=0)
    stage.learn(office)
    office("agentcom task ls")
    for task in tasks[:2]:
        events = office(f"agentcom task events {task[-6:]}")
        assert "returned" not in events
