"""The hub of a server as a systemd service of the system, told apart from the person's own `up`.

It has an account and a folder of its own, says itself when it is ready, is watched, reloads its
settings, and sees no more of the computer than it needs.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from agentcom.cli import background, context, services
from agentcom.cli.errors import CommandFailed, Exit

UNIT: Final = "agentcom-hub.service"
PLACE: Final = Path("/etc/systemd/system") / UNIT
HOME: Final = Path("/var/lib/agentcom")
ENVIRONMENT: Final = Path("/etc/agentcom/hub.env")
WATCHDOG_S: Final = 30
"""The loop says every second that it turns; a disk that syncs for this long has failed."""
_CLOSED_IN: Final = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))


def text(*, home: Path = HOME, user: str = "", words: Sequence[str] = ()) -> str:
    """Return the unit of a hub in `home`, with an account of its own if no `user` is named.

    Raises:
        CommandFailed: a path has a line break in it.
    """
    words = words or background.program("hub", "run", "--home", str(home))
    program = Path(words[0])
    at_home = any(program.is_relative_to(place) for place in _HOMES)
    account = f"User={services.quoted(user)}" if user else "DynamicUser=yes"
    folder = "StateDirectory=agentcom\nStateDirectoryMode=0700"
    if home != HOME:
        folder = f"ReadWritePaths={services.quoted(str(home))}"
    return f"""[Unit]
Description=AgentCom hub
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join(services.quoted(word).replace("$", "$$") for word in words)}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
WatchdogSec={WATCHDOG_S}
TimeoutStartSec=300
TimeoutStopSec=30
{account}
{folder}
Environment={services.quoted(f"AGENTCOM_HOME={home}")}
EnvironmentFile=-{ENVIRONMENT}
UMask=0077
OOMPolicy=continue
LimitNOFILE=65536

# It listens, keeps one folder, and starts openssl and its own backup. Nothing else.
{_CLOSED_IN}ProtectHome={"read-only" if at_home else "yes"}

[Install]
WantedBy=multi-user.target
"""


def install(*, home: Path, user: str, start: bool) -> list[str]:
    """Write the unit, have it checked, and start it; return what was found odd.

    Raises:
        CommandFailed: there is no systemd, it does not take the unit, or one is not root.
    """
    if services.kind() != "systemd":
        raise CommandFailed(
            "there is no systemd here", hint="agentcom up, or a container", code="not_installed"
        )
    if not os.access(PLACE.parent, os.W_OK):
        raise CommandFailed(
            f"{PLACE.parent} is not yours to write",
            hint="sudo agentcom service install --hub, or look first: --hub --print",
            exit_code=Exit.NOT_ALLOWED,
            code="not_allowed",
        )
    context.write_private(PLACE, text(home=home, user=user))
    PLACE.chmod(0o644)  # it has no secret in it: those are in the environment's file
    odd = services.verify(PLACE, system=True)
    services.run("systemctl", "daemon-reload")
    services.run("systemctl", "enable", *(["--now"] if start else []), UNIT)
    return odd


def remove() -> bool:
    """Stop the hub and forget its unit, not its data; False if there was none."""
    if not PLACE.exists():
        return False
    services.ask("systemctl", "disable", "--now", UNIT)
    PLACE.unlink(missing_ok=True)
    services.ask("systemctl", "daemon-reload")
    return True


def row() -> dict[str, Any]:
    """Return how the service stands."""
    active = services.ask("systemctl", "is-active", "--quiet", UNIT).returncode == 0
    return {
        "kind": services.kind(),
        "installed": PLACE.exists(),
        "active": PLACE.exists() and active,
        "path": str(PLACE),
        "program": sys.executable,
    }
