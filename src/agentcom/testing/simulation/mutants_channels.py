"""Planted bugs of channels."""

from typing import Final

from agentcom.testing.simulation.planting import Mutant

CHANNELS: Final = (
    Mutant(
        "a private channel is open",
        "who is no member reads what is none of their business",
        "agentcom.hub.channels_members",
        "        if channel.kind is ChannelKind.PRIVATE and reader is None:\n",
        "        if channel.kind is ChannelKind.PRIVATE and channel.deleted_at is not None:\n",
    ),
    Mutant(
        "a reader's place goes back",
        "what was read is unread again",
        "agentcom.hub.channels_posts",
        "            if joined and reader.seen < seq:\n",
        "            if joined and reader.seen != seq:\n",
        seed=10,
    ),
    Mutant(
        "a page leaves a post out",
        "who reads page by page misses what others agreed on",
        "agentcom.hub.channels_posts",
        "        letters = found[: min(fit, call.limit)]\n",
        "        letters = found[len(found) > call.limit : min(fit, call.limit) + 1]\n",
    ),
)
