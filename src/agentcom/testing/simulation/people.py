"""The fleet's people: they submit, cancel, ask again when in doubt, and follow what happens.

Each has one connection, as the client library keeps it: requests carry keys and are repeated on
the next connection until they are answered; a followed log is resumed by its sequence.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from agentcom.client.link import Backoff
from agentcom.model import errors
from agentcom.model.event import EventKind, TaskEvent
from agentcom.model.failure import OnQuota
from agentcom.model.graph import Approval, Condition, Dependency, OnFailure, ReviewBy
from agentcom.model.ids import TaskId, UserId, WallTime
from agentcom.model.replies import Reply, Submitted
from agentcom.model.task import LandPolicy, TaskSpec
from agentcom.protocol import codec, frames
from agentcom.testing.simulation.kernel import MS, SECOND, Entry, Kernel
from agentcom.testing.simulation.network import Connection, Network
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Trace

ASK_AGAIN_US: Final = 6 * SECOND
DEAF_US: Final = 20 * SECOND
"""Without an answer for so long the connection counts as dead, as TCP's keepalive finds it."""
THINK_US: Final = 22 * SECOND
CLAIMS: Final = (("src/**",), ("src/a.py",), ("docs/*", "src/b/**"))
REPO: Final = "https://git.example/repo.git"
TERMINAL: Final = frozenset({EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED})
_REPLY: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply)

Request = frames.SubmitFrame | frames.CancelFrame | frames.Subscribe


@dataclass(slots=True)
class Asked:
    """A request that has no answer yet."""

    frame: Request
    sent_us: int
    """When it was first sent on this connection."""


@dataclass(slots=True)
class Promises:
    """What the hub has acknowledged to people; what a restore takes back is taken out."""

    tasks: dict[TaskId, int] = field(default_factory=dict)
    """Acknowledged tasks, and how long the journal was then."""
    keys: dict[str, tuple[TaskId, ...]] = field(default_factory=dict)
    cancels: dict[TaskId, int] = field(default_factory=dict)


class Person:
    """One client."""

    def __init__(
        self,
        name: str,
        kernel: Kernel,
        options: Options,
        network: Network,
        promises: Promises,
        trace: Trace,
        *,
        token: str,
        needs: tuple[str, ...],
    ) -> None:
        self.name = UserId(name)
        self.link = network.link(name)
        self.stopped = False
        """True in the liveness phase: it asks for nothing new."""
        self.open: dict[TaskId, None] = {}
        """Its tasks that have not ended, as far as it has heard."""
        self._over: dict[TaskId, None] = {}
        self.seen: dict[int, bytes] = {}
        """What the log of all tasks said at each sequence."""
        self.cursor = 0
        self.journal_length: Callable[[], int] = lambda: 0
        self._token = token
        self._needs = needs
        self._kernel = kernel
        self._options = options
        self._network = network
        self._promises = promises
        self._trace = trace
        self._rng = random.Random(f"{options.seed}/{name}")
        self._backoff = Backoff(self._rng)
        self._connection: Connection | None = None
        self._ready = False
        self._asked: dict[str, Asked] = {}
        self._number = 0
        self._watchdog: Entry | None = None

    @property
    def waits(self) -> list[Request]:
        """The requests without an answer."""
        return [asked.frame for asked in self._asked.values()]

    def start(self) -> None:
        """Come, and begin to ask."""
        self._dial()
        self._think()

    def forget(self, task: TaskId) -> None:
        """Take note that a restored hub does not know a task any more."""
        self.open.pop(task, None)

    def restored(self) -> None:
        """Begin the log anew: the hub went back in time."""
        self.cursor = 0
        self.seen.clear()

    # Asking ---------------------------------------------------------------------------------------

    def _think(self) -> None:
        pause_us = int(self._rng.expovariate(1 / THINK_US))
        self._kernel.after(pause_us, self._think)
        if self.stopped:
            return
        room = self._options.open_max - len(self.open) - len(self._asked)
        chance = self._rng.random()
        if room > 0 and chance < 0.85:
            self._submit(min(room, 1 if chance < 0.6 else self._rng.randrange(1, 6)))
        elif self.open and 0.85 <= chance < 0.95:
            self._cancel(self._rng.choice(list(self.open)[-self._options.open_max :]))

    def _submit(self, count: int) -> None:
        self._number += 1
        key = f"{self.name}-{self._number}"
        specs = tuple(self._spec(at, count) for at in range(count))
        self.ask(frames.SubmitFrame(key=key, tasks=specs))
        if self._rng.random() < 0.1:
            again = int(self._rng.random() * 60 * SECOND)
            self._kernel.after(again, self.ask, frames.SubmitFrame(key=key, tasks=specs))

    def _cancel(self, task: TaskId) -> None:
        self._number += 1
        self.ask(frames.CancelFrame(key=f"{self.name}-{self._number}", task=task))

    def cancel_all(self) -> None:
        """Cancel every open task."""
        for task in list(self.open):
            self._cancel(task)

    def _spec(self, at: int, count: int) -> TaskSpec:
        rng = self._rng
        merges = rng.random() < self._options.merges
        depends: tuple[Dependency, ...] = ()
        if at and rng.random() < 0.5:
            condition = Condition.ANY_END if rng.random() < 0.3 else Condition.SUCCESS
            depends = (Dependency(f"r{rng.randrange(at)}", condition),)
        wall = 1_700_000_000_000 + self._kernel.now_us // MS
        later = rng.random() < 0.05
        needs = (rng.choice(self._needs),) if self._needs and rng.random() < 0.3 else ()
        spec = TaskSpec(
            title=f"work {self._number}.{at}",
            prompt="do it",
            priority=rng.choice((0, 0, 0, 1, -1, 3, 10)),
            emergency=rng.random() < 0.02,
            depends_on=depends,
            ref=f"r{at}" if count > 1 else None,
            repo=REPO if merges or rng.random() < 0.5 else None,
            land=self._policy() if merges else None,
            not_before=WallTime(wall + rng.randrange(90_000)) if later else None,
            deadline_ms=rng.choice((120_000, 300_000, 600_000)),
            failures_max=rng.choice((1, 3, 3)),
            on_quota=OnQuota.WAIT if self._number % 3 == 0 else OnQuota.MOVE,
            labels={"person": "yes"} if rng.random() < 0.02 else {},
            **{"needs": needs, **(self._placed() if self._options.limits else {})},
        )
        graphs = self._options.graphs
        return self._in_graph(spec, at) if graphs and rng.random() < graphs else spec

    def _policy(self) -> LandPolicy:
        reviews = self._options.reviews
        reviewed = reviews and self._rng.random() < reviews
        if reviewed:
            return LandPolicy.PULL_REQUEST
        return LandPolicy.QUEUE if self._number % 3 else LandPolicy.MERGE

    def _in_graph(self, spec: TaskSpec, at: int) -> TaskSpec:
        """Return a task with a group, and a policy, a review or an approval."""
        rng = self._rng
        spec = msgspec.structs.replace(spec, group=f"{self.name}-{self._number % 5}")
        known = [f"r{before}" for before in range(at)] or list(self.open)[-5:]
        if known and rng.random() < 0.5:
            of, by = rng.choice(known), rng.choice(list(ReviewBy))
            return msgspec.structs.replace(spec, reviews=of, review_by=by, needs=())
        if rng.random() < 0.05:
            approval = Approval.PERSON
            return msgspec.structs.replace(spec, approval=approval, needs=(), emergency=False)
        depends = tuple(
            Dependency(one.task, one.condition, rng.choice(list(OnFailure)), rng.random() < 0.5)
            for one in spec.depends_on
        )
        return msgspec.structs.replace(spec, depends_on=depends)

    def _placed(self) -> dict[str, Any]:
        """Return what some tasks ask of their place, and what they share."""
        rng = self._rng
        fields: dict[str, Any] = {}
        if rng.random() < 0.3:
            fields["keys"] = (rng.choice("ab"),)
        if rng.random() < 0.3:
            fields["scope"] = rng.choice(CLAIMS)
            fields["scope_shared"] = rng.random() < 0.3
        if rng.random() < 0.2:
            fields["uses"] = {"cpu": rng.choice((1, 2))}
        if rng.random() < 0.1:
            fields["needs"] = ("agent!=agent-m1",)
        if rng.random() < 0.2:
            fields["prefers"] = rng.choice((("spread",), ("gpu*2",)))
        return fields

    def ask(self, frame: Request) -> None:
        """Ask, and go on asking until there is an answer."""
        self._asked.setdefault(frame.key, Asked(frame, self._kernel.now_us))
        self._send(frame)
        if self._watchdog is None:
            self._watchdog = self._kernel.after(ASK_AGAIN_US, self._again)

    def _again(self) -> None:
        self._watchdog = None
        if not self._asked:
            return
        oldest = min(asked.sent_us for asked in self._asked.values())
        if self._connection is not None and self._kernel.now_us - oldest > DEAF_US:
            self._give_up(self._connection)
        for asked in list(self._asked.values()):
            if not isinstance(asked.frame, frames.Subscribe):  # that would begin it anew
                self._send(asked.frame)
        self._watchdog = self._kernel.after(ASK_AGAIN_US, self._again)

    def _send(self, frame: frames.FromClient) -> None:
        if self._connection is not None and (self._ready or isinstance(frame, frames.Hello)):
            self._network.send(self._connection, codec.encode(frame))

    # The connection -------------------------------------------------------------------------------

    def _dial(self) -> None:
        if self._connection is None:
            self._network.dial(self.link, self._token, self, in_order=True)

    def opened(self, connection: Connection) -> None:
        """The hub took the upgrade."""
        self._connection = connection
        self._ready = False
        self._send(frames.Hello(software="simulated"))
        self._kernel.after(ASK_AGAIN_US, self._not_ready, connection)

    def refused(self) -> None:
        """There is no hub, or it cannot be reached."""
        self._kernel.after(self._backoff.next_ms() * MS, self._dial)

    def closed(self, connection: Connection, _code: int, _reason: str) -> None:
        """The connection is gone."""
        if connection is self._connection:
            self._connection = None
            self._ready = False
            self._kernel.after(self._backoff.next_ms() * MS, self._dial)

    def received(self, connection: Connection, payload: bytes) -> None:
        """A frame came."""
        if connection is not self._connection:
            return
        try:
            frame = codec.decode_from_hub(payload)
        except errors.AgentComError:
            return
        match frame:
            case frames.Ready():
                self._begin()
            case frames.ReplyFrame(key=key, reply=reply):
                self._answered(key, _REPLY.decode(bytes(reply)))
            case frames.ErrorFrame(key=str(key), code=code):
                self._refused(key, code)
            case frames.EventFrame():
                self._event(frame)
            case frames.Drain(retry_after_ms=after_ms):
                self._backoff.hint(after_ms)
            case _:
                pass

    def _not_ready(self, connection: Connection) -> None:
        if connection is self._connection and not self._ready:
            self._give_up(connection)

    def _give_up(self, connection: Connection) -> None:
        self._network.abort(connection)
        self.closed(connection, 1006, "")

    def _begin(self) -> None:
        if self._ready:
            return
        self._ready = True
        self._backoff.settle()
        follow = frames.Subscribe(key=f"{self.name}-log", log="*", after=self.cursor)
        self._asked[follow.key] = Asked(follow, self._kernel.now_us)
        for asked in list(self._asked.values()):
            asked.sent_us = self._kernel.now_us
            self._send(asked.frame)
        if self._watchdog is None:
            self._watchdog = self._kernel.after(ASK_AGAIN_US, self._again)

    # What the hub says ----------------------------------------------------------------------------

    def _answered(self, key: str, reply: Reply) -> None:
        asked = self._asked.pop(key, None)
        promises = self._promises
        if isinstance(reply, Submitted):
            known = promises.keys.setdefault(key, reply.tasks)
            self._trace.check("I2 one key, one set of tasks", known == reply.tasks, key)
            for task in reply.tasks:
                if task not in promises.tasks:
                    promises.tasks[task] = self.journal_length()
                    if task not in self._over:
                        self.open[task] = None
        elif asked is not None and isinstance(asked.frame, frames.CancelFrame):
            promises.cancels.setdefault(asked.frame.task, self.journal_length())

    def _refused(self, key: str, code: str) -> None:
        asked = self._asked.get(key)
        if asked is None or code in ("unavailable", "storage_full", "rate_limited", "timeout"):
            return  # asked again by and by
        del self._asked[key]
        if isinstance(asked.frame, frames.Subscribe):
            self.restored()
            self._begin_again()
            return
        self._trace.counts[f"refused: {code}"] += 1
        if isinstance(asked.frame, frames.CancelFrame) and code == "not_found":
            self.open.pop(asked.frame.task, None)

    def _begin_again(self) -> None:
        if self._connection is not None:
            self._give_up(self._connection)

    def _event(self, frame: frames.EventFrame) -> None:
        said = msgspec.json.encode(frame.event)
        if frame.seq in self.seen:
            same = self.seen[frame.seq] == said
            self._trace.check("I7 a record never changes", same, frame.seq)
        if frame.seq <= self.cursor:
            return
        next_one = frame.seq == self.cursor + 1
        self._trace.check("I7 no gap in a followed log", next_one, (self.cursor, frame.seq))
        self.cursor = frame.seq
        self.seen[frame.seq] = said
        self._ended(frame.event)

    def _ended(self, event: TaskEvent) -> None:
        if event.kind in TERMINAL and event.state.terminal:
            self.open.pop(event.task, None)
            self._over[event.task] = None
