"""What is secret of destinations: a file for each, apart from the store and its copies.

Never shown, and never logged: a `Secret` says nothing of itself.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = "notify"
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


class Secret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a destination needs and nobody else may see."""

    url: str = ""
    """The whole address, which for chats is a secret itself."""
    token: str = ""
    """Of a bot."""
    password: str = ""
    """Of a mail server."""
    keys: tuple[str, ...] = ()
    """By which a webhook's requests are signed: the newest, and the one before."""

    def __repr__(self) -> str:
        return "Secret(...)"


class Secrets:
    """The secrets of one hub."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def read(self, name: str) -> Secret | None:
        """Return a destination's secret; None if it is not here, as after a restore elsewhere."""
        try:
            return msgspec.json.decode((self._folder / f"{name}.json").read_bytes(), type=Secret)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, name: str, secret: Secret) -> None:
        """Keep a secret; nobody ever sees half of one."""
        self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:  # made with mode 0600
                file.write(msgspec.json.encode(secret))
                file.flush()
                os.fsync(file.fileno())
            Path(path).replace(self._folder / f"{name}.json")
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        """Forget a secret."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)
