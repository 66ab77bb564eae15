"""What is said to an agent by the Agent Client Protocol, and read from it. Pure.

JSON-RPC, one message a line. File and terminal callbacks are declared false, so an agent works on
its folder by itself. Requests have fixed numbers, so a reader of the whole output knows which
answer is which; answers may come in any order, and lines between them may be no JSON at all.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import acp_updates, agent_cli, base, evidence
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.conversation import JsonRpc
from agentcom.sidecar.runtime.permission import Policy

VERSION: Final = 1
"""Of the protocol."""

_INITIALIZE: Final = 1
_AUTHENTICATE: Final = 2
_SESSION: Final = 3
_NEW_AFTER_ALL: Final = 4
_MODE: Final = 5
_MODEL: Final = 6
_LOAD_AFTER_ALL: Final = 7
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


class AcpTalker(JsonRpc):
    """One run of an agent."""

    header = {"jsonrpc": "2.0"}  # noqa: RUF012 - a constant
    approvals = frozenset({"session/request_permission"})

    def __init__(self, agent: str) -> None:
        """`agent` is its name in messages."""
        super().__init__(evidence.Evidence(agent, counts_tokens=False, turns=True))
        self._agent = agent
        self._opening: Opening | None = None
        self._capabilities: Json = {}
        self._asked_for: str | None = None
        """The session that was to be resumed."""
        self._updates = acp_updates.Updates()
        self._turn = 0
        """The one that runs, or 0."""
        self._completed = 0

    # What is said ------------------------------------------------------------------------------

    def begin(self, opening: bytes) -> None:
        """Introduce ourselves."""
        self._opening = msgspec.json.decode(opening, type=Opening)
        self._policy = self._opening.permissions
        parameters = {
            "protocolVersion": VERSION,
            "clientCapabilities": {
                "fs": {"readTextFile": False, "writeTextFile": False},
                "terminal": False,
            },
            "clientInfo": {"name": "agentcom", "title": "AgentCom", "version": "1"},
        }
        self._request(_INITIALIZE, "initialize", parameters)

    def prompt(self, number: int, text: str) -> base.Say:
        """Return the request that begins a turn."""
        parameters = {"sessionId": self._session, "prompt": [{"type": "text", "text": text}]}
        body = {"id": _PROMPT + number, "method": "session/prompt", "params": parameters}
        return self._say(f"prompt-{number}", body)

    def asked(self, number: int) -> None:
        """Take note that a turn has begun."""
        super().asked(number)
        self._turn = number

    def steer(self, key: str, text: str) -> base.Say | None:  # noqa: ARG002 - the contract
        """Return None: a turn of this version of the protocol takes no word more."""
        return None

    def farewell(self) -> bytes:
        """Return the cancelling of the turn that runs, and of all that it asks."""
        if not self._turn or self._session is None:
            return b""
        cancel = {"method": "session/cancel", "params": {"sessionId": self._session}}
        words = [self._say("", cancel)]
        for request, (number, _) in self._open.items():
            result = {"outcome": {"outcome": "cancelled"}}
            words.append(self._say(request, {"id": number, "result": result}))
        return b"".join(word.data for word in words)

    # What is read ------------------------------------------------------------------------------

    def _answered(self, record: Json) -> Iterator[base.RuntimeEvent]:
        number, error = record.get("id"), record.get("error")
        current = _PROMPT + self._completed + 1
        if not isinstance(number, int) or _LOAD_AFTER_ALL < number != current:
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
            case 3 | 4 | 7:
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

    def _ask_for_session(self, *, new: bool = False, load: bool = False) -> None:
        opening = self._opening
        if opening is None:
            return
        where: dict[str, Any] = {"cwd": opening.cwd, "mcpServers": self._servers(opening)}
        within = agent_cli.record(self._capabilities.get("sessionCapabilities"))
        loads = self._capabilities.get("loadSession") is True
        if opening.resume and not new and not load and within.get("resume") is not None:
            method = "session/resume"
        elif opening.resume and not new and loads:
            method = "session/load"
        else:
            self._request(_NEW_AFTER_ALL if new else _SESSION, "session/new", where)
            return
        self._asked_for = opening.resume
        number = _LOAD_AFTER_ALL if load else _SESSION
        self._request(number, method, {"sessionId": opening.resume, **where})

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
            yield spent
        failed = self._failure(stop, agent_cli.text(result.get("stopReason")))
        if failed is not None:
            yield failed
            stop = base.Stop.ERROR if stop is base.Stop.END_TURN else stop
        yield base.TurnEnded(stop)

    def _failure(self, stop: base.Stop, reason: str) -> base.Failed | None:
        said = self._updates.said
        if stop is base.Stop.END_TURN:
            return evidence.failed(said) if said.lstrip().startswith(_LIE) else None
        if stop is base.Stop.CANCELLED:
            return None
        if stop is base.Stop.REFUSAL:
            return base.Failed(FailureClass.REFUSED, said or f"{self._agent} refused")
        return base.Failed(FailureClass.AGENT, f"{self._agent} ended its turn: {reason}")

    def _refused(self, number: int, error: Json) -> Iterator[base.RuntimeEvent]:
        message = _message_of(error)
        sought = number in {_SESSION, _LOAD_AFTER_ALL} and self._asked_for is not None
        loads = self._capabilities.get("loadSession") is True
        if sought and number == _SESSION and error.get("code") == _NO_METHOD and loads:
            # Some say that they resume sessions, and only load them.
            self._ask_for_session(load=True)
            return
        if sought and not _is_auth(error):
            # What the earlier turns were about is gone; the prompt says what is to be done.
            yield base.Warned(f"the session is not there any more: {message}")
            self._asked_for = None
            self._ask_for_session(new=True)
            return
        yield from self._updates.end()
        failed = evidence.failed(message)
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
        self._turn = 0
        yield failed
        yield base.TurnEnded(base.Stop.ERROR)

    def _told(self, method: str, given: Json) -> Iterator[base.RuntimeEvent]:
        if method.endswith("/retrying"):  # an extension that some have
            said = (agent_cli.text(given.get(key)) for key in ("category", "detail"))
            yield base.Retrying(" ".join(said))
        if method == "session/update":
            yield from self._updates.take(agent_cli.record(given.get("update")))

    def _asked_by_agent(
        self, method: str, number: object, given: Json
    ) -> Iterator[base.RuntimeEvent]:
        if method in self.approvals:
            yield from self._updates.end()
        yield from super()._asked_by_agent(method, number, given)

    def _wants(self, given: Json) -> str:
        return self._updates.title_of(agent_cli.record(given.get("toolCall")))

    def _answer(self, request: str, number: object, given: Json, *, allow: bool) -> base.Say:
        return self._say(request, {"id": number, "result": _outcome(given, allow=allow)})


def _outcome(parameters: Json, *, allow: bool) -> Json:
    """Return the choice that allows, or denies, once if that is offered; by its kind alone."""
    kinds = ("allow_once", "allow_always") if allow else ("reject_once", "reject_always")
    options = agent_cli.records(parameters.get("options"))
    for kind in kinds:
        for option in options:
            if option.get("kind") == kind:
                return {"outcome": {"outcome": "selected", "optionId": option.get("optionId")}}
    return {"outcome": {"outcome": "cancelled"}}


def _is_auth(error: Json) -> bool:
    return error.get("code") == _AUTH_REQUIRED


def _message_of(error: Json) -> str:
    message, details = agent_cli.text(error.get("message")), error.get("data")
    known = agent_cli.record(details)
    more = details if isinstance(details, str) else known.get("details") or known.get("message")
    said = f"{message}: {more}" if isinstance(more, str) and more not in message else message
    return said[: agent_cli.MESSAGE_CHARACTERS_MAX] or "the agent says no reason"
