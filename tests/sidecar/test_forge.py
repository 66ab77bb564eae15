"""The three kinds of forge: the same questions, the documented requests, and nothing else."""

import asyncio
import logging
import os
from pathlib import Path

import httpx
import pytest

from agentcom.model import errors
from agentcom.sidecar import processes
from agentcom.sidecar.forge import api, finding
from agentcom.sidecar.forge.api import Api
from agentcom.sidecar.forge.base import (
    Draft,
    ForgeAway,
    ForgeDenied,
    ForgeError,
    ForgeLimited,
    ForgeMissing,
    ForgeSettings,
    Kind,
    NoForge,
    PullState,
)
from agentcom.testing.waiting import until
from tests.sidecar.forge_world import ANN, EVE, TOKEN_ENV, forges_for, opened, with_work
from tests.sidecar.git_origin import Origin

DRAFT = Draft(branch="work", base="main", title="A title", body="A body")


@pytest.fixture(scope="module")
def like(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return with_work(tmp_path_factory.mktemp("like"))


@pytest.fixture(params=list(Kind), ids=str)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kind:
    monkeypatch.setenv(TOKEN_ENV, "forge-token-of-the-fleet")
    found = request.param
    assert isinstance(found, Kind)
    return found


# What all kinds do --------------------------------------------------------------------------------


async def test_a_pull_request_is_opened_found_and_described(
    kind: Kind, tmp_path: Path, like: Origin
) -> None:
    async with opened(kind, tmp_path / "origin", like) as (stand_in, forge, origin):
        assert await forge.find("work", "main") is None
        pull = await forge.open(DRAFT)
        await forge.describe(pull.number, Draft(branch="work", base="main", title="B", body="C"))

        assert pull.state is PullState.OPEN
        assert pull.commit == origin.tip("work")
        assert await forge.find("work", "main") == pull
        assert await forge.show(pull.number) == pull
        assert (stand_in.repository.pulls[0].title, stand_in.repository.pulls[0].body) == ("B", "C")
        assert stand_in.strange == []


async def test_a_pull_request_is_found_beyond_the_listed_ones(
    tmp_path: Path, like: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_ENV, "forge-token-of-the-fleet")
    monkeypatch.setattr(api, "PAGES_MAX", 0)  # nothing is listed: all others are newer
    async with opened(Kind.GITEA, tmp_path / "origin", like) as (stand_in, forge, origin):
        origin.push({"x": "x"}, "agent/pr/t1")
        pull = await forge.open(Draft(branch="agent/pr/t1", base="main", title="A", body=""))

        assert await forge.find("agent/pr/t1", "main") == pull
        assert await forge.find("agent/pr/t2", "main") is None
        assert stand_in.strange == []


async def test_a_branch_has_one_open_pull_request(kind: Kind, tmp_path: Path, like: Origin) -> None:
    async with opened(kind, tmp_path / "origin", like) as (stand_in, forge, _):
        await forge.open(DRAFT)

        with pytest.raises(ForgeError):
            await forge.open(DRAFT)
        assert len(stand_in.repository.pulls) == 1


async def test_what_became_of_a_pull_request_is_seen(
    kind: Kind, tmp_path: Path, like: Origin
) -> None:
    async with opened(kind, tmp_path / "origin", like) as (stand_in, forge, origin):
        origin.push({"other.txt": "other\n"}, "other")
        merged = await forge.open(DRAFT)
        closed = await forge.open(Draft(branch="other", base="main", title="Other", body=""))
        commit = stand_in.repository.merge(merged.number)
        stand_in.repository.close(closed.number)

        seen = await forge.show(merged.number)
        assert (seen.state, seen.merged_as) == (PullState.MERGED, commit)
        assert (await forge.show(closed.number)).state is PullState.CLOSED
        found = await forge.find("work", "main")
        assert found is not None
        assert found.state is PullState.MERGED
        assert stand_in.strange == []


async def test_all_that_was_said_is_read_in_order(kind: Kind, tmp_path: Path, like: Origin) -> None:
    async with opened(kind, tmp_path / "origin", like) as (stand_in, forge, _):
        pull = await forge.open(DRAFT)
        stand_in.repository.comment(pull.number, ANN, "first")
        stand_in.repository.comment(pull.number, EVE, "second", path="new.txt", line=3)
        await forge.say(pull.number, "third")

        said = [one for one in await forge.comments(pull.number) if one.body]
        assert [(one.author.login, one.body) for one in said] == [
            (ANN, "first"),
            (EVE, "second"),
            (await forge.login(), "third"),
        ]
        assert (said[1].path, said[1].line) == ("new.txt", 3)
        assert len({one.id for one in said}) == 3
        assert stand_in.strange == []


async def test_who_may_write_is_asked_of_the_forge(
    kind: Kind, tmp_path: Path, like: Origin
) -> None:
    async with opened(kind, tmp_path / "origin", like) as (stand_in, forge, _):
        pull = await forge.open(DRAFT)
        for who in (ANN, EVE, "nobody"):
            stand_in.repository.comment(pull.number, who, f"of {who}")

        authors = {one.author.login: one.author for one in await forge.comments(pull.number)}
        assert await forge.writes(authors[ANN])
        assert not await forge.writes(authors[EVE])
        assert not await forge.writes(authors["nobody"])
        assert stand_in.strange == []


async def test_runs_that_failed_are_named(kind: Kind, tmp_path: Path, like: Origin) -> None:
    async with opened(kind, tmp_path / "origin", like) as (stand_in, forge, origin):
        commit = origin.tip("work")
        stand_in.repository.run(commit, "lint", "success")
        stand_in.repository.run(commit, "tests", "failure")

        assert [one.name for one in await forge.failed_checks(commit)] == ["tests"]
        assert await forge.failed_checks(origin.tip()) == []
        assert stand_in.strange == []


async def test_long_lists_are_read_to_their_end(kind: Kind, tmp_path: Path, like: Origin) -> None:
    async with opened(kind, tmp_path / "origin", like) as (stand_in, forge, _):
        pull = await forge.open(DRAFT)
        for number in range(230):
            stand_in.repository.comment(pull.number, ANN, f"comment {number}")

        said = await forge.comments(pull.number)
        assert [one.body for one in said] == [f"comment {number}" for number in range(230)]
        assert stand_in.strange == []


async def test_a_token_that_may_not_push_is_found_out_before(
    kind: Kind, tmp_path: Path, like: Origin
) -> None:
    async with (
        opened(kind, tmp_path / "origin", like) as (stand_in, _, origin),
        forges_for(stand_in, origin) as forges,
    ):
        await forges.check(origin.url)
        stand_in.repository.writers[stand_in.repository.login] = False

        with pytest.raises(ForgeDenied, match="may not push"):
            await forges.check(origin.url)


async def test_a_wrong_token_is_refused_and_read_anew(
    kind: Kind, tmp_path: Path, like: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        opened(kind, tmp_path / "origin", like) as (stand_in, _, origin),
        forges_for(stand_in, origin) as forges,
    ):
        monkeypatch.setenv(TOKEN_ENV, "another")
        with pytest.raises(ForgeDenied):
            await forges.check(origin.url)

        monkeypatch.setenv(TOKEN_ENV, stand_in.token)
        await forges.check(origin.url)


async def test_the_token_is_in_no_log_and_no_error(
    kind: Kind, tmp_path: Path, like: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(kind, tmp_path / "origin", like) as (stand_in, forge, _):
        with pytest.raises(ForgeError) as refused:
            await forge.open(Draft(branch="absent", base="main", title="x", body=""))

        assert stand_in.token not in caplog.text + str(refused.value)


# What goes wrong ----------------------------------------------------------------------------------


async def test_what_did_not_change_is_not_sent_again(
    tmp_path: Path, like: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_ENV, "forge-token-of-the-fleet")
    async with opened(Kind.GITHUB, tmp_path / "origin", like) as (stand_in, forge, _):
        pull = await forge.open(DRAFT)
        stand_in.repository.comment(pull.number, ANN, "first")
        before = await forge.comments(pull.number)

        assert await forge.comments(pull.number) == before
        assert stand_in.count(" 304") == 3
        stand_in.repository.comment(pull.number, ANN, "second")
        assert len(await forge.comments(pull.number)) == 2


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"retry-after": "7"}, 7_000),
        ({"retry-after": "9" * 5_000}, 60_000),
        ({"x-ratelimit-reset": "1000030", "date": "Mon, 12 Jan 1970 13:46:40 GMT"}, 30_000),
        ({}, 60_000),
        ({"retry-after": "999999"}, 3_600_000),
    ],
)
async def test_a_forge_that_has_had_enough_says_for_how_long(
    headers: dict[str, str], wait_ms: int
) -> None:
    with pytest.raises(ForgeLimited) as limited:
        await answered(httpx.Response(429, headers=headers))

    assert limited.value.retry_after_ms == wait_ms


async def test_a_refusal_with_nothing_left_is_a_limit_and_another_is_not() -> None:
    with pytest.raises(ForgeLimited):
        await answered(httpx.Response(403, headers={"x-ratelimit-remaining": "0"}))
    with pytest.raises(ForgeDenied):
        await answered(httpx.Response(403, headers={"x-ratelimit-remaining": "9"}))


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(404), ForgeMissing),
        (httpx.Response(422, json={"message": "no", "errors": ["x"]}), ForgeError),
        (httpx.Response(200, text="<html>"), ForgeError),
        (httpx.Response(302, headers={"location": "https://elsewhere.example"}), ForgeError),
        (httpx.Response(200, content=b"[" + b"1," * 3_000_000 + b"1]"), ForgeError),
    ],
)
async def test_other_answers_are_errors_with_a_code(
    response: httpx.Response, error: type[ForgeError]
) -> None:
    with pytest.raises(error):
        await answered(response)


async def test_an_ill_forge_is_asked_again_for_reading_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(503)

    monkeypatch.setattr("agentcom.sidecar.forge.api.RETRY_S", 0.0)
    api = Api("https://forge.example", {}, page={}, transport=httpx.MockTransport(answer))
    with pytest.raises(ForgeAway):
        await api.get("/x")
    with pytest.raises(ForgeAway):
        await api.send("POST", "/x", {})

    assert asked == ["GET", "GET", "GET", "POST"]
    await api.close()


async def test_a_next_page_elsewhere_does_not_get_the_token() -> None:
    link = {"link": '<https://elsewhere.example/x?page=2>; rel="next"'}

    with pytest.raises(ForgeError, match="elsewhere"):
        await answered(httpx.Response(200, json=[1], headers=link))


async def answered(response: httpx.Response) -> object:
    transport = httpx.MockTransport(lambda _: response)
    api = Api("https://forge.example", {"authorization": "x"}, page={}, transport=transport)
    try:
        return await api.pages("/x") if response.status_code == 200 else await api.get("/x")
    finally:
        await api.close()


# Which forge --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "kind", "path"),
    [
        ("https://github.com/acme/api.git", Kind.GITHUB, "acme/api"),
        ("git@github.com:acme/api.git", Kind.GITHUB, "acme/api"),
        ("ssh://git@gitlab.com:22/group/sub/api", Kind.GITLAB, "group/sub/api"),
        ("https://codeberg.org/acme/api", Kind.GITEA, "acme/api"),
    ],
)
def test_public_forges_are_known_by_their_host(address: str, kind: Kind, path: str) -> None:
    place = finding.place_of(address, {})

    assert (place.kind, place.path) == (kind, path)
    assert place.api.startswith("https://")


def test_an_own_server_is_named_in_the_settings() -> None:
    said = {"git.example.com": ForgeSettings(kind=Kind.GITLAB)}

    place = finding.place_of("git@git.example.com:group/api.git", said)

    assert place.api == "https://git.example.com/api/v4"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://git.example.com/acme/api", {}),
        ("/srv/git/api.git", {}),
        (
            "https://git.example.com/acme/api",
            {"git.example.com": ForgeSettings(kind=Kind.GITEA, api="http://git.example.com/api")},
        ),
    ],
)
def test_no_token_goes_to_whom_nobody_named(address: str, said: dict[str, ForgeSettings]) -> None:
    with pytest.raises(NoForge):
        finding.place_of(address, said)


async def test_a_variable_is_for_the_host_that_it_is_known_by(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GH_TOKEN", "of-github")
    monkeypatch.setenv("PATH", str(tmp_path))
    here = finding.place_of("https://github.com/acme/api", {})
    said = ForgeSettings(kind=Kind.GITHUB)
    there = finding.place_of("https://git.example.com/acme/api", {"git.example.com": said})

    assert await finding.token_of(here, None) == "of-github"
    with pytest.raises(NoForge, match="no token"):
        await finding.token_of(there, said)


async def test_the_forges_own_program_is_asked_for_its_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "gh"
    program.write_text('#!/bin/sh\n[ "$*" = "auth token --hostname github.com" ] && echo known\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    for name in ("GH_TOKEN", "GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    place = finding.place_of("https://github.com/acme/api", {})

    assert await finding.token_of(place, None) == "known"


def test_errors_of_forges_are_of_our_tree() -> None:
    kinds = (ForgeError, ForgeAway, ForgeDenied, ForgeLimited, ForgeMissing, NoForge)

    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(issubclass(kind, errors.AgentComError) for kind in kinds)


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_a_program_that_is_asked_for_a_login_does_not_outlive_who_asks(
    tmp_path: Path,
) -> None:
    note = tmp_path / "pid"
    words = ("sh", "-c", f"echo $$ > {note}.new; mv {note}.new {note}; exec sleep 600")
    asking = asyncio.create_task(finding._printed(words))
    await until(note.exists)

    asking.cancel()
    ended = await asyncio.gather(asking, return_exceptions=True)

    assert processes.read_entry(int(note.read_text())) is None, ended
