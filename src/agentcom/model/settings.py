"""Settings as data: what a struct of them holds, layers of values, and all that is wrong with them.

A program's settings are one struct of msgspec; a struct inside it is a table. What may change
while the program runs is marked `HOT` in its annotation, what nobody shall see `SECRET`. Files,
environment and flags become layers; the later one wins, name by name. Reading them is not done
here.
"""

import difflib
import re
import stat
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, get_origin

import msgspec

FIRST_VERSION: Final = "0.1.0"
HOT: Final = msgspec.Meta(extra={"hot": True})
"""May change while the program runs."""
SECRET: Final = msgspec.Meta(extra={"secret": True})
"""Its value is never shown."""
FILE_BYTES_MAX: Final = 65_536  # a settings file is a page, not a book
LINE_CHARS: Final = 1_000  # of a line that names a setting; longer ones are values
FLAG: Final = "flag"
DEFAULT: Final = "default"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_HEAD: Final = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*([\w\-\"'. ]+?)\s*=")
_KINDS: Final[Mapping[str, str]] = {
    "object": "a table",
    "array": "a list",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "nothing",
}
"""What the words of JSON are called in a file of settings."""
_KIND: Final = re.compile(f"`({'|'.join(_KINDS)})`")
_LINE: Final = re.compile(r"\(at line (\d+)")

Decode = Callable[[type, object], object]
S = TypeVar("S", bound=msgspec.Struct)


def since(version: str) -> msgspec.Meta:
    """Mark a setting that came with a later version than the first."""
    return msgspec.Meta(extra={"since": version})


class Setting(NamedTuple):
    """One setting of a program."""

    name: str
    """With the names of its tables: `limits.body_bytes_max`."""
    kind: Any
    default: object
    """`msgspec.NODEFAULT`: it has none."""
    owner: type[msgspec.Struct]
    field: str
    hot: bool
    secret: bool
    since: str


class Layer(NamedTuple):
    """Values of one origin, in tables as TOML has them."""

    origin: str
    values: Mapping[str, Any]
    lines: Mapping[str, int] = {}
    """Where in the file a setting stands."""


class Problem(NamedTuple):
    """What is wrong with one setting, or with a whole file (`name` is "")."""

    name: str
    origin: str
    text: str
    line: int | None = None
    nearest: str = ""
    """The known name that was meant, if it is unknown."""

    def __str__(self) -> str:
        place = f"{self.origin} line {self.line}" if self.line else self.origin
        said = f"{self.name}: {self.text}" if self.name else self.text
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{place}: {said}{hint}"


class Value(NamedTuple):
    """What a setting is, and where that comes from."""

    setting: Setting
    value: object
    origin: str
    line: int | None = None


def describe(kind: type[msgspec.Struct], prefix: str = "") -> dict[str, Setting]:
    """Return the settings of a struct by name, in their order; tables are flattened."""
    found: dict[str, Setting] = {}
    for field in msgspec.structs.fields(kind):
        name = prefix + field.name
        plain, extra = _parts(field.type)
        if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
            found |= describe(plain, f"{name}.")
            continue
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        found[name] = Setting(
            name=name,
            kind=field.type,
            default=default,
            owner=kind,
            field=field.name,
            hot=bool(extra.get("hot")),
            secret=bool(extra.get("secret")),
            since=str(extra.get("since", FIRST_VERSION)),
        )
    return found


def parse(origin: str, data: bytes, mode: int) -> tuple[Layer, list[Problem]]:
    """Return the layer that a file holds, and what is wrong with the file as such.

    `mode` is that of the file: one that others may change decides nothing.
    """
    empty = Layer(origin, {})
    if mode & _OTHERS_WRITE:
        text = f"it can be changed by others; run: chmod go-w {origin}"
        return empty, [Problem("", origin, text)]
    if len(data) > FILE_BYTES_MAX:
        return empty, [Problem("", origin, f"it is larger than {FILE_BYTES_MAX} bytes")]
    try:
        text = data.decode("utf-8-sig")  # some editors begin with a mark
        values = tomllib.loads(text)
    except RecursionError:
        return empty, [Problem("", origin, "it is not valid TOML: nested too deeply")]
    except ValueError as error:  # also of text, and of a number with thousands of digits
        found = _LINE.search(str(error))
        line = int(found[1]) if found else None
        if "end of document" in str(error):
            line = data.rstrip().count(b"\n") + 1
        return empty, [Problem("", origin, f"it is not valid TOML: {error}", line)]
    return Layer(origin, values, lines_of(text)), []


def lines_of(text: str) -> dict[str, int]:
    """Return the lines on which the names of a TOML file stand first; tables too."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > LINE_CHARS:
            continue
        head = _HEAD.match(line)
        key = _KEY.match(line)
        if head is not None:
            table = _dotted(head[1])
            found.setdefault(table, number)
        elif key is not None:
            name = _dotted(key[1])
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found


def from_environment(
    kind: type[msgspec.Struct], environment: Mapping[str, str], prefix: str
) -> list[Layer]:
    """Return a layer for each variable that is set; lists are written with commas there."""
    known = {variable(prefix, name): it for name, it in describe(kind).items()}
    layers = []
    for name, text in environment.items():
        if not name.startswith(prefix) or not text:
            continue
        setting = known.get(name)
        value: object = text
        if setting is not None and _is_list(setting.kind):
            value = [part.strip() for part in text.split(",") if part.strip()]
        path = setting.name if setting else name.removeprefix(prefix).lower()
        layers.append(Layer(name, _nested({path: value})))
    return layers


def variable(prefix: str, name: str) -> str:
    """Return the variable of the environment that sets a setting."""
    return prefix + name.replace(".", "_").upper()


def resolve(
    kind: type[msgspec.Struct], layers: Sequence[Layer], decode: Decode
) -> tuple[dict[str, Value], list[Problem]]:
    """Return what each setting is, and everything that is wrong, in the order of the layers."""
    known = describe(kind)
    values = {
        name: Value(setting, setting.default, DEFAULT)
        for name, setting in known.items()
        if setting.default is not msgspec.NODEFAULT
    }
    problems: list[Problem] = []
    for layer in layers:
        for name, given in _flat(layer.values, known):
            line = layer.lines.get(name) or _line_below(name, layer.lines)
            setting = known.get(name)
            if setting is None:
                problems.append(_unknown(name, layer, known))
                continue
            try:
                value = msgspec.convert(given, setting.kind, strict=False, dec_hook=decode)
            except (msgspec.ValidationError, NotImplementedError) as error:
                problems.append(Problem(name, layer.origin, _said(error), line))
                continue
            values[name] = Value(setting, value, layer.origin, line)
    return values, problems


def build(kind: type[S], values: Mapping[str, Value], prefix: str = "") -> S:
    """Return the struct that values make; all that have no default must be there."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        name = prefix + field.name
        plain, _ = _parts(field.type)
        if name in values:
            found[field.name] = values[name].value
        elif isinstance(plain, type) and issubclass(plain, msgspec.Struct):
            found[field.name] = build(plain, values, f"{name}.")
    return kind(**found)


def changed(before: msgspec.Struct, after: msgspec.Struct) -> list[Setting]:
    """Return the settings in which two of a kind differ, in their order."""
    return [
        setting
        for name, setting in describe(type(before)).items()
        if value_of(before, name) != value_of(after, name)
    ]


def mixed(before: S, after: S, names: Collection[str]) -> S:
    """Return `before` with those settings as `after` has them."""
    values = {
        name: Value(it, value_of(after if name in names else before, name), "")
        for name, it in describe(type(before)).items()
    }
    return build(type(before), values)


def value_of(settings: msgspec.Struct, name: str) -> Any:
    """Return the value of a setting by its whole name."""
    found: Any = settings
    for part in name.split("."):
        found = getattr(found, part)
    return found


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the known name that is most like `name`; "" if none is."""
    last = {one.rpartition(".")[2]: one for one in reversed(known)}
    elsewhere = last.get(name.rpartition(".")[2])
    close = difflib.get_close_matches(name, known, n=1)
    if elsewhere or close:
        return elsewhere or close[0]
    close = difflib.get_close_matches(name.rpartition(".")[2], last, n=1)
    return last[close[0]] if close else ""


def _parts(kind: Any) -> tuple[Any, dict[str, Any]]:
    """Return a type without its annotations, and what these say beyond the type."""
    extra: dict[str, Any] = {}
    for meta in getattr(kind, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.extra:
            extra |= meta.extra
    return getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind, extra


def _is_list(kind: Any) -> bool:
    plain, _ = _parts(kind)
    return get_origin(plain) in (tuple, list, frozenset)


def _flat(values: Mapping[str, Any], known: Mapping[str, Setting]) -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values; a table that is a setting itself stays whole."""
    tables = {name[: at.start()] for name in known for at in re.finditer(r"\.", name)}
    waiting: list[tuple[str, Any]] = list(values.items())
    while waiting:
        name, value = waiting.pop(0)
        if name in tables and name not in known and isinstance(value, Mapping):
            waiting[:0] = [(f"{name}.{key}", one) for key, one in value.items()]
        else:
            yield name, value


def _unknown(name: str, layer: Layer, known: Mapping[str, Setting]) -> Problem:
    tables = {one.rpartition(".")[0] for one in known} - {""}
    if name in tables:
        return Problem(name, layer.origin, f"it is a table: [{name}]", layer.lines.get(name))
    close = nearest(name, [*known, *tables])
    return Problem(name, layer.origin, "there is no such setting", layer.lines.get(name), close)


def _line_below(name: str, lines: Mapping[str, int]) -> int | None:
    """Return the first line on which something stands that is in a table; None: nothing does."""
    return min((line for it, line in lines.items() if it.startswith(f"{name}.")), default=None)


def _said(error: Exception) -> str:
    text, _, place = str(error).partition(" - at `$")
    text = _KIND.sub(lambda found: _KINDS[found[1]], text)
    place = place.strip("`.")
    return f"{text} (at {place})" if place else text


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in flat.items():
        *tables, last = name.split(".")
        place = found
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = value
    return found


def _dotted(text: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in text.split("."))
