"""Whatever stands in `hub.toml` or the environment: settings, or a refusal with a stable code."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.hub.config import ENVIRONMENT_PREFIX, ConfigInvalid, HubConfig, load
from agentcom.model.settings import FILE_BYTES_MAX

NAMES = [field.name for field in msgspec.structs.fields(HubConfig) if field.name != "home"]
EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
numbers = st.integers() | st.floats()
leaves = st.booleans() | numbers | texts | st.dates() | st.datetimes()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from([*NAMES, "prot", "limits", "backups", "prices"]) | texts


def toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(repr(value), repr(value))
    if isinstance(value, str):
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(name)} = {toml(it)}" for name, it in value.items()) + "}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def read(data: bytes, environment: dict[str, str] | None = None) -> HubConfig | ConfigInvalid:
    with tempfile.TemporaryDirectory() as home:
        Path(home, "hub.toml").write_bytes(data)
        try:
            return load(flags={"home": home}, environment=environment or {})
        except ConfigInvalid as refused:
            found = refused
    assert found.code == "config_invalid"
    return found


@EXAMPLES
@given(st.binary(max_size=300))
def test_any_bytes_are_settings_or_refused(data: bytes) -> None:
    read(data)


@EXAMPLES
@given(st.dictionaries(names, values, max_size=4))
def test_any_values_are_settings_or_refused(given_: dict[str, Any]) -> None:
    read("\n".join(f"{toml(name)} = {toml(it)}" for name, it in given_.items()).encode())


@EXAMPLES
@given(
    st.dictionaries(st.sampled_from([name.upper() for name in NAMES]) | texts, texts, max_size=3)
)
def test_any_environment_is_settings_or_refused(given_: dict[str, str]) -> None:
    read(b"", {f"{ENVIRONMENT_PREFIX}{name}": text for name, text in given_.items()})


def test_depth_and_size_have_bounds() -> None:
    for data in (
        b"a = " + b"[" * 10_000,
        b"a = " + b"[" * 2_000 + b"]" * 2_000,
        b"a." * 5_000 + b"b = 1",
        b"[" + b"a." * 5_000 + b"b]",
        b"#" * (FILE_BYTES_MAX + 1),
        b"port = 1" + b"0" * 5_000,
        b"port = 0x" + b"f" * 20_000,
        b"lease_ttl_ms = 1e400",
    ):
        assert isinstance(read(data), ConfigInvalid), data[:40]


def test_a_long_line_costs_no_more_than_a_short_one() -> None:
    room = FILE_BYTES_MAX - 100
    for opening in (b"[ ", b"a ", b'"a '):
        line = opening + b" " * room
        assert isinstance(read(b"admin = '''\n" + line + b"\n'''"), HubConfig | ConfigInvalid)
