"""The table of damage: what is done to a hub's files, and what must come of it."""

from typing import Final

from agentcom.testing.crash import damage
from agentcom.testing.crash.damage import Damage, Ending
from docs.tools.blocks import table

_WORDS: Final = {
    frozenset({Ending.REFUSED}): "the start is refused",
    frozenset({Ending.HARMLESS}): "nothing is lost",
    frozenset({Ending.REFUSED, Ending.HARMLESS}): "the start is refused, or nothing is lost",
}


def cases() -> str:
    """Return each kind of damage with the ways in which it may end."""
    rows = [_row(one, "stopped") for one in damage.PAGES]
    rows += [_row(one, "killed") for one in damage.LOGS]
    return table(["hub", "damage", "what comes of it"], rows)


def _row(one: Damage, hub: str) -> tuple[object, ...]:
    return hub, one.what, _WORDS[one.endings]
