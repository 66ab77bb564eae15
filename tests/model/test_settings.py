"""Settings as data: layers, everything that is wrong at once, and what changed."""

from typing import Annotated

import msgspec

from agentcom.model import settings
from agentcom.model.settings import HOT, SECRET, Layer, Problem


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    rate: Annotated[int, msgspec.Meta(ge=1), HOT] = 5
    names: tuple[str, ...] = ()


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    home: str
    port: Annotated[int, msgspec.Meta(le=9)] = 1
    password: Annotated[str, SECRET, settings.since("0.3.0")] = ""
    inner: Inner = Inner()
    table: dict[str, int] = {}


def decode(kind: type, value: object) -> object:
    raise NotImplementedError(kind)


def test_tables_are_flattened_and_marks_are_read() -> None:
    known = settings.describe(Outer)

    assert list(known) == ["home", "port", "password", "inner.rate", "inner.names", "table"]
    assert [name for name, it in known.items() if it.hot] == ["inner.rate"]
    assert [name for name, it in known.items() if it.secret] == ["password"]
    assert (known["port"].since, known["password"].since) == ("0.1.0", "0.3.0")


def test_the_later_layer_wins_name_by_name() -> None:
    layers = [
        Layer("a file", {"home": "h", "inner": {"rate": 2, "names": ["x"]}}, {"inner.rate": 3}),
        Layer("VARIABLE", {"inner": {"names": ["y"]}}),
    ]

    values, problems = settings.resolve(Outer, layers, decode)

    assert problems == []
    assert settings.build(Outer, values) == Outer(home="h", inner=Inner(rate=2, names=("y",)))
    assert (values["inner.rate"].origin, values["inner.rate"].line) == ("a file", 3)
    assert (values["inner.names"].origin, values["port"].origin) == ("VARIABLE", "default")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = b'prot = 1\nport = 10\nhome = "h"\n[inner]\nraet = 3\nrate = "many"\n'
    layer, none = settings.parse("f.toml", text, 0o600)

    _, problems = settings.resolve(Outer, [layer], decode)

    assert none == []
    assert [(it.name, it.line, it.nearest) for it in problems] == [
        ("prot", 1, "port"),
        ("port", 2, ""),
        ("inner.raet", 5, "inner.rate"),
        ("inner.rate", 6, ""),
    ]
    assert str(problems[0]) == "f.toml line 1: prot: there is no such setting; did you mean port?"


def test_a_name_that_stands_in_the_wrong_table_is_shown_its_own() -> None:
    assert settings.nearest("inner.home", ["home", "inner.rate"]) == "home"
    assert settings.nearest("rate", ["home", "inner.rate"]) == "inner.rate"
    assert settings.nearest("zzz", ["home", "inner.rate"]) == ""


def test_a_table_in_the_place_of_a_value_and_the_other_way_round() -> None:
    _, problems = settings.resolve(Outer, [Layer("f", {"inner": 3, "port": {"x": 1}})], decode)

    assert [it.name for it in problems] == ["inner", "port"]
    assert "[inner]" in problems[0].text


def test_a_file_that_others_may_change_or_that_is_no_toml_gives_nothing() -> None:
    open_to_all = settings.parse("f", b"port = 1", 0o666)
    broken = settings.parse("f", b"port = 1\nhost = ]", 0o600)
    large = settings.parse("f", b"#" * (settings.FILE_BYTES_MAX + 1), 0o600)
    strange = settings.parse("f", b"\xff", 0o600)

    for layer, problems in (open_to_all, broken, large, strange):
        assert layer.values == {}
        assert len(problems) == 1
    assert broken[1][0].line == 2


def test_lines_are_found_below_tables_with_quotes_and_dots() -> None:
    text = 'a = 1\ninner.rate = 2\n\n[t."x.y"]\n  k = 1 # c\n[[many]]\nname = "b"\n'

    found = settings.lines_of(text)

    assert found["a"] == 1
    assert found["inner.rate"] == 2
    assert found["t.x.y.k"] == 5
    assert found["many.name"] == 7


def test_a_variable_sets_a_setting_in_a_table_and_lists_have_commas() -> None:
    environment = {"P_INNER_NAMES": "a, b", "P_INNER_RATE": "7", "P_NONE": "1", "OTHER": "1"}

    layers = settings.from_environment(Outer, environment, "P_")
    values, problems = settings.resolve(Outer, layers, decode)

    assert values["inner.names"].value == ("a", "b")
    assert values["inner.rate"].value == 7
    assert [(it.name, it.origin) for it in problems] == [("none", "P_NONE")]


def test_what_changed_is_named_and_can_be_taken_over_in_part() -> None:
    before = Outer(home="h")
    after = Outer(home="h", port=2, inner=Inner(rate=6))

    assert [it.name for it in settings.changed(before, after)] == ["port", "inner.rate"]
    assert settings.mixed(before, after, ["inner.rate"]) == Outer(home="h", inner=Inner(rate=6))


def test_a_problem_of_a_whole_file_has_no_name() -> None:
    assert str(Problem("", "f", "it is away")) == "f: it is away"
