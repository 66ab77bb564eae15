"""What people may ask over HTTP: the same tasks as elsewhere, but no field more."""

import msgspec
import pytest

from agentcom.model.graph import Condition, Dependency
from agentcom.model.task import TaskSpec
from agentcom.protocol.asked import TaskAsked, TasksAsked


def test_a_task_that_was_asked_for_is_the_cores_own_value() -> None:
    text = b'{"title": "t", "prompt": "p", "depends_on": [{"task": "a", "condition": "any_end"}]}'

    spec = msgspec.json.decode(text, type=TaskAsked).spec()

    dependency = Dependency("a", Condition.ANY_END)
    assert spec == TaskSpec(title="t", prompt="p", depends_on=(dependency,))
    assert type(spec) is TaskSpec


@pytest.mark.parametrize(
    "text",
    [
        b'{"tasks": []}',
        b'{"tasks": [{"title": "t", "state": "completed"}]}',
        b'{"tasks": [{"title": "t", "depends_on": [{"task": "a", "met": true}]}]}',
        b'{"tasks": [{"title": "t"}], "submitter": "ann"}',
    ],
)
def test_a_field_that_nobody_may_set_is_refused(text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=TasksAsked)
