"""What is redacted in a log is found in what an agent publishes, too: the shapes are one list."""

import pytest

from agentcom.model import secret_shapes
from agentcom.sidecar import secrets_scan
from agentcom.telemetry.redact import GONE, redact
from tests.telemetry.test_redact import KEYS


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", ["", "key=", "MY_", "\u00e4"])
def test_every_key_is_redacted_and_found_whatever_stands_before_it(key: str, before: str) -> None:
    (found,) = secrets_scan.scan("a.txt", f"first\n{before}{key} end".encode())

    assert found.line == 2
    assert found.kind in {shape.kind for shape in secret_shapes.KEYS}
    assert redact(f"{before}{key} end") == f"{before}{GONE} end"


def test_every_shape_has_an_example() -> None:
    found = {secrets_scan.scan("a.txt", key.encode())[0].kind for key in KEYS}

    assert found == {shape.kind for shape in secret_shapes.KEYS}


@pytest.mark.parametrize("key", KEYS)
def test_part_of_a_longer_word_is_no_key(key: str) -> None:
    assert secrets_scan.scan("a.txt", f"x{key}".encode()) == []
    assert redact(f"x{key}") == f"x{key}"
