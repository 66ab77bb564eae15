"""A task waits: `task why` names the cause, the cause is removed, and it runs."""

import pytest

from tests.journeys.stage import Computer, Stage

SUBMIT = "agentcom submit --no-repo --command"
WAITS = 'sh -c "until test -e $HOME/data; do sleep 0.1; done"'


@pytest.mark.slow
def test_each_cause_is_named_and_once_it_is_gone_the_task_runs(stage: Stage) -> None:
    laptop = stage.computer("laptop")
    stage.say("A hub with one agent, which runs plain commands.")
    laptop("agentcom up --agent shell=command")

    nobody_can(stage, laptop)
    all_are_busy(stage, laptop)
    it_depends(stage, laptop)
    not_yet(stage, laptop)
    paused(stage, laptop)

    stage.learn(laptop)
    stage.publish("why-it-waits", "Why does my task wait?")


def nobody_can(stage: Stage, laptop: Computer) -> None:
    stage.say("""## Nobody can do it

        A task that asks for what no agent offers is taken, and told so at once.""")
    told = laptop(f'{SUBMIT} --title "Train the model" --needs gpu -- true')
    assert "no agent can run it now: agentcom task why" in told
    assert "no agent can run it: it needs gpu" in laptop("agentcom task why @last")
    stage.say("So an agent that has it is added, and the task runs.")
    laptop("agentcom up --agent shell=command --agent trainer=command:capabilities=gpu")
    assert "trainer attempt 1" in laptop("agentcom task watch @last")


def all_are_busy(stage: Stage, laptop: Computer) -> None:
    stage.say("""## All are busy

        The one agent that could do it works on something else. The queue has an order.""")
    laptop(f'{SUBMIT} --title "Wait for data" --needs command -- {WAITS}')
    laptop.until("agentcom task show @last", phase="working")
    laptop(f'{SUBMIT} --title "Build" --needs command -- true')
    why = laptop("agentcom task why @last")
    assert "1 agent could run it, and is not free" in why
    assert "busy" in why


def it_depends(stage: Stage, laptop: Computer) -> None:
    stage.say("""## It depends on another

        Here on the one that waits for the agent. When the data come, one follows the other.""")
    laptop(f'{SUBMIT} --title "Test the build" --depends-on @last --needs command -- true')
    assert "waits for: " in laptop("agentcom task why @last")
    laptop("touch data")
    assert "completed" in laptop("agentcom task watch @last")


def not_yet(stage: Stage, laptop: Computer) -> None:
    stage.say("## Its time has not come")
    laptop(f'{SUBMIT} --title "Nightly" --not-before 4s --needs command -- true')
    assert "its start time is not here yet" in laptop("agentcom task why @last")
    stage.say("There is nothing to do: it runs when its time has come.")
    assert "completed" in laptop("agentcom task watch @last")


def paused(stage: Stage, laptop: Computer) -> None:
    stage.say("## Somebody paused the agent")
    laptop("agentcom agent pause shell")
    laptop(f'{SUBMIT} --title "Lint" --needs command -- true')
    why = laptop("agentcom task why @last")
    assert "this does not pass by itself" in why
    assert "agentcom agent resume shell" in why
    laptop("agentcom agent resume shell")
    assert "completed" in laptop("agentcom task watch @last")
