"""What is said to codex by its app-server protocol, and read from it. Pure.

JSON-RPC without its version field, one message a line. Measured with 0.169.0. `error` notices and
items of the type `error` are not final; the verdict is the status in `turn/completed`.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import agent_cli, base, evidence
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.conversation import JsonRpc
from agentcom.sidecar.runtime.permission import Policy

_INITIALIZE: Final = 1
_THREAD: Final = 3
_THREAD_AFTER_ALL: Final = 4
_TURN: Final = 100
"""Turn N is begun by request 100 + N."""

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


class CodexTalker(JsonRpc):
    """One run of `codex app-server`."""

    approvals = _APPROVALS

    def __init__(self) -> None:
        super().__init__(evidence.Evidence("codex", turns=True, totals=True))
        self._opening: Opening | None = None
        self._model = ""
        self._turn: str | None = None
        """The one that runs."""
        self._titles: dict[str, str] = {}
        self._trouble = ""

    # What is said ------------------------------------------------------------------------------

    def begin(self, opening: bytes) -> None:
        """Introduce ourselves."""
        self._opening = msgspec.json.decode(opening, type=Opening)
        self._policy = self._opening.permissions
        client = {"name": "agentcom", "title": "AgentCom", "version": "1"}
        unwanted = {"optOutNotificationMethods": list(_UNWANTED)}
        self._request(_INITIALIZE, "initialize", {"clientInfo": client, "capabilities": unwanted})

    def prompt(self, number: int, text: str) -> base.Say:
        """Return the request that begins a turn."""
        parameters = {"threadId": self._session, "input": _input(text)}
        body = {"id": _TURN + number, "method": "turn/start", "params": parameters}
        return self._say(f"prompt-{number}", body)

    def steer(self, key: str, text: str) -> base.Say | None:
        """Return the request that brings a word into the turn that runs."""
        if self._turn is None:
            return None
        parameters = {
            "threadId": self._session,
            "expectedTurnId": self._turn,
            "input": _input(text),
        }
        return self._say(key, {"id": key, "method": "turn/steer", "params": parameters})

    def farewell(self) -> bytes:
        """Return what interrupts the turn that runs."""
        if self._turn is None:
            return b""
        parameters = {"threadId": self._session, "turnId": self._turn}
        return self._say("", {"id": 99, "method": "turn/interrupt", "params": parameters}).data

    # What is read ------------------------------------------------------------------------------

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
                self._out.append(self._say("initialized", {"method": "initialized"}))
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

    def _told(self, method: str, given: Json) -> Iterator[base.RuntimeEvent]:
        match method:
            case "turn/started":
                turn = agent_cli.record(given.get("turn"))
                self._turn = agent_cli.text(turn.get("id")) or None
                self._evidence.begin()
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
                yield base.Raw(agent_cli.text(given.get("message")))
            case _ if method.endswith(("/delta", "Delta", "/progress")):
                yield base.Streamed()
            case _:
                return

    def _item(self, item: Json, *, ended: bool) -> Iterator[base.RuntimeEvent]:
        said = agent_cli.text(item.get("text"))
        match item.get("type"):
            case "agentMessage" if ended:
                yield base.Text(said)
            case "reasoning" if ended:
                summary = item.get("summary")
                parts = summary if isinstance(summary, list) else []
                yield base.Thought("\n".join(one for one in parts if isinstance(one, str)))
            case "error" if ended:
                yield base.Raw(agent_cli.text(item.get("message")))  # of this or that, and no end
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
        self._evidence.usage = base.Usage(
            input=agent_cli.count(total.get("inputTokens")),
            cached=agent_cli.count(total.get("cachedInputTokens")),
            output=agent_cli.count(total.get("outputTokens")),
            model=self._model,
        )

    def _turn_ended(self, turn: Json) -> Iterator[base.RuntimeEvent]:
        self._turn = None
        self._open.clear()
        if self._evidence.usage.output:
            yield self._evidence.usage
        match turn.get("status"):
            case "completed":
                yield base.TurnEnded(base.Stop.END_TURN)
            case "interrupted":
                yield base.TurnEnded(base.Stop.CANCELLED)  # it came to no end of its own
            case _:
                error = agent_cli.record(turn.get("error"))
                yield from self._fail(agent_cli.text(error.get("message")))

    def _fail(self, said: str) -> Iterator[base.RuntimeEvent]:
        message = said or self._trouble or "codex says no reason"
        failed = evidence.failed(message)
        yield failed
        refused = failed.failure is FailureClass.REFUSED
        yield base.TurnEnded(base.Stop.REFUSAL if refused else base.Stop.ERROR)

    def _wants(self, given: Json) -> str:
        call = agent_cli.text(given.get("itemId"))
        return agent_cli.text(given.get("command")) or self._titles.get(call, "a tool")

    def _answer(self, request: str, number: object, given: Json, *, allow: bool) -> base.Say:  # noqa: ARG002 - the contract
        decision = "accept" if allow else "decline"
        return self._say(request, {"id": number, "result": {"decision": decision}})


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
