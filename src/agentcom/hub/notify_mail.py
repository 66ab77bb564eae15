"""Sends letters by a mail server, to an address that was checked before."""

import asyncio
import smtplib
import socket
import ssl
from email.message import EmailMessage
from typing import Any, Final

from agentcom.hub.outgoing import Outgoing, Unreachable
from agentcom.model.notify import MailSecurity, MailSettings

STEP_S: Final = 10.0
"""For each step of a conversation with a server."""
TOTAL_S: Final = 60.0


class MailRefused(Exception):
    """The server does not take the letter, and will not take it later."""


async def send(
    message: EmailMessage, settings: MailSettings, password: str, outgoing: Outgoing
) -> None:
    """Give a letter to the server.

    Raises:
        AddressRefused: the hub does not connect to the server.
        MailRefused: it refuses the letter, the login or a safe connection, for good.
        Unreachable: it is away, or says that it takes the letter later.
    """
    secure = settings.security is not MailSecurity.NONE
    address = await outgoing.checked(settings.host, settings.port, secure=secure)
    work = asyncio.to_thread(_talk, message, settings, password, address, outgoing.tls)
    try:
        async with asyncio.timeout(TOTAL_S):
            await work
    except TimeoutError:
        raise Unreachable(f"{settings.host}: no answer in time") from None
    except (smtplib.SMTPServerDisconnected, OSError) as error:
        raise _as_refusal(error, settings) from None


def _talk(
    message: EmailMessage,
    settings: MailSettings,
    password: str,
    address: str,
    tls: ssl.SSLContext,
) -> None:
    kind: Any = _Tls if settings.security is MailSecurity.TLS else _Plain
    more = {"context": tls} if settings.security is MailSecurity.TLS else {}
    kind = type("Server", (kind,), {"address": address})
    with kind(settings.host, settings.port, timeout=STEP_S, **more) as server:
        if settings.security is MailSecurity.STARTTLS:
            server.starttls(context=tls)
        if settings.user:
            server.login(settings.user, password)
        server.send_message(message)


class _Plain(smtplib.SMTP):
    """A server whose name was looked up before; certificates are checked against the name."""

    address = ""

    def _get_socket(self, _host: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection((self.address, port), timeout)


class _Tls(smtplib.SMTP_SSL):
    """The same, with TLS from the beginning."""

    address = ""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((self.address, port), timeout)
        return self.context.wrap_socket(plain, server_hostname=host)


def _as_refusal(error: Exception, settings: MailSettings) -> Exception:
    """Return an error of the library as one of ours; what a server says is cut."""
    host = settings.host
    match error:
        case ssl.SSLCertVerificationError():
            return Unreachable(f"{host}: its certificate is not trusted: {error.verify_message}")
        case smtplib.SMTPAuthenticationError():
            return MailRefused(f"{host}: it does not accept the login")
        case smtplib.SMTPNotSupportedError():
            return MailRefused(f"{host}: it has no STARTTLS, or no login")
        case smtplib.SMTPRecipientsRefused():
            codes = {code for code, _ in error.recipients.values()}
            for_good = all(code >= _FOR_GOOD for code in codes)
            words = f"{host}: it refuses the recipients ({', '.join(map(str, sorted(codes)))})"
            return MailRefused(words) if for_good else Unreachable(words)
        case smtplib.SMTPResponseException():
            words = f"{host}: it answered {error.smtp_code}"
            return MailRefused(words) if error.smtp_code >= _FOR_GOOD else Unreachable(words)
        case OSError():
            return Unreachable(f"{host}: {error.strerror or type(error).__name__}")
        case _:
            return Unreachable(f"{host}: {type(error).__name__}")


_FOR_GOOD: Final = 500
"""Codes from here on mean that a repeat will not help."""
