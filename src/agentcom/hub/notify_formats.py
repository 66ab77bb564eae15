"""What is sent to each kind of destination, as its documentation asks for it."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

import msgspec

from agentcom.model.ids import WallTime
from agentcom.model.notify import Destination, MailSettings, Notice

SOURCE: Final = "agentcom"
KEY_PREFIX: Final = "whsec_"
_DISCORD_CHARS: Final = 2_000
_CHAT_CHARS: Final = 3_500
_DIGEST_LINES: Final = 20
"""Of a digest: each with its title; of the rest the number."""


def id_of(notices: Sequence[Notice]) -> str:
    """Return what names a delivery: the same for the same notices, however often it is tried."""
    if len(notices) == 1:
        return notices[0].id
    ids = "/".join(notice.id for notice in notices)
    return hashlib.sha256(ids.encode()).hexdigest()[:32]


def title(notices: Sequence[Notice]) -> str:
    """Return what is told, in one line."""
    if len(notices) == 1:
        return notices[0].title
    return f"{len(notices)} notices, {_counted(notices)}"


def plain(notices: Sequence[Notice]) -> str:
    """Return what is told, as text."""
    if len(notices) == 1:
        notice = notices[0]
        return f"{notice.text}\nSee: {notice.link}" if notice.link else notice.text
    lines = [f"- {notice.title}" for notice in notices[:_DIGEST_LINES]]
    if len(notices) > _DIGEST_LINES:
        lines.append(f"and {len(notices) - _DIGEST_LINES} more: agentcom alert ls --all")
    return "\n".join(lines)


def slack(notices: Sequence[Notice]) -> dict[str, Any]:
    """Return the body of Slack's incoming webhooks."""
    text = f"*{_slack(title(notices))}*\n{_slack(plain(notices))}"
    return {"text": text[:_CHAT_CHARS]}


def discord(notices: Sequence[Notice]) -> dict[str, Any]:
    """Return the body of Discord's webhooks; nobody is mentioned by what others wrote."""
    text = f"**{_unlinked(title(notices))}**\n{_unlinked(plain(notices))}"
    return {"content": text[:_DISCORD_CHARS], "allowed_mentions": {"parse": []}}


def teams(notices: Sequence[Notice]) -> dict[str, Any]:
    """Return the body of Teams' incoming webhooks: a message with an adaptive card."""
    blocks = [
        {
            "type": "TextBlock",
            "text": _unlinked(title(notices)),
            "weight": "Bolder",
            "wrap": True,
        },
        {"type": "TextBlock", "text": _unlinked(plain(notices))[:_CHAT_CHARS], "wrap": True},
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


def cloud_event(notices: Sequence[Notice], source: str) -> dict[str, Any]:
    """Return a CloudEvents 1.0 event in structured JSON."""
    first = notices[0]
    many = len(notices) > 1
    data: dict[str, Any] = {"title": title(notices), "notices": [_data(one) for one in notices]}
    return {
        "specversion": "1.0",
        "id": id_of(notices),
        "source": source,
        "type": f"dev.agentcom.{'digest' if many else first.event}.v1",
        "time": _iso(notices[-1].at),
        "datacontenttype": "application/json",
        **({} if many or not first.about else {"subject": first.about}),
        "data": data if many else _data(first),
    }


def signed(body: bytes, keys: Sequence[str], *, name: str, at: WallTime) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks: a signature by each key, so that one can change."""
    seconds = str(at // 1_000)
    text = b".".join((name.encode(), seconds.encode(), body))
    found = [hmac.new(key_bytes(key), text, hashlib.sha256).digest() for key in keys]
    return {
        "webhook-id": name,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in found),
    }


def new_key(random: bytes) -> str:
    """Return a key as Standard Webhooks writes them."""
    return KEY_PREFIX + base64.b64encode(random).decode()


def key_bytes(key: str) -> bytes:
    """Return the bytes of a key; raises `ValueError` if it is none."""
    return base64.b64decode(key.removeprefix(KEY_PREFIX), validate=True)


def mail(notices: Sequence[Notice], settings: MailSettings) -> EmailMessage:
    """Return a letter; its number is that of the delivery, so that a repeat can be known."""
    message = EmailMessage()
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Subject"] = " ".join(f"[AgentCom] {title(notices)}".split())[:200]
    message["Date"] = format_datetime(datetime.fromtimestamp(notices[-1].at / 1_000, UTC))
    message["Message-ID"] = f"<{id_of(notices)}@{settings.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(plain(notices) + "\n")
    return message


def encoded(value: object) -> bytes:
    """Return JSON."""
    return msgspec.json.encode(value)


def source_of(destination: Destination) -> str:
    """Return the source of events: one hub, one destination's name."""
    return f"/{SOURCE}/{destination.name}"


def _data(notice: Notice) -> dict[str, Any]:
    data = {
        "id": notice.id,
        "event": notice.event,
        "topic": notice.topic.value,
        "title": notice.title,
        "text": notice.text,
        "about": notice.about,
        "severity": notice.severity.value,
        "project": notice.project,
        "link": notice.link,
        "at": _iso(notice.at),
        "options": list(notice.options),
    }
    return {name: value for name, value in data.items() if value not in (None, "", [])}


def _counted(notices: Sequence[Notice]) -> str:
    counts: dict[str, int] = {}
    for notice in notices:
        counts[notice.event] = counts.get(notice.event, 0) + 1
    return ", ".join(f"{count} {event}" for event, count in sorted(counts.items()))


def _unlinked(text: str) -> str:
    """Return text in which Markdown makes no link whose words hide where it leads."""
    return text.replace("\\", "\\\\").replace("[", "\\[")


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _iso(at: WallTime) -> str:
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds")
