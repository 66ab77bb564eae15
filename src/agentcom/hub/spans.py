"""A task's feed as one trace: what waited, for how long, who worked, what it spent. Pure.

Everything is known to the hub already, so neither hub nor sidecar keeps anything for it: a trace is
made when a task ends, from its records and its turns. Times are UTC milliseconds; a record ends the
span that was open before it. Names of attributes follow the conventions for generative AI.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from agentcom.model.event import BESIDE, EventKind, TaskEvent
from agentcom.model.ids import TaskId
from agentcom.model.task import Phase, TaskState
from agentcom.model.usage import Usage
from agentcom.telemetry import trace_ids

Value = str | int | float | bool

_QUIET: Final = BESIDE | {
    EventKind.CHECKPOINT,
    EventKind.STOP_ASKED,
    EventKind.EDITED,
    EventKind.ASKED,
    EventKind.ANSWERED,
    EventKind.RESUMED,
}
"""Kinds that begin nothing."""
_PHASES: Final[Mapping[Phase | None, str]] = {
    None: "setup",
    Phase.PREPARING: "setup",
    Phase.WORKING: "agent",
    Phase.VERIFYING: "verification",
    Phase.LANDING: "landing",
}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span; times in UTC milliseconds."""

    trace: str
    id: str
    parent: str | None
    name: str
    start: int
    end: int
    attributes: dict[str, Value] = {}
    failure: str | None = None
    """Set: it failed, of this class."""


def of_task(events: Sequence[TaskEvent], turns: Sequence[Usage]) -> list[Span]:
    """Return the spans of a task that has ended: those of its newest life, the root first.

    A task that was reopened had a trace for its life before.
    """
    life = _newest_life(events)
    if len(life) < 2:  # noqa: PLR2004 - a beginning and an end
        return []
    first, last = life[0], life[-1]
    trace = trace_ids.trace_id(first.cause, first.task)
    root = Span(
        trace=trace,
        id=trace_ids.span_id(first.task, f"task {first.at}"),
        parent=None,
        name="task",
        start=first.at,
        end=last.at,
        attributes=_about(last, first.cause),
        failure=_failure(last),
    )
    return [root, *_children(root, life, turns)]


def _newest_life(events: Sequence[TaskEvent]) -> Sequence[TaskEvent]:
    moves = [event for event in events if event.kind not in BESIDE]
    ends = [at for at, event in enumerate(moves) if event.state.terminal]
    if not ends:
        return ()
    begin = ends[-2] + 1 if len(ends) > 1 else 0
    return moves[begin : ends[-1] + 1]


def _children(root: Span, life: Sequence[TaskEvent], turns: Sequence[Usage]) -> Iterator[Span]:
    steps = [event for event in life if event.kind not in _QUIET or event.state.terminal]
    attempts: dict[int, list[Span]] = {}
    for place, (event, after) in enumerate(pairwise(steps)):
        if not event.state.held:
            wait = event.wait.value if event.wait is not None else "queued"
            named: dict[str, Value] = {"agentcom.wait": wait}
            yield _child(root, root.id, "wait", (event, after, place), named)
            continue
        assert event.attempt is not None
        parent = trace_ids.span_id(event.task, trace_ids.attempt(event.attempt))
        assigned = event.state is TaskState.ASSIGNED
        name = "assign" if assigned else _PHASES[event.phase]
        step = _child(root, parent, name, (event, after, place), {})
        attempts.setdefault(event.attempt, []).append(step)
    by_number = {event.attempt: event for event in steps if event.state.held}
    for number, own in attempts.items():
        ended = next((e for e in steps if e.at >= own[-1].end and not _runs(e, number)), life[-1])
        yield _attempt(root, by_number[number], own, ended)
        yield from own
        yield from _turns(root, own, [turn for turn in turns if turn.fence.attempt == number])


def _runs(event: TaskEvent, number: int) -> bool:
    return event.state.held and event.attempt == number


def _child(
    root: Span,
    parent: str,
    name: str,
    place: tuple[TaskEvent, TaskEvent, int],
    attributes: dict[str, Value],
) -> Span:
    event, after, number = place
    return Span(
        trace=root.trace,
        id=trace_ids.span_id(event.task, f"{name} {event.at} {number}"),
        parent=parent,
        name=name,
        start=event.at,
        end=max(event.at, after.at),
        attributes=attributes,
    )


def _attempt(root: Span, event: TaskEvent, own: Sequence[Span], ended: TaskEvent) -> Span:
    assert event.attempt is not None
    agent = event.agent or ""
    return Span(
        trace=root.trace,
        id=trace_ids.span_id(event.task, trace_ids.attempt(event.attempt)),
        parent=root.id,
        name=f"invoke_agent {agent}" if agent else "invoke_agent",
        start=own[0].start,
        end=own[-1].end,
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": agent,
            "agentcom.attempt": event.attempt,
            "agentcom.machine.id": event.machine or "",
        },
        failure=ended.failure.value if ended.failure is not None else None,
    )


def _turns(root: Span, own: Sequence[Span], turns: Sequence[Usage]) -> Iterator[Span]:
    """Place turns one behind the other: the hub knows how long each took, and when it heard."""
    begin = next((span.start for span in own if span.name == "agent"), own[0].start)
    latest = max(begin, own[-1].end)
    parent = own[0].parent
    for turn in turns:
        end = min(max(begin, turn.at), latest)
        start = max(begin, end - turn.wall_ms)
        begin = end
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.response.model": turn.model,
            "gen_ai.agent.name": turn.agent,
            "gen_ai.usage.input_tokens": turn.input,
            "gen_ai.usage.output_tokens": turn.output,
            "gen_ai.usage.cache_read.input_tokens": turn.cached,
            "gen_ai.usage.cache_creation.input_tokens": turn.written,
            "agentcom.runtime": turn.runtime,
        }
        if turn.cost_micros is not None:
            attributes["agentcom.cost_usd"] = turn.cost_micros / 1_000_000
        yield Span(
            trace=root.trace,
            id=trace_ids.span_id(TaskId(turn.task), f"turn {turn.fence.attempt} {turn.turn}"),
            parent=parent,
            name=f"chat {turn.model}" if turn.model else "chat",
            start=start,
            end=end,
            attributes=attributes,
        )


def _about(last: TaskEvent, cause: str) -> dict[str, Value]:
    return {
        "agentcom.task.id": last.task,
        "agentcom.task.state": last.state.value,
        "agentcom.task.attempts": last.attempt or 0,
        "agentcom.cause": cause,
    }


def _failure(last: TaskEvent) -> str | None:
    if last.state is TaskState.FAILED:
        return last.failure.value if last.failure is not None else "failed"
    return None
