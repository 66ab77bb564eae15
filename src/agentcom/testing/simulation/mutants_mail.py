"""Planted bugs of mail."""

from typing import Final

from agentcom.testing.simulation.planting import Mutant

_MAIL: Final = "agentcom.core.mail"
_WAKING: Final = "agentcom.core.waking"
_BOXES: Final = "agentcom.hub.mailboxes"
_LOGS: Final = "agentcom.hub.logs"

MAIL: Final = (
    Mutant(
        "sent before it is stored",
        "a message that was acknowledged to its sender is lost with the hub",
        "agentcom.hub.writing",
        "                if await self._write(draft, who, asked, answer):\n",
        "                if await self._write(draft, who, asked, answer) or True:\n",
    ),
    Mutant(
        "a repeat is another message",
        "who is not sure whether it was sent sends it twice",
        "agentcom.hub.talk",
        "        if key is not None and rule.changes:\n",
        "        if key is not None and False:\n",
    ),
    Mutant(
        "a number is left out",
        "a reader waits for a message that there never was",
        _LOGS,
        "        seq = head.seq + 1\n",
        "        seq = head.seq + 1 + (head.seq == 7)\n",
    ),
    Mutant(
        "a mailbox does not count",
        "nobody is told that a mailbox is full, and the disk is",
        _LOGS,
        "            open=head.open + kept,\n",
        "            open=head.open + (kept and head.seq < 5),\n",
    ),
    Mutant(
        "bytes are not given back",
        "a mailbox that was read is full all the same",
        _BOXES,
        "                size += entry.bytes * after.state.over\n",
        "",
    ),
    Mutant(
        "mail goes back",
        "what was acknowledged comes again",
        _MAIL,
        "    if entry.state.over or _RANK[state] <= _RANK[entry.state]:\n",
        "    if state is entry.state:\n",
    ),
    Mutant(
        "settled too far",
        "a letter that nobody took is never shown again",
        _BOXES,
        "                if isinstance(now, Entry) and not now.state.over:\n",
        "                if isinstance(now, Entry) and not now.state.over and row.seq % 5:\n",
    ),
    Mutant(
        "passing takes all",
        "what has to be acknowledged by name is taken by reading on",
        _BOXES,
        "                elif not (isinstance(message, Message) and message.ack_required):\n",
        "                else:\n",
    ),
    Mutant(
        "reading begins where it ended",
        "what has to be acknowledged by name is shown once only",
        "agentcom.hub.mail",
        "        start = (0 if call.all else head.settled) if call.after is None else call.after\n",
        "        start = (0 if call.all else head.passed) if call.after is None else call.after\n",
    ),
    Mutant(
        "a page is cut off",
        "letters between two pages are lost",
        _BOXES,
        "                after = letter.seq\n",
        "                after = letter.seq + len(found) % 2\n",
    ),
    Mutant(
        "broadcasts wake",
        "one message costs a turn of every agent",
        _WAKING,
        "_CALLING: Final = frozenset({Why.DIRECT, Why.MENTION, Why.NOTICE})\n",
        "_CALLING: Final = frozenset(Why)\n",
    ),
    Mutant(
        "everything wakes",
        "what may wait costs a turn",
        _WAKING,
        "        and message.urgency >= Urgency.NORMAL\n",
        "",
    ),
    Mutant(
        "nothing expires",
        "mail that is over stays in its mailbox for ever",
        "agentcom.hub.mail_expiry",
        "        if message is None or mail.is_late(place.state, message, now):\n",
        "        if message is None:\n",
        seed=5,
    ),
    Mutant(
        "all expires at once",
        "mail is taken back before its time",
        _MAIL,
        "    return not state.over and ends(message) <= now\n",
        "    return not state.over and ends(message) <= now + 86_400_000 * 91\n",
    ),
)
