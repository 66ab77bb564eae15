"""What the events of one run prove: the same rules for every driver, whatever its program prints.

The last word counts: a turn that ended well undoes the errors before it, since programs try again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import agent_cli, base, quota
from agentcom.sidecar.runtime.agent_cli import Json

TAIL_LINES: Final = 5
"""Log lines that are kept to explain a crash."""

Read = Callable[[Json], Iterable[base.RuntimeEvent]]
ReadLine = Callable[[str], Iterable[base.RuntimeEvent]]


class Evidence:
    """Collects the events of one run and judges it; an exit code alone is never a verdict."""

    def __init__(
        self,
        program: str,
        *,
        counts_tokens: bool = True,
        speaks: bool = True,
        fails_by_code: bool = False,
        turns: bool = False,
        totals: bool = False,
    ) -> None:
        """`counts_tokens`: the program says what it spent; nothing spent is nothing done.

        `speaks`: without a word and without a tool call nothing was done, either. `fails_by_code`:
        a code that is not 0 is a failure, whatever was printed. `turns`: a run has several, and
        what each ended with counts. `totals`: it says what it spent so far.
        """
        self.session: str | None = None
        self.usage = base.Usage()
        self.completed = False
        self._program = program
        self._counts_tokens = counts_tokens
        self._speaks = speaks
        self._fails_by_code = fails_by_code
        self._turns = turns
        self._totals = totals
        self._said = [""]
        self._failed: base.Failed | None = None
        self._trouble = ""
        self._worked = False
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def begin(self) -> None:
        """Take note that a turn has begun: the run is not over without its end."""
        self._failed, self.completed = None, False

    def note(self, event: base.RuntimeEvent) -> None:
        """Take one event."""
        match event:
            case base.SessionStarted(session):
                self.session = session
            case base.Text(said):
                self._said[-1], self._worked = said[: agent_cli.MESSAGE_CHARACTERS_MAX], True
            case base.ToolEnded():
                self._worked = True
            case base.Usage():
                self.usage = event if self._totals else added(self.usage, event)
            case base.Failed():
                self._failed, self.completed = event, False
            case base.TurnEnded(base.Stop.END_TURN):
                self._failed, self.completed, self._trouble = None, True, ""
                self._said += [""] if self._turns else []
            case base.Warned(said) | base.Retrying(said):
                self._trouble = said
            case base.Raw(line) if line:
                self._tail.append(line)
            case _:
                pass

    def noted(
        self, events: Iterable[base.RuntimeEvent], *, log: bool
    ) -> Sequence[base.RuntimeEvent]:
        """Take the events of one line and return them; a `log` line may explain a crash."""
        found = list(events)
        for event in found:
            if log or not isinstance(event, base.Raw):
                self.note(event)
        return found

    def verdict(self, ended: base.Exit) -> base.Verdict:
        """Return what all that was noted proves."""
        failure, message = self._judge(ended)
        stated = self._failed.resets_at_ms if self._failed is not None else None
        return base.Verdict(
            failure=failure,
            message=message,
            summary=agent_cli.together(self._said),
            session=self.session,
            usage=self.usage,
            resets_at_ms=stated or quota.epoch_ms(message),
        )

    def _judge(self, ended: base.Exit) -> tuple[FailureClass | None, str]:
        if self._failed is not None:
            return self._failed.failure, self._failed.message
        broken = self._fails_by_code and ended.code != 0 and ended.stop is None
        if not self.completed or broken:
            if self._trouble and ended.stop is None and ended.signal is None:
                return agent_cli.classify(self._trouble), self._trouble
            return agent_cli.ended_without_record(ended, list(self._tail))
        if self._counts_tokens and self.usage.output == 0:
            return FailureClass.AGENT, f"{self._program} reports success without one token"
        if self._speaks and not self._worked:
            return FailureClass.AGENT, f"{self._program} ended without a word or a tool call"
        return None, ""


class LineParser:
    """Reads the lines of one run: JSON records by `read`, all others by `read_line`."""

    def __init__(
        self, evidence: Evidence, read: Read, read_line: ReadLine = lambda _line: ()
    ) -> None:
        self._evidence = evidence
        self._read = read
        self._read_line = read_line

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        """Return the events of one line; never raises, whatever the bytes."""
        record = agent_cli.decode(line)
        said = agent_cli.raw_text(line)
        events = list(self._read(record) if record is not None else self._read_line(said))
        if not events and said:
            events = [base.Raw(said)]
        return self._evidence.noted(events, log=record is None)

    def finish(self, ended: base.Exit) -> base.Verdict:
        """Judge the whole run."""
        return self._evidence.verdict(ended)


def added(known: base.Usage, more: base.Usage) -> base.Usage:
    """Return the sum of two usages."""
    return base.Usage(
        input=known.input + more.input,
        cached=known.cached + more.cached,
        output=known.output + more.output,
        written=known.written + more.written,
        model=more.model or known.model,
    )


def failed(message: str, status: int | None = None) -> base.Failed:
    """Return the error that `message` words."""
    failure = agent_cli.classify(message, status)
    return base.Failed(failure, message, quota.epoch_ms(message))


def replaced(usage: base.Usage, model: str) -> base.Usage:
    """Return `usage` as spent by `model`."""
    return msgspec.structs.replace(usage, model=model)
