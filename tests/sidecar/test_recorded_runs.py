"""Runs of real programs as they printed them, and what their drivers make of them."""

import pytest

from agentcom.cli import enrol
from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.aider import Aider
from agentcom.sidecar.runtime.mini import Mini
from agentcom.sidecar.runtime.pi import Pi
from tests.sidecar.real_cli import recorded, replay

DONE = base.Exit(code=0)
"""The worst of exit codes: most of these programs say so after an error."""


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("pi-auth", FailureClass.AUTH),
        ("pi-quota", FailureClass.QUOTA),
        ("pi-model-down", FailureClass.MODEL_UNAVAILABLE),
        ("openclaw-agent", FailureClass.AGENT),
        ("aider-auth", FailureClass.AUTH),
        ("mini-agent", FailureClass.AGENT),
    ],
)
def test_an_error_keeps_its_class_whatever_the_exit_code(name: str, failure: FailureClass) -> None:
    driver = enrol.runtimes()[name.partition("-")[0]]

    events, verdict = replay(driver, name, DONE)

    assert verdict.failure is failure
    assert [event for event in events if isinstance(event, base.Failed)][-1].failure is failure


@pytest.mark.parametrize("name", ["pi-edit", "openclaw-edit"])
def test_an_edit_is_a_success_with_what_it_cost(name: str) -> None:
    driver = enrol.runtimes()[name.partition("-")[0]]

    events, verdict = replay(driver, name, DONE)

    assert (verdict.failure, verdict.summary) == (None, "Done: hello.txt written.")
    assert verdict.usage.input > verdict.usage.output > 0
    assert verdict.session
    assert events[-1] == base.TurnEnded(base.Stop.END_TURN)


def test_pi_shows_its_tools_and_that_it_tries_again() -> None:
    edit, _ = replay(Pi(), "pi-edit", DONE)
    down, _ = replay(Pi(), "pi-model-down", DONE)

    tools = [event for event in edit if isinstance(event, base.ToolStarted | base.ToolEnded)]
    assert [type(event) for event in tools] == [base.ToolStarted, base.ToolEnded]
    assert any(isinstance(event, base.Retrying) for event in down)


def test_a_record_of_pi_that_was_cut_is_progress_and_no_proof() -> None:
    parser = Pi().parser()

    events = parser.feed(b'{"type":"message_update","assistantMessageEvent":{"type":"text_de')

    assert events == [base.Streamed()]
    assert parser.finish(DONE).failure is FailureClass.CRASHED


def test_aider_is_done_when_it_counts_its_tokens() -> None:
    _, verdict = replay(Aider(), "aider-edit", DONE)

    assert verdict.failure is None
    assert verdict.usage.input > verdict.usage.output > 0


def test_mini_is_done_by_its_last_step_and_not_by_its_instructions() -> None:
    _, verdict = replay(Mini(), "mini-edit", DONE)
    _, broken = replay(Mini(), "mini-edit", base.Exit(code=1))
    lines = recorded("mini-edit")
    parser = Mini().parser()
    for line in lines[: lines.index(b"Tool:")]:
        parser.feed(line)

    assert verdict.failure is None
    assert broken.failure is FailureClass.CRASHED
    assert parser.finish(DONE).failure is FailureClass.CRASHED
