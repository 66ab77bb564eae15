import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.model import token_text
from agentcom.model.identity import CredentialKind
from agentcom.telemetry.redact import GONE, cleaned, ending, excerpt, redact, secrets_of

TOKEN = token_text.compose(CredentialKind.MACHINE, "abcd1234", "s" * 43)
KEYS = [
    "ghp_" + "a" * 36,
    "github_pat_" + "a" * 70,
    "glpat-" + "a" * 20,
    "AKIA" + "A" * 16,
    "AIza" + "a" * 35,
    "xoxb-" + "1" * 24,
    "sk-ant-" + "a" * 40,
    "sk-proj-" + "a" * 48,
    "rk_live_" + "a" * 24,
    "npm_" + "a" * 36,
    "pypi-AgEIcHlwaS5vcmc" + "a" * 60,
    "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 30,
]


def test_an_own_token_loses_its_secret_and_keeps_its_id() -> None:
    assert redact(f"got {TOKEN}, thanks") == f"got acm_mch_abcd1234_{GONE}, thanks"


def test_a_look_alike_without_the_right_checksum_stays() -> None:
    other = TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1")

    assert redact(other) == other


@pytest.mark.parametrize("key", KEYS)
def test_common_keys_are_taken_out(key: str) -> None:
    assert redact(f"key='{key}' end") == f"key='{GONE}' end"


def test_a_bearer_header_is_taken_out_whatever_it_holds() -> None:
    assert redact("Authorization: Bearer " + "x" * 30) == f"Authorization: Bearer {GONE}"


@pytest.mark.parametrize("kind", ["", "RSA ", "OPENSSH "])
def test_a_private_key_is_taken_out_as_a_whole_also_inside_json(kind: str) -> None:
    key = f"-----BEGIN {kind}PRIVATE KEY-----\nAAAA\nBBBB\n-----END {kind}PRIVATE KEY-----"

    assert redact(f"<{key}>") == f"<{GONE}>"
    assert redact(json.dumps({"a": key})) == json.dumps({"a": GONE})


def test_a_cut_off_private_key_is_taken_out_to_the_end() -> None:
    assert redact("-----BEGIN PRIVATE KEY-----\nAAAA") == GONE


def test_an_address_loses_its_password_only() -> None:
    text = "postgres://ada:hunter22@db.example/agentcom"

    assert redact(text) == f"postgres://ada:{GONE}@db.example/agentcom"


def test_exact_secrets_are_taken_out_unless_they_are_words() -> None:
    assert redact("the pepper-42 of ten", ["pepper-42", "ten"]) == f"the {GONE} of ten"


@given(st.text(alphabet="abc XYZ019_-:/.\n", max_size=200))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=50), st.text(max_size=50))
def test_no_surroundings_hide_a_token(before: str, after: str) -> None:
    text = f"{before} {TOKEN} {after}"

    assert TOKEN not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Basic dXNlcjpwYXNzd29yZA==",
        '{"Authorization": "Basic dXNlcjpwYXNzd29yZA=="}',
        "AWS_SECRET_ACCESS_KEY=dXNlcjpwYXNzd29yZA==",
        "aws_secret_access_key = dXNlcjpwYXNzd29yZA==",
        '{"client_secret": "dXNlcjpwYXNzd29yZA=="}',
        r"{\"api_key\": \"dXNlcjpwYXNzd29yZA==\"}",
        "PGPASSWORD=dXNlcjpwYXNzd29yZA== psql",
        "https://hooks.slack.com/services/T00/B00/dXNlcjpwYXNzd29yZA",
        "git clone https://:dXNlcjpwYXNzd29yZA@host/x.git",
    ],
)
def test_what_stands_behind_a_telling_name_is_taken_out(text: str) -> None:
    assert "dXNlcjpwYXNz" not in redact(text)


@pytest.mark.parametrize("text", ["token: expired", "the password: something", "tokens=123456789"])
def test_prose_about_secrets_stays(text: str) -> None:
    assert redact(text) == text


def test_what_is_clean_stays_clean() -> None:
    once = redact(f"{TOKEN} Authorization: Bearer {'x' * 30} secret={'y' * 20} {KEYS[0]}")

    assert redact(once) == once


@given(st.integers(0, 60_000), st.sampled_from([TOKEN, *KEYS]))
@settings(max_examples=60)
def test_a_cut_leaves_no_part_of_a_secret_behind(before: int, secret: str) -> None:
    text = "x" * before + " " + secret + " " + "y" * 60_000

    assert secret[:12] not in excerpt(text, 20_000).replace("acm_mch_abcd1234", "")
    assert secret[-12:] not in ending(text[::1], 20_000)


def test_a_long_text_is_looked_at_only_as_far_as_it_is_shown() -> None:
    assert excerpt("a" * 10_000_000, 100) == "a" * 100
    assert ending("a" * 10_000_000, 100) == "a" * 100


def test_values_in_values_are_cleaned() -> None:
    value = {"a": [{"b": TOKEN, "Password": 7}], "c": (1, None, "ok")}

    assert cleaned(value, 100) == {
        "a": [{"b": f"acm_mch_abcd1234_{GONE}", "Password": GONE}],
        "c": [1, None, "ok"],
    }


def test_values_that_go_on_for_ever_end() -> None:
    value: list[object] = []
    value.append(value)

    assert GONE in str(cleaned(value, 100))


def test_secrets_of_an_environment_are_known_by_their_names() -> None:
    environment = {
        "GH_TOKEN": "hunter2hunter2",
        "ANTHROPIC_API_KEY": "key-of-mine",
        "SSH_AUTH_SOCK": "/tmp/agent.sock",
        "GOOGLE_APPLICATION_CREDENTIALS": "/srv/ada/key.json",
        "TLS_KEY": "/etc/key.pem",
        "EDITOR": "a-long-editor",
        "PASS": "short",
    }

    assert secrets_of(environment) == {"hunter2hunter2", "key-of-mine"}
