"""A computer dies in the middle of work: others go on, and what it comes back with is kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.journeys.stage import Computer, Stage, joining

FAST = 's/^  "agents"/  "settings": {"checkpoint_interval_ms": 1000}, "agents"/'


def task_file(name: str, go: Path) -> str:
    begun = f"begun-{name}.txt"
    steps = [
        {"shell": ["sh", "-c", f"echo $AGENTCOM_ATTEMPT | cut -d@ -f1 >> {begun}"]},
        {"wait_for": str(go)},
        {"write": {"path": f"answer-{name}.txt", "text": "42\n"}},
        {"say": f"The answer is in answer-{name}.txt."},
    ]
    lines = "\n".join(json.dumps(step) for step in steps)
    return f"Find answer {name}\n\n<<mock:edit>>\n```steps\n{lines}\n```\n"


@pytest.mark.slow
def test_the_work_of_a_dead_machine_goes_on_elsewhere(stage: Stage) -> None:
    office = stage.computer("office")
    ash, box = stage.computer("ash"), stage.computer("box")
    origin = stage.origin("calc", {"README.md": "# calc\n"})
    for name in ("one", "two"):
        path = office.folder / f"{name}.md"
        path.write_text(task_file(name, stage.folder / f"go-{name}"))

    stage.say("""A hub, and two machines with an agent each. The lease is 3 s instead of 20, and
        work is checkpointed every second instead of every five minutes, so that this page is
        short. The agent is the test agent, which does what the steps in a prompt say.""")
    office("AGENTCOM_HUB_LEASE_TTL_MS=3000 agentcom up --no-agents")
    code = joining(office("agentcom machine invite --uses 2"))
    settle(ash, code, "ann=testagent:slots=2")
    office("cat one.md")
    submit = f"agentcom submit --repo {origin} --base main"
    office(f"{submit} - < one.md")
    tasks = [office.last_task()]
    office(f"{submit} - < two.md")
    tasks.append(office.last_task())
    for task in tasks:
        shown = f"agentcom task show {task} --json checkpoint"
        office.until_so(shown, lambda said: said["checkpoint"] is not None)
    settle(box, code, "bea=testagent:slots=2")

    the_power_fails(stage, office, ash, tasks)
    it_comes_back(stage, office, ash, tasks)
    adopt(stage, office, tasks[1])

    stage.publish("machine-dies", "A machine dies")


def the_power_fails(stage: Stage, office: Computer, ash: Computer, tasks: Sequence[str]) -> None:
    first = tasks[0]
    stage.say("""## The power fails

        `ash` works on both tasks. Now every process of it is killed with SIGKILL: the sidecar,
        the agents, and what watches over them.""")
    ash.loses_power()
    stage.say("""Its lease ends, and the other machine goes on from the last checkpoint. Nobody
        has to do anything.""")
    for task in tasks:
        office.until(f"agentcom task show {task}", phase="working", agent="bea", attempt=2)
    office.until_so(
        f"agentcom task events {first} --json kind",
        lambda rows: "checkpoint" in [row["kind"] for row in rows[-2:]],
    )
    assert "offline" in office("agentcom machine ls")
    assert "its machine fell silent" in office(f"agentcom task events {first[-6:]}")
    (stage.folder / "go-one").touch()
    assert "bea attempt 2" in office(f"agentcom task watch {first[-6:]}")
    stage.say("The first line was written by attempt 1, the second by attempt 2.")
    stage.learn(office)
    origin = office.ask("agentcom task show @last --json spec")["spec"]["repo"]
    office(f"git -C {origin} show {branch_of(office, first, 2)}:begun-one.txt")


def it_comes_back(stage: Stage, office: Computer, ash: Computer, tasks: Sequence[str]) -> None:
    first = tasks[0]
    stage.say("""## It comes back

        Its sidecar finds what the agents had done, commits it and pushes it to a branch of its
        own. The hub refuses it, since the tasks went on, and keeps it.""")
    ash("agentcom up")
    for task in tasks:
        office.until_so(
            f"agentcom task results {task} --json fence",
            lambda rows: any(it["fence"][1] == 1 for it in rows),
        )
    assert "kept (stale" in office(f"agentcom task results {first[-6:]}")
    stage.say("What is completed stays so.")
    assert "(illegal_transition)" in office(f"agentcom task adopt {first[-6:]} --attempt 1", code=5)


def adopt(stage: Stage, office: Computer, second: str) -> None:
    stage.say("""## Adopt what was kept

        The other task is still being worked on. If a look at the kept branch says that it is
        good enough, a person ends the second attempt and takes the first.""")
    office(f"agentcom task results {second[-6:]}")
    office(f"agentcom task cancel {second[-6:]}")
    office(f"agentcom task watch {second[-6:]}", code=1)
    assert "completed" in office(f"agentcom task adopt {second[-6:]} --attempt 1")
    office(f"agentcom task results {second[-6:]}")


def settle(computer: Computer, code: str, agent: str) -> None:
    computer(f"agentcom join '{code}' --name {computer.name} --agent {agent} --no-start")
    computer(f"sed -i.before '{FAST}' .agentcom/machine/machine.json")
    computer("agentcom up")


def branch_of(computer: Computer, task: str, attempt: int) -> str:
    rows = computer.ask(f"agentcom task results {task} --json fence,result")
    return str(next(row["result"]["branch"] for row in rows if row["fence"][1] == attempt))
