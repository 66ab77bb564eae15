"""Whatever a peer sends: a frame, or a refusal with a stable code, in bounded time and memory."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.model import errors, limits
from agentcom.protocol import codec
from agentcom.protocol.calls import CALLS, name_of
from tests.access.samples import CALLS as CALL_SAMPLES
from tests.access.samples import FRAMES

EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)
CODES = {"malformed", "invalid_input", "unsupported", "too_large"}
MEMORY_PER_BYTE = 120  # what a value of small integers may take
DEEP = [
    b"[",
    b'{"a":',
    b'{"type":"submit","key":"k","tasks":[',
    b'{"type":"call","key":"k","call":',
]

texts = st.text(max_size=20)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def encoded(value: Any) -> bytes:
    """Return a value as JSON, also one that is not good JSON."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return repr(value).encode("utf-8", "surrogatepass")


def code_of(data: bytes) -> str:
    """Return what each decoder makes of it; the peer's own at the end."""
    code = ""
    for decode in (codec.decode_call, codec.decode_from_hub, codec.decode_from_peer):
        refused = None
        try:
            decode(data)
        except errors.AgentComError as error:
            refused = error
        code = "frame" if refused is None else refused.code
        assert code in CODES | {"frame"}
        assert refused is None or len(refused.message) < 1_000
    return code


@EXAMPLES
@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_refused(data: bytes) -> None:
    code_of(data)


@EXAMPLES
@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_any_change_of_a_good_frame_is_a_frame_or_refused(name: str, data: st.DataObject) -> None:
    good = {"type": name, **FRAMES[name][0].body}
    field = data.draw(st.sampled_from(sorted(good)) | texts)
    code_of(encoded({**good, field: data.draw(values)}))


@EXAMPLES
@given(st.sampled_from(sorted(CALL_SAMPLES)), st.data())
def test_any_change_of_a_good_call_is_a_call_or_refused(name: str, data: st.DataObject) -> None:
    good = {"call": name, **CALL_SAMPLES[name][0].body}
    field = data.draw(st.sampled_from(sorted(good)) | texts)
    code_of(encoded({**good, field: data.draw(values)}))


def test_every_call_has_a_good_one_to_begin_with() -> None:
    assert set(CALL_SAMPLES) == {name_of(kind) for kind in CALLS}


@EXAMPLES
@given(st.sampled_from(sorted(FRAMES)), st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_any_damage_to_a_good_frame_is_a_frame_or_refused(
    name: str, at: int, damage: bytes
) -> None:
    good = bytearray(msgspec.json.encode({"type": name, **FRAMES[name][0].body}))
    good[at % len(good) : at % len(good) + len(damage)] = damage
    code_of(bytes(good))


@pytest.mark.parametrize("opening", DEEP)
def test_depth_ends_in_a_refusal(opening: bytes) -> None:
    count = limits.FRAME_BYTES // len(opening)

    assert code_of(opening * count) in CODES
    assert code_of(b"x" * (limits.FRAME_BYTES + 1)) in CODES


@pytest.mark.parametrize("unit", [b"1,", b'"",', b"[],", b"{},", b"null,"])
def test_memory_is_bounded_by_the_size_of_a_frame(unit: bytes) -> None:
    """A small frame must not unfold into much: unknown fields are skipped, not kept."""
    room = limits.FRAME_BYTES - 100
    inner = unit * (room // len(unit))
    data = b'{"type":"hello","versions":[1],"more":[' + inner.rstrip(b",") + b"]}"
    tracemalloc.start()
    try:
        codec.decode_from_peer(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < limits.FRAME_BYTES * MEMORY_PER_BYTE / 100
