"""Planted bugs of locks."""

from typing import Final

from agentcom.testing.simulation.planting import Mutant

_LOCKS: Final = "agentcom.core.locks"
_LOCKING: Final = "agentcom.core.locking"
_HOLDING: Final = "agentcom.core.holding"

LOCKS: Final = (
    Mutant(
        "locks outlive their attempt",
        "a file stays locked by an agent that has gone on to other work",
        _HOLDING,
        "        locking.end(ledger, was)\n",
        "        pass\n",
    ),
    Mutant(
        "shared beside alone",
        "one reads what another, who was promised to be alone, is writing",
        _LOCKS,
        "    return not (one.shared and other.shared) and globs.overlap(one.globs, other.globs)",
        "    return not (one.shared or other.shared) and globs.overlap(one.globs, other.globs)",
    ),
    Mutant(
        "a number is given twice",
        "what a lock guards cannot tell the new holder from the old one",
        _LOCKING,
        "    number = max(last + 1, ",
        "    number = max(last, ",
    ),
    Mutant(
        "a restored hub counts on",
        "after a restore an old holder has a higher number than the new one",
        _LOCKING,
        "    number = max(last + 1, view.incarnation * NUMBERS_PER_S)",
        "    number = last + 1",
        often="restore",
    ),
    Mutant(
        "a waiter is overtaken",
        "who wants a lock alone waits for ever while others share it in turn",
        _LOCKS,
        "            first = other.granted_at is not None or other.id < lock.id\n",
        "            first = other.granted_at is not None\n",
    ),
    Mutant(
        "the end of a lock is forgotten",
        "what a person locked for ten minutes is locked for good",
        _LOCKING,
        "    ledger.effects.append(_timer(book.due_at, ledger.now))\n",
        "",
    ),
    Mutant(
        "a restart forgets when locks end",
        "a lock that outlives a crash of the hub is there for good",
        _LOCKING,
        "    if ends:\n        yield",
        "    if False:\n        yield",
        often="hub_crash",
    ),
    Mutant(
        "nobody hears that a lock is free",
        "who waits for an agent's lock goes on waiting when its attempt is over",
        _LOCKING,
        "    for place in places:\n        _settle(ledger, place)\n\n\ndef back(",
        "\n\ndef back(",
    ),
    Mutant(
        "tasks do not look at locks",
        "a task begins to change files that somebody has locked",
        "agentcom.core.gates",
        "        if gate.repo in self.locks.places:\n",
        "        if False:\n",
    ),
    Mutant(
        "locks do not look at tasks",
        "a person is given files that a task at work has claimed",
        _LOCKS,
        "            if task != owner and meet(claim, lock):\n",
        "            if False:\n",
    ),
    Mutant(
        "a circle is let in",
        "two agents wait for each other until somebody looks",
        _LOCKING,
        "    if circle:\n",
        "    if False:\n",
    ),
    Mutant(
        "asking again is asking for another",
        "a retry leaves a second lock behind that nobody gives back",
        _LOCKING,
        "    if known is not None:\n        return _told(view, _renew(",
        "    if False:\n        return _told(view, _renew(",
    ),
)
