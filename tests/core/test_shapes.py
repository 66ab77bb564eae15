"""Shapes and classes: interning, counting users, bounds, and compatibility under churn."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentcom.core.shapes import (
    UNUSED_MAX,
    ClassId,
    Offers,
    ShapeId,
    Shapes,
    TooManyClasses,
    TooManyShapes,
    Wants,
)
from agentcom.model.requirement import (
    canonical,
    canonical_capabilities,
    satisfies,
)


def keep_shape(shapes: Shapes, *needs: str) -> ShapeId:
    shape = shapes.shape_of(Wants(canonical(needs)))
    shapes.retain(shape)
    return shape


def keep_class(shapes: Shapes, *offers: str) -> ClassId:
    class_id = shapes.class_of(Offers(canonical_capabilities(offers)))
    shapes.retain_class(class_id)
    return class_id


def sweep_out(shapes: Shapes) -> None:
    """Sweep so that whatever was unused before is gone."""
    for number in range(UNUSED_MAX):
        shapes.release(keep_shape(shapes, f"filler{number}"))
        shapes.release_class(keep_class(shapes, f"filler{number}"))
    shapes.sweep()


def test_equal_needs_share_one_shape() -> None:
    shapes = Shapes()

    assert keep_shape(shapes, "gpu", "os=linux") == keep_shape(shapes, "os=linux", "gpu")
    assert shapes.live_shapes == 1


def test_equal_offers_share_one_class() -> None:
    shapes = Shapes()

    assert keep_class(shapes, "gpu", "a") == keep_class(shapes, "a", "gpu")
    assert shapes.live_classes == 1


def test_a_shape_without_needs_runs_everywhere() -> None:
    shapes = Shapes()
    plain, gpu = keep_class(shapes), keep_class(shapes, "gpu")

    anything = keep_shape(shapes)

    assert shapes.class_list(anything) == (plain, gpu)


def test_compatibility_follows_whichever_side_comes_later() -> None:
    shapes = Shapes()
    early = keep_class(shapes, "python=3.9")
    shape = keep_shape(shapes, "python>=3.10")
    late = keep_class(shapes, "python=3.11")

    assert shapes.compatible_classes(shape) == 1 << late
    assert set(shapes.compatible_shapes(early)) == set()
    assert set(shapes.compatible_shapes(late)) == {shape}


def test_what_is_missing_is_named() -> None:
    shapes = Shapes()
    shape = keep_shape(shapes, "gpu", "os=linux")

    missing = shapes.missing(shape, keep_class(shapes, "os=linux"))

    assert [str(need) for need in missing] == ["gpu"]
    assert shapes.wants(shape).needs == canonical(["gpu", "os=linux"])


def test_a_live_shape_too_many_is_refused_until_one_goes() -> None:
    shapes = Shapes(shapes_max=2)
    first = keep_shape(shapes, "a")
    keep_shape(shapes, "b")

    with pytest.raises(TooManyShapes) as refused:
        keep_shape(shapes, "c")
    shapes.release(first)

    assert refused.value.code == "too_many_shapes"
    assert "needs" in refused.value.message
    assert keep_shape(shapes, "c") != first


def test_an_unused_shape_comes_back_only_below_the_bound() -> None:
    shapes = Shapes(shapes_max=1)
    shapes.release(keep_shape(shapes, "a"))
    keep_shape(shapes, "b")

    with pytest.raises(TooManyShapes):
        keep_shape(shapes, "a")


def test_an_unused_shape_keeps_its_id() -> None:
    shapes = Shapes()
    shape = keep_shape(shapes, "a")
    shapes.release(shape)

    shapes.sweep()

    assert keep_shape(shapes, "a") == shape


def test_a_live_class_too_many_is_refused_until_one_goes() -> None:
    shapes = Shapes(classes_max=1)
    first = keep_class(shapes, "a")

    with pytest.raises(TooManyClasses):
        keep_class(shapes, "b")
    shapes.release_class(first)
    second = keep_class(shapes, "b")
    with pytest.raises(TooManyClasses):
        keep_class(shapes, "a")
    shapes.release_class(second)

    assert keep_class(shapes, "a") == first


def test_an_owner_that_never_sweeps_is_bounded_too() -> None:
    shapes = Shapes(shapes_max=1)
    for number in range(UNUSED_MAX + 2):
        shapes.release(keep_shape(shapes, f"n{number}"))

    with pytest.raises(TooManyShapes):
        keep_shape(shapes, "fresh")
    shapes.sweep()

    assert shapes.wants(keep_shape(shapes, "fresh")).needs == canonical(["fresh"])


def test_a_swept_id_is_used_again() -> None:
    shapes = Shapes()
    old = [keep_shape(shapes, f"n{number}") for number in range(UNUSED_MAX + 3)]
    for shape in old:
        shapes.release(shape)

    shapes.sweep()

    assert {keep_shape(shapes, f"m{number}") for number in range(3)} == set(old[:3])


def test_a_class_that_takes_over_an_id_inherits_nothing() -> None:
    shapes = Shapes()
    keep_shape(shapes, "a")
    gone = keep_class(shapes, "a")
    shapes.release_class(gone)
    sweep_out(shapes)

    heir = keep_class(shapes, "b")
    shape = keep_shape(shapes, "a", "c!=1")

    assert heir == gone
    assert shapes.compatible_classes(shape) == 0


def test_a_shape_that_takes_over_an_id_inherits_nothing() -> None:
    shapes = Shapes()
    has_a, has_b = keep_class(shapes, "a"), keep_class(shapes, "b")
    gone = keep_shape(shapes, "a")
    shapes.release(gone)
    for number in range(UNUSED_MAX):
        shapes.release(keep_shape(shapes, f"filler{number}"))
    assert shapes.class_list(gone) == (has_a,)
    shapes.sweep()

    heir = keep_shape(shapes, "b")

    assert heir == gone
    assert shapes.class_list(heir) == (has_b,)
    assert set(shapes.compatible_shapes(has_a)) == set()


def test_releasing_more_often_than_retaining_is_a_bug() -> None:
    shapes = Shapes()
    shape = shapes.shape_of(Wants(()))

    with pytest.raises(AssertionError):
        shapes.release(shape)


def amounts(
    *choices: tuple[tuple[str, int], ...],
) -> st.SearchStrategy[tuple[tuple[str, int], ...]]:
    return st.sampled_from(choices)


WANTS = st.builds(
    Wants,
    st.lists(st.sampled_from(["a", "b=1", "b!=2", "b>=2", "b<3", "c in (x,y)"]), max_size=3).map(
        canonical
    ),
    st.lists(st.sampled_from(["project=p", "kind=k", "kind=l"]), max_size=2).map(
        canonical_capabilities
    ),
    amounts((), (), (("cpu", 2),), (("cpu", 1), ("db", 1))),
)
OFFERS = st.builds(
    Offers,
    st.lists(st.sampled_from(["a", "b=1", "b=2", "b=3", "c=x", "c=z"]), max_size=4).map(
        canonical_capabilities
    ),
    st.lists(st.sampled_from(["project=p", "kind!=k"]), max_size=1).map(canonical),
    amounts((), (("cpu", 4),), (("cpu", 1), ("db", 1))),
)


def suits(wants: Wants, offers: Offers) -> bool:
    capacity = dict(offers.capacity)
    return (
        all(satisfies(offers.capabilities, need) for need in wants.needs)
        and all(satisfies(wants.about, rule) for rule in offers.accepts)
        and all(capacity.get(name, 0) >= much for name, much in wants.uses)
    )


class Churn(RuleBasedStateMachine):
    """Shapes and classes come and go; compatibility is what a direct comparison says."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes = Shapes()
        self.wants: list[tuple[ShapeId, Wants]] = []
        self.offers: list[tuple[ClassId, Offers]] = []

    @rule(wants=WANTS)
    def task_comes(self, wants: Wants) -> None:
        shape = self.shapes.shape_of(wants)
        self.shapes.retain(shape)
        self.wants.append((shape, wants))

    @rule(offers=OFFERS)
    def agent_comes(self, offers: Offers) -> None:
        class_id = self.shapes.class_of(offers)
        self.shapes.retain_class(class_id)
        self.offers.append((class_id, offers))

    @precondition(lambda self: self.wants)
    @rule(at=st.integers(0, 100))
    def task_goes(self, at: int) -> None:
        self.shapes.release(self.wants.pop(at % len(self.wants))[0])

    @precondition(lambda self: self.offers)
    @rule(at=st.integers(0, 100))
    def agent_goes(self, at: int) -> None:
        self.shapes.release_class(self.offers.pop(at % len(self.offers))[0])

    @rule()
    def everything_unused_is_swept(self) -> None:
        sweep_out(self.shapes)

    @invariant()
    def counts_are_right(self) -> None:
        assert self.shapes.live_shapes == len({wants for _, wants in self.wants})
        assert self.shapes.live_classes == len({offers for _, offers in self.offers})

    @invariant()
    def compatibility_is_right(self) -> None:
        for shape, wants in self.wants:
            listed = self.shapes.class_list(shape)
            assert sum(1 << c for c in listed) == self.shapes.compatible_classes(shape)
            for class_id, offers in self.offers:
                runs = suits(wants, offers)
                assert bool(self.shapes.compatible_classes(shape) >> class_id & 1) == runs
                assert (shape in self.shapes.compatible_shapes(class_id)) == runs
                kept = self.shapes.missing(shape, class_id) + self.shapes.refused(shape, class_id)
                assert (not kept) == runs
                assert self.shapes.offers(class_id) == offers
            assert all(c in self.shapes.class_list(shape) for c in listed)


TestChurn = Churn.TestCase
TestChurn.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
