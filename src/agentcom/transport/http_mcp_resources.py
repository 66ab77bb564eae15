"""What MCP clients can read by address: notes, channels and tasks, as their tools show them.

A person picks them in the client, so they are listed; an agent uses the tools.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import quote, unquote

import msgspec

from agentcom.hub.talk import Answer
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.transport.http_mcp_tasks import TaskNamed, show
from agentcom.transport.http_mcp_tool import Guest

SCHEME: Final = "agentcom://"
JSON: Final = "application/json"
MARKDOWN: Final = "text/markdown"
POSTS: Final = 50  # the newest of a channel
URI_CHARS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Found:
    """One resource of a list."""

    uri: str
    name: str
    says: str
    media: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list of resources."""

    found: tuple[Found, ...]
    next: str | None
    """The cursor to go on with."""


@dataclass(frozen=True, slots=True)
class Template:
    """A form of addresses."""

    uri: str
    name: str
    says: str
    media: str


@dataclass(frozen=True, slots=True)
class Text:
    """What is at an address."""

    media: str
    text: str


TEMPLATES: Final = (
    Template("agentcom://note/{+name}", "note", "The newest version of a shared note", MARKDOWN),
    Template("agentcom://channel/{name}", "channel", "The newest posts of a channel", JSON),
    Template("agentcom://task/{id}", "task", "All about one task", JSON),
)


async def listed(guest: Guest, cursor: str | None) -> Page:
    """Return a page of notes, and when there are no more, of channels.

    Raises:
        InvalidInput: the cursor is none of this list.
    """
    kind, slash, after = ("note/" if cursor is None else cursor).partition("/")
    if not slash or kind not in _LISTS:
        raise InvalidInput("cursor", "it is not one of this list")
    return await _LISTS[kind](guest, after or None)


async def read(guest: Guest, uri: str) -> Text:
    """Return what is at an address.

    Raises:
        NotFound: nothing is, or nothing for this caller.
    """
    kind, _, name = uri[:URI_CHARS].removeprefix(SCHEME).partition("/")
    reader = _READERS.get(kind)
    if reader is None or not uri.startswith(SCHEME):
        raise NotFound(f"there is nothing at this address; use {SCHEME}note/NAME and the like")
    return await reader(guest, unquote(name))


async def _notes(guest: Guest, after: str | None) -> Page:
    shown = cast("told.NotesShown", await _do(guest, calls.NoteList(after=after)))
    found = [
        Found(_uri("note", note.name), note.name, "A shared note", MARKDOWN) for note in shown.notes
    ]
    return Page(tuple(found), "channel/" if shown.next is None else f"note/{shown.next}")


async def _channels(guest: Guest, after: str | None) -> Page:
    shown = cast("told.ChannelsShown", await _do(guest, calls.ChannelList(after=after)))
    found = [
        Found(_uri("channel", one.channel.name), f"#{one.channel.name}", one.channel.topic, JSON)
        for one in shown.channels
    ]
    return Page(tuple(found), None if shown.next is None else f"channel/{shown.next}")


async def _note(guest: Guest, name: str) -> Text:
    shown = cast("told.NoteShown", await _do(guest, _named(calls.NoteRead, {"name": name})))
    return Text(MARKDOWN, shown.note.text)


async def _channel(guest: Guest, name: str) -> Text:
    call = _named(calls.ChannelHistory, {"channel": name, "limit": POSTS})
    return _json(await _do(guest, call))


async def _task(guest: Guest, name: str) -> Text:
    return _json(await show(guest, TaskNamed(task=name), None))


_LISTS: Final[Mapping[str, Callable[[Guest, str | None], Awaitable[Page]]]] = MappingProxyType(
    {"note": _notes, "channel": _channels}
)
_READERS: Final[Mapping[str, Callable[[Guest, str], Awaitable[Text]]]] = MappingProxyType(
    {"note": _note, "channel": _channel, "task": _task}
)


def _named(kind: type[Call], fields: Mapping[str, object]) -> Call:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        raise NotFound("nothing has such a name") from None


async def _do(guest: Guest, call: Call) -> Answer:
    return await guest.hall.talk.do(guest.speaker(), call, cause=guest.cause)


def _uri(kind: str, name: str) -> str:
    return f"{SCHEME}{kind}/{quote(name)}"


def _json(answer: Answer) -> Text:
    return Text(JSON, msgspec.json.encode(answer).decode())
