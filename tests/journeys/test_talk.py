"""A person talks to an agent at work: a word to its task, and a permission."""

import sys

import pytest

from agentcom.cli import background
from tests.journeys.stage import COMMAND_S, Computer, Stage

PROGRAM = f"#!/bin/sh\nexec {sys.executable} -P -m agentcom.testing.acp_agent --fault=permission\n"


def scripted(*steps: str) -> str:
    return "\n".join(["<<mock:edit>>", "```steps", *steps, "```", ""])


@pytest.mark.slow
def test_a_person_talks_to_an_agent_at_work(stage: Stage) -> None:
    laptop = stage.computer("laptop")
    agent = laptop.folder / "bin" / "some-agent"
    agent.parent.mkdir()
    agent.write_text(PROGRAM)
    agent.chmod(0o755)
    laptop.variables["PATH"] = f"{laptop.program}:{agent.parent}:/usr/bin:/bin"
    up = "agentcom up --agent eve=acp:command=some-agent,permissions=ask,sandbox=off"
    stage.say(f"""An agent that speaks the Agent Client Protocol. It asks before it uses a tool, and
        Ada wants to be asked: `{up}`.""")
    assert laptop.quietly(up).returncode == 0

    permission(stage, laptop)
    word(stage, laptop)

    stage.learn(laptop)
    stage.publish("talk", "Talk to an agent at work")


def permission(stage: Stage, laptop: Computer) -> None:
    prompt = laptop.folder / "greet.md"
    prompt.write_text(
        scripted('{"write": {"path": "greeting.txt", "text": "ave\\n"}}', '{"say": "Written."}')
    )
    laptop('agentcom submit --no-repo --title Greeting "$(cat greet.md)"')
    stage.say("## A permission\n\nSoon there is a question, as of any agent.")
    laptop.until_so("agentcom ask ls --json id,question", lambda said: len(said) == 1)
    (asked,) = laptop.ask("agentcom ask ls --json id,question")
    stage.say(f"It says: {asked['question']}")
    laptop(f"agentcom ask answer {asked['id']} allow")
    laptop.until("agentcom task show @last", state="completed")


def word(stage: Stage, laptop: Computer) -> None:
    gate = laptop.folder / "gate"
    prompt = laptop.folder / "long.md"
    prompt.write_text(scripted(f'{{"wait_for": "{gate}"}}', '{"say": "The long part is done."}'))
    stage.say("""## A word

        The agent is in the middle of a long turn. What Ada says now is put before it when that turn
        ends, in the same process.""")
    laptop('agentcom submit --no-repo --title Long "$(cat long.md)"')
    laptop.until("agentcom task show @last", phase="working")
    told = laptop('agentcom task tell @last "answer me: <<mock:say>>"')
    message = told.split()[0]
    here = f"agentcom msg show {message} | grep delivered"
    assert background.wait_for(lambda: not laptop.quietly(here).returncode, timeout_s=COMMAND_S)
    gate.touch()
    laptop.until("agentcom task show @last", state="completed")
    laptop(f"agentcom msg show {message}")
    (place,) = laptop.ask("agentcom task results @last --json result")
    assert place["result"]["summary"].endswith("Nothing to change.")
    stage.say("Nobody works on a task that is completed.")
    laptop('agentcom task tell @last "too late"', code=3)
