"""Shapes and classes: equal needs and equal offers become small numbers, compared once.

Tasks and agents are many, but their distinct needs (shapes) and distinct capabilities (classes)
are few. Which class can run which shape is kept as bitsets both ways and updated when a shape or
a class appears or goes, so matching never looks at a requirement.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import ClassVar, Final, Generic, NamedTuple, NewType, TypeVar

from agentcom.model.errors import AgentComError
from agentcom.model.requirement import Capability, Requirement, holds, satisfies

ShapeId = NewType("ShapeId", int)
ClassId = NewType("ClassId", int)

SHAPES_MAX: Final = 1_500
"""Live shapes: an agent that becomes ready looks at the head of each one that it can run."""
CLASSES_MAX: Final = 1_000
"""Live classes: a new shape is compared with each of them."""
UNUSED_MAX: Final = 64
"""Shapes (and classes) kept without a user: one that comes and goes is not compared each time."""

_Key = TypeVar("_Key")
_Id = TypeVar("_Id", ShapeId, ClassId)


class TooManyShapes(AgentComError):
    """The live tasks have too many different sets of needs: make them alike, or use two pools."""

    code: ClassVar[str] = "too_many_shapes"
    status: ClassVar[int] = 429


class TooManyClasses(AgentComError):
    """The agents have too many different sets of capabilities: make them alike."""

    code: ClassVar[str] = "too_many_classes"
    status: ClassVar[int] = 429


class Wants(NamedTuple):
    """What tasks of one shape ask for, and what they tell agents that do not take everything."""

    needs: tuple[Requirement, ...]
    about: tuple[Capability, ...] = ()
    """Project, submitter, kind: as far as some agent asks for them."""
    uses: tuple[tuple[str, int], ...] = ()
    """Amounts of the machine's named resources."""


class Offers(NamedTuple):
    """What agents of one class have, and what they take."""

    capabilities: tuple[Capability, ...]
    accepts: tuple[Requirement, ...] = ()
    capacity: tuple[tuple[str, int], ...] = ()


class Shapes:
    """Interns needs and capabilities, and knows which class can run which shape.

    `shape_of` and `class_of` only intern. Whoever keeps an id retains it before it interns the
    next one, and releases it in the end. An id without a user stays valid until `sweep`, so a
    `release` is undone by `retain`; the owner sweeps when nothing is left to undo.
    """

    __slots__ = (
        "_bits",
        "_class_lists",
        "_classes",
        "_classes_of",
        "_offers",
        "_shapes",
        "_shapes_of",
        "_strict",
        "_users",
    )

    def __init__(self, *, shapes_max: int = SHAPES_MAX, classes_max: int = CLASSES_MAX) -> None:
        self._shapes: _Table[Wants, ShapeId] = _Table(shapes_max)
        self._classes: _Table[Offers, ClassId] = _Table(classes_max)
        self._strict = 0
        """The classes that do not take everything: bit n stands for class n."""
        self._classes_of: dict[ShapeId, int] = {}
        self._shapes_of: dict[ClassId, set[ShapeId]] = {}
        self._class_lists: dict[ShapeId, tuple[ClassId, ...]] = {}
        self._offers: dict[ClassId, dict[str, list[str]]] = {}
        # Each distinct requirement is compared with a class once, however many shapes share it.
        self._bits: dict[Requirement, int] = {}
        self._users: dict[Requirement, int] = {}

    @property
    def live_shapes(self) -> int:
        """How many shapes are in use."""
        return self._shapes.live

    @property
    def live_classes(self) -> int:
        """How many classes are in use."""
        return self._classes.live

    def shape_of(self, wants: Wants) -> ShapeId:
        """Return the shape of canonical `wants`.

        Raises:
            TooManyShapes: it would be one live shape too many.
        """
        shape = self._shapes.find(wants)
        if shape is not None and self._shapes.in_use(shape):
            return shape
        if self._shapes.full(known=shape is not None):
            raise TooManyShapes
        if shape is not None:
            return shape
        return self._learn_shape(ShapeId(self._shapes.next_id()), wants)

    def class_of(self, offers: Offers) -> ClassId:
        """Return the class of canonical `offers`.

        Raises:
            TooManyClasses: it would be one live class too many.
        """
        class_id = self._classes.find(offers)
        if class_id is not None and self._classes.in_use(class_id):
            return class_id
        if self._classes.full(known=class_id is not None):
            raise TooManyClasses
        if class_id is not None:
            return class_id
        return self._learn_class(ClassId(self._classes.next_id()), offers)

    def retain(self, shape: ShapeId) -> None:
        """Count one more user of `shape`."""
        self._shapes.retain(shape)

    def release(self, shape: ShapeId) -> int:
        """Count one user of `shape` less; return how many are left."""
        return self._shapes.release(shape)

    def retain_class(self, class_id: ClassId) -> None:
        """Count one more user of `class_id`."""
        self._classes.retain(class_id)

    def release_class(self, class_id: ClassId) -> None:
        """Count one user of `class_id` less."""
        self._classes.release(class_id)

    def sweep(self) -> None:
        """Forget shapes and classes that have no user, save the latest few; their ids return."""
        for shape, wants in self._shapes.sweep():
            self._forget_shape(shape, wants.needs)
        for class_id, _ in self._classes.sweep():
            self._forget_class(class_id)

    def wants(self, shape: ShapeId) -> Wants:
        """Return what `shape` stands for."""
        return self._shapes.keys[shape]

    def offers(self, class_id: ClassId) -> Offers:
        """Return what `class_id` stands for."""
        return self._classes.keys[class_id]

    def compatible_classes(self, shape: ShapeId) -> int:
        """Return the classes that can run `shape`: bit n stands for class n."""
        return self._classes_of[shape]

    def compatible_shapes(self, class_id: ClassId) -> AbstractSet[ShapeId]:
        """Return the shapes that `class_id` can run, as a view that follows later changes."""
        return self._shapes_of[class_id]

    def class_list(self, shape: ShapeId) -> tuple[ClassId, ...]:
        """Return the classes that can run `shape`, lowest first."""
        classes = self._class_lists.get(shape)
        if classes is None:
            classes = tuple(_classes_in(self._classes_of[shape]))
            self._class_lists[shape] = classes
        return classes

    def missing(self, shape: ShapeId, class_id: ClassId) -> tuple[str, ...]:
        """Return what tasks of a shape want and agents of a class have not."""
        wants, offers = self.wants(shape), self.offers(class_id)
        lacks = [str(need) for need in wants.needs if not satisfies(offers.capabilities, need)]
        capacity = dict(offers.capacity)
        small = [f"{name}={much}" for name, much in wants.uses if capacity.get(name, 0) < much]
        return (*lacks, *small)

    def refused(self, shape: ShapeId, class_id: ClassId) -> tuple[str, ...]:
        """Return what agents of a class ask for and tasks of a shape are not."""
        wants, offers = self.wants(shape), self.offers(class_id)
        return tuple(str(rule) for rule in offers.accepts if not satisfies(wants.about, rule))

    def _learn_shape(self, shape: ShapeId, wants: Wants) -> ShapeId:
        self._shapes.add(shape, wants)
        classes = sum(1 << class_id for class_id in self._offers)
        for need in wants.needs:
            classes &= self._use(need)
        for class_id in _classes_in(classes if wants.uses else classes & self._strict):
            if not _suits(self.offers(class_id), wants):
                classes &= ~(1 << class_id)
        self._classes_of[shape] = classes
        for class_id in _classes_in(classes):
            self._shapes_of[class_id].add(shape)
        return shape

    def _use(self, need: Requirement) -> int:
        self._users[need] = self._users.get(need, 0) + 1
        bits = self._bits.get(need)
        if bits is None:
            offers = self._offers.items()
            bits = sum(1 << c for c, offer in offers if holds(offer.get(need.name, ()), need))
            self._bits[need] = bits
        return bits

    def _learn_class(self, class_id: ClassId, offers: Offers) -> ClassId:
        self._classes.add(class_id, offers)
        offer: dict[str, list[str]] = {}
        for capability in offers.capabilities:
            offer.setdefault(capability.name, []).append(capability.value)
        self._offers[class_id] = offer
        met = {need for need in self._bits if holds(offer.get(need.name, ()), need)}
        bit = 1 << class_id
        for need in met:
            self._bits[need] |= bit
        if offers.accepts:
            self._strict |= bit
        runs = {
            shape
            for shape, wants in self._shapes.keys.items()
            if met.issuperset(wants.needs) and _suits(offers, wants)
        }
        for shape in runs:
            self._classes_of[shape] |= bit
        self._shapes_of[class_id] = runs
        self._class_lists.clear()
        return class_id

    def _forget_shape(self, shape: ShapeId, needs: tuple[Requirement, ...]) -> None:
        for class_id in _classes_in(self._classes_of.pop(shape)):
            self._shapes_of[class_id].discard(shape)
        self._class_lists.pop(shape, None)
        for need in needs:
            self._users[need] -= 1
            if not self._users[need]:
                del self._users[need], self._bits[need]

    def _forget_class(self, class_id: ClassId) -> None:
        others = ~(1 << class_id)
        self._strict &= others
        for shape in self._shapes_of.pop(class_id):
            self._classes_of[shape] &= others
        for need in self._bits:
            self._bits[need] &= others
        del self._offers[class_id]
        self._class_lists.clear()


def _suits(offers: Offers, wants: Wants) -> bool:
    """Return whether agents take such tasks, and their machines are large enough at all."""
    if any(not satisfies(wants.about, rule) for rule in offers.accepts):
        return False
    capacity = dict(offers.capacity) if wants.uses else {}
    return all(capacity.get(name, 0) >= much for name, much in wants.uses)


class _Table(Generic[_Key, _Id]):
    """Numbers for keys, counted by their users and given out again after a sweep."""

    __slots__ = ("_ids", "_live_max", "_refs", "_spare", "_unused", "keys")

    def __init__(self, live_max: int) -> None:
        self._live_max = live_max
        self._ids: dict[_Key, _Id] = {}
        self.keys: dict[_Id, _Key] = {}
        self._refs: dict[_Id, int] = {}
        self._unused: dict[_Id, None] = {}
        self._spare: list[int] = []

    @property
    def live(self) -> int:
        return len(self.keys) - len(self._unused)

    def find(self, key: _Key) -> _Id | None:
        return self._ids.get(key)

    def in_use(self, number: _Id) -> bool:
        return self._refs[number] > 0

    def full(self, *, known: bool) -> bool:
        # The second bound holds even for an owner that never sweeps.
        if self.live >= self._live_max:
            return True
        return not known and len(self.keys) >= 2 * self._live_max + UNUSED_MAX

    def next_id(self) -> int:
        return self._spare[-1] if self._spare else len(self.keys)

    def add(self, number: _Id, key: _Key) -> None:
        if self._spare:
            self._spare.pop()
        self._ids[key] = number
        self.keys[number] = key
        self._refs[number] = 0
        self._unused[number] = None

    def retain(self, number: _Id) -> None:
        users = self._refs[number]
        if not users:
            del self._unused[number]
        self._refs[number] = users + 1

    def release(self, number: _Id) -> int:
        left = self._refs[number] - 1
        assert left >= 0, f"id {number} was released more often than retained"
        self._refs[number] = left
        if not left:
            self._unused[number] = None
        return left

    def sweep(self) -> list[tuple[_Id, _Key]]:
        if len(self._unused) <= UNUSED_MAX:
            return []
        oldest = list(self._unused)[: len(self._unused) - UNUSED_MAX]
        return [(number, self._drop(number)) for number in oldest]

    def _drop(self, number: _Id) -> _Key:
        key = self.keys.pop(number)
        del self._ids[key], self._refs[number], self._unused[number]
        self._spare.append(number)
        return key


def _classes_in(bits: int) -> Iterator[ClassId]:
    while bits:
        lowest = bits & -bits
        yield ClassId(lowest.bit_length() - 1)
        bits ^= lowest
