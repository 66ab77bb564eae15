"""Names that tasks and agents speak of: a class of its own only while somebody does."""

import msgspec
import pytest

from agentcom.core import descriptions, facts
from agentcom.model.agent import AgentSpec
from agentcom.model.errors import InvalidInput
from agentcom.model.requirement import canonical
from agentcom.model.task import TaskSpec, TaskState
from agentcom.testing.world import agent
from tests.core.acts import Pool


def needs(*texts: str, **fields: object) -> TaskSpec:
    return TaskSpec(title="t", prompt="p", needs=texts, **fields)  # type: ignore[arg-type]  # as given


def accepting(name: str, *accepts: str) -> AgentSpec:
    return msgspec.structs.replace(agent(name), accepts=accepts)


def test_a_task_may_ask_for_an_agent_or_a_machine_by_name() -> None:
    world = Pool()
    world.machine("m1", "ada", "bob")
    world.machine("m2", "cy")
    tasks = world.submit(needs("agent=bob"), needs("machine=m2"), needs("agent!=bob"))

    assert [world.task(task).agent for task in tasks] == ["bob", "cy", "ada"]


def test_a_task_may_exclude_an_agent_by_name_before_it_is_known() -> None:
    world = Pool()
    (task,) = world.submit(needs("agent!=ada"))
    world.machine("m1", "ada")
    assert world.task(task).state is TaskState.QUEUED

    world.machine("m2", "bob")

    assert world.task(task).agent == "bob"


def test_equal_agents_are_one_class_again_when_nobody_speaks_of_them() -> None:
    world = Pool()
    world.machine("m1", "ada", "bob", "cy")
    before = len(set(world.view.class_of.values()))

    (task,) = world.submit(needs("agent=ada", "gpu"))
    assert len(set(world.view.class_of.values())) == before + 1
    world.ask(facts.Cancel(task))

    assert len(set(world.view.class_of.values())) == before
    assert world.view.named == {}


def test_labels_and_runtime_can_be_asked_for() -> None:
    world = Pool()
    spec = msgspec.structs.replace(agent("ada"), labels={"Team": "Web"})
    world.machine("m1", spec)
    (task,) = world.submit(needs("team=web", "runtime=command"))

    assert world.task(task).agent == "ada"


def test_names_are_compared_for_equality_only() -> None:
    with pytest.raises(InvalidInput, match="a name is compared"):
        descriptions.names_in(canonical(["agent>=3"]))
    assert descriptions.names_in(canonical(["agent in (a,b)", "gpu"])) == ("agent=a", "agent=b")
    with pytest.raises(InvalidInput):
        Pool().submit(needs("machine>m"))


def test_an_agent_takes_only_what_it_accepts() -> None:
    world = Pool()
    world.machine("m1", accepting("ada", "submitter=bob", "kind=review"))
    anns = world.submit(needs(kind="review"), by="ann")
    bobs = world.submit(needs(), needs(kind="review"), by="bob")

    tasks = [*anns, *bobs]
    assert [world.task(task).state.value for task in tasks] == ["queued", "queued", "assigned"]


def test_what_waited_before_an_agent_asked_is_looked_at_anew() -> None:
    world = Pool()
    (task,) = world.submit(needs(kind="build"), by="ann")
    world.machine("m1", accepting("ada", "kind!=build"))
    assert world.task(task).state is TaskState.QUEUED

    world.machine("m1", agent("ada"))

    assert world.task(task).agent == "ada"
    assert world.view.asked == {}


def test_an_agent_can_ask_for_a_few_things_only() -> None:
    world = Pool()
    reply = world.ask(
        facts.MachineConnected(
            agents=(accepting("ada", "title=x"),),
            held=(),
            ttl_ms=0,
            connection=1,
        ),
        world.machine("m1"),
    )

    assert [(r.name, r.code) for r in reply.refused] == [("ada", "invalid_input")]  # type: ignore[union-attr]  # a welcome


def test_why_says_what_an_agent_takes() -> None:
    world = Pool()
    world.machine("m1", accepting("ada", "kind=review"))
    (task,) = world.submit(needs())

    rules = world.ask(facts.Explain(task)).agents  # type: ignore[union-attr]  # an explanation
    assert [(r.rule, r.detail) for r in rules] == [("accepts", "it takes only kind=review")]


def test_an_agent_that_may_not_push_to_a_repository_gets_no_task_of_it() -> None:
    world = Pool()
    spec = msgspec.structs.replace(agent("ada"), capabilities=("no-push=forge.example/acme/api",))
    world.machine("m1", spec)
    api = needs(repo="https://forge.example/Acme/api.git", base="main")
    web = needs(repo="https://forge.example/acme/web.git", base="main")
    shut, other = world.submit(api, web)

    assert world.task(shut).state is TaskState.QUEUED
    assert world.task(other).agent == "ada"
    rules = world.ask(facts.Explain(shut)).agents  # type: ignore[union-attr]  # an explanation
    assert rules[0].detail == "it takes only repo!=forge.example/acme/api"
    world.machine("m2", agent("bob"))

    assert world.task(shut).agent == "bob"


def test_a_repository_is_part_of_a_shape_only_while_it_shuts_somebody_out() -> None:
    world = Pool()
    specs = [needs(repo=f"https://forge.example/acme/r{n}", base="main") for n in range(5)]
    world.submit(*specs)
    assert len({world.view.shape_of(task) for task in world.view.tasks.values()}) == 1

    spec = msgspec.structs.replace(agent("ada"), capabilities=("no-push=forge.example/acme/r1",))
    world.machine("m1", spec)
    assert len({world.view.shape_of(task) for task in world.view.tasks.values()}) == 2
    world.machine("m1", agent("ada"))

    assert len({world.view.shape_of(task) for task in world.view.tasks.values()}) == 1
