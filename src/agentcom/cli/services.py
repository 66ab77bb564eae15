"""AgentCom as a service of this person: a systemd user unit, or a launchd agent on macOS.

The service is `agentcom up --foreground`. It ends alone: what agents run goes on under the
supervisors of their attempts, and the next start takes it over. A computer with neither has the
background processes of `agentcom up`.
"""

import os
import platform
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agentcom.cli import background, context
from agentcom.cli.errors import CommandFailed

UNIT: Final = "agentcom.service"
LABEL: Final = "agentcom.up"
VARIABLE: Final = "AGENTCOM_SERVICE"
"""Set in the service itself, so that its `up` does not ask the system to start the service."""
TOOL_S: Final = 60.0
"""A start waits for the hub; a verification loads all units that ours names."""
_KEPT: Final = ("PATH", "LANG", "SSH_AUTH_SOCK", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""What the service gets of the environment in which it was installed. Never a key."""
_ENVIRONMENT: Final = "environment"


def kind() -> str:
    """Return what runs services here: systemd, launchd or none."""
    if platform.system() == "Darwin":
        return "launchd" if shutil.which("launchctl") else "none"
    return "systemd" if shutil.which("systemctl") else "none"


def path() -> Path:
    """Return where the service is described."""
    if kind() == "launchd":
        return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd" / "user" / UNIT


def text() -> str:
    """Return the description that fits this computer, this person and this program."""
    variables = {name: os.environ[name] for name in _KEPT if name in os.environ}
    variables |= {"AGENTCOM_HOME": str(context.home()), VARIABLE: "1"}
    words = background.program("up", "--foreground")
    return plist(words, variables) if kind() == "launchd" else unit(words, variables)


def unit(words: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return a systemd user unit.

    Raises:
        CommandFailed: a path or variable has a line break in it.
    """
    settings = "\n".join(f"Environment={quoted(f'{k}={v}')}" for k, v in variables.items())
    own = _plain(str(context.home() / _ENVIRONMENT)).replace("%", "%%")
    return f"""[Unit]
Description=AgentCom: the hub and the agents of this person
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=exec
ExecStart={" ".join(quoted(word).replace("$", "$$") for word in words)}
{settings}
# Keys of agents' providers, NAME=VALUE, in a file that only you can read.
EnvironmentFile=-{own}
Restart=always
RestartSec=2
# What agents run outlives a restart; `agentcom task cancel` ends it.
KillMode=process
SendSIGKILL=no
TimeoutStopSec=60
OOMPolicy=continue
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=default.target
"""


def plist(words: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return a launchd agent's property list."""
    log = str(context.home() / "logs" / "service.log")
    described = {
        "Label": LABEL,
        "ProgramArguments": list(words),
        "EnvironmentVariables": dict(variables),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 10,
        "AbandonProcessGroup": True,  # what agents run outlives a restart
        "ProcessType": "Background",
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    return plistlib.dumps(described).decode()


def install(*, start: bool) -> list[str]:
    """Write the description, have it checked, and start the service; return what was found odd.

    Raises:
        CommandFailed: there is nothing here that runs services, or it does not take ours.
    """
    if kind() == "none":
        raise CommandFailed(
            "neither systemd nor launchd is here", hint="agentcom up", code="not_installed"
        )
    place = path()
    place.parent.mkdir(parents=True, exist_ok=True)
    context.private_folder(context.home() / "logs")
    context.write_private(place, text())
    odd = verify(place)
    if kind() == "launchd":
        if start:
            run("launchctl", "bootstrap", _domain(), str(place))
        return odd
    run("systemctl", "--user", "daemon-reload")
    run("systemctl", "--user", "enable", *(["--now"] if start else []), UNIT)
    return odd


def verify(place: Path, *, system: bool = False) -> list[str]:
    """Return what the system's own checker says about a description; [] if it has nothing to say.

    Raises:
        CommandFailed: the checker refuses it.
    """
    words = ["plutil", "-lint", str(place)]
    if kind() == "systemd":
        words = ["systemd-analyze", *([] if system else ["--user"]), "verify", str(place)]
    if shutil.which(words[0]) is None:
        return [f"not checked: {words[0]} is not here"]
    done = ask(*words)
    said = [line for line in (done.stdout + done.stderr).splitlines() if place.name in line]
    if done.returncode != 0 and said:
        raise CommandFailed(f"{place} is refused: {'; '.join(said)}", hint=f"less {place}")
    return said if kind() == "systemd" else []


def remove() -> bool:
    """Stop the service and forget it; False if there was none."""
    place = path()
    if not place.exists():
        return False
    if kind() == "launchd":
        ask("launchctl", "bootout", f"{_domain()}/{LABEL}")
    else:
        ask("systemctl", "--user", "disable", "--now", UNIT)
    place.unlink(missing_ok=True)
    if kind() == "systemd":
        ask("systemctl", "--user", "daemon-reload")
    return True


def installed() -> bool:
    """Whether this person has the service."""
    return kind() != "none" and path().exists()


def active() -> bool:
    """Whether the service runs, or is about to; false inside the service itself."""
    if VARIABLE in os.environ or not installed():
        return False
    if kind() == "launchd":
        return ask("launchctl", "print", f"{_domain()}/{LABEL}").returncode == 0
    return ask("systemctl", "--user", "is-active", "--quiet", UNIT).returncode == 0


def begin() -> None:
    """Start the service; returns when the system has begun it."""
    if kind() == "launchd":
        run("launchctl", "bootstrap", _domain(), str(path()))
    else:
        run("systemctl", "--user", "start", UNIT)


def end() -> None:
    """Stop the service; it stays installed."""
    if kind() == "launchd":
        run("launchctl", "bootout", f"{_domain()}/{LABEL}")
    else:
        run("systemctl", "--user", "stop", UNIT)


def row() -> dict[str, Any]:
    """Return how the service stands."""
    return {
        "kind": kind(),
        "installed": installed(),
        "active": active(),
        "path": str(path()) if kind() != "none" else None,
        "program": sys.executable,
    }


def quoted(word: str) -> str:
    """Return a word as systemd reads it back: no specifier and no escape is left in it."""
    escaped = _plain(word).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _plain(word: str) -> str:
    if not word.isprintable():
        raise CommandFailed(f"{word!r} cannot be part of a service", code="usage")
    return word


def _domain() -> str:
    return f"gui/{os.getuid()}"


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the system; one that is not there has failed."""
    try:
        return subprocess.run(  # noqa: S603 - the system's own tools, with words of ours
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def run(*words: str) -> None:
    """Run a tool of the system.

    Raises:
        CommandFailed: it fails, with its words.
    """
    done = ask(*words)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().replace("\n", "; ") or "it says nothing"
        raise CommandFailed(f"{' '.join(words)} failed: {said}", hint="agentcom service show")
