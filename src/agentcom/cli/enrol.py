"""Making this computer a machine of a fleet: its agents, its identity, and what is ready here."""

import importlib.metadata
import os
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from agentcom.cli.errors import CommandFailed, Exit
from agentcom.model.ids import AccountId, AgentId, MachineId, check_name
from agentcom.model.limits import SLOTS_MAX
from agentcom.model.numerals import whole
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig
from agentcom.sidecar.confines import Confines
from agentcom.sidecar.runtime import base, permission

GROUP: Final = "agentcom.runtimes"
NO_CLI: Final = frozenset({"acp", "command", "testagent"})
"""Runtimes that are always there, and so say nothing about what is installed."""
_ANY_KEY: Final = (
    *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
)
"""Of programs that know many providers."""
_KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "claude": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        "codex": ("OPENAI_API_KEY", "CODEX_API_KEY"),
        "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "openhands": ("LLM_API_KEY", "LLM_MODEL", "LLM_BASE_URL"),
        "qwen": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "DASHSCOPE_API_KEY"),
        "vibe": ("MISTRAL_API_KEY",),
        **dict.fromkeys(("aider", "mini", "openclaw", "opencode", "pi"), _ANY_KEY),
    }
)
_NAME_CHARS: Final = 40
_SETTINGS: Final = (
    *(
        "slots",
        "capabilities",
        "accepts",
        "binary",
        "model",
        "small_model",
        "provider",
        "edit_format",
        "base_url",
        "api_key_env",
        "home",
        "account",
        "command",
        "permissions",
        "mode",
        "auth_method",
    ),
    *Confines.__struct_fields__,
)


def runtimes() -> dict[str, base.Runtime]:
    """Return every runtime that is installed, by name."""
    found = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry.load()() for entry in found}


def preflight() -> list[base.Preflight]:
    """Return what each agent CLI that we can drive needs to work here."""
    settings = {"home": str(Path.home())}
    found = runtimes().items()
    return [runtime.preflight(settings) for name, runtime in found if name not in NO_CLI]


def agents_here(checks: Sequence[base.Preflight], machine: str) -> tuple[AgentConfig, ...]:
    """Return an agent for each CLI that is ready."""
    return tuple(
        AgentConfig(
            name=AgentId(f"{machine}-{check.runtime}"),
            runtime=check.runtime,
            capabilities=(check.runtime, *check.capabilities),
            version=check.version,
            settings={"home": str(Path.home())},
            environment=tuple(key for key in _KEYS.get(check.runtime, ()) if key in os.environ),
        )
        for check in checks
        if check.ready
    )


def parse_agent(text: str) -> AgentConfig:
    """Return the agent that `name=runtime[:key=value,...]` describes.

    Keys are the runtime's settings; `capabilities=a+b` gives what it offers, `accepts=kind=review`
    what tasks it takes, `slots=2` the slots.

    Raises:
        CommandFailed: it is not of that form, or the runtime or a setting is unknown.
        InvalidInput: the hub would not take the name, or there is no such policy of permissions.
    """
    name, _, rest = text.partition("=")
    runtime, _, given = rest.partition(":")
    known = {entry.name for entry in importlib.metadata.entry_points(group=GROUP)}
    pairs = [pair.partition("=") for pair in given.split(",") if pair]
    if not name or runtime not in known or not all(key and value for key, _, value in pairs):
        runtimes_known = ", ".join(sorted(known))
        raise _usage(
            f"{text!r} describes no agent",
            f"--agent NAME=RUNTIME[:key=value,...], of {runtimes_known}",
        )
    strange = next((key for key, _, _ in pairs if key not in _SETTINGS), None)
    if strange is not None:
        raise _usage(f"an agent has no setting {strange}", f"one of {', '.join(_SETTINGS)}")
    settings = {key: value for key, _, value in pairs}
    capabilities = tuple(filter(None, settings.pop("capabilities", "").split("+")))
    accepts = tuple(filter(None, settings.pop("accepts", "").split("+")))
    account = settings.pop("account", None)
    slots = whole(settings.pop("slots", "1"), SLOTS_MAX)
    if not slots:
        raise _usage(f"slots is a number from 1 to {SLOTS_MAX}", "--agent ...:slots=2")
    permission.policy_of(settings)
    confines = _confines(settings)
    own = runtimes()[runtime].preflight(settings)
    return AgentConfig(
        name=AgentId(check_name(name)),
        runtime=runtime,
        capabilities=capabilities or (runtime, *own.capabilities),
        version=own.version,
        slots=slots,
        accepts=accepts,
        settings={"home": str(Path.home()), **settings},
        environment=tuple(key for key in _KEYS.get(runtime, ()) if key in os.environ),
        account=AccountId(account) if account is not None else None,
        confines=confines,
    )


def _confines(settings: dict[str, str]) -> Confines:
    """Take what confines an agent out of its settings.

    Raises:
        CommandFailed: a value is none.
    """
    given: dict[str, object] = {}
    for name in Confines.__struct_fields__:
        value = settings.pop(name, None)
        if value is not None:
            given[name] = value.split("+") if name in {"readable", "writable"} else value
    try:
        return msgspec.convert(given, Confines, strict=False)
    except msgspec.ValidationError as error:
        raise _usage(f"an agent's setting: {error}", "--agent ...:sandbox=required") from error


def machine_name() -> str:
    """Return a name for this computer that a hub accepts."""
    host = socket.gethostname().split(".")[0].lower()
    plain = re.sub(r"[^a-z0-9]+", "-", host).strip("-")[:_NAME_CHARS].strip("-")
    return plain or "machine"


def address() -> str:
    """Return the address by which others most likely reach this computer; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def store_machine(
    home: Path,
    admitted: Mapping[str, Any],
    *,
    url: str,
    fingerprint: str | None,
    agents: Sequence[AgentConfig],
    via: str = "",
) -> None:
    """Write the machine's identity; its token is readable for this person alone."""
    machine = MachineConfig(
        hub=url,
        machine=MachineId(admitted["machine"]),
        agents=tuple(agents),
        fingerprint=fingerprint,
        via=via,
    )
    Home(home).save(machine, admitted["token"])


def lines(checks: Sequence[base.Preflight]) -> list[str]:
    """Return a line for each agent CLI that is here: ready, or the problem and its fix.

    One line more names those that are not.
    """
    absent = [one.runtime for one in checks if not one.version and not shutil.which(one.runtime)]
    here = [check for check in checks if check.runtime not in absent]
    width = max([8, *(len(check.runtime) for check in here)])
    said = [
        f"{check.runtime:<{width}}  "
        + ("ready" if check.ready else f"{check.problem} -> {check.fix}")
        for check in here
    ]
    more = [f"{'not here':<{width}}  {', '.join(sorted(absent))}"] if absent else []
    return said + more


def _usage(message: str, hint: str) -> CommandFailed:
    return CommandFailed(message, hint=hint, exit_code=Exit.USAGE, code="usage")
