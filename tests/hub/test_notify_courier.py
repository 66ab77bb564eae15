"""What each kind of destination gets, as its documentation says; and what its answers mean."""

import base64
import gc
import hashlib
import hmac
import json
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentcom.core.outgoing import AddressRefused
from agentcom.hub import certificate
from agentcom.hub import notify_formats as formats
from agentcom.hub.notify_courier import Couriers, check
from agentcom.hub.notify_secrets import Secret, Secrets
from agentcom.hub.notify_sender import Undelivered
from agentcom.hub.outgoing import Outgoing, Reply, Unreachable
from agentcom.model.alert import Severity
from agentcom.model.ids import UserId, WallTime
from agentcom.model.notify import (
    Destination,
    DestinationKind,
    MailSecurity,
    MailSettings,
    Notice,
    Topic,
)
from tests.hub.doubles import EPOCH_MS, ManualClock
from tests.hub.mail_sink import Sink, sink
from tests.hub.test_outgoing import site

MARK = "S3CRET"


def notice(number: int, text: str = "6 of 8 tasks failed", **fields: Any) -> Notice:
    return Notice(
        id=f"n{number}",
        destination="d",
        seq=number,
        topic=Topic.ALERTS,
        event="alert.fired",
        at=WallTime(EPOCH_MS + number),
        title=f"critical: {text}",
        text=text,
        about="failure_rate",
        severity=Severity.CRITICAL,
        link="guides/alerts.md#failure-rate",
        **fields,
    )


def destination(kind: DestinationKind, **fields: Any) -> Destination:
    return Destination(
        name="d", kind=kind, shown="x", owner=UserId("ann"), at=WallTime(EPOCH_MS), **fields
    )


class House:
    def __init__(self, home: Path, *allow: str, authority: Path | None = None) -> None:
        self.secrets = Secrets(home)

        async def resolve(_host: str, _port: int) -> Sequence[str]:
            return ["127.0.0.1"]

        self.outgoing = Outgoing(allow, certificates=authority, resolve=resolve)
        nobody: Any = None
        self.couriers = Couriers(self.secrets, self.outgoing, ManualClock(), telegram=nobody)

    async def send(self, to: Destination, *notices: Notice, secret: Secret) -> None:
        self.secrets.write(to.name, secret)
        await self.couriers.deliver(to, notices)


async def posted(home: Path, kind: DestinationKind, *notices: Notice) -> tuple[bytes, Any]:
    """Return head and body of what a destination gets."""
    house = House(home, "127.0.0.1")
    async with site() as there:
        secret = Secret(url=f"http://127.0.0.1:{there.port}/x", keys=(formats.new_key(b"k" * 32),))
        await house.send(destination(kind), *notices, secret=secret)
    return there.heads[0], json.loads(there.bodies[0])


async def test_slack_gets_text_that_mentions_nobody(tmp_path: Path) -> None:
    _, body = await posted(tmp_path, DestinationKind.SLACK, notice(1, "<!channel> a & b"))

    assert "&lt;!channel&gt; a &amp; b" in body["text"]
    assert "<!" not in body["text"]


async def test_discord_gets_content_that_mentions_nobody(tmp_path: Path) -> None:
    _, body = await posted(tmp_path, DestinationKind.DISCORD, notice(1, "@everyone " * 500))

    assert body["allowed_mentions"] == {"parse": []}
    assert len(body["content"]) <= 2_000


@pytest.mark.parametrize("kind", [DestinationKind.DISCORD, DestinationKind.TEAMS])
@pytest.mark.parametrize("before", ["", "\\"])
async def test_words_cannot_hide_where_a_link_leads(
    tmp_path: Path, kind: DestinationKind, before: str
) -> None:
    told = notice(1, f"{before}[the log](https://evil.example)")
    _, body = await posted(tmp_path, kind, told)

    shown = json.dumps(body).replace(r"\\", "\\")  # JSON's own escapes
    assert shown.count("[the log]") == 2
    assert re.findall(r"(?<!\\)(?:\\\\)*\[the log", shown) == []


async def test_teams_gets_a_message_with_a_card(tmp_path: Path) -> None:
    _, body = await posted(tmp_path, DestinationKind.TEAMS, notice(1))

    (attached,) = body["attachments"]
    assert body["type"] == "message"
    assert attached["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attached["content"]["type"] == "AdaptiveCard"


async def test_a_webhook_gets_a_signed_cloud_event(tmp_path: Path) -> None:
    house = House(tmp_path, "127.0.0.1")
    old, new = formats.new_key(b"o" * 32), formats.new_key(b"n" * 32)
    async with site() as there:
        secret = Secret(url=f"http://127.0.0.1:{there.port}/x", keys=(new, old))
        await house.send(destination(DestinationKind.WEBHOOK), notice(1), secret=secret)
    head = dict(
        line.split(": ", 1) for line in there.heads[0].decode().split("\r\n")[1:] if ": " in line
    )
    event = json.loads(there.bodies[0])

    assert head["content-type"].startswith("application/cloudevents+json")
    assert event["specversion"] == "1.0"
    assert (event["id"], event["type"]) == ("n1", "dev.agentcom.alert.fired.v1")
    assert (event["source"], event["subject"]) == ("/agentcom/d", "failure_rate")
    assert event["data"]["severity"] == "critical"
    signed = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + there.bodies[0]
    wanted = [
        base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        for key in (b"n" * 32, b"o" * 32)
    ]
    assert head["webhook-signature"].split() == [f"v1,{one}" for one in wanted]
    assert int(head["webhook-timestamp"]) == EPOCH_MS // 1_000


async def test_many_notices_are_one_digest_with_a_number_of_its_own(tmp_path: Path) -> None:
    many = [notice(number) for number in range(30)]
    _, body = await posted(tmp_path, DestinationKind.WEBHOOK, *many)

    assert body["type"] == "dev.agentcom.digest.v1"
    assert len(body["data"]["notices"]) == 30
    assert "30 notices" in body["data"]["title"]
    assert body["id"] == formats.id_of(many) != formats.id_of(many[1:])
    assert "10 more" in formats.plain(many)


@pytest.mark.parametrize(
    ("status", "final"),
    [(301, False), (400, False), (401, True), (404, True), (410, True), (429, False), (500, False)],
)
def test_an_answer_that_is_no_yes_is_a_failure(status: int, final: bool) -> None:
    with pytest.raises(Undelivered) as caught:
        check(Reply(status, b"", "120"))

    assert caught.value.final is final
    assert status == 301 or caught.value.after_ms == 120_000


@pytest.mark.parametrize("after", ["\u00b2", "9" * 5_000, "-1", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_destination_cannot_end_the_sender_by_when_it_wants_more(after: str) -> None:
    with pytest.raises(Undelivered) as caught:
        check(Reply(429, b"", after))

    assert caught.value.after_ms == 0


async def test_without_its_secret_a_destination_is_parked(tmp_path: Path) -> None:
    house = House(tmp_path, "127.0.0.1")

    with pytest.raises(Undelivered) as caught:
        await house.couriers.deliver(destination(DestinationKind.SLACK), [notice(1)])
    assert caught.value.final


async def test_the_hub_does_not_send_inside_unless_it_is_allowed(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with site() as there:
        secret = Secret(url=f"https://hooks.example:{there.port}/{MARK}")
        with pytest.raises(AddressRefused) as caught:
            await house.send(destination(DestinationKind.SLACK), notice(1), secret=secret)

    assert MARK not in str(caught.value)
    assert there.heads == []


def test_a_secret_says_nothing_of_itself_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    secret = Secret(token=MARK, password=MARK, url=MARK, keys=(MARK,))
    secrets.write("d", secret)
    file = tmp_path / "notify" / "d.json"

    assert MARK not in f"{secret!r} {secret}"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert secrets.read("d") == secret
    secrets.remove("d")
    assert secrets.read("d") is None


# Mail ---------------------------------------------------------------------------------------------


def mail(there: Sink, security: MailSecurity, user: str = "", **fields: Any) -> Destination:
    settings = MailSettings(
        host="mail.example",
        port=there.port,
        sender="agentcom@example.org",
        to=("ann@example.org", "bob@example.org"),
        security=security,
        user=user,
    )
    return destination(DestinationKind.EMAIL, mail=settings, **fields)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> certificate.HubCertificate:
    return certificate.ensure_certificate(tmp_path_factory.mktemp("ca"), ["mail.example"])


def context(made: certificate.HubCertificate) -> ssl.SSLContext:
    return certificate.server_context(made)


@pytest.mark.parametrize("security", [MailSecurity.STARTTLS, MailSecurity.TLS])
async def test_mail_goes_over_tls_with_the_login(
    tmp_path: Path, authority: certificate.HubCertificate, security: MailSecurity
) -> None:
    house = House(tmp_path, "mail.example", authority=authority.certificate)
    async with sink(context(authority), at_once=security is MailSecurity.TLS) as there:
        to = mail(there, security, user="robot")
        await house.send(to, notice(1), secret=Secret(password=MARK))

    (letter,) = there.letters
    assert there.secure == [True]
    assert there.logins == [("robot", MARK)]
    assert letter["Subject"] == "[AgentCom] critical: 6 of 8 tasks failed"
    assert letter["To"] == "ann@example.org, bob@example.org"
    assert letter["Message-ID"] == "<n1@example.org>"
    assert "guides/alerts.md#failure-rate" in letter.get_content()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_server_with_another_name_in_its_certificate_gets_nothing(
    tmp_path: Path, authority: certificate.HubCertificate
) -> None:
    house = House(tmp_path, "mail.example")
    async with sink(context(authority)) as there:
        to = mail(there, MailSecurity.STARTTLS, user="robot")
        with pytest.raises(Unreachable, match="certificate"):
            await house.send(to, notice(1), secret=Secret(password=MARK))
    gc.collect()  # asyncio of 3.11 leaves the socket of a handshake that failed to the collector

    assert there.logins == []
    assert there.letters == []


async def test_a_server_without_starttls_gets_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, "mail.example")
    async with sink() as there:
        with pytest.raises(Undelivered) as caught:
            await house.send(mail(there, MailSecurity.STARTTLS), notice(1), secret=Secret())

    assert caught.value.final
    assert there.letters == []


async def test_mail_in_clear_goes_only_where_the_operator_allowed_it(tmp_path: Path) -> None:
    async with sink() as there:
        to = mail(there, MailSecurity.NONE)
        with pytest.raises(AddressRefused):
            await House(tmp_path).send(to, notice(1), secret=Secret())
        await House(tmp_path, "mail.example").send(to, notice(1), secret=Secret())

    assert len(there.letters) == 1


@pytest.mark.parametrize(("code", "final"), [(550, True), (451, False)])
async def test_refused_recipients_are_final_or_tried_again(
    tmp_path: Path, code: int, final: bool
) -> None:
    house = House(tmp_path, "mail.example")
    async with sink() as there:
        there.recipient_code = code
        with pytest.raises((Undelivered, Unreachable)) as caught:
            await house.send(mail(there, MailSecurity.NONE), notice(1), secret=Secret())

    assert isinstance(caught.value, Undelivered) is final


async def test_a_login_that_is_refused_is_final(
    tmp_path: Path, authority: certificate.HubCertificate
) -> None:
    house = House(tmp_path, "mail.example", authority=authority.certificate)
    async with sink(context(authority)) as there:
        there.login_code = 535
        to = mail(there, MailSecurity.STARTTLS, user="robot")
        with pytest.raises(Undelivered) as caught:
            await house.send(to, notice(1), secret=Secret(password=MARK))

    assert caught.value.final
    assert MARK not in str(caught.value)


def test_a_title_cannot_add_lines_to_the_head_of_a_letter() -> None:
    bad = notice(1, "x\r\nBcc: eve@evil.example\r\n\r\nbody")
    settings = MailSettings(host="h", port=25, sender="a@b.example", to=("c@d.example",))
    letter = formats.mail([bad], settings)

    assert letter["Bcc"] is None
    assert "\n" not in letter["Subject"]
