import pytest

from agentcom.hub import tokens
from agentcom.model import token_text
from agentcom.model.identity import CredentialKind


@pytest.mark.parametrize("kind", CredentialKind)
def test_a_minted_token_is_well_formed_and_names_its_kind(kind: CredentialKind) -> None:
    minted = tokens.mint(kind)

    parsed = token_text.parse(minted.text)

    assert parsed == (kind, minted.id, minted.text)


def test_no_two_tokens_are_alike() -> None:
    minted = [tokens.mint(CredentialKind.USER) for _ in range(100)]

    assert len({it.id for it in minted}) == len({it.text for it in minted}) == 100


def test_the_digest_does_not_hold_the_secret() -> None:
    minted = tokens.mint(CredentialKind.USER)

    assert len(minted.digest) == 64
    assert minted.text[17:60] not in minted.digest


def test_a_token_matches_its_own_digest_only() -> None:
    one, other = tokens.mint(CredentialKind.USER), tokens.mint(CredentialKind.USER)

    assert tokens.matches(one.text, one.digest)
    assert not tokens.matches(one.text, other.digest)


def test_nothing_matches_what_does_not_exist() -> None:
    assert not tokens.matches("no such token", None)
