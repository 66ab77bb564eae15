"""Whose quota an agent uses up: read from the login of its program, never sent anywhere.

The same login on several machines gives the same name. A key is named by a short hash of it, so
that the hub never sees the key; the salt is fixed, since all machines must come to one name.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from agentcom.model.ids import AccountId
from agentcom.model.limits import ACCOUNT_CHARS

FILE_BYTES_MAX: Final = 32 << 20
"""`.claude.json` also holds the history of every project; a larger file is not read."""

_T = TypeVar("_T")

HASH_CHARACTERS: Final = 12
_SALT: Final = b"agentcom account\0"

Settings = Mapping[str, str]
"""An agent's runtime settings: `home`, `base_url`, `api_key_env`, `model`, ..."""
Environment = Mapping[str, str]
"""The variables that the agent gets, and those that move a program's folder."""


class _ClaudeAccount(msgspec.Struct):
    email: str = msgspec.field(name="emailAddress", default="")
    id: str = msgspec.field(name="accountUuid", default="")


class _ClaudeFile(msgspec.Struct):
    account: _ClaudeAccount | None = msgspec.field(name="oauthAccount", default=None)


class _CodexTokens(msgspec.Struct):
    id_token: str | None = None
    account_id: str | None = None


class _CodexFile(msgspec.Struct):
    key: str | None = msgspec.field(name="OPENAI_API_KEY", default=None)
    tokens: _CodexTokens | None = None


class _Claims(msgspec.Struct):
    email: str = ""


class _GeminiFile(msgspec.Struct):
    active: str | None = None


class _OpenCodeLogin(msgspec.Struct):
    type: str = ""
    key: str = ""
    account: str = msgspec.field(name="accountId", default="")


def find(runtime: str, settings: Settings, environment: Environment) -> AccountId | None:
    """Return the account of an agent, or None if nothing names one; never raises."""
    search = _SEARCHES.get(runtime)
    name = search(settings, environment) if search is not None else None
    if name is None or not name.isprintable():
        return None
    return AccountId(name[:ACCOUNT_CHARS])


def of_agent(runtime: str, settings: Settings, passed: Sequence[str]) -> AccountId | None:
    """Return the account of an agent that gets the variables `passed` of this process."""
    own = settings.get("api_key_env")
    names = (*passed, own) if own else passed
    return find(runtime, settings, {name: os.environ[name] for name in names if name in os.environ})


def key_name(provider: str, key: str) -> str:
    """Return the name of an account that is known by its key alone."""
    digest = hashlib.sha256(_SALT + key.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{provider}:key-{digest[:HASH_CHARACTERS]}"


def _claude(settings: Settings, environment: Environment) -> str | None:
    own = _own_server("anthropic", settings, environment, "ANTHROPIC_API_KEY")
    if "base_url" in settings:
        return own
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
        if environment.get(name):
            return key_name("anthropic", environment[name])
    folder = environment.get("CLAUDE_CONFIG_DIR")
    path = Path(folder) if folder and "home" not in settings else _home(settings)
    found = _read(path / ".claude.json", _ClaudeFile)
    account = found.account if found is not None else None
    return _named("anthropic", account.email or account.id) if account is not None else None


def _codex(settings: Settings, environment: Environment) -> str | None:
    own = _own_server("openai", settings, environment, "OPENAI_API_KEY")
    if "base_url" in settings:
        return own
    if environment.get("CODEX_API_KEY"):
        return key_name("openai", environment["CODEX_API_KEY"])
    folder = environment.get("CODEX_HOME")
    home = Path(folder) if folder and "home" not in settings else _home(settings) / ".codex"
    found = _read(home / "auth.json", _CodexFile)
    if found is None:
        return None
    if found.tokens is not None:
        email = _claims(found.tokens.id_token or "").email
        return _named("openai", email or found.tokens.account_id or "")
    return key_name("openai", found.key) if found.key else None


def _gemini(settings: Settings, environment: Environment) -> str | None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        if environment.get(name):
            return key_name("google", environment[name])
    found = _read(_home(settings) / ".gemini" / "google_accounts.json", _GeminiFile)
    return _named("google", found.active or "") if found is not None else None


def _opencode(settings: Settings, environment: Environment) -> str | None:
    """Return the login of the provider that the agent's model names, or of the only one."""
    folder = environment.get("XDG_DATA_HOME")
    here = Path(folder) if folder and "home" not in settings else _home(settings) / ".local/share"
    logins = _read(here / "opencode" / "auth.json", dict[str, _OpenCodeLogin]) or {}
    provider = settings.get("model", "").partition("/")[0]
    if provider not in logins and len(logins) == 1:
        (provider,) = logins
    login = logins.get(provider)
    if login is None:
        return None
    return key_name(provider, login.key) if login.key else _named(provider, login.account)


_SEARCHES: Final[Mapping[str, Callable[[Settings, Environment], str | None]]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
    "opencode": _opencode,
    "vibe": lambda _, environment: _by_key(environment, {"MISTRAL_API_KEY": "mistral"}),
    **dict.fromkeys(
        ("aider", "mini", "openclaw", "openhands", "pi", "qwen"),
        lambda settings, environment: _by_key(environment, _named_key(settings)),
    ),
}


_PROVIDERS: Final[Mapping[str, str]] = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "GEMINI_API_KEY": "google",
    "OPENROUTER_API_KEY": "openrouter",
}
"""Whose key a variable holds, in the order in which programs of many providers look."""


def _named_key(settings: Settings) -> Mapping[str, str]:
    own = settings.get("api_key_env")
    return _PROVIDERS if own is None else {own: _PROVIDERS.get(own, "openai")}


def _by_key(environment: Environment, providers: Mapping[str, str]) -> str | None:
    """Return the account of the first key that is there."""
    for variable, provider in providers.items():
        if environment.get(variable):
            return key_name(provider, environment[variable])
    return None


def _own_server(
    provider: str, settings: Settings, environment: Environment, variable: str
) -> str | None:
    key = environment.get(settings.get("api_key_env", variable))
    return key_name(provider, key) if key else None


def _home(settings: Settings) -> Path:
    return Path(settings.get("home") or Path.home())


def _named(provider: str, name: str) -> str | None:
    return f"{provider}:{name}" if name else None


def _claims(token: str) -> _Claims:
    """Return what a token says of its owner; it is not checked, since nothing depends on it."""
    try:
        middle = token.split(".")[1]
        raw = base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))
        return msgspec.json.decode(raw, type=_Claims)
    except (IndexError, ValueError, RecursionError):
        return _Claims()


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        if not path.is_file() or path.stat().st_size > FILE_BYTES_MAX:
            return None
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError, RecursionError):  # also what is no JSON, or another shape
        return None
