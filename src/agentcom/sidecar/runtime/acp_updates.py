"""What an agent says while it works, by the Agent Client Protocol: its updates as events. Pure.

Texts come in pieces, and are told whole. While a session is loaded its history comes once more:
that is no news.
"""

from collections.abc import Iterator
from typing import Final

from agentcom.sidecar.runtime import agent_cli, base
from agentcom.sidecar.runtime.agent_cli import Json

TEXT_CHARACTERS_MAX: Final = 8_000
"""Pieces that have so much together are told at once."""
TOOLS_MAX: Final = 1_000
"""Open calls whose titles are known; an agent runs some at a time."""

_ENDED: Final = frozenset({"completed", "failed", "cancelled"})
_SILENT: Final = frozenset(
    {
        "user_message_chunk",
        "available_commands_update",
        "current_mode_update",
        "config_option_update",
        "session_info_update",
    }
)


class Updates:
    """Reads the updates of one run."""

    def __init__(self) -> None:
        self.said = ""
        """The newest message, as far as it is kept."""
        self.worked = False
        """Whether there was a word or a tool call."""
        self._begun = False
        self._text = ""
        self._message: object = None
        self._thought = ""
        self._titles: dict[str, str] = {}
        self._whole = True

    def begin(self) -> None:
        """Take what comes from now on for news."""
        self._begun = True

    def end(self) -> Iterator[base.RuntimeEvent]:
        """Tell what came in pieces; the next piece begins something new."""
        yield from self._flush()
        self._whole = True

    def title_of(self, call: Json) -> str:
        """Return what a tool call is about."""
        name = agent_cli.text(call.get("toolCallId"))
        given = agent_cli.record(call.get("rawInput"))
        told = agent_cli.text(call.get("title")) or self._titles.get(name, "")
        command = agent_cli.text(given.get("command"))
        if command and command not in told:
            return f"{told}: {command}" if told else command
        return told or agent_cli.text(call.get("kind")) or "a tool"

    def take(self, update: Json) -> Iterator[base.RuntimeEvent]:
        """Return the events of one update."""
        if not self._begun:
            return
        match update.get("sessionUpdate"):
            case "agent_message_chunk":
                yield from _spent(agent_cli.record(update.get("_meta")))
                yield from self._piece(update, thought=False)
            case "agent_thought_chunk":
                yield from self._piece(update, thought=True)
            case "tool_call" | "tool_call_update":
                yield from self.end()
                yield from self._tool(update)
            case "plan":
                entries = agent_cli.records(update.get("entries"))
                yield base.Plan(
                    [
                        base.PlanEntry(
                            agent_cli.text(one.get("content")),
                            agent_cli.text(one.get("status")) or "pending",
                        )
                        for one in entries
                    ]
                )
            case "usage_update":
                yield from _cost(agent_cli.record(update.get("cost")))
            case str(kind) if kind in _SILENT:
                return
            case kind:
                yield base.Raw(f"update {kind}"[: agent_cli.RAW_CHARACTERS_MAX])

    def _piece(self, update: Json, *, thought: bool) -> Iterator[base.RuntimeEvent]:
        said = agent_cli.text(agent_cli.record(update.get("content")).get("text"))
        new = (thought, update.get("messageId"))
        if new != self._message:
            yield from self.end()
        if len(self._text) + len(self._thought) > TEXT_CHARACTERS_MAX:
            yield from self._flush()
        self._message = new
        if not said:
            return
        self.worked = True
        if thought:
            self._thought += said
        else:
            self.said = said if self._whole else self.said + said
            self.said = self.said[: agent_cli.MESSAGE_CHARACTERS_MAX]
            self._whole = False
            self._text += said
        yield base.Streamed()

    def _flush(self) -> Iterator[base.RuntimeEvent]:
        if self._thought:
            yield base.Thought(self._thought)
        if self._text:
            yield base.Text(self._text)
        self._text = self._thought = ""

    def _tool(self, update: Json) -> Iterator[base.RuntimeEvent]:
        call = agent_cli.text(update.get("toolCallId"))
        ended = update.get("status") in _ENDED
        self.worked = True
        if call not in self._titles:
            title = self.title_of(update)
            if len(self._titles) < TOOLS_MAX:
                self._titles[call] = title
            yield base.ToolStarted(call, title)
        elif not ended:
            yield base.Streamed()
        for part in agent_cli.records(update.get("content")):
            if part.get("type") == "diff" and ended:
                yield base.Diff(agent_cli.text(part.get("path")))
        if ended:
            self._titles.pop(call, None)
            yield base.ToolEnded(call, update.get("status") == "completed")


def usage_of(result: Json) -> base.Usage | None:
    """Return what a turn spent, by the answer to its prompt; None if it does not say."""
    usage = agent_cli.record(result.get("usage"))
    if not usage:
        return _usage_of_meta(agent_cli.record(result.get("_meta")))
    return _usage(usage)


def _spent(meta: Json) -> Iterator[base.RuntimeEvent]:
    """Yield what an empty piece of a message says that its request has cost."""
    usage = agent_cli.record(meta.get("usage"))
    if usage:
        yield _usage(usage)


def _usage(usage: Json) -> base.Usage:
    given, output = (agent_cli.count(usage.get(name)) for name in ("inputTokens", "outputTokens"))
    cached = agent_cli.count(usage.get("cachedReadTokens"))
    written = agent_cli.count(usage.get("cachedWriteTokens"))
    thought = agent_cli.count(usage.get("thoughtTokens"))
    total = agent_cli.count(usage.get("totalTokens"))
    # Some count what a cache gave as input, some beside it: the total tells.
    whole = max(given, total - output - thought, cached + written)
    return base.Usage(input=whole, cached=cached, output=output, written=written)


def _usage_of_meta(meta: Json) -> base.Usage | None:
    counted = agent_cli.record(agent_cli.record(meta.get("quota")).get("token_count"))
    if not counted:
        return None
    return base.Usage(
        input=agent_cli.count(counted.get("input_tokens")),
        output=agent_cli.count(counted.get("output_tokens")),
    )


def _cost(cost: Json) -> Iterator[base.RuntimeEvent]:
    amount = cost.get("amount")
    if isinstance(amount, int | float) and not isinstance(amount, bool) and amount > 0:
        yield base.Cost(float(amount), agent_cli.text(cost.get("currency")) or "USD")
    else:
        yield base.Streamed()
