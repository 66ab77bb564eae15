"""The checks of questions: what they blame, and what they must not."""

import pytest

from agentcom.model.address import of_user
from agentcom.model.ask import Ask, AskId, AskState
from agentcom.model.batch import Batch, Change, Insert, Table, Update
from agentcom.model.ids import BatchId, PoolId, UserId, WallTime
from agentcom.testing.simulation.inquirer import Inquirer
from agentcom.testing.simulation.kernel import Kernel
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Trace, Violation


def taken(*asks: Ask) -> Inquirer:
    """Take down rows of one question: the first is put, and each that follows replaces it."""
    kernel = Kernel()
    inquirer = Inquirer(kernel, Options(seed=1, hours=1), None, None, Trace(kernel))
    put, *after = asks
    changes: list[Change] = [Insert(Table.ASK, put.id, put)]
    changes += [Update(Table.ASK, ask.id, ask, expected=ask.version - 1) for ask in after]
    inquirer.restored([Batch(id=BatchId("b"), pool=PoolId("p"), changes=tuple(changes))])
    return inquirer


def ask(state: AskState, version: int) -> Ask:
    return Ask(
        id=AskId("q"),
        asker=of_user(UserId("ann")),
        question="which?",
        at=WallTime(1),
        state=state,
        version=version,
    )


def test_a_question_stays_open_until_it_is_answered() -> None:
    put = ask(AskState.OPEN, 1)
    assert not taken(put).rests
    assert taken(put, ask(AskState.ANSWERED, 2)).rests


def test_a_question_may_end_in_the_batch_in_which_it_was_put() -> None:
    assert taken(ask(AskState.WITHDRAWN, 2)).rests


def test_a_question_that_was_never_open_is_told() -> None:
    with pytest.raises(Violation):
        taken(ask(AskState.WITHDRAWN, 1))


def test_a_question_that_ends_twice_is_told() -> None:
    with pytest.raises(Violation):
        taken(ask(AskState.OPEN, 1), ask(AskState.ANSWERED, 2), ask(AskState.WITHDRAWN, 3))
