"""Keys of others that are known by their shape: for what is redacted, and what agents publish.

Each is so particular that ordinary text hardly ever has it. What it costs to look for them is the
matter of those who look: `signs` are the beginnings without which there is none.
"""

from typing import Final, NamedTuple


class Shape(NamedTuple):
    """How one kind of key looks."""

    kind: str
    signs: tuple[str, ...]
    """One of these begins it."""
    pattern: str


ALONE: Final = r"(?<![A-Za-z0-9])"
"""No letter is before it: part of a longer word is no key."""
PEM: Final = r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,8}PRIVATE KEY(?: BLOCK)?-----"
"""The first line of a private key."""
KEYS: Final = (
    Shape(
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        ALONE + r"(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
    ),
    Shape("GitLab token", ("glpat-",), ALONE + r"glpat-[A-Za-z0-9_-]{20,}"),
    Shape("AWS key", ("AKIA", "ASIA"), ALONE + r"(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    Shape("Slack token", ("xox",), ALONE + r"xox[abeoprs]-[A-Za-z0-9-]{20,}"),
    Shape("Anthropic key", ("sk-ant-",), ALONE + r"sk-ant-[A-Za-z0-9_-]{30,}"),
    Shape("OpenAI key", ("sk-",), ALONE + r"sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{40,}"),
    Shape("Google key", ("AIza",), ALONE + r"AIza[A-Za-z0-9_-]{35}\b"),
    Shape("Stripe key", ("sk_live_", "rk_live_"), ALONE + r"[rs]k_live_[A-Za-z0-9]{20,}"),
    Shape("npm token", ("npm_",), ALONE + r"npm_[A-Za-z0-9]{36}\b"),
    Shape("PyPI token", ("pypi-Ag",), ALONE + r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    Shape(
        "JSON web token",
        ("eyJ",),
        ALONE + r"(?a:eyJ[\w-]{10,2000}+\.eyJ[\w-]{10,5000}+\.[\w-]{20,})",
    ),
)
