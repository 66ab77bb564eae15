"""Where this person's AgentCom lives, which hub it talks to, and the token it shows there.

`AGENTCOM_HOME`, else the system's place for a program's data. `AGENTCOM_HUB` and `AGENTCOM_TOKEN`
come before the file. Tokens are in files of their own, readable for the owner alone.
"""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentcom.cli.errors import CommandFailed, Exit

_CONTEXT: Final = "context.json"
_TOKEN: Final = "context.token"  # noqa: S105 - the name of a file
_LAST: Final = "last-task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A hub, and who we are there."""

    url: str
    token: str
    fingerprint: str | None = None


def home() -> Path:
    """Return the folder of everything that AgentCom keeps for this person."""
    named = os.environ.get("AGENTCOM_HOME")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("agentcom", appauthor=False))


def machine_home() -> Path:
    """Return the folder of this computer's machine identity."""
    return home() / "machine"


def hub_home() -> Path:
    """Return the folder of the hub that `up` starts."""
    return home() / "hub"


def load() -> Context:
    """Return the hub to talk to.

    Raises:
        CommandFailed: none is known, or others may read the token.
    """
    known = _read(home() / _CONTEXT)
    url = os.environ.get("AGENTCOM_HUB") or known.get("url")
    token = os.environ.get("AGENTCOM_TOKEN") or _read_token(home() / _TOKEN)
    if not url:
        raise CommandFailed(
            "no hub is known here", hint="agentcom up", exit_code=Exit.UNREACHABLE, code="no_hub"
        )
    if not token:
        raise CommandFailed(
            f"there is no token for {url}",
            hint="export AGENTCOM_TOKEN=..., or ask an admin for `agentcom user invite`",
            exit_code=Exit.NOT_ALLOWED,
            code="not_authenticated",
        )
    same = url == known.get("url")
    return Context(url=url, token=token, fingerprint=known.get("fingerprint") if same else None)


def save(context: Context) -> None:
    """Remember a hub and our token there."""
    text = {"url": context.url, "fingerprint": context.fingerprint}
    write_private(home() / _CONTEXT, json.dumps(text, indent=2) + "\n")
    write_private(home() / _TOKEN, context.token + "\n")


def load_stored() -> Context | None:
    """Return what the file remembers, whatever the environment says; None if it is not whole."""
    known, token = _read(home() / _CONTEXT), _read_token(home() / _TOKEN)
    if not known.get("url") or not token:
        return None
    return Context(url=known["url"], token=token, fingerprint=known.get("fingerprint"))


def remember_task(task: str) -> None:
    """Make `@last` name this task."""
    write_private(home() / _LAST, task + "\n")


def last_task() -> str:
    """Return the task that `@last` names.

    Raises:
        CommandFailed: nothing was submitted from here yet.
    """
    try:
        return (home() / _LAST).read_text("utf-8").strip()
    except FileNotFoundError:
        raise CommandFailed(
            "nothing was submitted from here yet, so @last names no task",
            hint="agentcom task ls",
            exit_code=Exit.MISSING,
            code="not_found",
        ) from None


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CommandFailed(
            f"{path} is damaged", hint=f"rm {path}, then agentcom up", exit_code=Exit.USAGE
        ) from error
    return found if isinstance(found, dict) else {}


def _read_token(path: Path) -> str:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CommandFailed(
                f"others may read {path}",
                hint=f"chmod 600 {path}, then agentcom token rotate",
                exit_code=Exit.NOT_ALLOWED,
                code="not_allowed",
            )
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
