"""Whose quota an agent uses up, read from the files and variables of its program's login."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from agentcom.model.limits import ACCOUNT_CHARS
from agentcom.sidecar.runtime import accounts

KEY = "sk-ant-secret-0123456789"
CLAUDE = {"oauthAccount": {"emailAddress": "ann@example.org", "accountUuid": "u1"}, "projects": {}}


def token(**claims: object) -> str:
    """Return a token as a login leaves it: header, claims, signature."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{body}.c2ln"


def home(tmp_path: Path, files: dict[str, Any]) -> dict[str, str]:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return {"home": str(tmp_path)}


@pytest.mark.parametrize(
    ("runtime", "files", "settings", "account"),
    [
        ("claude", {".claude.json": CLAUDE}, {}, "anthropic:ann@example.org"),
        ("claude", {".claude.json": {"oauthAccount": {"accountUuid": "u1"}}}, {}, "anthropic:u1"),
        ("claude", {".claude.json": {"projects": {}}}, {}, None),
        ("claude", {".claude.json": "no json"}, {}, None),
        ("claude", {".claude.json": {"oauthAccount": {"emailAddress": 7}}}, {}, None),
        ("claude", {".claude.json": {"oauthAccount": {"emailAddress": "a\nb"}}}, {}, None),
        ("claude", {}, {}, None),
        ("claude", {".claude.json": CLAUDE}, {"base_url": "http://x"}, None),
        (
            "codex",
            {".codex/auth.json": {"tokens": {"id_token": token(email="ann@example.org")}}},
            {},
            "openai:ann@example.org",
        ),
        (
            "codex",
            {".codex/auth.json": {"tokens": {"id_token": "x.!.y", "account_id": "acc-1"}}},
            {},
            "openai:acc-1",
        ),
        ("codex", {".codex/auth.json": {"tokens": {"id_token": "x"}}}, {}, None),
        ("codex", {".codex/auth.json": {"OPENAI_API_KEY": None}}, {}, None),
        ("codex", {}, {}, None),
        ("codex", {}, {"base_url": "http://x"}, None),
        (
            "gemini",
            {".gemini/google_accounts.json": {"active": "ann@example.org", "old": []}},
            {},
            "google:ann@example.org",
        ),
        ("gemini", {".gemini/google_accounts.json": {"active": None}}, {}, None),
        ("gemini", {}, {}, None),
        (
            "opencode",
            {
                ".local/share/opencode/auth.json": {
                    "openai": {"type": "oauth", "accountId": "acc-1"}
                }
            },
            {},
            "openai:acc-1",
        ),
        (
            "opencode",
            {".local/share/opencode/auth.json": {"a": {"accountId": "1"}, "b": {"accountId": "2"}}},
            {"model": "b/large"},
            "b:2",
        ),
        (
            "opencode",
            {".local/share/opencode/auth.json": {"a": {"accountId": "1"}, "b": {"accountId": "2"}}},
            {},
            None,
        ),
        ("opencode", {".local/share/opencode/auth.json": {"a": {"type": "oauth"}}}, {}, None),
        ("opencode", {}, {}, None),
        ("command", {".claude.json": CLAUDE}, {}, None),
    ],
)
def test_a_login_names_its_account(
    tmp_path: Path,
    runtime: str,
    files: dict[str, Any],
    settings: dict[str, str],
    account: str | None,
) -> None:
    assert accounts.find(runtime, home(tmp_path, files) | settings, {}) == account


@pytest.mark.parametrize(
    ("runtime", "variable", "settings", "provider"),
    [
        ("claude", "ANTHROPIC_API_KEY", {}, "anthropic"),
        ("claude", "CLAUDE_CODE_OAUTH_TOKEN", {}, "anthropic"),
        ("claude", "ANTHROPIC_API_KEY", {"base_url": "http://x"}, "anthropic"),
        ("claude", "MINE", {"base_url": "http://x", "api_key_env": "MINE"}, "anthropic"),
        ("codex", "CODEX_API_KEY", {}, "openai"),
        ("codex", "OPENAI_API_KEY", {"base_url": "http://x"}, "openai"),
        ("gemini", "GEMINI_API_KEY", {}, "google"),
    ],
)
def test_a_key_is_named_by_a_hash_of_it(
    tmp_path: Path, runtime: str, variable: str, settings: dict[str, str], provider: str
) -> None:
    files = {".claude.json": CLAUDE}

    found = accounts.find(runtime, home(tmp_path, files) | settings, {variable: KEY})

    assert found == accounts.key_name(provider, KEY)
    assert KEY not in found
    assert len(found) == len(f"{provider}:key-") + accounts.HASH_CHARACTERS
    assert found != accounts.key_name(provider, KEY + "x")


def test_keys_in_files_are_hashed_too(tmp_path: Path) -> None:
    settings = home(
        tmp_path,
        {
            ".codex/auth.json": {"OPENAI_API_KEY": KEY},
            ".local/share/opencode/auth.json": {"zai": {"type": "api", "key": KEY}},
        },
    )

    assert accounts.find("codex", settings, {}) == accounts.key_name("openai", KEY)
    assert accounts.find("opencode", settings, {}) == accounts.key_name("zai", KEY)


def test_a_folder_that_was_moved_is_found_unless_the_agent_has_a_home(tmp_path: Path) -> None:
    home(tmp_path, {"c/.claude.json": CLAUDE, "x/auth.json": {"OPENAI_API_KEY": KEY}})
    home(tmp_path, {"d/opencode/auth.json": {"a": {"accountId": "1"}}})
    where = {
        "CLAUDE_CONFIG_DIR": str(tmp_path / "c"),
        "CODEX_HOME": str(tmp_path / "x"),
        "XDG_DATA_HOME": str(tmp_path / "d"),
    }

    assert accounts.find("claude", {}, where) == "anthropic:ann@example.org"
    assert accounts.find("codex", {}, where) == accounts.key_name("openai", KEY)
    assert accounts.find("opencode", {}, where) == "a:1"
    assert accounts.find("claude", {"home": str(tmp_path)}, where) is None


def test_only_what_the_agent_gets_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = home(tmp_path, {".claude.json": CLAUDE})
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("MINE", KEY)

    assert accounts.of_agent("claude", settings, ()) == "anthropic:ann@example.org"
    key = accounts.key_name("anthropic", KEY)
    assert accounts.of_agent("claude", settings, ("ANTHROPIC_API_KEY", "ABSENT")) == key
    own = settings | {"base_url": "http://x", "api_key_env": "MINE"}
    assert accounts.of_agent("claude", own, ()) == key


def test_what_is_too_large_or_no_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home(tmp_path, {".claude.json": CLAUDE})
    long = {"oauthAccount": {"emailAddress": "x" * 1_000}}

    monkeypatch.setattr(accounts, "FILE_BYTES_MAX", 10)
    assert accounts.find("claude", settings, {}) is None
    monkeypatch.undo()
    (tmp_path / ".claude.json").write_text(json.dumps(long), "utf-8")
    assert len(accounts.find("claude", settings, {}) or "") == ACCOUNT_CHARS
    (tmp_path / ".claude.json").unlink()
    (tmp_path / ".claude.json").mkdir()
    assert accounts.find("claude", settings, {}) is None
