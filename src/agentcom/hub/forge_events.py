"""Events that a forge sends by itself: hints to look now instead of a few seconds later.

Off unless the operator gave a secret. Nothing of an event is believed but which pull request it
is about: the machine that watches that one asks the forge. So the worst that a forged or repeated
event could do is one more question, and both are refused all the same.
"""

import hashlib
import hmac
import stat
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agentcom.hub.config import ConfigInvalid
from agentcom.model.errors import MalformedInput, NotAuthenticated, NotFound

SECRET_BYTES_MIN: Final = 16
"""A shorter one can be guessed from one event and its signature."""
SECRET_BYTES_MAX: Final = 4_096
REMEMBERED_MAX: Final = 4_096
"""Events that are known again: more than a busy forge sends within an hour."""
_URL_CHARS_MAX: Final = 1_000

Event = dict[str, Any]


class ForgeEvents:
    """Takes events of forges that know the secret."""

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def take(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return the address of the pull request that an event is about; None if it is about none.

        An event that was taken before is about none.

        Raises:
            NotFound: this hub takes no events.
            NotAuthenticated: it is not signed with the secret.
            MalformedInput: it is no event.
        """
        if self._secret is None:
            raise NotFound("this hub takes no events: see `forge_secret` in its settings")
        if not _is_signed(headers, body, self._secret):
            raise NotAuthenticated("the event is not signed with this hub's secret")
        # The forge's number of a delivery is not signed, the body is; times in it make it unlike
        # any other, so the same body is the same event.
        digest = hashlib.sha256(body).digest()
        if digest in self._known:
            return None
        self._known[digest] = None
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        try:
            event = msgspec.json.decode(body, type=Event)
        except msgspec.DecodeError as error:
            raise MalformedInput("an event is a JSON object") from error
        return _address(event)


def read_secret(place: Path | None) -> bytes | None:
    """Return the secret in a file; None if there is no file.

    Raises:
        ConfigInvalid: it cannot be read, others may read it, or it is too short.
    """
    if place is None:
        return None
    try:
        open_to_all = place.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        secret = place.read_bytes()[: SECRET_BYTES_MAX + 1].strip()
    except OSError as error:
        raise ConfigInvalid(f"forge_secret: {place} cannot be read: {error.strerror}") from error
    if open_to_all:
        raise ConfigInvalid(f"forge_secret: others may read {place}; run: chmod 600 {place}")
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise ConfigInvalid(f"forge_secret: {place} must hold {SECRET_BYTES_MIN} bytes or more")
    return secret


def _is_signed(headers: Mapping[str, str], body: bytes, secret: bytes) -> bool:
    """Tell whether the sender knows the secret, by what the three kinds of forges send."""
    wanted = hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
    github = headers.get("x-hub-signature-256", "").removeprefix("sha256=")
    signature = github or headers.get("x-gitea-signature", "")
    if signature:
        return hmac.compare_digest(signature.encode(), wanted)
    return hmac.compare_digest(headers.get("x-gitlab-token", "").encode(), secret)


def _address(event: Event) -> str | None:
    """Return the address of the pull request in an event of any kind of forge."""
    places = (
        ("pull_request", "html_url"),
        ("issue", "pull_request", "html_url"),
        ("issue", "html_url"),
        ("object_attributes", "url"),
    )
    for place in places:
        found: Any = event
        for name in place:
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, str) and found.isprintable():
            return found.partition("#")[0][:_URL_CHARS_MAX]
    return None
