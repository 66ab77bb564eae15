"""What is known of commits: a hash names the same for ever, so git is asked once."""

import functools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from agentcom.model import refs
from agentcom.sidecar.repositories import Cache

T = TypeVar("T")
Ask = Callable[[Cache, str], Awaitable[T]]


def by_commit(most: int) -> Callable[[Ask[T]], Ask[T]]:
    """Have a question about a commit answered from memory; the newest `most` answers are kept.

    A question that raises is asked again.
    """

    def remembering(ask: Ask[T]) -> Ask[T]:
        known: OrderedDict[Hashable, T] = OrderedDict()

        @functools.wraps(ask)
        async def asked(cache: Cache, commit: str) -> T:
            key = (cache.path, refs.check_commit(commit))
            if key not in known:
                known[key] = await ask(cache, commit)
                if len(known) > most:
                    known.popitem(last=False)
            known.move_to_end(key)
            return known[key]

        return asked

    return remembering
