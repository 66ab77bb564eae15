"""What a fact brings along."""

import re
from pathlib import Path
from typing import get_args

from agentcom import core
from agentcom.core import facts


def test_what_timers_and_cascades_bring_is_the_hubs_own() -> None:
    """A fact of a timer that found no room in the store comes again; so it has to be listed."""
    source = "".join(path.read_text("utf-8") for path in Path(core.__path__[0]).glob("*.py"))
    call = r"(?:Continue|again|SetTimer)\((?:[^()]|\([^()]*\))*?(?:\w*facts\.)?([A-Z]\w+)\("
    named = re.findall(call, source)

    own = {kind.__name__ for kind in get_args(facts.Own)}
    bodies = {kind.__name__ for kind in get_args(facts.Body)}
    assert {name for name in named if name in bodies} <= own
    assert {"AccountDue", "GateDue", "LocksDue", "LookAgain", "WaitEnded"} <= own
