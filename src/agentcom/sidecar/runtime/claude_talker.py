"""What is said to Claude Code on its standard input, and read from it. Pure.

The dialect is `stream-json` both ways. Measured with 2.1.197. After an error of the model's
provider the record `result` still has the subtype "success": `is_error`, the HTTP status and the
text tell the truth. The same dialect is spoken by forks that hide an error in the text only
("[API Error: ..."), so that is an error too.
"""

import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import agent_cli, quota
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.base import (
    Exit,
    Failed,
    Heard,
    PermissionAnswered,
    PermissionAsked,
    Raw,
    Retrying,
    RuntimeEvent,
    Say,
    SessionStarted,
    Stop,
    Text,
    Thought,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    Usage,
    Verdict,
    Warned,
)
from agentcom.sidecar.runtime.permission import Policy

TAIL_LINES: Final = 5
"""Log lines that are kept to explain a crash."""
PERMISSIONS_MAX: Final = 256
"""Open at once; more are denied."""

SERVER: Final = "agentcom"
"""The name under which an agent has the hub's tools."""

_OWN_TOOLS: Final = f"mcp__{SERVER}__"
_NAMES: Final = uuid.UUID("7f0a3c1e-52d4-4e0b-9d0c-6d3c8f0e9a11")
"""Words get names that are made of their keys."""
_DENIED: Final = "This was not allowed. Go on without it, or another way."

_NO_MODEL: Final = "<synthetic>"
"""What claude calls the author of messages that it wrote itself."""

_BY_NAME: Final[Mapping[str, FailureClass]] = {
    "authentication_failed": FailureClass.AUTH,
    "oauth_org_not_allowed": FailureClass.AUTH,
    "billing_error": FailureClass.QUOTA,
    "server_error": FailureClass.MODEL_UNAVAILABLE,
    "overloaded": FailureClass.MODEL_UNAVAILABLE,
    "model_not_found": FailureClass.MODEL_UNAVAILABLE,
    "prompt_too_long": FailureClass.CONTEXT_FULL,
}
"""Claude's own names of errors, where they say more than the text."""


class Opening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a talker has to know of the job."""

    prompt: str
    permissions: Policy = Policy.ALLOW


class ClaudeTalker:
    """One run of claude: a stream of JSON records, and of replies to it."""

    def __init__(self) -> None:
        self._policy = Policy.ASK
        self._out: list[Say] = []
        self._open: dict[str, Json] = {}
        self._words: dict[str, str] = {}
        """Keys of words, by the names that they have in claude's echo."""
        self._running = True
        self._session: str | None = None
        self._model = ""
        self._said: list[str] = []
        self._spent: dict[str, Usage] = {}
        self._usage: Usage | None = None
        self._failed: Failed | None = None
        self._error_name = ""
        self._resets_at_ms: int | None = None
        self._completed = False
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    # What is said ------------------------------------------------------------------------------

    def begin(self, opening: bytes) -> None:
        """Say the task."""
        known = msgspec.json.decode(opening, type=Opening)
        self._policy = known.permissions
        if self._policy is not Policy.ALLOW:  # else it does not ask for permissions
            self._out.append(_control("initialize", "initialize"))
        self._out.append(self.prompt(1, known.prompt))

    def drain(self) -> Sequence[Say]:
        """Return what is to be said now."""
        said, self._out = self._out, []
        return said

    def prompt(self, number: int, text: str) -> Say:
        """Return what begins a turn."""
        return _say(f"prompt-{number}", _words(text))

    def asked(self, number: int) -> None:  # noqa: ARG002 - the contract
        """Take note that a turn has begun."""
        self._running, self._completed = True, False

    def steer(self, key: str, text: str) -> Say | None:
        """Return what claude takes up after the next tool call, or as a turn of its own."""
        if not self._running:
            return None
        name = str(uuid.uuid5(_NAMES, key))
        if key:
            self._words[name] = key
        return _say(key, {**_words(text), "uuid": name})

    def permit(self, request: str, *, allow: bool) -> Say | None:
        """Return the answer to a question for permission."""
        given = self._open.pop(request, None)
        return None if given is None else _permission(request, given, allow=allow)

    def farewell(self) -> bytes:
        """Return what interrupts the turn that runs."""
        return _control("farewell", "interrupt").data if self._running else b""

    # What is read ------------------------------------------------------------------------------

    def feed(self, line: bytes) -> Sequence[RuntimeEvent]:
        """Return the events of one line; never raises, whatever the bytes."""
        record = agent_cli.decode(line)
        if record is None:
            raw = agent_cli.raw_text(line)
            if not raw:
                return []
            self._tail.append(raw)
            return [Raw(raw)]
        if record.get("isReplay") is True:
            return self._echoed(agent_cli.text(record.get("uuid")))
        return list(self._events(record)) or [Raw(agent_cli.raw_text(line))]

    def finish(self, ended: Exit) -> Verdict:
        """Judge the run by its final record; an exit code alone never makes a success."""
        failure, message = self._judge(ended)
        return Verdict(
            failure=failure,
            message=message,
            summary=agent_cli.together(self._said),
            session=self._session,
            usage=self._total(),
            resets_at_ms=self._failed.resets_at_ms if self._failed else None,
        )

    def _judge(self, ended: Exit) -> tuple[FailureClass | None, str]:
        if self._failed is not None:
            return self._failed.failure, self._failed.message
        if not self._completed:
            return agent_cli.ended_without_record(ended, list(self._tail))
        if self._total().output == 0:
            return FailureClass.AGENT, "claude reports success without one token of output"
        return None, ""

    def _total(self) -> Usage:
        """What the final record says, else the sum of the messages (of a killed run)."""
        if self._usage is not None:
            return self._usage
        return _added(self._spent.values(), self._model)

    def _events(self, record: Json) -> Iterator[RuntimeEvent]:
        match record.get("type"):
            case "system":
                yield from self._system(record)
            case "assistant":
                yield from self._assistant(record)
            case "user":
                message = agent_cli.record(record.get("message"))
                for block in agent_cli.records(message.get("content")):
                    if block.get("type") == "tool_result":
                        call = agent_cli.text(block.get("tool_use_id"))
                        yield ToolEnded(call, not block.get("is_error"))
            case "rate_limit_event":
                self._limit(agent_cli.record(record.get("rate_limit_info")))
            case "result":
                yield from self._result(record)
            case "control_request":
                yield from self._asked(record)
            case _:
                return

    def _echoed(self, name: str) -> Sequence[RuntimeEvent]:
        key = self._words.pop(name, None)
        if key is None:
            return []  # a prompt
        if not self._running:  # it came too late for the turn before, and begins one
            self._running, self._completed = True, False
        return [Heard(key)]

    def _asked(self, record: Json) -> Iterator[RuntimeEvent]:
        request = agent_cli.text(record.get("request_id"))
        given = agent_cli.record(record.get("request"))
        if given.get("subtype") != "can_use_tool":
            error = {"subtype": "error", "request_id": request, "error": "not done here"}
            body = {"type": "control_response", "response": error}
            self._out.append(_say(f"answer-{request}", body))
            return
        tool = agent_cli.text(given.get("tool_name"))
        title = _title({"name": tool, "input": given.get("input")})
        own = tool.startswith(_OWN_TOOLS)
        if self._policy is Policy.ASK and not own and len(self._open) < PERMISSIONS_MAX:
            self._open[request] = given
            yield PermissionAsked(request, title, open=True)
            return
        allow = own or self._policy is Policy.ALLOW
        yield PermissionAsked(request, title)
        yield PermissionAnswered(request, allow)
        self._out.append(_permission(request, given, allow=allow))

    def _system(self, record: Json) -> Iterator[RuntimeEvent]:
        session = agent_cli.text(record.get("session_id"))
        match record.get("subtype"):
            case "init" if session and session != self._session:
                self._session = session
                self._named(record)
                yield SessionStarted(session)
            case "api_retry":
                reason = f"{record.get('error')} (status {record.get('error_status')})"
                yield Retrying(f"{reason}, attempt {record.get('attempt')}"[:200])
            case _:
                return

    def _assistant(self, record: Json) -> Iterator[RuntimeEvent]:
        message = agent_cli.record(record.get("message"))
        self._error_name = agent_cli.text(record.get("error"))
        self._spent[agent_cli.text(message.get("id"))] = _usage(message)
        self._named(message)
        for block in agent_cli.records(message.get("content")):
            match block.get("type"):
                case "text":
                    said = agent_cli.text(block.get("text"))
                    yield Warned(said) if self._error_name else Text(said)
                case "thinking":
                    yield Thought(agent_cli.text(block.get("thinking")))
                case "tool_use":
                    call = agent_cli.text(block.get("id"))
                    yield ToolStarted(call, _title(block))
                case _:
                    pass

    def _named(self, record: Json) -> None:
        model = agent_cli.text(record.get("model"))
        if model and model != _NO_MODEL:
            self._model = model

    def _limit(self, info: Json) -> None:
        if info.get("status") == "rejected":
            resets_at_s = agent_cli.count(info.get("resetsAt"))
            self._resets_at_ms = resets_at_s * 1000 or None

    def _result(self, record: Json) -> Iterator[RuntimeEvent]:
        said = agent_cli.text(record.get("result"))
        now = msgspec.structs.replace(_usage(record), model=self._model)
        self._usage = _added([self._usage or Usage(), now], self._model)
        yield now
        self._running = False
        if agent_cli.text(record.get("terminal_reason")).startswith("aborted"):
            yield TurnEnded(Stop.CANCELLED)  # it came to no end of its own
            return
        self._failed = self._failure(record, said)
        if self._failed is None:
            self._completed = True
            self._said.append(said)
            yield TurnEnded(Stop.END_TURN)
            return
        yield self._failed
        refused = self._failed.failure is FailureClass.REFUSED
        yield TurnEnded(Stop.REFUSAL if refused else Stop.ERROR)

    def _failure(self, record: Json, said: str) -> Failed | None:
        """Return why this final record is none of a success, or None."""
        lied = said.lstrip().startswith("[API Error")
        subtype = agent_cli.text(record.get("subtype"))
        if record.get("is_error") is False and subtype == "success" and not lied:
            return None
        reasons = record.get("errors")
        named = (
            [one for one in reasons if isinstance(one, str)] if isinstance(reasons, list) else []
        )
        message = said or "; ".join(named)[: agent_cli.MESSAGE_CHARACTERS_MAX] or subtype
        failure = self._class_of(record, message)
        limited = failure in {FailureClass.QUOTA, FailureClass.RATE_LIMIT}
        resets = quota.epoch_ms(message) or self._resets_at_ms
        if limited and resets is not None:
            failure = FailureClass.QUOTA
        return Failed(failure, message or "claude says no reason", resets if limited else None)

    def _class_of(self, record: Json, message: str) -> FailureClass:
        if record.get("stop_reason") == "refusal":
            return FailureClass.REFUSED
        if record.get("terminal_reason") == "prompt_too_long":
            return FailureClass.CONTEXT_FULL
        status = agent_cli.count(record.get("api_error_status")) or None
        found = agent_cli.classify(message, status)
        if found in {FailureClass.AGENT, FailureClass.RATE_LIMIT}:
            return _BY_NAME.get(self._error_name, found)
        return found


def _usage(record: Json) -> Usage:
    """Return the usage with all input in `input`, as the other drivers have it."""
    usage = agent_cli.record(record.get("usage"))
    cached = agent_cli.count(usage.get("cache_read_input_tokens"))
    written = agent_cli.count(usage.get("cache_creation_input_tokens"))
    fresh = agent_cli.count(usage.get("input_tokens"))
    output = agent_cli.count(usage.get("output_tokens"))
    return Usage(input=fresh + written + cached, cached=cached, output=output, written=written)


def _added(parts: Iterable[Usage], model: str) -> Usage:
    each = tuple(parts)
    return Usage(
        input=sum(spent.input for spent in each),
        cached=sum(spent.cached for spent in each),
        output=sum(spent.output for spent in each),
        written=sum(spent.written for spent in each),
        model=model,
    )


def _title(block: Json) -> str:
    given = agent_cli.record(block.get("input"))
    name = agent_cli.text(block.get("name"))
    told = (agent_cli.text(given.get(key)) for key in ("command", "file_path", "pattern"))
    detail = next((one for one in told if one), "")
    return f"{name}: {detail}" if detail else name


def _words(text: str) -> Json:
    content = [{"type": "text", "text": text}]
    return {"type": "user", "message": {"role": "user", "content": content}}


def _control(key: str, subtype: str) -> Say:
    body = {"type": "control_request", "request_id": key, "request": {"subtype": subtype}}
    return _say(key, body)


def _permission(request: str, given: Json, *, allow: bool) -> Say:
    answer: Json = {"behavior": "deny", "message": _DENIED}
    if allow:
        answer = {"behavior": "allow", "updatedInput": agent_cli.record(given.get("input"))}
    response = {"subtype": "success", "request_id": request, "response": answer}
    return _say(f"answer-{request}", {"type": "control_response", "response": response})


def _say(key: str, body: Json) -> Say:
    return Say(key, msgspec.json.encode(body) + b"\n")
