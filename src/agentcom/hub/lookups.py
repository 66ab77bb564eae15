"""The stored rows that decisions need beside the live view."""

from collections.abc import Sequence
from typing import Final

import msgspec

from agentcom.core import pool
from agentcom.core.facts import Fact
from agentcom.core.view import PoolView
from agentcom.store.base import Store

_ROUNDS_MAX: Final = 4  # of `wanted`: what a fact needs, then what that needs


async def found(store: Store, view: PoolView, batch: Sequence[Fact]) -> Sequence[Fact]:
    """Return the facts of a batch with what `decide` looks up for each."""
    wants = {at: keys for at, fact in enumerate(batch) if (keys := pool.wanted(view, fact))}
    if not wants:
        return batch
    batch = list(batch)
    for _ in range(_ROUNDS_MAX):
        keys = list({key: None for want in wants.values() for key in want})
        stored = await store.get(keys)
        if not any(stored):
            break  # what is not there leads to nothing more, and is found as well without it
        rows = dict(zip(keys, stored, strict=True))
        for at, want in wants.items():
            fact, got = batch[at], {key: rows[key] for key in want}
            batch[at] = msgspec.structs.replace(
                fact, found={**fact.found, **got} if fact.found else got
            )
        wants = {at: more for at in wants if (more := pool.wanted(view, batch[at]))}
        if not wants:
            break
    return batch
