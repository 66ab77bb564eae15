"""Following mailboxes and channels live: what may be followed, and from where on.

Whoever loses the right to see a channel gets nothing more of it, from the very next post on.
"""

from collections.abc import Callable, Sequence
from typing import Final

from agentcom.hub.channels_members import Members
from agentcom.hub.feeds import Sink
from agentcom.hub.followers import Following
from agentcom.hub.logs import Logs
from agentcom.hub.speaking import Speaker
from agentcom.model import policy
from agentcom.model.errors import CursorAhead, InvalidInput, NotFound
from agentcom.model.message import channel_log, mail_log
from agentcom.model.policy import Action
from agentcom.model.replies import Done, Followed
from agentcom.protocol.live import CHANNEL, MAIL

ENDED: Final = "you do not see this channel any more"


class Listening:
    """All who follow mailboxes and channels."""

    def __init__(self, logs: Logs, members: Members) -> None:
        self._logs = logs
        self._members = members
        self.on_delivered: Callable[[str, int], None] = lambda _log, _seq: None
        """Called with each letter of a mailbox that went to a program of its owner."""

    @staticmethod
    def has(name: str) -> bool:
        """Return whether a log of this name is followed here."""
        return name == MAIL or name.startswith(CHANNEL)

    async def check(self, who: Speaker, name: str, after: int | None) -> int:
        """Return from where on someone follows a log; `after` None: from its newest letter on.

        Raises:
            NotFound: there is no such channel, or it is not for them.
            CursorAhead: the log does not go so far.
        """
        own = name == MAIL
        policy.authorize(
            who.identity,
            Action.MESSAGE_READ if own else Action.CHANNEL_READ,
            owner=who.identity.user,
        )
        if not own:
            await self._members.place(who, name.removeprefix(CHANNEL))
        newest = await self._logs.newest(_log_of(who, name))
        if after is not None and after > newest:
            raise CursorAhead("after", f"the newest letter of {name} is {newest}")
        return newest if after is None else after

    async def follow(
        self, who: Speaker, name: str, sink: Sink, *, after: int | None, ended: Callable[[], None]
    ) -> "Listener":
        """Return a follower that begins when it is told to; `ended` tells it that it must not.

        Raises as `check`.
        """
        log = _log_of(who, name)
        if name == MAIL:
            sink = _Noting(sink, lambda seq: self.on_delivered(log, seq))
        following = Following(sink, log, name, owner=who.address, ended=ended)
        followers = self._logs.followers
        followers.enter(following)  # before the look, so that what ends it meanwhile is not missed
        try:
            start = await self.check(who, name, after)
        except BaseException:
            followers.leave(following)
            raise
        if following.over:
            raise NotFound(ENDED)
        return Listener(self._logs, following, start)


class Listener:
    """One follower of a mailbox or channel."""

    def __init__(self, logs: Logs, following: Following, after: int) -> None:
        self._followers = logs.followers
        self._following = following
        self.reply: Done = Followed(after=after)
        self._after = after

    def begin(self) -> None:
        """Bring what is stored, and then what comes."""
        self._followers.begin(self._following, self._after)

    def leave(self) -> None:
        """End it."""
        self._followers.leave(self._following)


class _Noting:
    """Tells of each letter that went out; else it is the sink behind it."""

    def __init__(self, sink: Sink, note: Callable[[int], None]) -> None:
        self._sink = sink
        self._note = note
        self.activity = sink.activity
        self.too_slow = sink.too_slow

    @property
    def buffered_bytes(self) -> int:
        return self._sink.buffered_bytes

    def records(self, first: int, payloads: Sequence[bytes], *, at_once: bool = False) -> None:
        self._sink.records(first, payloads, at_once=at_once)
        for seq in range(first, first + len(payloads)):
            self._note(seq)


def _log_of(who: Speaker, name: str) -> str:
    """Return the log that someone means by a name."""
    if name == MAIL:
        return mail_log(who.project, who.address)
    kind, _, channel = name.partition("/")
    if f"{kind}/" != CHANNEL or not channel:
        raise InvalidInput("log", "use mail, or channel/<name>")
    return channel_log(who.project, channel)
