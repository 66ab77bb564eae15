"""Whatever stands in `.agentcom.toml`: declarations, or a refusal that names the place."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.model import project_file
from agentcom.model.declaring import ProjectFileInvalid
from tests.hub.test_config_fuzz import toml, values

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
words = st.sampled_from(
    ["tests:", "exists:", "diff:files=", "secrets:", "'", "&&", "$(", "\0", "a"]
)
lines = st.lists(words, max_size=5).map(" ".join)


def read(data: bytes) -> object:
    try:
        return project_file.parse_project_file(data.decode("utf-8", "replace"))
    except ProjectFileInvalid as refused:
        found = refused
    assert found.code == "project_file_invalid"
    return found


@EXAMPLES
@given(st.binary(max_size=300))
def test_any_bytes_are_declarations_or_refused(data: bytes) -> None:
    read(data)


@EXAMPLES
@given(
    st.dictionaries(
        st.sampled_from(project_file.KEYS), values | lines | st.lists(lines), max_size=4
    )
)
def test_any_values_are_declarations_or_refused(document: dict[str, Any]) -> None:
    read("\n".join(f"{toml(name)} = {toml(it)}" for name, it in document.items()).encode())


def test_depth_and_size_have_bounds() -> None:
    for data in (
        b"verify = " + b"[" * 20_000,
        b"verify = " + b"[" * 2_000 + b"]" * 2_000,
        b"a." * 5_000 + b"b = 1",
        b"version = 1" + b"0" * 5_000,
        b"#" * (8 << 20),
    ):
        assert isinstance(read(data), ProjectFileInvalid), data[:40]
