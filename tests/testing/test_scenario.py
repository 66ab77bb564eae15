import pytest

from agentcom.model import errors
from agentcom.testing import scenario


@pytest.mark.parametrize("name", scenario.NAMED)
def test_every_kind_of_step_survives_the_prompt(name: str) -> None:
    steps = list(scenario.NAMED[name])

    assert scenario.parse_steps(scenario.render(steps, scenario=name)) == steps


def test_the_newest_marker_names_the_scenario() -> None:
    assert scenario.scenario_name("<<mock:a>> then <<mock:b-2>> end") == "b-2"
    assert scenario.scenario_name("nothing << mock:a >>") is None


def test_only_the_block_after_the_newest_marker_counts() -> None:
    old = scenario.render([scenario.Say("old")])
    new = scenario.render([scenario.Say("new")])

    assert scenario.parse_steps(f"{old}\n{new}") == [scenario.Say("new")]
    assert scenario.parse_steps(f"{old}\n<<mock:auth>>") == []


def test_a_prompt_without_steps_gets_those_of_its_name() -> None:
    assert scenario.steps("<<mock:auth>>") == [scenario.Fail("auth")]
    assert scenario.steps("please edit") == list(scenario.NAMED["edit"])


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "{}",
        '{"say": "a", "exit": 1}',
        '{"explode": 1}',
        '{"error": "boredom"}',
        '{"write": {"path": "/etc/passwd", "text": ""}}',
        '{"write": {"path": "a/../../b", "text": ""}}',
        '{"write": {"path": ".git/config", "text": ""}}',
    ],
)
def test_a_wrong_step_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(errors.InvalidInput, match="step 2"):
        scenario.parse_steps(f'<<mock:edit>>\n```steps\n{{"say": "ok"}}\n{line}\n```\n')


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="none of"):
        scenario.steps("<<mock:dance>>")


def test_a_limit_has_its_own_words() -> None:
    step = scenario.Fail("quota", "try again in 2h 5m")

    assert scenario.steps(scenario.render([step])) == [step]
