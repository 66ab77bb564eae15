"""What is said to codex by its app-server protocol, and read from it. Pure.

JSON-RPC without its version field, one message a line. Measured with 0.169.0. `error` notices and
items of the type `error` are not final; the verdict is the status in `turn/completed`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import agent_cli, base, quota
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.permission import Policy

TAIL_LINES: Final = 5
"""Log lines that are kept to explain a crash."""
PERMISSIONS_MAX: Final = 256
"""Open at once; more are denied."""

_INITIALIZE: Final = 1
_THREAD: Final = 3
_THREAD_AFTER_ALL: Final = 4
_TURN: Final = 100
"""Turn N is begun by request 100 + N."""
_NO_METHOD: Final = -32601

_TOOLS: Final = frozenset(
    {
        *("commandExecution", "fileChange", "mcpToolCall", "webSearch"),
        *("dynamicToolCall", "collabAgentToolCall", "imageGeneration"),
    }
)
_UNWANTED: Final = (
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "turn/diff/updated",
    "account/rateLimits/updated",
)
"""Notices that are long, or repeat all that was before, and of which nothing is made."""
_APPROVALS: Final = frozenset(
    {"item/commandExecution/requestApproval", "item/fileChange/requestApproval"}
)
_PLAN_STATUS: Final = {"inProgress": "in_progress"}


class Opening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a talker has to know of the job."""

    prompt: str
    resume: str | None = None
    permissions: Policy = Policy.ALLOW


class CodexTalker:
    """One run of `codex app-server`."""

    def __init__(self) -> None:
        self._opening: Opening | None = None
        self._out: list[base.Say] = []
        self._session: str | None = None
        self._model = ""
        self._turn: str | None = None
        """The one that runs."""
        self._due = 1
        self._ended = 0
        self._requests = 0
        self._open: dict[str, tuple[object, Json]] = {}
        self._titles: dict[str, str] = {}
        self._said: list[str] = [""]
        self._usage = base.Usage()
        self._failed: base.Failed | None = None
        self._trouble = ""
        self._worked = False
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    # What is said ------------------------------------------------------------------------------

    def begin(self, opening: bytes) -> None:
        """Introduce ourselves."""
        self._opening = msgspec.json.decode(opening, type=Opening)
        client = {"name": "agentcom", "title": "AgentCom", "version": "1"}
        unwanted = {"optOutNotificationMethods": list(_UNWANTED)}
        self._request(_INITIALIZE, "initialize", {"clientInfo": client, "capabilities": unwanted})

    def drain(self) -> Sequence[base.Say]:
        """Return what is to be said now."""
        said, self._out = self._out, []
        return said

    def prompt(self, number: int, text: str) -> base.Say:
        """Return the request that begins a turn."""
        parameters = {"threadId": self._session, "input": _input(text)}
        body = {"id": _TURN + number, "method": "turn/start", "params": parameters}
        return _say(f"prompt-{number}", body)

    def asked(self, number: int) -> None:
        """Take note that a turn has begun."""
        self._due = number

    def steer(self, key: str, text: str) -> base.Say | None:
        """Return the request that brings a word into the turn that runs."""
        if self._turn is None:
            return None
        parameters = {
            "threadId": self._session,
            "expectedTurnId": self._turn,
            "input": _input(text),
        }
        return _say(key, {"id": key, "method": "turn/steer", "params": parameters})

    def permit(self, request: str, *, allow: bool) -> base.Say | None:
        """Return the answer to a question for approval."""
        asked = self._open.pop(request, None)
        return None if asked is None else _decision(request, asked[0], allow=allow)

    def farewell(self) -> bytes:
        """Return what interrupts the turn that runs."""
        if self._turn is None:
            return b""
        parameters = {"threadId": self._session, "turnId": self._turn}
        return _say("", {"id": 99, "method": "turn/interrupt", "params": parameters}).data

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
        return list(self._told(record.get("method"), agent_cli.record(record.get("params"))))

    def finish(self, ended: base.Exit) -> base.Verdict:
        """Judge the run by the status of its last turn; an exit code never makes a success."""
        failure, message = self._judge(ended)
        return base.Verdict(
            failure=failure,
            message=message,
            summary=agent_cli.together(self._said),
            session=self._session,
            usage=self._usage,
            resets_at_ms=quota.epoch_ms(message),
        )

    def _judge(self, ended: base.Exit) -> tuple[FailureClass | None, str]:
        if self._failed is not None:
            return self._failed.failure, self._failed.message
        if self._ended < self._due:
            if self._trouble and ended.stop is None:
                return agent_cli.classify(self._trouble), self._trouble
            return agent_cli.ended_without_record(ended, list(self._tail))
        if self._usage.output == 0:
            return FailureClass.AGENT, "codex reports success without one token of output"
        if not self._worked:
            return FailureClass.AGENT, "codex ended without a word or a tool call"
        return None, ""

    def _answered(self, record: Json) -> Iterator[base.RuntimeEvent]:
        number, error = record.get("id"), record.get("error")
        if isinstance(number, str):  # a word has its key for an id
            yield base.Heard(number, taken=error is None)
            return
        if error is not None:
            yield from self._refused(number, agent_cli.record(error))
            return
        result = agent_cli.record(record.get("result"))
        match number:
            case 1:
                self._out.append(_say("initialized", {"method": "initialized"}))
                self._ask_for_thread()
            case 3 | 4:
                yield from self._begun(result)
            case _:
                return

    def _ask_for_thread(self, *, new: bool = False) -> None:
        opening = self._opening
        if opening is None:
            return
        never = opening.permissions is Policy.ALLOW
        how: dict[str, Any] = {
            "approvalPolicy": "never" if never else "untrusted",
            "sandbox": "danger-full-access",
        }
        if opening.resume is not None and not new:
            self._request(_THREAD, "thread/resume", {"threadId": opening.resume, **how})
        else:
            self._request(_THREAD_AFTER_ALL if new else _THREAD, "thread/start", how)

    def _begun(self, result: Json) -> Iterator[base.RuntimeEvent]:
        session = agent_cli.text(agent_cli.record(result.get("thread")).get("id"))
        if not session or self._session is not None:
            return
        self._session = session
        self._model = agent_cli.text(result.get("model"))
        yield base.SessionStarted(session)
        if self._opening is not None:
            self._out.append(self.prompt(1, self._opening.prompt))

    def _refused(self, number: object, error: Json) -> Iterator[base.RuntimeEvent]:
        message = agent_cli.text(error.get("message")) or "codex says no reason"
        if number == _THREAD and self._opening is not None and self._opening.resume:
            yield base.Warned(f"the session is not there any more: {message}")
            self._ask_for_thread(new=True)
        elif isinstance(number, int) and (number <= _THREAD_AFTER_ALL or number > _TURN):
            yield from self._fail(message)

    def _told(self, method: object, given: Json) -> Iterator[base.RuntimeEvent]:
        match method:
            case "turn/started":
                turn = agent_cli.record(given.get("turn"))
                self._turn = agent_cli.text(turn.get("id")) or None
                self._failed = None
            case "turn/completed":
                yield from self._turn_ended(agent_cli.record(given.get("turn")))
            case "item/started" | "item/completed":
                item = agent_cli.record(given.get("item"))
                yield from self._item(item, ended=method == "item/completed")
            case "thread/tokenUsage/updated":
                self._spent(agent_cli.record(given.get("tokenUsage")))
                yield base.Streamed()
            case "turn/plan/updated":
                yield base.Plan([_step(one) for one in agent_cli.records(given.get("plan"))])
            case "error":
                yield self._error(given)
            case "warning":
                yield base.Warned(agent_cli.text(given.get("message")))
            case str() if method.endswith(("/delta", "Delta", "/progress")):
                yield base.Streamed()
            case _:
                return

    def _item(self, item: Json, *, ended: bool) -> Iterator[base.RuntimeEvent]:
        said = agent_cli.text(item.get("text"))
        match item.get("type"):
            case "agentMessage" if ended:
                self._said[-1], self._worked = said, True
                yield base.Text(said)
            case "reasoning" if ended:
                summary = item.get("summary")
                parts = summary if isinstance(summary, list) else []
                yield base.Thought("\n".join(one for one in parts if isinstance(one, str)))
            case "error" if ended:
                yield base.Warned(agent_cli.text(item.get("message")))
            case str(kind) if kind in _TOOLS:
                yield from self._tool(item, kind, ended=ended)
            case _:
                return

    def _tool(self, item: Json, kind: str, *, ended: bool) -> Iterator[base.RuntimeEvent]:
        call = agent_cli.text(item.get("id"))
        if call not in self._titles:
            self._titles[call] = _title(item, kind)
            yield base.ToolStarted(call, self._titles[call])
        if not ended:
            return
        self._worked = True
        self._titles.pop(call, None)
        done = item.get("status", "completed") == "completed"
        if kind == "fileChange" and done:
            for change in agent_cli.records(item.get("changes")):
                yield base.Diff(agent_cli.text(change.get("path")))
        yield base.ToolEnded(call, done)

    def _error(self, given: Json) -> base.RuntimeEvent:
        message = agent_cli.text(agent_cli.record(given.get("error")).get("message"))
        if given.get("willRetry") is True or message.startswith("Reconnecting"):
            return base.Retrying(message)
        self._trouble = message
        return base.Warned(message)

    def _spent(self, usage: Json) -> None:
        total = agent_cli.record(usage.get("total"))
        self._usage = base.Usage(
            input=agent_cli.count(total.get("inputTokens")),
            cached=agent_cli.count(total.get("cachedInputTokens")),
            output=agent_cli.count(total.get("outputTokens")),
            model=self._model,
        )

    def _turn_ended(self, turn: Json) -> Iterator[base.RuntimeEvent]:
        self._turn = None
        self._open.clear()
        if self._usage.output:
            yield self._usage
        match turn.get("status"):
            case "completed":
                self._ended += 1
                self._said.append("")
                yield base.TurnEnded(base.Stop.END_TURN)
            case "interrupted":
                yield base.TurnEnded(base.Stop.CANCELLED)  # it came to no end of its own
            case _:
                error = agent_cli.record(turn.get("error"))
                yield from self._fail(agent_cli.text(error.get("message")))

    def _fail(self, said: str) -> Iterator[base.RuntimeEvent]:
        message = said or self._trouble or "codex says no reason"
        failure = agent_cli.classify(message)
        self._failed = base.Failed(failure, message, quota.epoch_ms(message))
        self._ended += 1
        yield self._failed
        refused = failure is FailureClass.REFUSED
        yield base.TurnEnded(base.Stop.REFUSAL if refused else base.Stop.ERROR)

    def _asked_by_agent(self, record: Json) -> Iterator[base.RuntimeEvent]:
        self._requests += 1
        request, number = f"asked-{self._requests}", record.get("id")
        if record.get("method") not in _APPROVALS:
            error = {"code": _NO_METHOD, "message": "this client does not do that"}
            self._out.append(_say(request, {"id": number, "error": error}))
            return
        given = agent_cli.record(record.get("params"))
        call = agent_cli.text(given.get("itemId"))
        title = agent_cli.text(given.get("command")) or self._titles.get(call, "a tool")
        policy = self._opening.permissions if self._opening is not None else Policy.ASK
        if policy is Policy.ASK and len(self._open) < PERMISSIONS_MAX:
            self._open[request] = (number, given)
            yield base.PermissionAsked(request, title, open=True)
            return
        allow = policy is Policy.ALLOW
        yield base.PermissionAsked(request, title)
        yield base.PermissionAnswered(request, allow)
        self._out.append(_decision(request, number, allow=allow))


def _title(item: Json, kind: str) -> str:
    match kind:
        case "commandExecution":
            return agent_cli.text(item.get("command"))
        case "fileChange":
            changes = agent_cli.records(item.get("changes"))
            return "edit " + ", ".join(agent_cli.text(change.get("path")) for change in changes)
        case "mcpToolCall":
            return f"{agent_cli.text(item.get('server'))}.{agent_cli.text(item.get('tool'))}"
        case _:
            return agent_cli.text(item.get("query")) or kind


def _step(entry: Json) -> base.PlanEntry:
    status = agent_cli.text(entry.get("status")) or "pending"
    return base.PlanEntry(agent_cli.text(entry.get("step")), _PLAN_STATUS.get(status, status))


def _input(text: str) -> list[Json]:
    return [{"type": "text", "text": text}]


def _decision(key: str, number: object, *, allow: bool) -> base.Say:
    return _say(key, {"id": number, "result": {"decision": "accept" if allow else "decline"}})


def _say(key: str, body: Json) -> base.Say:
    return base.Say(key, msgspec.json.encode(body) + b"\n")
