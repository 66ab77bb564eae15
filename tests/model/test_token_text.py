import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model import token_text
from agentcom.model.identity import CredentialKind

SECRET = "s" * token_text.SECRET_CHARS
TOKEN = token_text.compose(CredentialKind.USER, "abcd1234", SECRET)


def test_a_token_has_kind_id_secret_and_checksum() -> None:
    assert TOKEN.startswith("acm_usr_abcd1234_" + SECRET)
    assert len(TOKEN) == len("acm_usr_abcd1234_") + 43 + 6


@pytest.mark.parametrize("kind", CredentialKind)
def test_what_is_composed_is_parsed(kind: CredentialKind) -> None:
    text = token_text.compose(kind, "abcd1234", SECRET)

    assert token_text.parse(text) == (kind, "abcd1234", text)


def test_an_appended_fingerprint_and_white_space_are_cut_off() -> None:
    parsed = token_text.parse(f" {TOKEN}@sha256:{'0' * 64}\n")

    assert parsed is not None
    assert parsed.text == TOKEN


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("aZ0_-é"))
def test_any_wrong_character_is_noticed(place: int, letter: str) -> None:
    broken = TOKEN[:place] + letter + TOKEN[place + 1 :]

    assert (token_text.parse(broken) is None) == (broken != TOKEN)


@pytest.mark.parametrize("text", ["", "acm_", TOKEN[:-1], TOKEN + "0", "x" * 10_000, "\0", "é@"])
def test_garbage_is_no_token(text: str) -> None:
    assert token_text.parse(text) is None


def test_an_unknown_kind_is_no_token() -> None:
    text = TOKEN.replace("usr", "xyz")
    head = text[: -token_text.CHECKSUM_CHARS]

    assert token_text.parse(head + token_text._checksum(head)) is None


@given(st.text(max_size=100))
def test_no_text_breaks_the_parser(text: str) -> None:
    token_text.parse(text)
