"""What a hub answers when its settings were read again."""

import msgspec


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """Names of settings that differ from those the hub runs with."""

    applied: tuple[str, ...]
    """In force now."""
    restart: tuple[str, ...] = ()
    """In force when the hub starts anew; until then the old ones are."""
