"""What is said to an agent by the Agent Client Protocol, and read from it. Pure.

JSON-RPC, one message a line. File and terminal callbacks are declared false, so an agent works on
its folder by itself. Requests have fixed numbers, so a reader of the whole output knows which
answer is which; answers may come in any order, and lines between them may be no JSON at all.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import acp_updates, agent_cli, base, quota
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.permission import Policy

VERSION: Final = 1
"""Of the protocol."""
TAIL_LINES: Final = 5
"""Log lines that are kept to explain a crash."""
PERMISSIONS_MAX: Final = 256
"""Open at once; more are denied."""

_INITIALIZE: Final = 1
_AUTHENTICATE: Final = 2
_SESSION: Final = 3
_NEW_AFTER_ALL: Final = 4
_MODE: Final = 5
_MODEL: Final = 6
_PROMPT: Final = 100
"""The prompt of turn N is request 100 + N."""

_AUTH_REQUIRED: Final = -32000
_NO_METHOD: Final = -32601
_LIE: Final = "[API Error"
"""Some agents hide an error of their provider in a text and say that all went well."""

_STOPS: Final = {
    "end_turn": base.Stop.END_TURN,
    "max_tokens": base.Stop.MAX_TOKENS,
    "max_turn_requests": base.Stop.MAX_TURN_REQUESTS,
    "refusal": base.Stop.REFUSAL,
    "cancelled": base.Stop.CANCELLED,
}


class Opening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a talker has to know of the job."""

    cwd: str
    prompt: str
    resume: str | None = None
    permissions: Policy = Policy.ALLOW
    mcp_url: str = ""
    mcp_token: str = ""
    auth_method: str = ""
    model: str = ""
    mode: str = ""


class AcpTalker:
    """One run of an agent."""

    def __init__(self, agent: str) -> None:
        """`agent` is its name in messages."""
        self._agent = agent
        self._opening: Opening | None = None
        self._out: list[base.Say] = []
        self._capabilities: Json = {}
        self._asked_for: str | None = None
        """The session that was to be resumed."""
        self._session: str | None = None
        self._updates = acp_updates.Updates()
        self._requests = 0
        self._open: dict[str, tuple[object, Json]] = {}
        self._turn = 0
        """The one that runs, or 0."""
        self._due = 1
        """The newest turn that was asked for."""
        self._completed = 0
        self._usage = base.Usage()
        self._failed: base.Failed | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    # What is said ------------------------------------------------------------------------------

    def begin(self, opening: bytes) -> None:
        """Introduce ourselves."""
        self._opening = msgspec.json.decode(opening, type=Opening)
        parameters = {
            "protocolVersion": VERSION,
            "clientCapabilities": {
                "fs": {"readTextFile": False, "writeTextFile": False},
                "terminal": False,
            },
            "clientInfo": {"name": "agentcom", "title": "AgentCom", "version": "1"},
        }
        self._request(_INITIALIZE, "initialize", parameters)

    def drain(self) -> Sequence[base.Say]:
        """Return what is to be said now."""
        said, self._out = self._out, []
        return said

    def prompt(self, number: int, text: str) -> base.Say:
        """Return the request that begins a turn."""
        parameters = {"sessionId": self._session, "prompt": [{"type": "text", "text": text}]}
        body = {"id": _PROMPT + number, "method": "session/prompt", "params": parameters}
        return _say(f"prompt-{number}", body)

    def asked(self, number: int) -> None:
        """Take note that a turn has begun."""
        self._turn = self._due = number

    def steer(self, key: str, text: str) -> base.Say | None:  # noqa: ARG002 - the contract
        """Return None: a turn of this version of the protocol takes no word more."""
        return None

    def permit(self, request: str, *, allow: bool) -> base.Say | None:
        """Return the answer to a question for permission."""
        asked = self._open.pop(request, None)
        if asked is None:
            return None
        return _answer(request, asked[0], _outcome(asked[1], allow=allow))

    def farewell(self) -> bytes:
        """Return the cancelling of the turn that runs, and of all that it asks."""
        if not self._turn or self._session is None:
            return b""
        cancel = {"method": "session/cancel", "params": {"sessionId": self._session}}
        words = [_say("", cancel)]
        for request, (number, _) in self._open.items():
            words.append(_answer(request, number, {"outcome": {"outcome": "cancelled"}}))
        return b"".join(word.data for word in words)

    def _request(self, number: int, method: str, parameters: Json) -> None:
        body = {"id": number, "method": method, "params": parameters}
        self._out.append(_say(f"request-{number}", body))

    # What is read ------------------------------------------------------------------------------

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        """Return the events of one line; never raises, whatever the bytes."""
        record = agent_cli.decode(line)
        if record is None or ("method" not in record and "id" not in record):
            raw = agent_cli.raw_text(line)
            if not raw:
                return []
            self._tail.append(raw)
            return [base.Raw(raw)]
        if "method" not in record:
            return list(self._answered(record))
        if "id" in record:
            return list(self._asked_by_agent(record))
        return list(self._told(record))

    def finish(self, ended: base.Exit) -> base.Verdict:
        """Judge the run by the answer to its last prompt."""
        failure, message = self._judge(ended)
        return base.Verdict(
            failure=failure,
            message=message,
            summary=self._updates.said,
            session=self._session,
            usage=self._usage,
            resets_at_ms=self._failed.resets_at_ms if self._failed else None,
        )

    def _judge(self, ended: base.Exit) -> tuple[FailureClass | None, str]:
        if self._failed is not None:
            return self._failed.failure, self._failed.message
        if self._completed < self._due:
            return agent_cli.ended_without_record(ended, list(self._tail))
        if not self._updates.worked:
            return FailureClass.AGENT, f"{self._agent} ended without a word or a tool call"
        return None, ""

    def _answered(self, record: Json) -> Iterator[base.RuntimeEvent]:
        number, error = record.get("id"), record.get("error")
        current = _PROMPT + self._completed + 1
        if not isinstance(number, int) or _MODEL < number != current:
            return
        if error is not None:
            yield from self._refused(number, agent_cli.record(error))
            return
        result = agent_cli.record(record.get("result"))
        match number:
            case _ if number == current:
                yield from self._turn_ended(number - _PROMPT, result)
            case 1:
                yield from self._initialized(result)
            case 2:
                self._ask_for_session()
            case 3 | 4:
                yield from self._begun(result, new=number == _NEW_AFTER_ALL)
            case 5:
                self._ask_for_model()
            case 6:
                self._first_prompt()
            case _:
                return

    def _initialized(self, result: Json) -> Iterator[base.RuntimeEvent]:
        version = result.get("protocolVersion")
        self._capabilities = agent_cli.record(result.get("agentCapabilities"))
        if version != VERSION:
            said = f"{self._agent} speaks version {version} of the protocol, not {VERSION}"
            yield from self._fail(base.Failed(FailureClass.AGENT, said))
        elif self._opening is not None and self._opening.auth_method:
            method = {"methodId": self._opening.auth_method}
            self._request(_AUTHENTICATE, "authenticate", method)
        else:
            self._ask_for_session()

    def _ask_for_session(self, *, new: bool = False) -> None:
        opening = self._opening
        if opening is None:
            return
        where: dict[str, Any] = {"cwd": opening.cwd, "mcpServers": self._servers(opening)}
        within = agent_cli.record(self._capabilities.get("sessionCapabilities"))
        if opening.resume and not new and within.get("resume") is not None:
            method = "session/resume"
        elif opening.resume and not new and self._capabilities.get("loadSession") is True:
            method = "session/load"
        else:
            self._request(_NEW_AFTER_ALL if new else _SESSION, "session/new", where)
            return
        self._asked_for = opening.resume
        self._request(_SESSION, method, {"sessionId": opening.resume, **where})

    def _servers(self, opening: Opening) -> list[Json]:
        takes = agent_cli.record(self._capabilities.get("mcpCapabilities")).get("http") is True
        if not takes or not opening.mcp_url:
            return []
        bearer = {"name": "Authorization", "value": f"Bearer {opening.mcp_token}"}
        return [{"type": "http", "name": "hub", "url": opening.mcp_url, "headers": [bearer]}]

    def _begun(self, result: Json, *, new: bool) -> Iterator[base.RuntimeEvent]:
        session = agent_cli.text(result.get("sessionId"))
        if not new and not session and self._asked_for is not None:
            session = self._asked_for
        if not session:
            said = f"{self._agent} names no session"
            yield from self._fail(base.Failed(FailureClass.AGENT, said))
            return
        self._session = session
        self._updates.begin()
        within = agent_cli.record(self._capabilities.get("sessionCapabilities"))
        loads = self._capabilities.get("loadSession") is True
        yield base.SessionStarted(session, loads or within.get("resume") is not None)
        if self._opening is not None and self._opening.mode:
            mode = {"sessionId": session, "modeId": self._opening.mode}
            self._request(_MODE, "session/set_mode", mode)
        else:
            self._ask_for_model()

    def _ask_for_model(self) -> None:
        if self._opening is None or not self._opening.model:
            self._first_prompt()
            return
        model = {"sessionId": self._session, "modelId": self._opening.model}
        self._request(_MODEL, "session/set_model", model)

    def _first_prompt(self) -> None:
        self._turn = 1
        if self._opening is not None:
            self._out.append(self.prompt(1, self._opening.prompt))

    def _turn_ended(self, number: int, result: Json) -> Iterator[base.RuntimeEvent]:
        yield from self._updates.end()
        self._turn = 0
        stop = _STOPS.get(agent_cli.text(result.get("stopReason")), base.Stop.ERROR)
        if stop is not base.Stop.CANCELLED:  # that turn has come to no end
            self._completed = number
        spent = acp_updates.usage_of(result)
        if spent is not None:
            self._usage = _added(self._usage, spent)
            yield spent
        self._failed = self._failure(stop, agent_cli.text(result.get("stopReason")))
        if self._failed is not None:
            yield self._failed
            stop = base.Stop.ERROR if stop is base.Stop.END_TURN else stop
        yield base.TurnEnded(stop)

    def _failure(self, stop: base.Stop, reason: str) -> base.Failed | None:
        said = self._updates.said
        if stop is base.Stop.END_TURN:
            return _failed(said) if said.lstrip().startswith(_LIE) else None
        if stop is base.Stop.CANCELLED:
            return None
        if stop is base.Stop.REFUSAL:
            return base.Failed(FailureClass.REFUSED, said or f"{self._agent} refused")
        return base.Failed(FailureClass.AGENT, f"{self._agent} ended its turn: {reason}")

    def _refused(self, number: int, error: Json) -> Iterator[base.RuntimeEvent]:
        message = _message_of(error)
        if number == _SESSION and self._asked_for is not None and not _is_auth(error):
            # What the earlier turns were about is gone; the prompt says what is to be done.
            yield base.Warned(f"the session is not there any more: {message}")
            self._asked_for = None
            self._ask_for_session(new=True)
            return
        yield from self._updates.end()
        failed = _failed(message)
        if _is_auth(error):
            failed = base.Failed(FailureClass.AUTH, message)
        elif number in {_MODE, _MODEL}:
            what = "mode" if number == _MODE else "model"
            said = f"{self._agent} takes no such {what}: {message}"
            failed = base.Failed(FailureClass.NOT_INSTALLED, said)
        if number > _PROMPT:
            self._completed = number - _PROMPT
        yield from self._fail(failed)

    def _fail(self, failed: base.Failed) -> Iterator[base.RuntimeEvent]:
        self._turn, self._failed = 0, failed
        yield failed
        yield base.TurnEnded(base.Stop.ERROR)

    def _told(self, record: Json) -> Iterator[base.RuntimeEvent]:
        parameters = agent_cli.record(record.get("params"))
        method = agent_cli.text(record.get("method"))
        if method.endswith("/retrying"):  # an extension that some have
            said = (agent_cli.text(parameters.get(key)) for key in ("category", "detail"))
            yield base.Retrying(" ".join(said))
        if method == "session/update":
            for event in self._updates.take(agent_cli.record(parameters.get("update"))):
                if isinstance(event, base.Usage):
                    self._usage = _added(self._usage, event)
                yield event

    def _asked_by_agent(self, record: Json) -> Iterator[base.RuntimeEvent]:
        self._requests += 1
        request, number = f"asked-{self._requests}", record.get("id")
        if record.get("method") != "session/request_permission":
            error = {"code": _NO_METHOD, "message": "this client does not do that"}
            self._out.append(_say(request, {"id": number, "error": error}))
            return
        parameters = agent_cli.record(record.get("params"))
        yield from self._updates.end()
        title = self._updates.title_of(agent_cli.record(parameters.get("toolCall")))
        policy = self._opening.permissions if self._opening is not None else Policy.ASK
        if policy is Policy.ASK and len(self._open) < PERMISSIONS_MAX:
            self._open[request] = (number, parameters)
            yield base.PermissionAsked(request, title, open=True)
            return
        allow = policy is Policy.ALLOW
        yield base.PermissionAsked(request, title)
        yield base.PermissionAnswered(request, allow)
        self._out.append(_answer(request, number, _outcome(parameters, allow=allow)))


def _outcome(parameters: Json, *, allow: bool) -> Json:
    """Return the choice that allows, or denies, once if that is offered; by its kind alone."""
    kinds = ("allow_once", "allow_always") if allow else ("reject_once", "reject_always")
    options = agent_cli.records(parameters.get("options"))
    for kind in kinds:
        for option in options:
            if option.get("kind") == kind:
                return {"outcome": {"outcome": "selected", "optionId": option.get("optionId")}}
    return {"outcome": {"outcome": "cancelled"}}


def _say(key: str, body: Json) -> base.Say:
    return base.Say(key, msgspec.json.encode({"jsonrpc": "2.0", **body}) + b"\n")


def _answer(key: str, number: object, result: Json) -> base.Say:
    return _say(key, {"id": number, "result": result})


def _is_auth(error: Json) -> bool:
    return error.get("code") == _AUTH_REQUIRED


def _message_of(error: Json) -> str:
    message, details = agent_cli.text(error.get("message")), error.get("data")
    known = agent_cli.record(details)
    more = details if isinstance(details, str) else known.get("details") or known.get("message")
    said = f"{message}: {more}" if isinstance(more, str) and more not in message else message
    return said[: agent_cli.MESSAGE_CHARACTERS_MAX] or "the agent says no reason"


def _failed(message: str) -> base.Failed:
    return base.Failed(agent_cli.classify(message), message, quota.epoch_ms(message))


def _added(one: base.Usage, other: base.Usage) -> base.Usage:
    return base.Usage(
        input=one.input + other.input,
        cached=one.cached + other.cached,
        output=one.output + other.output,
        written=one.written + other.written,
        model=other.model or one.model,
    )
