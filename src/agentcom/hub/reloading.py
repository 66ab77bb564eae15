"""Settings that change while the hub runs: read again, compared, and taken up, or kept as a whole.

Each setting that is marked `HOT` has an adjustment: it prepares a change, which may fail, and
returns what makes it. All are prepared before one is made, so a bad value changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Final

import structlog

from agentcom.hub.config import ConfigInvalid, HubConfig
from agentcom.model import settings
from agentcom.model.errors import AgentComError
from agentcom.protocol.settings import Reloaded
from agentcom.telemetry import events

SIGNAL: Final = "SIGHUP"
"""Who asked, when it was a signal."""

Make = Callable[[], None]
Adjust = Callable[[HubConfig], Make]

log = structlog.get_logger(__name__)


class ConfigKept(AgentComError):
    """The hub goes on with the settings that it has: what it was to take up cannot be used."""

    code = "config_kept"
    status = 422


class Reloader:
    """Knows what the hub runs with, and how it can be changed."""

    def __init__(
        self,
        config: HubConfig,
        reread: Callable[[], HubConfig] | None,
        adjustments: Mapping[str, Adjust],
        *,
        around: Callable[[bool], None] = lambda _begins: None,
    ) -> None:
        """`adjustments` by name of a setting, or of a table of them; `around` is told of both ends.

        Without `reread` there is nothing to read again: the hub was started with values.
        """
        self._config = config
        self._reread = reread
        self._adjustments = adjustments
        self._around = around

    def reload(self, *, who: str) -> Reloaded:
        """Take up what differs from the settings of now, and may change.

        Raises:
            ConfigKept: the settings cannot be used; nothing has changed.
        """
        if self._reread is None:
            raise ConfigKept("this hub was started with values, not with a file of settings")
        self._around(True)
        try:
            found = self._take_up(self._reread)
        except AgentComError as error:
            log.warning(events.HUB_SETTINGS_KEPT, who=who, reason=error.message)
            raise ConfigKept(f"the hub keeps its settings: {error.message}") from error
        finally:
            self._around(False)
        log.info(
            events.HUB_RELOADED, who=who, applied=list(found.applied), restart=list(found.restart)
        )
        return found

    def signalled(self) -> None:
        """Reload because a signal said so; a refusal is in the log."""
        try:
            self.reload(who=SIGNAL)
        except ConfigKept:
            return

    def _take_up(self, reread: Callable[[], HubConfig]) -> Reloaded:
        wanted = reread()
        differ = settings.changed(self._config, wanted)
        hot = [it.name for it in differ if it.hot]
        config = settings.mixed(self._config, wanted, hot)
        makes = [adjust(config) for adjust in dict.fromkeys(map(self._adjustment, hot))]
        for make in makes:
            make()
        self._config = config
        return Reloaded(applied=tuple(hot), restart=tuple(it.name for it in differ if not it.hot))

    def _adjustment(self, name: str) -> Adjust:
        known = self._adjustments
        found = known.get(name) or known.get(name.rpartition(".")[0])
        if found is None:
            raise ConfigInvalid(f"setting {name}: nothing takes it up while the hub runs")
        return found
