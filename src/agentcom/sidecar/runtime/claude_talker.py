"""What is said to Claude Code on its standard input, and read from it. Pure.

The dialect is `stream-json` both ways. Measured with 2.1.197. After an error of the model's
provider the record `result` still has the subtype "success": `is_error`, the HTTP status and the
text tell the truth. The same dialect is spoken by forks that hide an error in the text only
("[API Error: ..."), so that is an error too.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import agent_cli, evidence, quota
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.base import (
    Exit,
    Failed,
    Heard,
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
from agentcom.sidecar.runtime.conversation import Conversation, say
from agentcom.sidecar.runtime.permission import Policy

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


class ClaudeTalker(Conversation):
    """One run of claude: a stream of JSON records, and of replies to it."""

    def __init__(self) -> None:
        super().__init__(evidence.Evidence("claude", turns=True))
        self._words: dict[str, str] = {}
        """Keys of words, by the names that they have in claude's echo."""
        self._running = True
        self._model = ""
        self._spent: dict[str, Usage] = {}
        """By message, as long as no final record has the sum."""
        self._error_name = ""
        self._resets_at_ms: int | None = None

    # What is said ------------------------------------------------------------------------------

    def begin(self, opening: bytes) -> None:
        """Say the task."""
        known = msgspec.json.decode(opening, type=Opening)
        self._policy = known.permissions
        if self._policy is not Policy.ALLOW:  # else it does not ask for permissions
            self._out.append(_control("initialize", "initialize"))
        self._out.append(self.prompt(1, known.prompt))

    def prompt(self, number: int, text: str) -> Say:
        """Return what begins a turn."""
        return say(f"prompt-{number}", _words(text))

    def asked(self, number: int) -> None:
        """Take note that a turn has begun."""
        super().asked(number)
        self._running = True

    def steer(self, key: str, text: str) -> Say | None:
        """Return what claude takes up after the next tool call, or as a turn of its own."""
        if not self._running:
            return None
        name = str(uuid.uuid5(_NAMES, key))
        if key:
            self._words[name] = key
        return say(key, {**_words(text), "uuid": name})

    def farewell(self) -> bytes:
        """Return what interrupts the turn that runs."""
        return _control("farewell", "interrupt").data if self._running else b""

    # What is read ------------------------------------------------------------------------------

    def finish(self, ended: Exit) -> Verdict:
        """Judge the whole run; of one that was killed, the messages say what it spent."""
        self._evidence.usage = _added([self._evidence.usage, *self._spent.values()], self._model)
        return super().finish(ended)

    def _read(self, record: Json) -> Iterable[RuntimeEvent] | None:
        if record.get("isReplay") is True:
            return self._echoed(agent_cli.text(record.get("uuid")))
        return list(self._events(record)) or None

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
                yield from self._wants(record)
            case _:
                return

    def _echoed(self, name: str) -> Iterator[RuntimeEvent]:
        key = self._words.pop(name, None)
        if key is None:
            return  # a prompt
        if not self._running:  # it came too late for the turn before, and begins one
            self.asked(0)
        yield Heard(key)

    def _wants(self, record: Json) -> Iterator[RuntimeEvent]:
        request = agent_cli.text(record.get("request_id"))
        given = agent_cli.record(record.get("request"))
        if given.get("subtype") != "can_use_tool":
            error = {"subtype": "error", "request_id": request, "error": "not done here"}
            body = {"type": "control_response", "response": error}
            self._out.append(say(f"answer-{request}", body))
            return
        tool = agent_cli.text(given.get("tool_name"))
        title = _title({"name": tool, "input": given.get("input")})
        yield from self._ask(request, title, None, given, own=tool.startswith(_OWN_TOOLS))

    def _answer(self, request: str, number: object, given: Json, *, allow: bool) -> Say:  # noqa: ARG002 - the contract
        answer: Json = {"behavior": "deny", "message": _DENIED}
        if allow:
            answer = {"behavior": "allow", "updatedInput": agent_cli.record(given.get("input"))}
        response = {"subtype": "success", "request_id": request, "response": answer}
        return say(f"answer-{request}", {"type": "control_response", "response": response})

    def _system(self, record: Json) -> Iterator[RuntimeEvent]:
        session = agent_cli.text(record.get("session_id"))
        match record.get("subtype"):
            case "init" if session and session != self._evidence.session:
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
        text = agent_cli.text(record.get("result"))
        self._spent.clear()
        yield msgspec.structs.replace(_usage(record), model=self._model)
        self._running = False
        if agent_cli.text(record.get("terminal_reason")).startswith("aborted"):
            yield TurnEnded(Stop.CANCELLED)  # it came to no end of its own
            return
        failed = self._failure(record, text)
        if failed is None:
            self._evidence.note(Text(text))  # what was said before, or all that was
            yield TurnEnded(Stop.END_TURN)
            return
        yield failed
        refused = failed.failure is FailureClass.REFUSED
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
    return say(key, body)
