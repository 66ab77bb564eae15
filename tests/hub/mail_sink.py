"""A mail server that takes letters and keeps them; small, as RFC 5321 has it."""

import asyncio
import base64
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default

from agentcom.testing.listening import listening


class Sink:
    """What came, and what it shall answer."""

    def __init__(self, tls: ssl.SSLContext | None, *, at_once: bool) -> None:
        self.tls, self.at_once = tls, at_once
        self.letters: list[EmailMessage] = []
        self.logins: list[tuple[str, str]] = []
        self.secure: list[bool] = []
        self.recipient_code = 250
        self.login_code = 235
        self.port = 0

    async def serve(  # noqa: PLR0915 - one conversation, word by word
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        secure = self.at_once
        writer.write(b"220 sink\r\n")
        while line := await reader.readline():
            word, _, rest = line.decode().strip().partition(" ")
            match word.upper():
                case "EHLO":
                    more = [] if secure or self.tls is None else ["250-STARTTLS"]
                    answer = "\r\n".join(["250-sink", *more, "250 AUTH PLAIN"])
                case "STARTTLS":
                    assert self.tls is not None
                    writer.write(b"220 go\r\n")
                    await writer.drain()
                    await writer.start_tls(self.tls)
                    secure = True
                    continue
                case "AUTH":
                    _, user, password = base64.b64decode(rest.split()[1]).decode().split("\0")
                    self.logins.append((user, password))
                    answer = f"{self.login_code} so"
                case "RCPT":
                    answer = f"{self.recipient_code} so"
                case "DATA":
                    writer.write(b"354 go\r\n")
                    data = await reader.readuntil(b"\r\n.\r\n")
                    letter = email.message_from_bytes(data[:-5], policy=default)
                    self.letters.append(letter)
                    self.secure.append(secure)
                    answer = "250 taken"
                case "QUIT":
                    writer.write(b"221 bye\r\n")
                    return
                case _:
                    answer = "250 ok"
            writer.write(answer.encode() + b"\r\n")


@asynccontextmanager
async def sink(tls: ssl.SSLContext | None = None, *, at_once: bool = False) -> AsyncIterator[Sink]:
    """Run a server on the loopback; `at_once`: it speaks TLS from the beginning."""
    made = Sink(tls, at_once=at_once)
    async with listening(made.serve, tls=tls if at_once else None) as door:
        made.port = door.port
        yield made
