"""The hub's disk dies, and an older copy of its data is put back: what is lost, and what is not."""

import pytest

from tests.journeys.stage import Computer, Stage, joining

SUBMIT = "agentcom submit --no-repo --command"


def until(name: str) -> str:
    return f'sh -c "until test -e $HOME/{name}; do sleep 0.1; done; echo {name}"'


@pytest.mark.slow
def test_a_copy_is_put_back_and_the_fleet_tells_what_came_later(stage: Stage) -> None:
    office, ash = stage.computer("office"), stage.computer("ash")
    office.variables["AGENTCOM_HUB_LEASE_TTL_MS"] = "3000"
    stage.say("""A hub whose lease is 3 s instead of 20, and a machine that does two tasks at once.
        One task is done, two run, and one is queued.""")
    office("agentcom up --no-agents")
    office.same_port()
    code = joining(office("agentcom machine invite"))
    ash(f"agentcom join '{code}' --name ash --agent ann=command:slots=2")
    tasks = {}
    for title, command in (("Before", "true"), ("Long", until("a")), ("Short", until("b"))):
        office(f"{SUBMIT} --title {title} -- {command}")
        tasks[title] = office.last_task()
        wanted = {"state": "completed"} if title == "Before" else {"phase": "working"}
        office.until("agentcom task show @last", **wanted)
    office(f"{SUBMIT} --title Queued -- {until('c')}")
    tasks["Queued"] = office.last_task()

    a_copy(stage, office, tasks)
    it_is_put_back(stage, office)
    accepted(stage, office, tasks)
    stage.publish("restore", "The hub's data are put back from a copy")


def a_copy(stage: Stage, office: Computer, tasks: dict[str, str]) -> None:
    stage.say("""## A copy is made, and life goes on

        The hub is stopped for the copy. The agents work on meanwhile.""")
    office("agentcom down")
    office("cp -R .agentcom/hub copy")
    office("agentcom up --no-agents")
    stage.say("After the copy the short task ends, the queued one begins, and a new one is done.")
    office("touch b")
    office.until(f"agentcom task show {tasks['Short']}", state="completed")
    office.until(f"agentcom task show {tasks['Queued']}", phase="working")
    office("touch a")
    office.until(f"agentcom task show {tasks['Long']}", state="completed")
    office(f"{SUBMIT} --title After -- echo something")
    tasks["After"] = office.last_task()
    office.until("agentcom task show @last", state="completed")
    stage.learn(office)
    office("agentcom task ls")


def it_is_put_back(stage: Stage, office: Computer) -> None:
    stage.say("""## The file is damaged, and the copy is put back

        The hub notices that this is not the newest state, and does not start: it could give the
        same fence twice. It says how much is missing.""")
    office("agentcom down")
    office("cp copy/hub.sqlite .agentcom/hub/hub.sqlite")
    assert "ACCEPT_ROLLBACK" in office("agentcom up --no-agents", code=1)


def accepted(stage: Stage, office: Computer, tasks: dict[str, str]) -> None:
    stage.say("""## The loss is accepted

        There is no newer copy, so a person says so, for one start. The store begins a new life:
        attempts of before are refused where it does not know them, and the machines offer all
        results that they have kept.""")
    office("AGENTCOM_HUB_ACCEPT_ROLLBACK=true agentcom up --no-agents")
    for title in ("Long", "Short"):
        office.until(f"agentcom task show {tasks[title]}", state="completed", attempt=1)
    office("touch c")
    office.until(f"agentcom task show {tasks['Queued']}", state="completed", attempt=1)
    stage.say("""What was acknowledged before the copy is all there. Both tasks that ended after
        the copy are completed by what the machine had kept, and the queued one was run again.""")
    office("agentcom task ls")
    office(f"agentcom task events {tasks['Short'][-6:]}")
    stage.say("""The task that was submitted after the copy is lost. What its agent reported is
        not: who knows its id finds it.""")
    office(f"agentcom task show {tasks['After']}", code=3)
    assert "kept" in office(f"agentcom task results {tasks['After']}")
