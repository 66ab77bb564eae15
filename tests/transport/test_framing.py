"""Several messages in one write are read as the messages that they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from agentcom.transport.framing import text_frames


def read(data: bytes) -> list[bytes]:
    """Return the text messages that a client finds in `data`."""
    codec = ClientProtocol(parse_uri("ws://localhost/"), state=OPEN)
    codec.receive_data(data)
    found = []
    for frame in codec.events_received():
        assert isinstance(frame, Frame)
        assert (frame.opcode, frame.fin) == (Opcode.TEXT, True)
        found.append(bytes(frame.data))
    return found


@given(st.lists(st.binary(max_size=300)))
def test_every_message_comes_out_as_it_went_in(payloads: list[bytes]) -> None:
    assert read(text_frames(payloads)) == payloads


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 262_144])
def test_lengths_are_written_as_the_standard_says(size: int) -> None:
    payloads = [b"a" * size, b"end"]

    assert read(text_frames(payloads)) == payloads
