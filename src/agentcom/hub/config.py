"""What an operator may set of a hub: defaults, then `hub.toml`, the environment, and flags.

The later one wins, and every value says where it came from when it is wrong. The environment has
`AGENTCOM_HUB_<SETTING>`; lists are written with commas there.
"""

import ipaddress
import os
import stat
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import platformdirs

from agentcom.core.prices import Price
from agentcom.model import limits
from agentcom.model.errors import AgentComError
from agentcom.model.ids import UserId

PORT: Final = 7_420
FILE_NAME: Final = "hub.toml"
ENVIRONMENT_PREFIX: Final = "AGENTCOM_HUB_"
FILE_BYTES_MAX: Final = 65_536  # a settings file is a page, not a book
DRAIN_MS: Final = 5_000  # for requests and queued facts; with the rest it stays below 10 s
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


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
    send_bytes_max: Annotated[int, msgspec.Meta(ge=65_536, le=1 << 30)] = 4_194_304
    untrusted_per_address_max: Annotated[int, msgspec.Meta(ge=1)] = 32
    untrusted_max: Annotated[int, msgspec.Meta(ge=1)] = 512
    rates: bool = True
    """False lifts the budgets of requests: for load tests and fuzzing, never on a network."""


class BackupSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When copies of the hub's data are made, and where they are."""

    folder: Path | None = None
    """By default `backups` beside the data; on another disk they outlive this one."""
    every_hours: Annotated[float, msgspec.Meta(ge=0)] = 24
    """0: only by hand."""
    keep: Annotated[int, msgspec.Meta(ge=1)] = 7
    journal: bool = False
    """Write down each batch, too, so that a restore can lead to any moment."""
    drill_every_hours: Annotated[float, msgspec.Meta(ge=0)] = 168
    """How often the newest copy is restored aside and compared; 0: never."""


class HubConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a hub is started with."""

    home: Path
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = PORT
    tls: Tls = Tls.AUTO
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False
    """Listen off loopback without TLS: tokens travel in clear."""
    hosts: tuple[str, ...] = ()
    """Names by which clients reach this hub, beside the loopback names and `host`."""
    origins: tuple[str, ...] = ()
    public_url: str | None = None
    """The address that join codes name; by default what the hub listens on."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks that are believed about where a request comes from."""
    lease_ttl_ms: Annotated[
        int, msgspec.Meta(ge=limits.LEASE_TTL_MIN_MS, le=limits.LEASE_TTL_MAX_MS)
    ] = limits.LEASE_TTL_MS
    store: str = "sqlite"
    accept_rollback: bool = False
    """Start on a store that was put back from a copy: what came later is lost, and refused."""
    admin: UserId | None = None
    """Who becomes the first admin; by default the user of the operating system."""
    log_format: LogFormat = LogFormat.AUTO
    log_level: LogLevel = LogLevel.INFO
    drain_ms: Annotated[int, msgspec.Meta(ge=0, le=8_000)] = DRAIN_MS
    forge_secret: Path | None = None
    """A file with the secret by which forges sign their events; without one none is taken."""
    limits: Bounds = Bounds()
    backups: BackupSettings = BackupSettings()
    prices: dict[str, Price] = {}
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


def load(
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> HubConfig:
    """Return the settings of the hub in its home; flags that are None were not given.

    Raises:
        ConfigInvalid: a setting is unknown, has a value that is not allowed, or is unsafe.
    """
    environment = os.environ if environment is None else environment
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    home = Path(given.pop("home", None) or default_home(environment)).expanduser().absolute()
    settings: dict[str, Any] = {"home": str(home)}
    settings |= _read(file or home / FILE_NAME, wanted=file is not None)
    settings |= _from_environment(environment)
    settings |= {name: _plain(value) for name, value in given.items()}
    return check(_convert(settings))


def default_home(environment: Mapping[str, str]) -> Path:
    """Return `AGENTCOM_HOME`, or where this system keeps the data of a person's programs."""
    named = environment.get("AGENTCOM_HOME")
    return Path(named) if named else platformdirs.user_data_path("agentcom", appauthor=False)


def check(config: HubConfig) -> HubConfig:
    """Return `config` if a hub may run with it.

    Raises:
        ConfigInvalid: it would send tokens over a network in clear, or its parts do not fit.
    """
    if (config.certificate is None) != (config.key is None):
        raise ConfigInvalid("certificate and key belong together: give both, or none")
    for text in config.trusted_proxies:
        _check_proxy(text)
    if not config.loopback and not config.uses_tls and not config.insecure:
        raise ConfigInvalid(
            f"host {config.host} can be reached from other computers, and tls is off: tokens would"
            " travel in clear; leave tls on, or say that you mean it (--insecure)"
        )
    return config


def _check_proxy(text: str) -> None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigInvalid(
            f"setting trusted_proxies: {text!r} is no address and no network such as 10.0.0.0/24"
        ) from None
    if not network.prefixlen:
        raise ConfigInvalid(
            "setting trusted_proxies: everybody is no proxy; name the addresses of yours"
        )


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this computer's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path, *, wanted: bool) -> dict[str, Any]:
    try:
        found = path.stat()
        data = path.read_bytes()
    except FileNotFoundError:
        if wanted:
            raise ConfigInvalid(f"there is no settings file {path}") from None
        return {}
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}") from error
    if found.st_mode & _OTHERS_WRITE:
        raise ConfigInvalid(f"{path} can be changed by others; run: chmod go-w {path}")
    if len(data) > FILE_BYTES_MAX:
        raise ConfigInvalid(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    try:
        settings = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is not valid TOML: {error}") from error
    if "home" in settings:
        raise ConfigInvalid(f"{path}: home is where this file is; set AGENTCOM_HOME instead")
    return settings


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    lists = {field.name for field in msgspec.structs.fields(HubConfig) if field.default == ()}
    settings: dict[str, Any] = {}
    for variable, text in environment.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if not variable.startswith(ENVIRONMENT_PREFIX) or not text:
            continue
        parts = [part.strip() for part in text.split(",") if part.strip()]
        settings[name] = parts if name in lists else text
    return settings


def _convert(settings: dict[str, Any]) -> HubConfig:
    try:
        return msgspec.convert(settings, HubConfig, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        name = place.strip("`.")
        raise ConfigInvalid(f"setting {name}: {text}" if name else f"settings: {text}") from None


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    raise NotImplementedError(kind)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
