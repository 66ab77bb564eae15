"""How an abstract step becomes a call of whatever tool the client offers, by the tool's schema."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from agentcom.testing.mock_llm.conversation import Call, Json, Tool
from agentcom.testing.scenario import Use, Write

SHELLS: Final = (
    "exec_command",
    "bash",
    "shell_command",
    "run_shell_command",
    "local_shell",
    "shell",
    "terminal",
    "execute_bash",
    "run_command",
    "run_terminal_cmd",
    "exec",
)
"""Names of shell tools in the order of preference, in lower case."""

WRITERS: Final = (
    "apply_patch",
    "write",
    "write_file",
    "create_file",
    "file_editor",
    "str_replace_editor",
    "str_replace_based_edit_tool",
)

_BY_FULL_PATH: Final = frozenset({"write_file", "file_editor"})
"""Those of them that refuse another path, if they say so."""

COMMAND_KEYS: Final = ("command", "cmd", "script", "commandLine", "code", "action")
PATH_KEYS: Final = ("file_path", "filePath", "path", "filename", "target_file")
TEXT_KEYS: Final = ("content", "contents", "file_text", "text")

HUB: Final = "hub"
"""What the drivers call the hub's server."""
SEARCH: Final = "tool_search"
_THROUGH: Final = "tool_call"

PATIENCE: Final[Mapping[str, int]] = {
    "yield_time_ms": 30_000,
    "timeout": 600_000,
    "timeout_ms": 600_000,
}
"""Optional properties that let a long command run to its end instead of into the background."""


def shell(tools: Sequence[Tool], command: str) -> Call | None:
    """Return the call that runs `command`, or None if no tool can."""
    tool = _named(tools, SHELLS)
    if tool is None:
        return None
    if tool.kind == "local_shell":
        return Call(tool, {"command": ["bash", "-lc", command]})
    properties = _properties(tool)
    key = _first(COMMAND_KEYS, properties)
    if key is None:
        return None
    value: Any = command
    if _type(properties[key]) == "array":
        value = ["bash", "-lc", command]
    patience = {name: value for name, value in PATIENCE.items() if name in properties}
    return Call(tool, _filled(tool, {**patience, key: value}))


def write(tools: Sequence[Tool], step: Write) -> Call | None:
    """Return the call that writes the file, or None if no tool can."""
    for build in (_patch, _write, _write_by_shell):
        call = build(tools, step)
        if call is not None:
            return call
    return None


def of_server(tools: Sequence[Tool], step: Use, *, searched: bool = False) -> Call | None:
    """Return the call of an MCP server's tool, whatever the client prefixes to its name.

    Some clients offer such tools after a search only, or through a tool that calls them;
    `searched` says that the search was made.
    """
    ends = (f"_{step.tool}", f".{step.tool}")
    found = [tool for tool in tools if tool.name == step.tool or tool.name.endswith(ends)]
    if found:
        return Call(found[0], _filled(found[0], step.arguments))
    by_program = _named(tools, ("run_typescript",))
    if by_program is not None:
        return _by_program(by_program, step)
    through, search = _named(tools, (_THROUGH,)), _named(tools, (SEARCH,))
    if search is not None and not searched:
        name = f"select:mcp__{HUB}__{step.tool}" if through is None else step.tool
        return Call(search, _filled(search, {"query": name}))
    if through is None:
        return None
    return Call(through, _filled(through, {"id": f"{HUB}__{step.tool}", "args": step.arguments}))


def _by_program(tool: Tool, step: Use) -> Call | None:
    key = _first(COMMAND_KEYS, _properties(tool))
    if key is None:
        return None
    arguments = msgspec.json.encode(step.arguments).decode()
    call = f"return await tools.mcp_{HUB}.{step.tool}({arguments});"
    code = f"async function main() {{ {call} }}"
    return Call(tool, _filled(tool, {key: code}))


def wait(tools: Sequence[Tool], session: int) -> Call | None:
    """Return the call that waits for a command that still runs in the background."""
    tool = _named(tools, ("write_stdin",))
    if tool is None:
        return None
    return Call(tool, _filled(tool, {"session_id": session, "chars": "", "yield_time_ms": 30_000}))


def join(argv: Iterable[str]) -> str:
    """Return the command line that a shell reads back as `argv`."""
    return shlex.join(argv)


def _patch(tools: Sequence[Tool], step: Write) -> Call | None:
    tool = _named(tools, ("apply_patch",))
    # A patch ends each line; a text without a final line break needs another way.
    if tool is None or not step.text.endswith("\n"):
        return None
    added = "".join(f"+{line}\n" for line in step.text[:-1].split("\n"))
    patch = f"*** Begin Patch\n*** Add File: {step.path}\n{added}*** End Patch\n"
    if tool.kind == "custom":
        return Call(tool, {}, patch)
    key = _first(("input", "patch", "patchText"), _properties(tool))
    return None if key is None else Call(tool, _filled(tool, {key: patch}))


def _write(tools: Sequence[Tool], step: Write) -> Call | None:
    tool = _named([tool for tool in tools if tool.name != "apply_patch"], WRITERS)
    if tool is None:
        return None
    properties = _properties(tool)
    path, text = _first(PATH_KEYS, properties), _first(TEXT_KEYS, properties)
    if path is None or text is None:
        return None
    described = str(properties[path].get("description", "")).casefold()
    if tool.name in _BY_FULL_PATH and "absolute" in described:
        return None  # a script knows no place but the worktree
    given = {path: step.path, text: step.text}
    if "create" in properties.get("command", {}).get("enum", ()):
        given["command"] = "create"
    return Call(tool, _filled(tool, given))


def _write_by_shell(tools: Sequence[Tool], step: Write) -> Call | None:
    path = shlex.quote(step.path)
    return shell(
        tools, f'mkdir -p -- "$(dirname {path})" && printf %s {shlex.quote(step.text)} > {path}'
    )


def _named(tools: Sequence[Tool], names: Iterable[str]) -> Tool | None:
    offered = {tool.name.casefold(): tool for tool in tools}
    return next((offered[name] for name in names if name in offered), None)


def _properties(tool: Tool) -> dict[str, Json]:
    properties = tool.schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {key: value for key, value in properties.items() if isinstance(value, Mapping)}


def _first(names: Iterable[str], properties: Mapping[str, Json]) -> str | None:
    return next((name for name in names if name in properties), None)


def _filled(tool: Tool, given: Json) -> Json:
    """Add a value for each required property that the step does not name."""
    properties = _properties(tool)
    missing = [key for key in tool.schema.get("required", ()) if key not in given]
    return {**{key: _example(properties.get(key, {})) for key in missing}, **given}


def _example(schema: Json) -> object:
    options = schema.get("enum")
    if isinstance(options, Sequence) and options:
        return options[0]
    examples: Mapping[str, Callable[[], object]] = {
        "boolean": lambda: False,
        "integer": lambda: schema.get("minimum", 0),
        "number": lambda: schema.get("minimum", 0),
        "array": list,
        "object": dict,
    }
    return examples.get(_type(schema), lambda: "as the script says")()


def _type(schema: Json) -> str:
    kind = schema.get("type", "")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = next((one for one in kind if one != "null"), "")
    return str(kind).lower()
