"""What a fact brings along."""

import re
from pathlib import Path
from typing import get_args

from agentcom import core
from agentcom.core import facts
from agentcom.model.batch import Table, result_key
from agentcom.model.ids import Fence, MachineId, TaskId, WallTime
from agentcom.model.result import KeptResult
from tests.core.acts import done

KEY = result_key("t", Fence(7, 1), "m1")
KEPT = KeptResult(
    task=TaskId("t"),
    fence=Fence(7, 1),
    agent=None,
    machine=MachineId("m1"),
    at=WallTime(1),
    result=done(),
    applied=False,
)


def test_a_result_that_was_fetched_is_at_hand() -> None:
    assert facts.kept({(Table.RESULT, KEY): KEPT}, KEY) == KEPT


def test_a_result_that_is_not_stored_or_was_not_asked_for_is_not() -> None:
    assert facts.kept({(Table.RESULT, KEY): None}, KEY) is None
    assert facts.kept(facts.NOTHING_FOUND, KEY) is None


def test_what_timers_and_cascades_bring_is_the_hubs_own() -> None:
    """A fact of a timer that found no room in the store comes again; so it has to be listed."""
    source = "".join(path.read_text("utf-8") for path in Path(core.__path__[0]).glob("*.py"))
    call = r"(?:Continue|again|SetTimer)\((?:[^()]|\([^()]*\))*?(?:\w*facts\.)?([A-Z]\w+)\("
    named = re.findall(call, source)

    own = {kind.__name__ for kind in get_args(facts.Own)}
    bodies = {kind.__name__ for kind in get_args(facts.Body)}
    assert {name for name in named if name in bodies} <= own
    assert {"AccountDue", "GateDue", "LocksDue", "LookAgain", "WaitEnded"} <= own
