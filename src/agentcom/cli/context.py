"""Where this person's AgentCom lives, which hubs it knows, and the token it shows to each.

`AGENTCOM_HOME`, else the system's place for a program's data. One file, readable for its owner
alone, keeps a token for each hub; the first one is current. Before it comes what was said of the
folder that one is in; before that what the sidecar gives to the agent of an attempt, then
`AGENTCOM_CONTEXT`, or `AGENTCOM_HUB` with `AGENTCOM_TOKEN`; and `--context` before all. A token
goes to the hub that it is kept for, and to no other.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import click

from agentcom.cli.errors import CommandFailed, Exit

_CONTEXT: Final = "context.json"
_TOKEN: Final = "context.token"  # noqa: S105 - the name of a file that versions before had
_LAST: Final = "last-task"
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A hub, and who we are there."""

    url: str
    token: str
    fingerprint: str | None = None
    user: str | None = None
    home: str | None = None
    """The folder of a hub of this computer, whose address may change from start to start."""


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
    """Return the folder of this computer's hub: that of `up`, or the home if one lives there."""
    from agentcom.app import STORE_FILE

    return home() if (home() / STORE_FILE).exists() else home() / "hub"


class Choice(NamedTuple):
    """The hub to talk to, and what made it that one."""

    context: Context
    because: str


def load() -> Context:
    """Return the hub to talk to; raises as `choose`."""
    return choose().context


def choose() -> Choice:
    """Return the hub to talk to, and why it is that one.

    Raises:
        CommandFailed: none is known, two are named at once, or others may read the token.
    """
    flag, name = _flag(), os.environ.get("AGENTCOM_CONTEXT")
    url = os.environ.get("AGENTCOM_HUB")
    if flag:
        return Choice(named(flag), "--context")
    if name and url and named(name) != find(url):
        raise CommandFailed(
            f"AGENTCOM_CONTEXT says {name}, and AGENTCOM_HUB {url}",
            hint="unset AGENTCOM_HUB, or: unset AGENTCOM_CONTEXT",
            exit_code=Exit.USAGE,
            code="usage",
        )
    if name:
        return Choice(named(name), "AGENTCOM_CONTEXT")
    if url:
        return Choice(_given(url), "AGENTCOM_HUB")
    agent = of_attempt()
    if agent is not None:
        return Choice(agent, "the attempt whose agent you are")
    folder = chosen_folder(Path.cwd())
    if folder is not None:
        return Choice(named(folders()[folder]), f"chosen for {folder}")
    return Choice(_given(None), "current")


def _given(url: str | None) -> Context:
    """Return a hub by address, else the current one, with a token that may be given beside it."""
    token = os.environ.get("AGENTCOM_TOKEN")
    found = find(url) if url else next(iter(known()), None)
    url = url or (found.url if found is not None else None)
    if not url and (machine_home() / "machine.json").exists():
        raise CommandFailed(
            "this computer is a machine of a hub, where you are nobody yet",
            hint="agentcom join with the line that `agentcom user invite NAME` prints at the hub",
            exit_code=Exit.NOT_ALLOWED,
            code="not_authenticated",
        )
    if not url:
        raise CommandFailed(
            "no hub is known here", hint="agentcom up", exit_code=Exit.UNREACHABLE, code="no_hub"
        )
    token = token or (found.token if found is not None else None)
    if not token:
        raise CommandFailed(
            f"there is no token for {url}",
            hint="export AGENTCOM_TOKEN=..., or ask an admin for `agentcom user invite`",
            exit_code=Exit.NOT_ALLOWED,
            code="not_authenticated",
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CommandFailed(
            "the token has characters that none of ours has",
            hint="copy it again, as one word, into AGENTCOM_TOKEN",
            exit_code=Exit.NOT_ALLOWED,
            code="not_authenticated",
        )
    if found is None or found.token != token:
        return Context(url=url, token=token, fingerprint=found.fingerprint if found else None)
    return found


def of_attempt() -> Context | None:
    """Return the hub as the agent of an attempt reaches it; None outside of attempts."""
    url, token = os.environ.get("AGENTCOM_MCP_URL"), os.environ.get("AGENTCOM_MCP_TOKEN")
    path = os.environ.get("AGENTCOM_MCP_FILE")
    if not token and path:
        token = _private(Path(path))
    if not url or not token:
        return None
    return Context(url=url.removesuffix("/mcp"), token=token)


def known() -> list[Context]:
    """Return every hub that is known here, the current one first.

    Raises:
        CommandFailed: the file is damaged, or others may read it.
    """
    path = home() / _CONTEXT
    data = _read(path)
    if "hubs" not in data:
        return _before(data)
    try:
        return [Context(**entry) for entry in data["hubs"]]
    except TypeError as error:
        raise _damaged(path) from error


def find(text: str) -> Context | None:
    """Return what is known of the hub at an address, or of that name."""
    url = next((url for url, name in names().items() if name == text), text)
    return next((it for it in known() if it.url.rstrip("/") == url.rstrip("/")), None)


def names() -> dict[str, str]:
    """Return what each known hub is called, by address: as a person said, else by its host."""
    given = {url: name for name, url in _kept("names").items()}
    found: dict[str, str] = {}
    for it in known():
        host = urlsplit(it.url).netloc
        short = "local" if it.home == str(hub_home()) else host.rpartition("@")[2]
        short = short if short not in (*given.values(), *found.values()) else it.url
        found[it.url] = given.get(it.url, short)
    return found


def folders() -> dict[str, str]:
    """Return the folders in which another hub than the current one was chosen, with addresses."""
    return _kept("folders")


def chosen_folder(folder: Path) -> str | None:
    """Return the nearest folder, from this one upwards, for which a hub was chosen."""
    chosen = folders()
    return next((str(it) for it in (folder, *folder.parents) if str(it) in chosen), None)


def rename(url: str, name: str) -> None:
    """Call a known hub so from now on.

    Raises:
        CommandFailed: another one is called so, or it would look like an address.
    """
    taken = next((it for it, known_as in names().items() if known_as == name and it != url), None)
    if taken is not None or not _NAME.fullmatch(name):
        why = f"{taken} is called {name}" if taken else f"{name!r} is no name"
        raise CommandFailed(
            why, hint="letters, digits, dots and dashes: prod", exit_code=Exit.USAGE, code="usage"
        )
    kept = {known_as: it for known_as, it in _kept("names").items() if it != url}
    _write(known(), names=kept | {name: url})


def use_in(folder: Path, text: str | None) -> None:
    """Choose a known hub for a folder and all below it; None: no longer."""
    kept = {place: url for place, url in folders().items() if place != str(folder)}
    chosen = {} if text is None else {str(folder): named(text).url}
    _write(known(), folders=kept | chosen)


def of_hub(folder: Path) -> Context | None:
    """Return what is known of the hub of this computer that lives in `folder`."""
    return next((it for it in known() if it.home == str(folder)), None)


def save(context: Context, *, current: bool = True) -> None:
    """Remember a hub and our token there; it takes the place of what was known of the same hub."""
    before, kept, chosen = known(), _kept("names"), _kept("folders")
    places = [at for at, it in enumerate(before) if _same(it, context)]
    rest = [it for it in before if not _same(it, context)]
    place = 0 if current or not rest else min([*places, 1])
    gone = {it.url for it in before if _same(it, context)} - {it.url for it in rest}
    _write(
        [*rest[:place], context, *rest[place:]],
        names={name: context.url if url in gone else url for name, url in kept.items()},
        folders={name: context.url if url in gone else url for name, url in chosen.items()},
    )


def renew(known_as: Context, token: str) -> None:
    """Put another token in the place of one that is kept."""
    hubs = known()
    hubs[hubs.index(known_as)] = replace(known_as, token=token)
    _write(hubs)


def use(url: str) -> Context:
    """Make a known hub the current one.

    Raises:
        CommandFailed: it is not known.
    """
    found = named(url)
    _write([found, *(it for it in known() if it != found)])
    return found


def forget(url: str) -> Context:
    """Drop what is known of a hub, our token there included.

    Raises:
        CommandFailed: it is not known.
    """
    found = named(url)
    _write([it for it in known() if it != found])
    return found


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


def private_folder(path: Path) -> None:
    """Make a folder, and all that are missing above it, for their owner alone."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _flag() -> str | None:
    current = click.get_current_context(silent=True)
    return None if current is None else current.find_root().params.get("context")


def _kept(part: str) -> dict[str, str]:
    """Return names or folders as they are kept; of hubs that are known."""
    urls = {it.url for it in known()}
    found = _read(home() / _CONTEXT).get(part)
    entries = found if isinstance(found, dict) else {}
    return {key: url for key, url in entries.items() if url in urls}


def named(text: str) -> Context:
    """Return a known hub by name or address.

    Raises:
        CommandFailed: it is not known.
    """
    found = find(text)
    if found is None:
        raise CommandFailed(
            f"the hub {text} is not known here",
            hint="agentcom context ls",
            exit_code=Exit.MISSING,
            code="not_found",
        )
    return found


def _same(one: Context, other: Context) -> bool:
    if one.token == other.token:
        return True
    return one.home == other.home and (one.home is not None or one.url == other.url)


def _write(
    hubs: list[Context],
    *,
    names: Mapping[str, str] | None = None,
    folders: Mapping[str, str] | None = None,
) -> None:
    kept = {
        "names": _kept("names") if names is None else names,
        "folders": _kept("folders") if folders is None else folders,
    }
    entries = [
        {name: value for name, value in asdict(it).items() if value is not None} for it in hubs
    ]
    write_private(home() / _CONTEXT, json.dumps({"hubs": entries, **kept}, indent=2) + "\n")
    (home() / _TOKEN).unlink(missing_ok=True)


def _before(data: dict[str, Any]) -> list[Context]:
    """Return the one hub that a version before this remembered."""
    token = _private(home() / _TOKEN)
    if not data.get("url") or not token:
        return []
    return [Context(url=data["url"], token=token, fingerprint=data.get("fingerprint"))]


def _read(path: Path) -> dict[str, Any]:
    try:
        text = _private(path)
        found = json.loads(text) if text else {}
    except ValueError as error:
        raise _damaged(path) from error
    return found if isinstance(found, dict) else {}


def _damaged(path: Path) -> CommandFailed:
    return CommandFailed(
        f"{path} is damaged",
        hint=f"mv {path} {path}.damaged, then agentcom up",
        exit_code=Exit.USAGE,
    )


def _private(path: Path) -> str:
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
