"""What talkers have in common in every dialect: words, questions, and what is proved. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.evidence import Evidence
from agentcom.sidecar.runtime.permission import Policy

PERMISSIONS_MAX: Final = 256
"""Open at once; more are denied."""

_NO_METHOD: Final = -32601


class Conversation(ABC):
    """One run of an agent that is talked to. A dialect says how to read a record and to answer."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._policy = Policy.ASK
        self._out: list[base.Say] = []
        self._open: dict[str, tuple[object, Json]] = {}
        """Questions for permission that nobody has answered: their number, and what they ask."""

    @abstractmethod
    def _read(self, record: Json) -> Iterable[base.RuntimeEvent] | None:
        """Return the events of a record; None if nothing is known of it."""

    @abstractmethod
    def _answer(self, request: str, number: object, given: Json, *, allow: bool) -> base.Say:
        """Return the answer to a question for permission."""

    def drain(self) -> Sequence[base.Say]:
        """Return what is to be said now."""
        said, self._out = self._out, []
        return said

    def asked(self, number: int) -> None:  # noqa: ARG002 - the contract
        """Take note that a turn has begun."""
        self._evidence.begin()

    def permit(self, request: str, *, allow: bool) -> base.Say | None:
        """Return the answer to a question for permission."""
        asked = self._open.pop(request, None)
        return None if asked is None else self._answer(request, *asked, allow=allow)

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        """Return the events of one line; never raises, whatever the bytes."""
        record = agent_cli.decode(line)
        read = self._read(record) if record is not None else None
        if read is None:
            said = agent_cli.raw_text(line)
            read = [base.Raw(said)] if said else []
        return self._evidence.noted(read, log=record is None)

    def finish(self, ended: base.Exit) -> base.Verdict:
        """Judge the whole run."""
        return self._evidence.verdict(ended)

    def _ask(
        self, request: str, title: str, number: object, given: Json, *, own: bool = False
    ) -> Iterator[base.RuntimeEvent]:
        """Have a question for permission answered, at once or by a person; `own` may all."""
        if self._policy is Policy.ASK and not own and len(self._open) < PERMISSIONS_MAX:
            self._open[request] = (number, given)
            yield base.PermissionAsked(request, title, open=True)
            return
        allow = own or self._policy is Policy.ALLOW
        yield base.PermissionAsked(request, title)
        yield base.PermissionAnswered(request, allow)
        self._out.append(self._answer(request, number, given, allow=allow))


class JsonRpc(Conversation):
    """A conversation by requests, answers and notices, one a line."""

    header: ClassVar[Mapping[str, Any]] = {}
    """What every message says of itself."""
    approvals: ClassVar[frozenset[str]] = frozenset()
    """The agent's requests that are questions for permission; no other is answered."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__(evidence)
        self._session: str | None = None
        self._requests = 0

    @abstractmethod
    def _answered(self, record: Json) -> Iterable[base.RuntimeEvent]:
        """Return the events of an answer."""

    @abstractmethod
    def _told(self, method: str, given: Json) -> Iterable[base.RuntimeEvent]:
        """Return the events of a notice."""

    @abstractmethod
    def _wants(self, given: Json) -> str:
        """Return what a question for permission is about."""

    def _read(self, record: Json) -> Iterable[base.RuntimeEvent] | None:
        if "method" not in record:
            return self._answered(record) if "id" in record else None
        method, given = record.get("method"), agent_cli.record(record.get("params"))
        if "id" in record:
            return self._asked_by_agent(agent_cli.text(method), record.get("id"), given)
        return self._told(agent_cli.text(method), given)

    def _asked_by_agent(
        self, method: str, number: object, given: Json
    ) -> Iterator[base.RuntimeEvent]:
        self._requests += 1
        request = f"asked-{self._requests}"
        if method in self.approvals:
            yield from self._ask(request, self._wants(given), number, given)
            return
        error = {"code": _NO_METHOD, "message": "this client does not do that"}
        self._out.append(self._say(request, {"id": number, "error": error}))

    def _request(self, number: int, method: str, parameters: Json) -> None:
        body = {"id": number, "method": method, "params": parameters}
        self._out.append(self._say(f"request-{number}", body))

    def _say(self, key: str, body: Json) -> base.Say:
        return say(key, {**self.header, **body})


def say(key: str, body: Json) -> base.Say:
    """Return a record as a line."""
    return base.Say(key, msgspec.json.encode(body) + b"\n")
