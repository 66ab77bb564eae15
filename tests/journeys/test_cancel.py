"""A task is cancelled: before it can run, before it does, while it runs, and after the end."""

import pytest

from tests.journeys.stage import Computer, Stage

SUBMIT = "agentcom submit --no-repo --command"
COUNT = 'ps -A -o args | grep -c "^[s]leep 3117"'


@pytest.mark.slow
def test_a_task_is_cancelled_wherever_it_is(stage: Stage) -> None:
    laptop = stage.computer("laptop")
    stage.say("""One agent, and three tasks: the first runs, the second waits for the agent, the
        third for the second. The first leaves a process behind that has detached itself.""")
    laptop("agentcom up --agent shell=command")
    laptop(f'{SUBMIT} --title "Serve" -- sh -c "(nohup sleep 31174 &); sleep 31175"')
    serve = laptop.last_task()
    laptop.until("agentcom task show @last", phase="working")
    laptop(f'{SUBMIT} --title "Build" -- true')
    build = laptop.last_task()
    laptop(f'{SUBMIT} --title "Test" --depends-on @last -- true')
    laptop("agentcom task ls")

    before_it_runs(stage, laptop, build)
    while_it_runs(stage, laptop, serve)
    after_the_end(stage, laptop, build)

    stage.learn(laptop)
    stage.publish("cancel", "Cancel a task")


def before_it_runs(stage: Stage, laptop: Computer, build: str) -> None:
    stage.say("""## While it waits, and while it is queued

        Nobody holds it, so it is over at once. What depends on a cancelled task fails, unless it
        accepts any end.""")
    assert "cancelled" in laptop('agentcom task cancel @last --reason "not needed"')
    assert "cancelled" in laptop(f"agentcom task cancel {build[-6:]}")
    assert "not needed" in laptop("agentcom task why @last")


def while_it_runs(stage: Stage, laptop: Computer, serve: str) -> None:
    stage.say("""## While it runs

        Two processes of it run, one of them detached.""")
    assert laptop(COUNT).strip() == "2"
    assert "running" in laptop(f"agentcom task cancel {serve[-6:]}")
    watched = laptop(f"agentcom task watch {serve[-6:]}", code=1)
    assert watched.splitlines()[-1].split()[1] == "cancelled"
    stage.say("The machine has ended the whole tree, the detached process too.")
    assert laptop(COUNT, code=1).strip() == "0"


def after_the_end(stage: Stage, laptop: Computer, build: str) -> None:
    stage.say("""## After the end

        A completed task cannot be cancelled; a cancelled one is cancelled already. What was
        cancelled by mistake is run again, under the same id.""")
    laptop(f'{SUBMIT} --title "Lint" -- true')
    laptop.until("agentcom task show @last", state="completed")
    assert "(illegal_transition)" in laptop("agentcom task cancel @last", code=5)
    laptop(f"agentcom task cancel {build[-6:]}")
    laptop(f"agentcom task retry {build[-6:]}")
    assert "completed" in laptop(f"agentcom task watch {build[-6:]}")
