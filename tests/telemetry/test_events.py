import re

from agentcom.telemetry import events

NAMES = {name: value for name, value in vars(events).items() if name.isupper()}


def test_every_event_is_a_noun_and_a_verb() -> None:
    assert [it for it in NAMES.values() if not re.fullmatch(r"[a-z]+\.[a-z_]+", it)] == []


def test_a_constant_is_called_like_its_event() -> None:
    assert {name: value.replace(".", "_").upper() for name, value in NAMES.items()} == {
        name: name for name in NAMES
    }
