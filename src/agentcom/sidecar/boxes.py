"""What the sandboxes of one machine show: of an attempt, and of a check.

A program that uses its operator's login gets a home of its own all the same. Only the folder in
which it keeps that login is the operator's, so that a login which is renewed inside is renewed for
all who share it.
"""

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from agentcom.model.agent import AgentSpec
from agentcom.sidecar import lfs, process, sandbox
from agentcom.sidecar.config import AgentConfig
from agentcom.sidecar.confines import Confines, Network, Sandbox
from agentcom.sidecar.runtime import base
from agentcom.sidecar.supervisors import Supervisors

LABEL: Final = "sandbox"
_LOGIN_BYTES_MAX: Final = 32 << 20
"""A program's state file holds its history, too; of a larger one nothing is taken over."""


log = structlog.get_logger(__name__)


class Login(msgspec.Struct, frozen=True):
    """Where a program keeps its login, below the operator's home."""

    folders: tuple[str, ...]
    """Shown as they are, to be written to."""
    excerpt: str = ""
    """A JSON file that it replaces as a whole, so it cannot be shown: copied once."""
    keys: tuple[str, ...] = ()
    """What is copied of that file; the rest is about other work of the operator."""


LOGINS: Final[Mapping[str, Login]] = {
    "claude": Login(
        (".claude",),
        ".claude.json",
        ("oauthAccount", "userID", "hasCompletedOnboarding", "installMethod"),
    ),
    "codex": Login((".codex",)),
    "gemini": Login((".gemini",)),
    "opencode": Login((".local/share/opencode", ".config/opencode")),
    "mini": Login((".config/mini-swe-agent",)),
    "openclaw": Login((".openclaw",)),
    "openhands": Login((".openhands",)),
    "pi": Login((".pi",)),
    "qwen": Login((".qwen",)),
    "vibe": Login((".vibe",)),
}

_ANY_PROGRAM: Final = "acp"
"""This runtime drives whatever its command names: the login is that program's."""


class Boxes:
    """Puts programs into sandboxes, where there are any."""

    def __init__(self, root: Path) -> None:
        """`root` is the sidecar's own folder, which nothing in a sandbox sees."""
        self._root = root
        self.supervisors = Supervisors()
        """Those under which all of that runs, with a sandbox and without."""
        self._said: set[str] = set()
        """Agents of which the log says that they have no sandbox."""

    @functools.cached_property
    def found(self) -> sandbox.Found:
        """Whether this computer has a sandbox; looked up once, which takes some milliseconds."""
        return sandbox.probe()

    def told(self, agent: AgentConfig) -> AgentSpec:
        """Return what the hub is told of an agent; a label says whether it runs in a sandbox."""
        off = agent.confines.sandbox is Sandbox.OFF
        boxed = not off and bool(self.found.program)
        if not boxed:
            why = "it is set to off" if off else self.found.problem
            if agent.name not in self._said:
                self._said.add(agent.name)
                fix = "set the agent's `sandbox` to auto" if off else self.found.fix
                log.warning("sandbox.off", agent=agent.name, reason=why, fix=fix)
        labels = {**agent.labels, LABEL: "on" if boxed else "off"}
        return msgspec.structs.replace(agent.spec, labels=labels)

    def lacks(self, agent: AgentConfig) -> str:
        """Return why an agent gets no work, for want of the sandbox that it requires; or ""."""
        required = agent.confines.sandbox is Sandbox.REQUIRED and not self.found.program
        return (
            f"its sandbox is required: {self.found.problem}: {self.found.fix}" if required else ""
        )

    def attempt(
        self,
        launch: base.Launch,
        job: base.Job,
        confines: Confines,
        *,
        runtime: str,
        objects: Path | None,
        temporary: Path,
    ) -> base.Launch:
        """Return the launch of an attempt's run; `objects` is what its repository borrows.

        Raises:
            NotStarted: the sandbox is required and not there, or the program is not there.
        """
        if not sandbox.wanted(confines, self.found):
            return launch
        home = launch.environment.get("HOME", job.home)
        Path(job.notices).touch(mode=0o600)
        given = (job.task_file, job.notices, *((job.access.file,) if job.access else ()))
        borrowed = map(str, lfs.borrowed(objects)) if objects is not None else ()
        program = program_of(runtime, launch.argv)
        shared = () if home == job.home else _shared(program, Path(home), Path(job.home))
        view = sandbox.View(
            home=job.home,
            temporary=str(temporary),
            writable=(*shared, job.worktree, *confines.writable),
            readable=(*given, *borrowed, *confines.readable),
            hidden=str(self._root),
            network=confines.network is Network.ALL,
        )
        return sandbox.boxed(launch, view, self.found)

    def check(
        self, launch: base.Launch, confines: Confines, *, scratch: Path, shown: Sequence[Path] = ()
    ) -> base.Launch:
        """Return the launch of a check in its folder; `scratch` has its home and its `tmp`.

        Raises:
            NotStarted: as above.
        """
        if not sandbox.wanted(confines, self.found):
            return launch
        view = sandbox.View(
            home=str(scratch / "home"),
            temporary=str(scratch / "tmp"),
            writable=(launch.cwd, str(scratch / "tmp"), *confines.writable),
            readable=(*map(str, shown), *confines.readable),
            hidden=str(self._root),
            network=confines.network is Network.ALL,
        )
        return sandbox.boxed(launch, view, self.found)


def program_of(runtime: str, argv: Sequence[str]) -> str:
    """Return whose login an agent needs: its runtime's, or that of whatever a command names."""
    return Path(argv[0]).name if runtime == _ANY_PROGRAM else runtime


def _shared(program: str, operator: Path, own: Path) -> tuple[str, ...]:
    """Return the folders of the operator's login; copy what cannot be shown."""
    login = LOGINS.get(program)
    if login is None:
        return ()
    if login.excerpt and not os.path.lexists(own / login.excerpt):
        kept = _excerpt(operator / login.excerpt, login.keys)
        if kept:
            text = msgspec.json.encode(kept).decode()
            process.run_files(own, [base.File(login.excerpt, text)])
    return tuple(str(operator / name) for name in login.folders)


def _excerpt(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError):
        if path.stat().st_size <= _LOGIN_BYTES_MAX:
            found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
            return {key: found[key] for key in keys if key in found}
    return {}
