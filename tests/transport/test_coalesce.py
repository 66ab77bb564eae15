"""Several messages in one write are read as the messages that they are."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from agentcom.transport.coalesce import send_texts, text_frames


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


class OneByOne:
    """A socket that takes one message at a time."""

    peer = ""
    buffered_bytes = 0

    def __init__(self) -> None:
        self.calls: list[bytes | Sequence[bytes]] = []

    def send_text(self, payload: bytes) -> None:
        self.calls.append(payload)

    def close(self, code: int, reason: str = "") -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def trust(self) -> None: ...


class Together(OneByOne):
    """A socket that takes several at once."""

    def send_texts(self, payloads: Sequence[bytes]) -> None:
        self.calls.append(payloads)


def test_messages_go_together_where_the_socket_can() -> None:
    one_by_one, together = OneByOne(), Together()

    for socket in (one_by_one, together):
        send_texts(socket, [b"1", b"2"])
        send_texts(socket, [b"3"])

    assert one_by_one.calls == [b"1", b"2", b"3"]
    assert together.calls == [[b"1", b"2"], b"3"]
