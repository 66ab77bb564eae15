"""What a bot's server answers is read as it should be, or is no answer; it ends nothing."""

from pathlib import Path
from typing import Any

import pytest

from agentcom.hub.notify_secrets import Secret, Secrets
from agentcom.hub.notify_sender import Undelivered
from agentcom.hub.outgoing import Reply
from agentcom.hub.telegram_api import TelegramApi


class Answering:
    """Stands for `Outgoing`, and has one answer."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def post(self, *_asked: object, **_bounds: object) -> Reply:
        return Reply(200, self._body)


def api(home: Path, body: bytes) -> TelegramApi:
    secrets = Secrets(home)
    secrets.write("phone", Secret(token="1:a"))
    outgoing: Any = Answering(body)
    return TelegramApi("phone", secrets, outgoing)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"\xff",
        b'{"ok":"\xff"}',
        b'{"ok":true,"result":' + b"[" * 60_000,
        b'{"ok":true,"result":{"update_id":1}}',
        b'{"ok":true,"result":[{"update_id":"1"}]}',
        b'{"ok":true}',
    ],
)
async def test_an_answer_in_another_shape_is_a_failure_that_passes(
    tmp_path: Path, body: bytes
) -> None:
    with pytest.raises(Undelivered) as caught:
        await api(tmp_path, body).updates(0)

    assert not caught.value.final
