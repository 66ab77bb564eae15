"""What an operator may set of a hub: defaults, then `hub.toml`, the environment, and flags.

The later one wins, and every value says where it came from when it is wrong. The environment has
`AGENTCOM_HUB_<SETTING>`; lists are written with commas there. What a running hub takes up when
the file changes is marked `HOT`; how it does is in `hub/reloading.py`.
"""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import platformdirs

from agentcom.core import outgoing
from agentcom.core.prices import Price
from agentcom.model import limits, settings
from agentcom.model.errors import AgentComError, InvalidInput
from agentcom.model.ids import UserId
from agentcom.model.settings import DEFAULT, FLAG, HOT, Layer, Problem, Value

PORT: Final = 7_420
FILE_NAME: Final = "hub.toml"
ENVIRONMENT_PREFIX: Final = "AGENTCOM_HUB_"
DRAIN_MS: Final = 5_000  # for requests and queued facts; with the rest it stays below 10 s


class ConfigInvalid(AgentComError):
    """The hub's settings cannot be used; the message names the setting."""

    code = "config_invalid"
    status = 500


class LogFormat(StrEnum):
    """How log records are written."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """The least important record that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Tls(StrEnum):
    """Whether the port speaks TLS: by itself off loopback, always, or never."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the port that an operator may move."""

    body_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1 << 26)] = 1_048_576
    """The largest body of a request."""
    send_bytes_max: Annotated[int, msgspec.Meta(ge=65_536, le=1 << 30)] = 4_194_304
    """What may wait to be sent on one socket; then it is closed."""
    untrusted_per_address_max: Annotated[int, msgspec.Meta(ge=1)] = 32
    """Connections without a valid token, by address."""
    untrusted_max: Annotated[int, msgspec.Meta(ge=1)] = 512
    """Connections without a valid token, in all."""
    rates: Annotated[bool, HOT] = True
    """False lifts the budgets of requests: for load tests and fuzzing, never on a network."""


class BackupSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When copies of the hub's data are made, and where they are."""

    folder: Path | None = None
    """By default `backups` beside the data; on another disk they outlive this one."""
    every_hours: Annotated[float, msgspec.Meta(ge=0), HOT] = 24
    """How often a copy is made; 0: only by hand."""
    keep: Annotated[int, msgspec.Meta(ge=1), HOT] = 7
    """How many copies are kept; the oldest go first."""
    journal: bool = False
    """Write down each batch, too, so that a restore can lead to any moment."""
    drill_every_hours: Annotated[float, msgspec.Meta(ge=0), HOT] = 168
    """How often the newest copy is restored aside and compared; 0: never."""


class OutgoingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the hub sends to addresses that people gave it."""

    allow: Annotated[tuple[str, ...], HOT] = ()
    """Names, addresses and networks inside, each with or without a port, that it may send to."""
    certificates: Path | None = None
    """Authorities (PEM) that are trusted beside those of the system."""
    proxy: str = ""
    """Address of an HTTP proxy to what is public; the hub looks names up itself all the same."""


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long what is over stays: in the store, then in the archive."""

    tasks_days: Annotated[float, msgspec.Meta(ge=0)] = 90
    """How long a task stays after its end; with it go its results and events. 0: for ever."""
    archive_days: Annotated[float, msgspec.Meta(ge=0)] = 0
    """How long the archive keeps a task after its end; then it is deleted. 0: for ever."""
    posts_days: Annotated[float, msgspec.Meta(ge=0)] = 0
    """How long a post stays in its channel, unless it is pinned. 0: for ever."""


class HubConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a hub is started with."""

    home: Path
    """The folder of the hub: settings, store, certificate."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = PORT
    """The port; 0 takes a free one."""
    tls: Tls = Tls.AUTO
    """`auto` (off loopback), `on`, or `off`."""
    certificate: Path | None = None
    """A PEM certificate of your own; with `key`."""
    key: Path | None = None
    """The file with its private key."""
    insecure: bool = False
    """Listen off loopback without TLS: tokens travel in clear."""
    hosts: Annotated[tuple[str, ...], HOT] = ()
    """Names by which clients reach this hub, beside the loopback names and `host`."""
    origins: Annotated[tuple[str, ...], HOT] = ()
    """Web origins that may call the HTTP door from a browser."""
    public_url: Annotated[str | None, HOT] = None
    """The address that join codes name; by default what the hub listens on."""
    trusted_proxies: Annotated[tuple[str, ...], HOT] = ()
    """Addresses or networks that are believed about where a request comes from."""
    lease_ttl_ms: Annotated[
        int, msgspec.Meta(ge=limits.LEASE_TTL_MIN_MS, le=limits.LEASE_TTL_MAX_MS), HOT
    ] = limits.LEASE_TTL_MS
    """How long a silent machine keeps its tasks; a new value holds from its next connection on."""
    store: str = "sqlite"
    """`sqlite`, or `memory` for experiments: nothing survives a restart."""
    accept_rollback: bool = False
    """Start on a store that was put back from a copy: what came later is lost, and refused."""
    admin: UserId | None = None
    """Who becomes the first admin; by default the user of the operating system."""
    log_format: LogFormat = LogFormat.AUTO
    """`auto` (text on a terminal, else JSON), `json` or `text`."""
    log_level: Annotated[LogLevel, HOT] = LogLevel.INFO
    """The least important record that is written: `debug`, `info`, `warning` or `error`."""
    drain_ms: Annotated[int, msgspec.Meta(ge=0, le=8_000)] = DRAIN_MS
    """How long a stop waits for requests under way."""
    otlp_endpoint: str | None = None
    """Where traces of tasks go: the address of a collector that takes OTLP over HTTP in JSON."""
    otlp_headers: Path | None = None
    """A file with headers for it, a line `Name: value` for each."""
    forge_secret: Annotated[Path | None, HOT] = None
    """A file with the secret by which forges sign their events; without one none is taken."""
    audit_keep_days: Annotated[int, msgspec.Meta(ge=0)] = limits.AUDIT_KEEP_DAYS
    """How long entries of the audit log stay; 0: for good."""
    limits: Bounds = Bounds()
    backups: BackupSettings = BackupSettings()
    outgoing: OutgoingSettings = OutgoingSettings()
    retention: RetentionSettings = RetentionSettings()
    prices: Annotated[dict[str, Price], HOT] = {}
    """What models charge, by patterns of their names: before the list that comes with the hub."""

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach the hub."""
        return is_loopback(self.host)

    @property
    def backup_folder(self) -> Path:
        """Where copies are."""
        return self.backups.folder or self.home / "backups"

    @property
    def uses_tls(self) -> bool:
        """Whether the port speaks TLS."""
        if self.certificate is not None or self.tls is Tls.ON:
            return True
        return self.tls is Tls.AUTO and not self.loopback and not self.insecure


class Examined(NamedTuple):
    """The settings of a hub before anybody has said that they will do."""

    home: Path
    values: Mapping[str, Value]
    problems: Sequence[Problem]


def load(
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> HubConfig:
    """Return the settings of the hub in its home; flags that are None were not given.

    Raises:
        ConfigInvalid: a setting is unknown, has a value that is not allowed, or is unsafe; the
            message has everything that is wrong.
    """
    examined = examine(flags=flags, environment=environment, file=file)
    if examined.problems:
        raise ConfigInvalid("; ".join(map(str, examined.problems)))
    return settings.build(HubConfig, examined.values)


def examine(
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Examined:
    """Return what each setting would be and where from, and all that is wrong with them."""
    environment = os.environ if environment is None else environment
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    named = FLAG if "home" in given else None
    home = Path(given.pop("home", None) or default_home(environment)).expanduser().absolute()
    origin = named or ("AGENTCOM_HOME" if environment.get("AGENTCOM_HOME") else DEFAULT)
    layer, problems = _read(file or home / FILE_NAME, wanted=file is not None)
    layers = [
        layer,
        *settings.from_environment(HubConfig, environment, ENVIRONMENT_PREFIX),
        *(Layer(f"--{name.replace('_', '-')}", {name: _plain(it)}) for name, it in given.items()),
        Layer(origin, {"home": str(home)}),
    ]
    values, more = settings.resolve(HubConfig, layers, _decode)
    problems += more
    if not problems:
        problems = unfit(settings.build(HubConfig, values), values)
    return Examined(home, values, problems)


def default_home(environment: Mapping[str, str]) -> Path:
    """Return `AGENTCOM_HOME`, or where this system keeps the data of a person's programs."""
    named = environment.get("AGENTCOM_HOME")
    return Path(named) if named else platformdirs.user_data_path("agentcom", appauthor=False)


def unfit(config: HubConfig, values: Mapping[str, Value]) -> list[Problem]:
    """Return why no hub may run with settings that are well formed one by one."""
    said = [
        *(("outgoing.allow", _why_not_allowed(line)) for line in config.outgoing.allow),
        *(("trusted_proxies", _why_no_proxy(place)) for place in config.trusted_proxies),
        ("outgoing.proxy", _why_no_way(config.outgoing.proxy)),
    ]
    if (config.certificate is None) != (config.key is None):
        given = "key" if config.certificate is None else "certificate"
        said.append((given, "certificate and key belong together: give both, or none"))
    if config.otlp_endpoint and not config.otlp_endpoint.startswith(("http://", "https://")):
        said.append(("otlp_endpoint", "an address such as http://127.0.0.1:4318"))
    if not config.loopback and not config.uses_tls and not config.insecure:
        text = (
            f"{config.host} can be reached from other computers, and tls is off: tokens would"
            " travel in clear; leave tls on, or say that you mean it (--insecure)"
        )
        said.append(("host", text))
    return [
        Problem(name, values[name].origin, text, values[name].line) for name, text in said if text
    ]


def _why_not_allowed(line: str) -> str:
    try:
        outgoing.parse_allowed(line)
    except InvalidInput as error:
        return error.message
    return ""


def _why_no_way(proxy: str) -> str:
    try:
        target = outgoing.parse(proxy) if proxy else None
    except InvalidInput as error:
        return error.message
    plain = target is None or (target.scheme == "http" and target.path == "/")
    return "" if plain else "a proxy is http://HOST:PORT; what it carries is encrypted by itself"


def _why_no_proxy(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is no address and no network such as 10.0.0.0/24"
    return "" if network.prefixlen else "everybody is no proxy; name the addresses of yours"


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this computer's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path, *, wanted: bool) -> tuple[Layer, list[Problem]]:
    origin = str(path)
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except FileNotFoundError:
        missing = [Problem("", origin, "there is no settings file")] if wanted else []
        return Layer(origin, {}), missing
    except OSError as error:
        return Layer(origin, {}), [Problem("", origin, f"it cannot be read: {error.strerror}")]
    layer, problems = settings.parse(origin, data, mode)
    if "home" in layer.values:
        text = "it is where this file is; set AGENTCOM_HOME instead"
        problems.append(Problem("home", origin, text, layer.lines.get("home")))
    return layer, problems


def _decode(kind: type, value: object) -> object:
    if kind is not Path or not isinstance(value, str) or not value.isprintable() or not value:
        raise ValueError("the name of a file is expected")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such person here as its ~ names") from None


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
