"""Whatever stands in a machine's folder: a configuration, or a refusal with a stable code."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.model.errors import AgentComError
from agentcom.sidecar.config import Config, Home, MachineConfig

EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True)
texts = st.text(st.characters(codec="utf-8"), max_size=30)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
FIELDS = [field.name for field in msgspec.structs.fields(MachineConfig)]


def read(data: bytes, token: bytes = b"acm_mch_x\n") -> Config | AgentComError:
    with tempfile.TemporaryDirectory() as root:
        Path(root, "machine.json").write_bytes(data)
        secret = Path(root, "token")
        secret.write_bytes(token)
        secret.chmod(0o600)
        try:
            return Home(Path(root)).load()
        except AgentComError as refused:
            found = refused
    assert found.code in {"invalid_input", "not_found", "not_allowed"}
    return found


@EXAMPLES
@given(st.binary(max_size=300))
def test_any_bytes_are_a_machine_or_refused(data: bytes) -> None:
    read(data)


@EXAMPLES
@given(st.dictionaries(st.sampled_from(FIELDS) | texts, values, max_size=6))
def test_any_document_is_a_machine_or_refused(document: dict[str, Any]) -> None:
    read(msgspec.json.encode({"hub": "http://h", "machine": "m", **document}))


@EXAMPLES
@given(st.binary(max_size=80))
def test_any_token_is_read_or_refused(token: bytes) -> None:
    read(b'{"hub": "http://h", "machine": "m"}', token)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b'{"hub": "\xff"}',
        b'{"hub": "h", "machine": "m", "agents": [' + b'{"a":' * 50_000,
        b'{"hub": "h", "machine": "m", "settings": {"ttl_ms": 1' + b"0" * 6_000 + b"}}",
        b" " * (16 << 20),
    ],
    ids=["lists", "objects", "text", "agents", "number", "size"],
)
def test_depth_and_size_have_bounds(data: bytes) -> None:
    assert isinstance(read(data), AgentComError)
