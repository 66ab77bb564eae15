"""Generated blocks about commands, errors, limits, roles, states, settings, events and metrics."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import click
import msgspec

from agentcom.cli import errors as exits
from agentcom.cli.config import explained
from agentcom.cli.explaining import field_docs
from agentcom.cli.output import JsonCommand
from agentcom.cli.root import COMMANDS, root
from agentcom.core import controls, leases, tasks
from agentcom.model import limits as bounds
from agentcom.model.errors import AgentComError
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.identity import Role
from agentcom.model.policy import AUDITED, TABLE, Action, Reach
from agentcom.model.task import TaskState
from agentcom.sidecar.config import AgentConfig, MachineConfig
from agentcom.sidecar.confines import Confines
from agentcom.telemetry import events, metrics
from agentcom.transport import socket
from docs.tools import source, words

_ROLES: Final = (Role.VIEWER, Role.SUBMITTER, Role.OPERATOR, Role.ADMIN, Role.AGENT)
_EVENTS: Final = "telemetry/events.py"
_METRICS: Final = "telemetry/metrics.py"
_SHOWN: Final = frozenset(
    {
        metrics.TASKS,
        metrics.AGENTS,
        metrics.CONNECTIONS,
        metrics.BUILD_INFO,
        metrics.STARTED_SECONDS,
    }
)
_REACHES: Final = {Reach.NONE: "", Reach.OWN: "own", Reach.ANY: "yes"}


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def code(value: object) -> str:
    """Return `value` as code, or nothing."""
    return f"`{value}`" if value not in (None, "") else ""


# Commands -----------------------------------------------------------------------------------------


def commands() -> str:
    """Return every command with its arguments and options."""
    parts: list[str] = []
    for name, (place, _) in COMMANDS.items():
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        parts += _command(command, f"agentcom {name}", click.Context(root, info_name="agentcom"))
    return "\n\n".join(parts)


def command_names() -> list[str]:
    """Return every command as people type it."""
    return [line.strip("# ").strip("`") for line in commands().splitlines() if _is_head(line)]


def _is_head(line: str) -> bool:
    return line.startswith(("## `", "### `"))


def _command(command: click.Command, path: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=path.rsplit(" ", 1)[-1], parent=parent)
    level = "##" if path.count(" ") == 1 else "###"
    yield f"{level} `{path}`"
    yield from _help(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, f"{path} {name}", context)
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{path} {usage}\n```"
    rows = [_option(one, context) for one in command.params if isinstance(one, click.Option)]
    shown = [row for row in rows if row is not None]
    if shown:
        yield table(["option", "meaning"], shown)
    if isinstance(command, JsonCommand):
        yield "Fields of `--json`: " + ", ".join(map(code, command.fields)) + "."


def _help(command: click.Command) -> Iterator[str]:
    for paragraph in f"{command.help or ''}\n\n{command.epilog or ''}".split("\n\n"):
        if "\b" in paragraph:
            examples = [line.strip() for line in paragraph.replace("\b", "").splitlines()]
            lines = [line for line in examples if line and not line.startswith("Example")]
            yield "```sh\n" + "\n".join(lines) + "\n```"
        elif paragraph.strip():
            yield " ".join(paragraph.split())


def _option(option: click.Option, context: click.Context) -> tuple[str, str] | None:
    record = option.get_help_record(context)
    if record is None:
        return None
    return code(record[0].replace("|", " \\| ")), record[1].replace("|", "\\|")


def exit_codes() -> str:
    """Return what each exit code says."""
    rows = [(int(one), one.name.lower(), words.EXITS[one.name]) for one in exits.Exit]
    return table(["code", "name", "meaning"], rows)


# Errors -------------------------------------------------------------------------------------------


def errors() -> str:
    """Return every error code, once."""
    known: dict[str, tuple[object, ...]] = {}
    for kind in source.subclasses(AgentComError):
        refusal: Any = kind
        if refusal.code in known or refusal.code == AgentComError.code:
            continue
        what = source.first_line(kind)
        advice = words.ADVICE.get(refusal.code, "")
        retry = "yes" if refusal.retryable else ""
        known[refusal.code] = (code(refusal.code), refusal.status, retry, what, advice)
    rows = [known[name] for name in sorted(known)]
    return table(["code", "HTTP", "try again", "what happened", "what to do"], rows)


def error_codes() -> set[str]:
    """Return every stable code but the root's."""
    kinds: list[Any] = list(source.subclasses(AgentComError))
    return {kind.code for kind in kinds} - {AgentComError.code}


def close_codes() -> str:
    """Return the WebSocket close codes that the hub uses."""
    found: dict[int, dict[str, None]] = {}
    for module in (socket, controls, leases):
        for name, value in vars(module).items():
            if name.startswith("CLOSE_") and value in words.CLOSES:
                said = name.removeprefix("CLOSE_").lower().replace("_", " ")
                found.setdefault(value, {})[said] = None
    rows = [(number, ", ".join(found[number]), words.CLOSES[number]) for number in sorted(found)]
    return table(["close code", "name", "what to do"], rows)


# Limits, roles, states ----------------------------------------------------------------------------


def limits() -> str:
    """Return every bound, by section."""
    parts, section = [], None
    rows: list[tuple[object, ...]] = []
    for one in source.constants(bounds):
        if one.section != section and rows:
            parts.append(f"**{section}**\n\n{table(['name', 'value', 'reason'], rows)}")
            rows = []
        section = one.section
        rows.append((code(one.name), _number(one.value), one.why))
    parts.append(f"**{section}**\n\n{table(['name', 'value', 'reason'], rows)}")
    return "\n\n".join(parts)


def roles() -> str:
    """Return who may do what."""
    rows = [
        (
            code(action.value),
            *(_REACHES[TABLE[role].get(action, Reach.NONE)] for role in _ROLES),
            "yes" if action in AUDITED else "",
        )
        for action in Action
    ]
    return table(["action", *(role.value for role in _ROLES), "audited"], rows)


def failure_classes() -> str:
    """Return why attempts fail, and whether another one can help."""
    rows = [
        (code(one.value), "no" if one.final else "yes", words.FAILURES[one.value])
        for one in FailureClass
    ]
    return table(["class", "tried again", "meaning"], rows)


def transitions() -> str:
    """Return the transition table of a task."""
    rows = [
        (f"**{event.__name__}**", source.first_line(event), *_moves(moves))
        for event, moves in tasks.TRANSITIONS.items()
    ]
    return table(["event", "meaning", *(state.value for state in TaskState)], rows)


def transitions_diagram() -> str:
    """Return the same as a diagram, one arrow for each pair of states."""
    arrows: dict[tuple[TaskState, TaskState], list[str]] = {}
    for event, moves in tasks.TRANSITIONS.items():
        for before, afters in moves.items():
            for after in afters:
                arrows.setdefault((before, after), []).append(event.__name__)
    lines = ["stateDiagram-v2", "    direction LR"]
    lines += ["    [*] --> waiting: submit", "    [*] --> queued: submit"]
    lines += [
        f"    {before.value} --> {after.value}: {', '.join(names)}"
        for (before, after), names in arrows.items()
        if before is not after
    ]
    lines.append("    completed --> [*]")
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def _moves(moves: Any) -> list[str]:
    return [", ".join(after.value for after in moves.get(state, ())) for state in TaskState]


# Settings -----------------------------------------------------------------------------------------


def hub_settings() -> str:
    """Return every setting of a hub."""
    return _program_settings("hub.")


def sidecar_settings() -> str:
    """Return every setting of a sidecar."""
    return _program_settings("sidecar.")


def _program_settings(prefix: str) -> str:
    rows = [
        (
            code(row["setting"].removeprefix(prefix)),
            code(row["default"]),
            ", ".join(filter(None, (row["type"], row["bounds"]))),
            f"*Hot.* {row['meaning']}" if row["hot"] else row["meaning"],
        )
        for row in explained()
        if row["setting"].startswith(prefix)
    ]
    return table(["setting", "default", "value", "meaning"], rows)


def machine_settings() -> str:
    """Return every field of `machine.json` but its `settings`."""
    parts = []
    for title, kind in (
        ("The machine", MachineConfig),
        ("Each entry of `agents`", AgentConfig),
        ("`confines` of an agent", Confines),
    ):
        rows = list(_fields(kind))
        parts.append(f"**{title}**\n\n{table(['field', 'default', 'meaning'], rows)}")
    return "\n\n".join(parts)


def setting_names() -> set[str]:
    """Return the names of all settings."""
    kinds: tuple[Any, ...] = (MachineConfig, AgentConfig, Confines)
    fields = {field.name for kind in kinds for field in msgspec.structs.fields(kind)}
    return fields | {row["setting"].partition(".")[2] for row in explained()}


def unexplained_settings() -> list[str]:
    """Return the settings without a word about what they are for."""
    return [row["setting"] for row in explained() if not row["meaning"]]


def _fields(kind: Any) -> Iterator[Sequence[str]]:
    docs = field_docs(kind)
    for field in msgspec.structs.fields(kind):
        said = docs.get(field.name) or words.SETTINGS.get(f"{kind.__name__}.{field.name}", "")
        yield code(field.name), _default(field), said


def _default(field: Any) -> str:
    if field.required:
        return ""
    if field.default is msgspec.NODEFAULT:
        return "none" if field.default_factory in (dict, tuple, list) else "see below"
    value = field.default
    if value in (None, (), ""):
        return "none"
    if isinstance(value, msgspec.Struct):
        return "see below"
    return code(str(value).lower() if isinstance(value, bool) else value)


# What is told -------------------------------------------------------------------------------------


def log_events() -> str:
    """Return the names of log records; those that nothing writes yet are marked."""
    fixed, feed = _constant_events(), [f"task.{kind.value}" for kind in EventKind]
    rows = [
        (code(name), "hub", _words(name, reserved=not source.is_used(place, outside=_EVENTS)))
        for name, place in fixed.items()
        if name not in feed
    ]
    rows += [(code(name), "hub", _words(name)) for name in feed]
    known = fixed.keys() | set(feed)
    rows += [(code(name), part, _words(name)) for part, name in _written() if name not in known]
    return table(["event", "part", "meaning"], rows)


def event_names() -> list[str]:
    """Return the names of all log records."""
    feed = [f"task.{kind.value}" for kind in EventKind]
    return sorted({*_constant_events(), *feed, *(name for _, name in _written())})


def metric_names() -> list[str]:
    """Return the names of all metrics."""
    found = [one.value for one in source.constants(metrics) if isinstance(one.value, str)]
    return [name for name in found if name.startswith("agentcom_")]


def metrics_table() -> str:
    """Return every metric with its meaning; those that nothing measures yet are marked."""
    own = metrics.Metrics()
    families = {family.name: family for family in own.registry.collect()}
    measured = {vars(one).get("_name"): name for name, one in vars(own).items()}
    rows = []
    for constant in source.constants(metrics):
        name = str(constant.value)
        if not name.startswith("agentcom_"):
            continue
        family = families.get(name)
        kind = family.type if family is not None else "gauge"
        place = (
            rf"\.{measured[name]}\.(labels|inc|observe)"
            if name in measured
            else rf"[. (]{constant.name}\b"
        )
        said = words.METRICS.get(name) or (family.documentation if family else "")
        used = source.is_used(place, outside="" if family else _METRICS) or name in _SHOWN
        shown = f"{name}_total" if kind == "counter" else name
        rows.append((code(shown), kind, said if used else f"{said} (reserved)"))
    return table(["metric", "kind", "meaning"], rows)


def _constant_events() -> dict[str, str]:
    found = [one for one in source.constants(events) if isinstance(one.value, str)]
    return {str(one.value): rf"events\.{one.name}\b" for one in found}


def _written() -> list[tuple[str, str]]:
    return sorted(source.logged_names(), key=lambda row: (row[0], row[1]))


def _words(name: str, *, reserved: bool = False) -> str:
    said = words.EVENTS.get(name, "")
    return f"{said} (reserved)" if reserved else said


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(value: object) -> str:
    return " ".join(str(value).split())
