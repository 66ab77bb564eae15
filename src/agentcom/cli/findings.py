"""What `agentcom doctor` can find: each with an id that stays, and what it means."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

OK: Final = "ok"
NONE: Final = "-"
"""There is nothing to look at, and nothing wrong with that."""
WARN: Final = "warn"
FAIL: Final = "FAIL"


class Found(NamedTuple):
    """What a look found: the text for a person, and, if it is not well, what mends it."""

    state: str
    text: str
    fix: str = ""
    """A command to run as it is, or what to do where no command can."""
    id: str = ""
    mend: Callable[[], object] | None = None
    """What `--fix` does: only what loses nothing and asks nobody."""


def bad(finding: str, text: str, fix: str, *, mend: Callable[[], object] | None = None) -> Found:
    """Return what keeps something from working."""
    assert finding in MEANINGS, finding
    return Found(FAIL, text, fix, finding, mend)


def odd(finding: str, text: str, fix: str, *, mend: Callable[[], object] | None = None) -> Found:
    """Return what works for now, or works less well than it could."""
    assert finding in MEANINGS, finding
    return Found(WARN, text, fix, finding, mend)


MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # This computer.
        "python.old": "the interpreter is older than this program needs",
        "git.missing": "there is no git on PATH",
        "git.old": "git lacks a command that landing needs",
        "git.broken": "git is there, and could not commit and push in a scratch folder",
        "home.open": "others may look into the folder of your data",
        "home.not_writable": "the folder of your data cannot be written",
        "home.owner": "the folder of your data belongs to another user",
        "disk.low": "less than 1 GiB is free for your data",
        "clock.wrong": "the clock shows a year before this program was made",
        "sleep.not_inhibited": "nothing keeps this computer awake while agents work",
        "sandbox.missing": "agents run without a sandbox, since there is none that works",
        "sandbox.switched_off": "an agent's settings switch its sandbox off",
        "secret.readable": "others may read a file with a token, a key or your tasks",
        "context.damaged": "the file with the hubs that you know cannot be read",
        "upgrade.interrupted": "an upgrade was killed on its way, and nobody goes on with it",
        "scratch.store": "a hub in a scratch folder lost what it had written",
        "scratch.network": "this computer cannot reach itself",
        "scratch.task": "a task in a scratch folder did not come to its end",
        "check.failed": "a check itself could not be made",
        # The hub of this computer.
        "config.invalid": "hub.toml or a variable has a setting that cannot be",
        "hub.ended": "the hub that was started here has ended by itself",
        "hub.old_program": "the hub runs an older program than the one that is installed",
        "store.newer": "the store was brought to a format by a newer version",
        "store.damaged": "the store cannot be read in full",
        "backup.stale": "the newest copy of the hub's data is older than twice its interval",
        "backup.damaged": "the newest copy is not as it was made",
        # The way to the hub.
        "hub.unknown": "no hub is known here yet",
        "hub.unreachable": "nothing answers at the address of the hub",
        "hub.other_program": "another program answers at the address of the hub",
        "hub.not_ready": "the hub answers, and takes no requests yet",
        "tls.expired": "the certificate of the hub is over",
        "tls.name": "the certificate is for another name than the one that you use",
        "tls.unknown": "nobody that this computer trusts has signed the certificate",
        "tls.pin": "the certificate is not the one that was pinned when you joined",
        "token.malformed": "the token was not copied whole",
        "token.over": "the token was revoked, or has expired",
        "token.unknown": "the hub does not know the token: it may be another hub's",
        "clock.skew": "the clocks of this computer and of the hub differ",
        "websocket.blocked": "something on the way lets requests through, and no WebSockets",
        # The machine and its agents.
        "agent.none": "no agent program is installed and ready",
        "agent.not_logged_in": "an agent program is installed, and cannot work yet",
        "agent.unready": "an agent of this machine cannot work",
        "agent.paused": "an agent of this machine is paused",
        "agent.quarantined": "an agent failed task after task, and gets no new ones",
        "sidecar.not_running": "this computer is a machine of the fleet, and its sidecar is down",
        "sidecar.old_program": "the sidecar runs an older program than the one that is installed",
        "machine.removed": "the hub does not know this machine any more",
        "machine.drained": "this machine gets no new tasks, because someone drained it",
        "fleet.paused": "a project, a pool or everything is paused",
        "task.nobody": "tasks wait for something that no agent offers",
        "report.unsent": "results of agents have not reached the hub",
        "rescue.unpushed": "work that was rescued from a folder is nowhere but here",
        "worktree.left": "folders of tasks that have ended long ago take room",
        # The repository that you are in.
        "repo.unreachable": "origin of this repository does not answer",
        "repo.no_push": "origin does not let you push",
    }
)
