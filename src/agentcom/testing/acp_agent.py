"""The test agent as one that speaks the Agent Client Protocol, well or badly.

``python -m agentcom.testing.acp_agent [--fault NAME]...`` performs the scenario that each prompt
asks for, turn by turn. The faults are those that real agents were seen to have; others are steps of
a scenario (`exit`, `garbage`, `huge`, `hang`, `error`, `limit`).
"""

import argparse
import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agentcom.model import errors
from agentcom.sidecar.runtime import base
from agentcom.testing import agent, scenario

FAULTS: Final = {
    "noise": "prints lines that are no messages",
    "unknown": "sends updates and requests that no client knows",
    "order": "answers a prompt before the last of its updates",
    "permission": "asks before each tool",
    "deaf": "ignores a cancel",
    "stays": "does not exit when its input ends",
    "login": "wants a login",
    "forgets": "knows no session that was there before",
    "no-load": "cannot take up a session",
    "no-http": "takes no MCP server by HTTP",
    "version": "speaks another version of the protocol",
}
_AUTH_REQUIRED: Final = -32000
_INTERNAL: Final = -32603
_LIFE_S: Final = agent.ORPHAN_LIFE_S
_REJECT: Final = "no"
_ALLOW: Final = "yes"

Message = Mapping[str, Any]


class Cancelled(Exception):
    """The client wants no more of this turn."""


class Wire:
    """What comes in and goes out, one message a line."""

    def __init__(self, *, deaf: bool) -> None:
        self._deaf = deaf
        self.requests: queue.Queue[Message | None] = queue.Queue()
        self.answers: queue.Queue[Message | None] = queue.Queue()
        self.cancelled = threading.Event()
        self.child: subprocess.Popen[bytes] | None = None

    def read(self) -> None:
        """Sort what comes, until the input ends; runs in a thread."""
        for line in sys.stdin.buffer:
            message = msgspec.json.decode(line)
            if message.get("method") == "session/cancel":
                self._cancel()
            elif "method" in message:
                self.requests.put(message)
            else:
                self.answers.put(message)
        self.requests.put(None)
        self.answers.put(None)

    def _cancel(self) -> None:
        if self._deaf:
            return
        self.cancelled.set()
        if self.child is not None:
            self.child.kill()

    def send(self, body: Message) -> None:
        """Print one message."""
        agent.print_line(msgspec.json.encode({"jsonrpc": "2.0", **body}))


class AcpAgent(agent.Agent):
    """One turn of a session."""

    def __init__(self, wire: Wire, session: str, faults: frozenset[str]) -> None:
        super().__init__(Path.cwd(), self._told)
        self._wire = wire
        self._session = session
        self._faults = faults
        self._asked = 0
        self.usage = base.Usage()

    def update(self, kind: str, /, **fields: object) -> None:
        """Send one update."""
        update = {"sessionUpdate": kind, **fields}
        parameters = {"sessionId": self._session, "update": update}
        self._wire.send({"method": "session/update", "params": parameters})

    def pause(self, seconds: float) -> None:
        """Let time pass, unless the turn is cancelled."""
        if self._wire.cancelled.wait(seconds):
            raise Cancelled

    def run(self, *argv: str) -> bool:
        """Run a command that a cancel ends."""
        with (
            contextlib.suppress(OSError),
            subprocess.Popen(  # noqa: S603 - the test's own
                argv, stdin=subprocess.DEVNULL, stdout=sys.stderr
            ) as child,
        ):
            self._wire.child = child
            code = child.wait()
            self._wire.child = None
            self.pause(0)
            return code == 0
        return False

    def may(self, title: str) -> bool:
        """Ask the client for its permission, if this agent does."""
        if "permission" not in self._faults:
            return True
        self._asked += 1
        options = [
            {"optionId": _REJECT, "name": "No", "kind": "reject_once"},
            {"optionId": "ever", "name": "Always", "kind": "allow_always"},
            {"optionId": _ALLOW, "name": "Yes", "kind": "allow_once"},
        ]
        call = {"toolCallId": f"asks-{self._asked}", "title": title, "kind": "execute"}
        parameters = {"sessionId": self._session, "toolCall": call, "options": options}
        method = "session/request_permission"
        self._wire.send({"id": f"q{self._asked}", "method": method, "params": parameters})
        answer = self._wire.answers.get()
        outcome = {} if answer is None else answer["result"]["outcome"]
        if outcome.get("outcome") != "selected":
            raise Cancelled
        return bool(outcome["optionId"] == _ALLOW)

    def _told(self, event: base.RuntimeEvent) -> None:
        match event:
            case base.Text(text):
                half = len(text) // 2
                for piece in (text[:half], text[half:]):
                    self.update("agent_message_chunk", content={"type": "text", "text": piece})
            case base.ToolStarted(name, title):
                fields = {"title": title, "kind": "execute", "status": "pending"}
                self.update("tool_call", toolCallId=name, **fields)
            case base.ToolEnded(name, ok):
                status = "completed" if ok else "failed"
                self.update("tool_call_update", toolCallId=name, status=status)
            case base.Usage():
                self.usage = event
            case _:
                pass


class Server:
    """Answers the client."""

    def __init__(self, wire: Wire, faults: frozenset[str]) -> None:
        self._wire = wire
        self._faults = faults

    def answer(self, request: Message) -> None:
        """Answer one request."""
        number, parameters = request.get("id"), request.get("params") or {}
        if "noise" in self._faults:
            agent.print_line(b"(node:1) Warning: something is deprecated \xff {")
        match request["method"]:
            case "initialize":
                self._wire.send({"id": number, "result": self._capabilities()})
            case "session/new":
                self._session(number, {"sessionId": str(uuid.uuid4())})
            case "session/load":
                self._load(number, parameters["sessionId"])
            case "session/prompt":
                self._prompt(number, parameters)
            case method:
                error = {"code": -32601, "message": f"no method {method}"}
                self._wire.send({"id": number, "error": error})

    def _capabilities(self) -> Message:
        return {
            "protocolVersion": 2 if "version" in self._faults else 1,
            "agentCapabilities": {
                "loadSession": "no-load" not in self._faults,
                "mcpCapabilities": {"http": "no-http" not in self._faults},
            },
            "authMethods": [],
        }

    def _session(self, number: object, result: Message) -> None:
        if "login" in self._faults:
            error = {"code": _AUTH_REQUIRED, "message": "Authentication required"}
            self._wire.send({"id": number, "error": error})
            return
        self._wire.send({"id": number, "result": result})

    def _load(self, number: object, session: str) -> None:
        if "forgets" in self._faults:
            error = {"code": _INTERNAL, "message": "Internal error", "data": "no such session"}
            self._wire.send({"id": number, "error": error})
            return
        history = AcpAgent(self._wire, session, self._faults)
        history.update("agent_message_chunk", content={"type": "text", "text": "Long ago."})
        self._session(number, {})

    def _prompt(self, number: object, parameters: Message) -> None:
        prompt = "".join(block.get("text", "") for block in parameters["prompt"])
        turn = AcpAgent(self._wire, parameters["sessionId"], self._faults)
        self._wire.cancelled.clear()
        if "unknown" in self._faults:
            turn.update("shiny_new_thing", field={"deep": [1, 2]})
            self._wire.send({"id": 7, "method": "fs/read_text_file", "params": {"path": "/x"}})
            self._wire.answers.get()
            self._wire.send({"id": 99_999, "result": None})
        entry = {"content": "do the scenario", "priority": "high", "status": "in_progress"}
        turn.update("plan", entries=[entry])
        answer: dict[str, Any] = {"id": number}
        try:
            for step in scenario.steps(prompt):
                turn.perform(step)
            turn.end(prompt)
            answer["result"] = {"stopReason": "end_turn"}
        except Cancelled:
            answer["result"] = {"stopReason": "cancelled"}
        except errors.InvalidInput as error:
            answer["error"] = {"code": -32602, "message": error.message}
        except agent.ScenarioFailed as failed:
            answer |= self._failure(failed)
        self._end(turn, answer)

    def _end(self, turn: AcpAgent, answer: dict[str, Any]) -> None:
        used = turn.usage
        if used.output and "result" in answer:
            total = used.input + used.output
            counts = {"inputTokens": used.input, "outputTokens": used.output, "totalTokens": total}
            answer["result"]["usage"] = counts
        if "order" in self._faults:
            self._wire.send(answer)
        turn.update("usage_update", used=100, size=1000, cost={"amount": 0.5, "currency": "USD"})
        if "order" not in self._faults:
            self._wire.send(answer)

    @staticmethod
    def _failure(failed: agent.ScenarioFailed) -> Message:
        if failed.failure == "auth":
            return {"error": {"code": _AUTH_REQUIRED, "message": "Authentication required"}}
        if failed.failure == "refused":
            return {"result": {"stopReason": "refusal"}}
        details = {"details": failed.message}
        return {"error": {"code": _INTERNAL, "message": "Internal error", "data": details}}


def main(arguments: list[str]) -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="agentcom-acp-agent")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append", default=[])
    faults = frozenset(parser.parse_args(arguments).fault)
    wire = Wire(deaf="deaf" in faults)
    threading.Thread(target=wire.read, daemon=True).start()
    server = Server(wire, faults)
    while (request := wire.requests.get()) is not None:
        server.answer(request)
    if "stays" in faults:
        time.sleep(_LIFE_S)
    sys.stdout.flush()
    os._exit(0)  # the reader may stand in its last read


if __name__ == "__main__":
    main(sys.argv[1:])
