"""From an HTTP request to what is sent back: routing by path, then the dialect, then the script."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, assert_never

import msgspec

from agentcom.testing.mock_llm import anthropic, chat, faults, gemini, responses, scenarios
from agentcom.testing.mock_llm.conversation import (
    BYTES_PER_TOKEN,
    Answer,
    Event,
    Fault,
    Json,
    Reply,
    Request,
    Silence,
)
from agentcom.testing.mock_llm.http import HttpRequest

MODEL: Final = "mock"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the request log."""

    method: str
    path: str
    status: int
    dialect: str = ""
    model: str = ""
    scenario: str = ""
    step: int | None = None
    tools: Sequence[str] = ()
    user_agent: str = ""
    bytes_in: int = 0
    note: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the server does: send a body, send a stream, or send nothing for ever."""

    entry: Entry
    body: bytes = b""
    events: Sequence[Event] | None = None
    silent: bool = False
    streamed: bool = False
    delay_ms: int = 0
    headers: Sequence[tuple[str, str]] = ()


class _Dialect(NamedTuple):
    read: Callable[..., Request]
    body: Callable[[Request, Reply], Json]
    events: Callable[[Request, Reply], Iterator[Event]]


_BY_PATH: Final[Mapping[str, _Dialect]] = {
    "/chat/completions": _Dialect(chat.read, chat.body, chat.events),
    "/responses": _Dialect(responses.read, responses.body, responses.events),
    "/messages": _Dialect(anthropic.read, anthropic.body, anthropic.events),
}


def answer(http: HttpRequest) -> Outcome:
    """Return the outcome of one request; it depends on nothing else."""
    entry = Entry(
        method=http.method,
        path=http.path,
        status=200,
        user_agent=http.headers.get("user-agent", ""),
        bytes_in=len(http.body),
    )
    if http.method in {"GET", "HEAD"} and http.path.rstrip("/").endswith("/models"):
        return _json(entry, _models())
    if http.method != "POST":
        return _unknown(entry)
    try:
        given = msgspec.json.decode(http.body or b"{}")
    except msgspec.DecodeError as error:
        return _refused(entry, 400, f"the body is not JSON: {error}")
    if not isinstance(given, dict):
        return _refused(entry, 400, "the body is no object")
    return _post(entry, http, given)


def _post(entry: Entry, http: HttpRequest, given: Json) -> Outcome:
    path, tokens = http.path.rstrip("/"), max(1, len(http.body) // BYTES_PER_TOKEN)
    nonce = f"{zlib.crc32(http.body):08x}{len(http.body):x}"
    if path.endswith("/count_tokens"):
        return _json(entry, {"input_tokens": tokens})
    if path.endswith(":countTokens"):
        return _json(entry, {"totalTokens": tokens})
    if path.endswith((":generateContent", ":streamGenerateContent")):
        model, _, verb = path.rpartition("/")[2].partition(":")
        streamed = verb == "streamGenerateContent"
        request = gemini.read(given, model=model, stream=streamed, input_tokens=tokens, nonce=nonce)
        return _say(entry, request, _Dialect(gemini.read, gemini.body, gemini.events))
    for suffix, dialect in _BY_PATH.items():
        if path.endswith(suffix):
            return _say(entry, dialect.read(given, input_tokens=tokens, nonce=nonce), dialect)
    return _unknown(entry)


def _say(entry: Entry, request: Request, dialect: _Dialect) -> Outcome:
    choice = scenarios.choose(request)
    known = msgspec.structs.replace(
        entry,
        dialect=request.dialect,
        model=request.model,
        scenario=choice.scenario,
        step=choice.step,
        tools=[tool.name for tool in request.tools],
    )
    outcome = _outcome(known, request, choice.answer, dialect)
    return msgspec.structs.replace(outcome, delay_ms=choice.answer.delay_ms)


def _outcome(entry: Entry, request: Request, given: Answer, dialect: _Dialect) -> Outcome:
    match given:
        case Silence():
            return Outcome(entry=entry, silent=True, streamed=request.stream)
        case Fault(kind=kind, says=says):
            failed = msgspec.structs.replace(entry, status=faults.wording(kind).status, note=kind)
            sent = _json(failed, faults.body(request.dialect, kind, says))
            return msgspec.structs.replace(sent, headers=faults.headers(kind))
        case Reply() if request.stream:
            return Outcome(entry=entry, events=list(dialect.events(request, given)), streamed=True)
        case Reply():
            return _json(entry, dialect.body(request, given))
        case _:
            assert_never(given)


def _json(entry: Entry, body: Json) -> Outcome:
    return Outcome(entry=entry, body=msgspec.json.encode(body))


def _unknown(entry: Entry) -> Outcome:
    return _refused(entry, 404, f"the mock model server has no {entry.method} {entry.path}")


def _refused(entry: Entry, status: int, message: str) -> Outcome:
    refused = msgspec.structs.replace(entry, status=status, note=message)
    return _json(refused, {"error": {"message": message, "type": "mock"}})


def _models() -> Json:
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "mock", "type": "model"}
    return {"object": "list", "data": [model], "has_more": False}
