"""Where a machine's settings come from: `machine.json`, `sidecar.toml`, and the environment.

The later one wins, name by name. `machine.json` is written by programs and keeps what it has; a
person writes `sidecar.toml` beside it. A running sidecar takes up what is marked `HOT` at SIGHUP;
the rest needs a restart, which agents survive.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from agentcom.model import settings
from agentcom.model.errors import AgentComError
from agentcom.model.settings import Layer, Problem, Value
from agentcom.sidecar.config import Config, Settings

FILE_NAME: Final = "sidecar.toml"
ENVIRONMENT_PREFIX: Final = "AGENTCOM_SIDECAR_"
STORED: Final = "machine.json"

log = structlog.get_logger(__name__)


class SettingsInvalid(AgentComError):
    """The machine's settings cannot be used; the message names them."""

    code = "settings_invalid"
    status = 500


class Examined(NamedTuple):
    """The settings of a machine before anybody has said that they will do."""

    values: Mapping[str, Value]
    problems: Sequence[Problem]


def examine(
    root: Path,
    stored: Settings,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Examined:
    """Return what each setting of the machine in `root` would be, and all that is wrong."""
    layer, problems = _read(file or root / FILE_NAME, wanted=file is not None)
    layers = [
        Layer(STORED, msgspec.to_builtins(stored)),
        layer,
        *settings.from_environment(
            Settings, os.environ if environment is None else environment, ENVIRONMENT_PREFIX
        ),
    ]
    values, more = settings.resolve(Settings, layers, _decode)
    return Examined(values, [*problems, *more])


def effective(config: Config, *, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that a sidecar with `config` runs with.

    Raises:
        SettingsInvalid: the message has everything that is wrong.
    """
    stored = config.home.load().machine.settings
    examined = examine(config.home.root, stored, environment=environment)
    if examined.problems:
        raise SettingsInvalid("; ".join(map(str, examined.problems)))
    return settings.build(Settings, examined.values)


def started(config: Config) -> Config:
    """Return `config` as a sidecar begins with it; raises as `effective`."""
    machine = msgspec.structs.replace(config.machine, settings=effective(config))
    return msgspec.structs.replace(config, machine=machine)


def reload(config: Config) -> None:
    """Take up what differs and is hot; say what needs a restart. What cannot be used is kept out.

    Runs on a signal, so nothing is raised.
    """
    now = config.machine.settings
    try:
        wanted = effective(config)
    except (AgentComError, OSError) as error:
        log.warning("sidecar.settings_kept", reason=str(error))
        return
    differ = settings.changed(now, wanted)
    hot = [it.name for it in differ if it.hot]
    renewed = settings.mixed(now, wanted, hot)
    config.machine = msgspec.structs.replace(config.machine, settings=renewed)
    restart = [it.name for it in differ if not it.hot]
    log.info("sidecar.reloaded", applied=hot, restart=restart)


def _read(path: Path, *, wanted: bool) -> tuple[Layer, list[Problem]]:
    origin = str(path)
    try:
        return settings.parse(origin, path.read_bytes(), path.stat().st_mode)
    except FileNotFoundError:
        missing = [Problem("", origin, "there is no settings file")] if wanted else []
        return Layer(origin, {}), missing
    except OSError as error:
        return Layer(origin, {}), [Problem("", origin, f"it cannot be read: {error.strerror}")]


def _decode(kind: type, _value: Any) -> object:
    raise NotImplementedError(kind)
