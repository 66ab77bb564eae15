"""Letters for the agents of this machine: what is here, who is shown what, what the hub is told.

The hub brings letters again until it knows that they were seen, so nothing here outlives the
process. Each letter is shown once: to the attempt of its agent that asks first, or of its task. A
sequence alone names no letter: in another project, or after a restore of the hub, it is another's.
Pure.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agentcom.model import address
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.message import MessageId
from agentcom.protocol import frames
from agentcom.protocol.told import Letter
from agentcom.sidecar.machine_values import Key

LETTERS_KEPT: Final = 1_000
"""Of one agent; what is over that is not taken, and comes again."""
SHOWN_KEPT: Final = 1_000
"""Letters that were shown and are remembered, in case the hub has not heard of it."""
LETTERS_PER_TURN: Final = 20
"""More would be read carelessly; they wait for the next turn."""
BYTES_PER_TURN: Final = 65_536
"""Of bodies; one letter always has room."""


Shown = Mapping[AgentId, Mapping[int, MessageId]]
"""Letters by the box that they came in, and their sequences there."""


def box_of(task: TaskId) -> AgentId:
    """Return the name of a task's box: the hub brings its letters as if it was an agent."""
    return AgentId(address.of_task(task))


def names_of(agent: AgentId, letters: Iterable[Letter]) -> dict[AgentId, dict[int, MessageId]]:
    """Return which messages letters for an agent are."""
    named: dict[AgentId, dict[int, MessageId]] = {}
    for letter in letters:
        told = next((one for one in letter.message.to if address.task_of(one) is not None), None)
        box = agent if told is None else AgentId(told)
        named.setdefault(box, {})[letter.seq] = letter.message.id
    return named


@dataclass(slots=True)
class _Box:
    """Letters of one agent or task, by their sequence in its mailbox."""

    waiting: dict[int, Letter] = field(default_factory=dict)
    handed: dict[int, tuple[Key, Letter]] = field(default_factory=dict)
    """Given to an attempt that has not said yet that its agent has them."""
    shown: dict[int, MessageId] = field(default_factory=dict)

    def has_shown(self, letter: Letter) -> bool:
        return self.shown.get(letter.seq) == letter.message.id

    def has_handed(self, letter: Letter) -> bool:
        known = self.handed.get(letter.seq)
        return known is not None and known[1].message.id == letter.message.id


class Mail:
    """The letters of a machine."""

    def __init__(self, send: Callable[[frames.MailTaken], None]) -> None:
        """`send` brings a word to the hub, if it is there."""
        self._send = send
        self._boxes: dict[AgentId, _Box] = {}
        self._listening: dict[Key, Callable[[], None]] = {}

    def take(self, frame: frames.MailFrame) -> None:
        """Keep the letters that are new, and tell which are here and which were shown."""
        box = self._boxes.setdefault(frame.agent, _Box())
        for letter in [one for one in box.waiting.values() if one.message.id in frame.read]:
            del box.waiting[letter.seq]
        here: list[int] = []
        for letter in frame.letters:
            if box.has_shown(letter):
                continue
            room = letter.seq in box.waiting or len(box.waiting) < LETTERS_KEPT
            if room and not box.has_handed(letter):
                box.waiting[letter.seq] = letter
            if room or box.has_handed(letter):
                here.append(letter.seq)
        seen = [letter.seq for letter in frame.letters if box.has_shown(letter)]
        self._tell(frame.agent, here, seen=False)
        self._tell(frame.agent, seen, seen=True)
        for key, tell in list(self._listening.items()):
            if here and frame.agent == box_of(key.task):
                tell()

    def listen(self, key: Key, tell: Callable[[], None] | None) -> None:
        """Call `tell` when there is a word to the task of an attempt; None: not any more."""
        if tell is None:
            self._listening.pop(key, None)
        else:
            self._listening[key] = tell

    def hand(
        self, agent: AgentId, key: Key, *, waking: bool = False, words: bool = False
    ) -> tuple[Letter, ...]:
        """Return letters for a turn of an attempt, oldest first.

        `waking`: none if none wakes. `words`: only those to whoever works on its task.
        """
        names = (box_of(key.task),) if words else (box_of(key.task), agent)
        boxes = [box for name in names if (box := self._boxes.get(name))]
        waiting = [(box, one) for box in boxes for one in box.waiting.values()]
        if waking and not any(one.wakes for _, one in waiting):
            return ()
        handed: list[tuple[_Box, Letter]] = []
        room = BYTES_PER_TURN
        # Those for which the turn is come first, whatever waited before them.
        for box, letter in sorted(waiting, key=lambda one: (not one[1].wakes, _age(one[1]))):
            room -= len(letter.message.body.encode())
            if handed and (room < 0 or len(handed) >= LETTERS_PER_TURN):
                break
            handed.append((box, letter))
        for box, letter in handed:
            del box.waiting[letter.seq]
            box.handed[letter.seq] = (key, letter)
        return tuple(sorted((letter for _, letter in handed), key=_age))

    def shown(self, letters: Shown) -> None:
        """Take note that an agent has these letters before it."""
        for name, named in letters.items():
            box = self._boxes.setdefault(name, _Box())
            for seq, message in named.items():
                waiting = box.waiting.get(seq)
                if waiting is not None and waiting.message.id == message:
                    del box.waiting[seq]
                box.handed.pop(seq, None)
                box.shown[seq] = message
            while len(box.shown) > SHOWN_KEPT:
                del box.shown[next(iter(box.shown))]
            self._tell(name, named, seen=True)

    def release(self, agent: AgentId, key: Key) -> None:
        """Take back what an attempt was given and did not show."""
        for name in (agent, box_of(key.task)):
            box = self._boxes.get(name)
            for seq, (holder, letter) in list(box.handed.items()) if box is not None else ():
                if box is not None and holder == key:
                    del box.handed[seq]
                    box.waiting[seq] = letter

    def _tell(self, agent: AgentId, seqs: Iterable[int], *, seen: bool) -> None:
        told = tuple(seqs)
        if told:
            self._send(frames.MailTaken(agent=agent, seqs=told, seen=seen))


def _age(letter: Letter) -> tuple[int, int]:
    return letter.message.at, letter.seq
