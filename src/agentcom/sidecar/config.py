"""A machine's home: its identity, token, agents and settings, and who may use it.

One folder and one lock per machine identity; several may live on one computer.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from agentcom.model import errors, limits
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AccountId, AgentId, MachineId
from agentcom.model.settings import HOT
from agentcom.sidecar.confines import Confines
from agentcom.sidecar.forge.base import ForgeSettings

CHECKPOINT_INTERVAL_MS: Final = 300_000
PROGRESS_INTERVAL_MS: Final = 500
FIRST_EVENT_MS: Final = 60_000
"""A model that has said nothing by then is not there."""
BETWEEN_EVENTS_MS: Final = 120_000
"""Long thoughts end before; a tool that runs stops this clock."""
STOP_GRACE_MS: Final = 5_000
DISK_FREE_MIN_MB: Final = 2_048
"""A clone, its worktree and a build fit into this more often than not."""
KEEP_MS: Final = 20_000
"""A slow line takes seconds for a checkpoint; whoever cancelled waits for no more than this."""
REVIEW_POLL_MS: Final = 20_000
"""A third of the minute in which a comment is to be answered; what did not change is not counted
against anybody's rate at the forges that give ETags."""

MACHINE_BYTES_MAX: Final = 4_194_304
"""Its agents with all their settings take some hundred KB at most."""
_MACHINE: Final = "machine.json"
_TOKEN: Final = "token"  # noqa: S105 - the name of a file
_LOCK: Final = "lock"
_PID_BYTES: Final = 32
_Count = Annotated[int, msgspec.Meta(ge=0)]


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent of this machine and how it is driven."""

    name: AgentId
    runtime: str
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    slots: int = 1
    version: str = ""
    settings: dict[str, str] = {}
    """For its runtime: `binary`, `model`, `base_url`, `api_key_env`, ..."""
    environment: tuple[str, ...] = ()
    """Names of variables that the agent gets from the sidecar's own environment."""
    accepts: tuple[str, ...] = ()
    """What tasks it takes: `project=web`, `submitter in (ann,bob)`, `kind!=review`."""
    account: AccountId | None = None
    """Whose quota it uses up; None: its program's login tells."""
    confines: Confines = Confines()
    """What it may use of this computer, and reach from it."""
    leaving: bool = False
    """A person took it out: it gets no new work, and `up` does not bring it back."""

    @property
    def spec(self) -> AgentSpec:
        """What the hub is told about it."""
        return AgentSpec(
            name=self.name,
            runtime=self.runtime,
            capabilities=self.capabilities,
            labels=self.labels,
            slots=self.slots,
            version=self.version,
            accepts=self.accepts,
            account=self.account,
        )


class RepositorySettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person confirmed about a repository that says nothing itself."""

    verify: tuple[str, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an operator may tune; see `sidecar/settings.py` for where it comes from."""

    ttl_ms: _Count = 0
    """The lease to ask for; 0 takes the hub's default."""
    checkpoint_interval_ms: _Count = CHECKPOINT_INTERVAL_MS
    """How often unfinished work goes to origin."""
    progress_interval_ms: _Count = PROGRESS_INTERVAL_MS
    """How often progress is told, at most."""
    first_event_ms: _Count = FIRST_EVENT_MS
    """An agent whose model has said nothing by then has failed."""
    between_events_ms: _Count = BETWEEN_EVENTS_MS
    """How long an agent may be silent while no tool runs."""
    stop_grace_ms: _Count = STOP_GRACE_MS
    """How long a stopped agent has before it is killed."""
    keep_ms: _Count = KEEP_MS
    """How long the work of a stopped attempt may take on its way to origin, per push."""
    resources: dict[str, int] = {}
    """Named resources that attempts share; empty takes the computer's `cpu` and `memory_mb`."""
    disk_free_min_mb: Annotated[int, msgspec.Meta(ge=0), HOT] = DISK_FREE_MIN_MB
    """With less free on the machine's disk nothing new is begun; 0: whatever is free."""
    drain_ms: Annotated[int, msgspec.Meta(ge=0), HOT] = 0
    """How long a stop waits for running attempts; what still runs then is adopted later."""
    repositories: dict[str, RepositorySettings] = {}
    """By repository address: the checks (`verify`) of one that has no `.agentcom.toml`."""
    forges: dict[str, ForgeSettings] = {}
    """By host, or by a repository's whole address."""
    review_poll_ms: _Count = REVIEW_POLL_MS
    """How long between two looks at an open pull request."""
    disk_bytes_max: _Count = 0
    """What clone caches, folders and logs may take together; 0 takes half of their disk."""
    checks: Confines = Confines()
    """What checks and set-up steps may use and reach."""


class MachineConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `join` wrote."""

    hub: str
    machine: MachineId
    agents: tuple[AgentConfig, ...] = ()
    fingerprint: str | None = None
    """SHA-256 of the hub's certificate, from the join code."""
    via: str = ""
    """`ssh://[USER@]HOST[:PORT]`: the hub's address is as seen from there; "": no way around."""
    insecure: bool = False
    """Clear text off this computer, as in a test network."""
    settings: Settings = Settings()


class Home(msgspec.Struct, frozen=True):
    """The places of one machine identity below one folder."""

    root: Path

    @property
    def outbox(self) -> Path:
        """Records of attempts and reports."""
        return self.root / "outbox"

    @property
    def repositories(self) -> Path:
        """Clone caches and worktrees."""
        return self.root / "repositories"

    def attempt(self, key: str) -> Path:
        """The supervisor's folder of one attempt."""
        return self.root / "attempts" / key

    def temporary(self, key: str) -> Path:
        """Where a sandboxed attempt keeps its temporary files."""
        return self.attempt(key) / "tmp"

    def tag(self, key: str) -> str:
        """What every process of one attempt carries; each home has its own, so none ends another's.

        A copy of a restored hub may issue the same fences to another home on this computer.
        """
        return f"{key}@{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]}"

    def agent(self, name: AgentId) -> Path:
        """The private HOME of one agent."""
        return self.root / "agents" / name

    @property
    def incarnation(self) -> Path:
        """The hub's incarnation as this machine last saw it."""
        return self.root / "incarnation"

    @property
    def endpoint(self) -> Path:
        """The port where this machine's agents reach the hub."""
        return self.root / "endpoint"

    def scratch(self, task: str) -> Path:
        """Where a task without a repository works."""
        return self.root / "scratch" / task

    def exists(self) -> bool:
        """Tell whether a machine was enrolled here."""
        return (self.root / _MACHINE).exists()

    def save(self, machine: MachineConfig, token: str | None = None) -> None:
        """Write the configuration, and the token readable for its owner alone."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(machine), indent=2)
        _replace(self.root / _MACHINE, text + b"\n")
        if token is not None:
            _replace(self.root / _TOKEN, token.encode() + b"\n")

    def load(self) -> "Config":
        """Read configuration and token.

        Raises:
            NotFound: no machine was enrolled here.
            InvalidInput: the file has an impossible value.
            NotAllowed: others may read the token.
        """
        try:
            data = _read_machine(self.root / _MACHINE)
            token = _read_token(self.root / _TOKEN)
        except FileNotFoundError as error:
            raise errors.NotFound(
                "this computer is not enrolled here: run `agentcom join URL#CODE`"
            ) from error
        try:
            machine = msgspec.json.decode(data, type=MachineConfig)
        except RecursionError:
            raise errors.InvalidInput(_MACHINE, "nested too deeply") from None
        except ValueError as error:  # of JSON, of a type, or of text
            raise errors.InvalidInput(_MACHINE, str(error)) from error
        if len(machine.agents) > limits.AGENTS_PER_MACHINE:
            raise errors.InvalidInput("agents", f"at most {limits.AGENTS_PER_MACHINE}")
        return Config(home=self, machine=machine, token=token)

    def holder(self) -> int | None:
        """Return the process that holds this identity, as it wrote down itself."""
        try:
            return int((self.root / _LOCK).read_text("ascii"))
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this identity against every other process of this computer.

        Raises:
            Conflict: another sidecar runs with it.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                who = os.pread(handle, _PID_BYTES, 0).decode("ascii", "replace").strip()
                raise errors.Conflict(
                    f"another sidecar (process {who or 'unknown'}) runs with {self.root}: "
                    "stop it, or use another home"
                ) from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(handle)


class Config(msgspec.Struct, kw_only=True):
    """Everything a sidecar needs to run; `machine` is another one after its settings changed."""

    home: Home
    machine: MachineConfig
    token: str
    later: dict[AgentId, AgentConfig] = {}
    """Agents that were added or changed since the start; who left stays known to what it runs."""

    def agent(self, name: AgentId) -> AgentConfig | None:
        """Return the agent of that name, if this machine has it, or had it since the start."""
        known = {agent.name: agent for agent in self.machine.agents} | self.later
        return known.get(name)


def _read_token(path: Path) -> str:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise errors.NotAllowed(f"others may read {path}: run `chmod 600 {path}`, rotate the token")
    try:
        return path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise errors.InvalidInput(path.name, "this is no token; join again with a code") from None


def _read_machine(path: Path) -> bytes:
    if path.stat().st_size > MACHINE_BYTES_MAX:
        raise errors.InvalidInput(path.name, f"at most {MACHINE_BYTES_MAX} bytes")
    return path.read_bytes()


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
