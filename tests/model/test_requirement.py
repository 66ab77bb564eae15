"""Requirements and capabilities: parsing, canonical form, and who meets what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model import errors
from agentcom.model.requirement import (
    CAPABILITIES_MAX,
    CAPABILITY_CHARS_MAX,
    Capability,
    Op,
    Requirement,
    canonical,
    canonical_capabilities,
    parse_capability,
    parse_requirement,
    satisfies,
)

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._:/+-]{0,8}", fullmatch=True)
VALUES = st.from_regex(r"[a-z0-9._:/+-][a-z0-9._:/=+-]{0,8}", fullmatch=True)
TEXTS = st.one_of(
    NAMES,
    st.builds("{}{}{}".format, NAMES, st.sampled_from(["=", "!=", ">", ">=", "<", "<="]), VALUES),
    st.builds(
        lambda name, members: f"{name} in ({','.join(members)})",
        NAMES,
        st.lists(VALUES, min_size=1, max_size=3),
    ),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu", Requirement("gpu", Op.EXISTS)),
        ("os=linux", Requirement("os", Op.EQUAL, "linux")),
        ("repo!=x", Requirement("repo", Op.NOT_EQUAL, "x")),
        ("python>=3.11", Requirement("python", Op.AT_LEAST, "3.11")),
        ("python <= 3.11", Requirement("python", Op.AT_MOST, "3.11")),
        ("ram>8", Requirement("ram", Op.GREATER, "8")),
        ("ram<8", Requirement("ram", Op.LESS, "8")),
        ("lang in (rust, go,go)", Requirement("lang", Op.IN, "go,rust")),
        ("lang in (go)", Requirement("lang", Op.EQUAL, "go")),
        ("c++", Requirement("c++", Op.EXISTS)),
        ("flag=a=b", Requirement("flag", Op.EQUAL, "a=b")),
    ],
)
def test_a_requirement_is_read_from_its_text(text: str, expected: Requirement) -> None:
    assert parse_requirement(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=x",
        "os=",
        "os==linux",
        "OS=linux",
        "lang in ()",
        "lang in (a,)",
        "lang in(a)",
        "a b",
        "a=b c",
        "py~=3",
        "gpu\n",
        "\u0663>=1",
        "x" * (CAPABILITY_CHARS_MAX + 1),
    ],
)
def test_a_malformed_requirement_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(errors.InvalidInput) as refused:
        canonical(["gpu", text])

    assert refused.value.field == "needs[1]"


@given(TEXTS)
def test_the_canonical_text_parses_to_an_equal_requirement(text: str) -> None:
    requirement = parse_requirement(text)

    assert parse_requirement(str(requirement)) == requirement
    assert len(str(requirement)) <= len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("gpu", Capability("gpu")), ("python=3.11", Capability("python", "3.11"))],
)
def test_a_capability_is_read_from_its_text_and_written_back(
    text: str, expected: Capability
) -> None:
    assert parse_capability(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", "a>=1", "a=", "A", "a b", "x" * 65])
def test_a_malformed_capability_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(errors.InvalidInput) as refused:
        canonical_capabilities([text])

    assert refused.value.field == "capabilities[0]"


@given(st.lists(TEXTS, max_size=8))
def test_equal_needs_are_equal_tuples_in_any_order(texts: list[str]) -> None:
    shuffled = [*reversed(texts), *texts]

    assert canonical(texts) == canonical(shuffled)


def test_equal_capabilities_are_equal_tuples_in_any_order() -> None:
    assert canonical_capabilities(["b", "a=1", "b"]) == canonical_capabilities(["a=1", "b"])


def test_too_many_entries_are_refused_even_if_they_never_end() -> None:
    endless = iter(lambda: "gpu", None)

    with pytest.raises(errors.InvalidInput, match=f"at most {CAPABILITIES_MAX}"):
        canonical(endless)


@pytest.mark.parametrize(
    ("need", "offers", "met"),
    [
        ("gpu", ["gpu"], True),
        ("gpu", ["gpu=a100"], True),
        ("gpu", ["cpu"], False),
        ("os=linux", ["os=linux"], True),
        ("os=linux", ["os=mac", "os=linux"], True),
        ("os=linux", ["os"], False),
        ("repo!=x", [], True),
        ("repo!=x", ["repo=y"], True),
        ("repo!=x", ["repo=y", "repo=x"], False),
        ("python>=3.11", ["python=3.9"], False),
        ("python>=3.11", ["python=3.11.0"], True),
        ("python>3.9", ["python=3.11"], True),
        ("python>3.11", ["python=3.11"], False),
        ("python<3.11", ["python=3.9"], True),
        ("python<3.11", ["python=3.11"], False),
        ("python<=3.11", ["python=3.11"], True),
        ("python<=3.11", ["python=3.12"], False),
        ("python<=3.11", ["python=3.12", "python=3.10"], True),
        ("python=3", ["python=3.0"], True),
        ("python=3.1", ["python=3.10"], False),
        ("os>=10", ["os=linux"], False),
        ("os>=linux", ["os=10"], False),
        ("lang in (go,rust)", ["lang=rust"], True),
        ("lang in (go,rust)", ["lang=c"], False),
        ("lang in (1.0,2)", ["lang=1"], True),
        ("python>=1.10rc1", ["python=1.10"], True),
        ("python>=1.10", ["python=1.10rc1"], False),
        ("python<1.10", ["python=1.10rc1"], True),
        ("python>=3.12", ["python=3.13.0rc1"], True),
        ("python>=3.11", ["python=v3.11"], True),
        ("cuda>=12.4", ["cuda=12.4.1+cu124"], True),
        ("tool>1.0a9", ["tool=1.0-beta.2"], True),
        ("tool>1.0b9", ["tool=1.0rc1"], True),
        ("tool<1.0a1", ["tool=1.0.dev3"], True),
        ("tool=1.0-rc.1", ["tool=1.0rc1"], True),
        ("size>=7", ["size=7b"], False),
        ("tier=1", ["tier=v1"], False),
    ],
)
def test_who_meets_a_requirement(need: str, offers: list[str], met: bool) -> None:
    assert satisfies(canonical_capabilities(offers), parse_requirement(need)) is met
