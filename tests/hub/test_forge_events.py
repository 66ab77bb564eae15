"""Events of forges: signed ones are hints, once; all else is nothing."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest

from agentcom.hub import forge_events
from agentcom.hub.config import ConfigInvalid
from agentcom.hub.forge_events import ForgeEvents, read_secret
from agentcom.model.errors import MalformedInput, NotAuthenticated, NotFound

SECRET = b"a-secret-of-the-forge"
URL = "https://forge.example/acme/api/pull/1"


def signature(body: bytes, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def event(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-hub-signature-256", "sha256="), ("x-gitea-signature", ""), ("x-gitlab-token", None)],
)
def test_each_kind_of_forge_is_understood(name: str, value: str | None) -> None:
    body = event(pull_request={"html_url": URL})
    proof = SECRET.decode() if value is None else value + signature(body)

    assert ForgeEvents(SECRET).take({name: proof}, body) == URL


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-hub-signature-256": "sha256=" + "0" * 64},
        {"x-hub-signature-256": "sha256=" + signature(b"other")},
        {"x-gitea-signature": "é"},
        {"x-gitlab-token": "guess"},
        {"x-hub-signature-256": "", "x-gitlab-token": ""},
    ],
)
def test_who_does_not_know_the_secret_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(NotAuthenticated):
        ForgeEvents(SECRET).take(headers, event(pull_request={"html_url": URL}))


def test_the_same_event_counts_once() -> None:
    events = ForgeEvents(SECRET)
    body = event(pull_request={"html_url": URL}, at=1)
    headers = {"x-hub-signature-256": f"sha256={signature(body)}"}

    assert events.take(headers | {"x-github-delivery": "1"}, body) == URL
    assert events.take(headers | {"x-github-delivery": "2"}, body) is None


def test_so_many_events_are_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge_events, "REMEMBERED_MAX", 2)
    events = ForgeEvents(SECRET)
    bodies = [event(pull_request={"html_url": URL}, at=at) for at in range(3)]
    headers = {"x-gitlab-token": SECRET.decode()}

    found = [events.take(headers, body) for body in (*bodies, bodies[2], bodies[0])]

    assert found == [URL, URL, URL, None, URL]


@pytest.mark.parametrize(
    ("body", "url"),
    [
        (event(issue={"pull_request": {"html_url": URL}}), URL),
        (event(issue={"html_url": URL}), URL),
        (event(object_attributes={"url": f"{URL}#note_7"}), URL),
        (event(pull_request="x", issue=[1]), None),
        (event(pull_request={"html_url": "a\nb"}), None),
        (event(zen="hello"), None),
    ],
)
def test_an_event_says_which_pull_request_it_is_about_or_nothing(
    body: bytes, url: str | None
) -> None:
    assert ForgeEvents(SECRET).take({"x-gitlab-token": SECRET.decode()}, body) == url


@pytest.mark.parametrize("body", [b"", b"[1]", b"\xff"])
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedInput):
        ForgeEvents(SECRET).take({"x-gitlab-token": SECRET.decode()}, body)


def test_without_a_secret_there_is_nothing_to_send_to() -> None:
    with pytest.raises(NotFound):
        ForgeEvents(None).take({"x-gitlab-token": ""}, event())


def test_the_secret_is_in_a_file_that_nobody_else_reads(tmp_path: Path) -> None:
    place = tmp_path / "secret"
    assert read_secret(None) is None
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_secret(place)

    place.write_bytes(SECRET + b"\n")
    place.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="others may read"):
        read_secret(place)
    place.chmod(0o600)
    assert read_secret(place) == SECRET
    place.write_bytes(b"short")
    with pytest.raises(ConfigInvalid, match="must hold"):
        read_secret(place)
