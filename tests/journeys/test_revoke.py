"""Tokens are revoked: a person's, with a connection open; and a machine's, with work on it."""

import pytest

from agentcom.cli import enrol
from tests.journeys.stage import Computer, Stage, joining

TRAIN = 'sh -c "until test -e $HOME/data; do sleep 0.1; done"'


@pytest.mark.slow
def test_a_revoked_token_ends_at_once_and_its_machines_work_moves(stage: Stage) -> None:
    office = stage.computer("office")
    desk = stage.computer("desk", person="bob")
    box = stage.computer("box")
    stage.say("""A hub, whose lease is 3 s here instead of 20, a machine `box` beside it, and Bob,
        who submits from a desk of his own.""")
    office("AGENTCOM_HUB_LEASE_TTL_MS=3000 agentcom up --agent home=command")
    code = joining(office("agentcom machine invite"))
    box(f"agentcom join '{code}' --name box --agent far=command:capabilities=gpu")
    code = joining(office("agentcom user invite bob"))
    desk(f"agentcom join '{code}'")

    a_persons_token(stage, office, desk)
    a_machines_token(stage, office, desk, box)

    stage.learn(office)
    stage.transcript.knows(enrol.machine_name(), "computer")
    stage.publish("revoke", "Revoke a token")


def a_persons_token(stage: Stage, office: Computer, desk: Computer) -> None:
    stage.say("""## A person's token

        Bob follows a task. Meanwhile an admin revokes his token.""")
    desk(f'agentcom submit --no-repo --command --title "Train" --needs gpu -- {TRAIN}')
    desk.until("agentcom task show @last", phase="working")
    watching = desk.begin("agentcom task watch @last")
    assert "bob" in office("agentcom token ls")
    office(f"agentcom token revoke {token_of(office, 'usr', owner='bob')}")
    stage.say("His open connection is cut, and the next call is refused.")
    assert "(not_authenticated)" in watching.ends(code=4)
    assert "agentcom user invite" in desk("agentcom task ls", code=4)
    stage.say("His task goes on, since it is the hub's. With a new code he is back.")
    code = joining(office("agentcom user invite bob"))
    desk(f"agentcom join '{code}' --replace")
    assert "running (working)" in desk("agentcom task ls")


def a_machines_token(stage: Stage, office: Computer, desk: Computer, box: Computer) -> None:
    stage.say("""## A machine's token

        Now the token of `box`, which works on Bob's task, while another machine could take over.
        The lease ends, and the task goes there.""")
    task = desk.last_task()
    office("agentcom up --agent home=command --agent spare=command:capabilities=gpu")
    office(f"agentcom token revoke {token_of(office, 'mch', note='box')}")
    office.until(f"agentcom task show {task}", agent="spare", phase="working")
    assert "its machine fell silent" in office(f"agentcom task events {task[-6:]}")
    office("agentcom machine ls")
    stage.say("The machine itself is told why it is not let in, and how it could be again.")
    assert "agentcom machine invite" in box("agentcom up", code=4)
    desk("touch data")
    assert "spare attempt 2" in desk("agentcom task watch @last").splitlines()[-1]


def token_of(computer: Computer, kind: str, **wanted: str) -> str:
    rows = computer.ask("agentcom token ls --json id,kind,owner,note")
    (found,) = [row["id"] for row in rows if {"kind": kind, **wanted}.items() <= row.items()]
    return str(found)
