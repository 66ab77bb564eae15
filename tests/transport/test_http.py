"""The HTTP door: what is refused and how, and that a repeat is harmless."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentcom.hub.config import Bounds
from agentcom.model.errors import RateLimited
from agentcom.model.identity import Role
from agentcom.model.policy import Action
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport import http
from agentcom.transport.http_call import Gate

TASKS = "/api/v1/tasks"
ENDPOINTS = http.endpoints()


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as running:
        yield running


@pytest.fixture
async def role_tokens(hub: RunningHub) -> dict[Role, str]:
    people = [Role.OPERATOR, Role.SUBMITTER, Role.VIEWER]
    tokens = {role: (await hub.user(f"a-{role}", role)).token for role in people}
    machine = await hub.machine("box")
    return {**tokens, Role.ADMIN: hub.admin_token, Role.AGENT: machine.token}


async def submit(client: httpx.AsyncClient, **more: Any) -> str:
    response = await client.post(TASKS, json={"title": "t", "prompt": "p", **more})
    assert response.status_code == 201, response.text
    return str(response.json()["tasks"][0])


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_every_action_has_a_route_or_is_the_sockets() -> None:
    used = {endpoint.access for endpoint in ENDPOINTS}

    # Rotating another's token is looked at in the handler, since its owner decides.
    # Breaking another's lock is part of the call that gives one's own back.
    assert set(Action) - used == {
        Action.MACHINE_SESSION,
        Action.CREDENTIAL_ROTATE,
        Action.LOCK_BREAK,
    }


def test_no_two_routes_share_method_and_path() -> None:
    places = [(endpoint.method, endpoint.path) for endpoint in ENDPOINTS]

    assert len(set(places)) == len(places)


def test_only_health_and_enrolment_are_open() -> None:
    opened = {endpoint.path for endpoint in ENDPOINTS if endpoint.access is Gate.OPEN}

    assert opened == {"/healthz", "/readyz", "/api/v1/enrol", "/api/v1/forge-events"}


async def test_a_task_is_submitted_shown_and_listed(hub: RunningHub) -> None:
    task = await submit(hub.http, needs=["python"])

    shown = (await hub.http.get(f"{TASKS}/{task[-6:]}")).json()
    listed = (await hub.http.get(TASKS, params={"state": "queued,waiting"})).json()
    assert shown["task"]["id"] == task
    assert shown["body"]["spec"]["prompt"] == "p"
    assert [row["id"] for row in listed["tasks"]] == [task]


async def test_several_tasks_come_in_together_or_not_at_all(hub: RunningHub) -> None:
    good = {"title": "a", "prompt": "p", "ref": "a"}
    after = {"title": "b", "prompt": "p", "depends_on": [{"task": "a"}]}
    bad = {"title": "", "prompt": "p"}

    response = await hub.http.post(TASKS, json={"tasks": [good, after]})
    refusal = await hub.http.post(TASKS, json={"tasks": [good, bad]})

    listed = (await hub.http.get(TASKS)).json()["tasks"]
    assert response.status_code == 201
    assert_problem(refusal, 422, "invalid_input")
    assert sorted(row["id"] for row in listed) == sorted(response.json()["tasks"])


GRAPH = [
    {"title": "build", "prompt": "p", "ref": "a", "group": "g"},
    {"title": "look", "prompt": "p", "ref": "b", "group": "g", "reviews": "a"},
    {
        "title": "go?",
        "approval": "person",
        "group": "g",
        "depends_on": [{"task": "b", "on_failure": "wait", "children": True}],
    },
]


async def test_a_group_is_shown_with_its_graph_cancelled_and_retried(hub: RunningHub) -> None:
    made = (await hub.http.post(TASKS, json={"tasks": GRAPH})).json()["tasks"]
    groups = "/api/v1/groups"

    listed = (await hub.http.get(groups)).json()["groups"]
    shown = (await hub.http.get(f"{groups}/g")).json()
    graph = (await hub.http.get(f"{groups}/g/graph")).json()
    around = (await hub.http.get(f"{TASKS}/{made[0]}/graph")).json()
    cancelled = await hub.http.post(f"{groups}/g/cancel", json={"reason": "enough"})
    over = (await hub.http.get(f"{groups}/g")).json()
    retried = await hub.http.post(f"{groups}/g/retry")
    again = (await hub.http.get(f"{groups}/g")).json()

    assert [group["name"] for group in listed] == ["g"]
    assert (shown["percent"], shown["critical_path"]) == (0, 3)
    assert [edge["kind"] for edge in graph["edges"]] == ["reviews", "depends"]
    assert graph["edges"][1]["on_failure"] == "wait"
    assert {task["id"] for task in around["tasks"]} == set(made)
    assert cancelled.json()["detail"] == "3 tasks"
    assert (over["percent"], over["states"]) == (100, {"cancelled": 3})
    assert retried.json()["detail"] == "3 tasks"
    assert again["states"] == {"queued": 1, "waiting": 2}
    assert_problem(await hub.http.get(f"{groups}/other"), 404, "not_found")


async def test_a_group_whose_tasks_are_anothers_is_not_retried_for_them(
    hub: RunningHub, role_tokens: dict[Role, str]
) -> None:
    await hub.http.post(TASKS, json={"tasks": GRAPH})
    await hub.http.post("/api/v1/groups/g/cancel")

    async with hub.client(role_tokens[Role.SUBMITTER]) as client:
        answer = await client.post("/api/v1/groups/g/retry")

    assert answer.json()["detail"] == "0 tasks, 3 cannot be: see agentcom task why"


async def test_a_person_approves_or_rejects(hub: RunningHub) -> None:
    gate = {"title": "go?", "approval": "person"}
    yes, no = [(await hub.http.post(TASKS, json=gate)).json()["tasks"][0] for _ in range(2)]

    approved = await hub.http.post(f"{TASKS}/{yes}/approve", json={"message": "good"})
    rejected = await hub.http.post(f"{TASKS}/{no}/reject")
    late = await hub.http.post(f"{TASKS}/{no}/approve")

    assert approved.json()["task"]["state"] == "completed"
    assert rejected.json()["task"]["failure"] == "rejected"
    assert_problem(late, 409, "illegal_transition")


async def test_a_repeat_with_the_same_key_gets_the_same_answer(hub: RunningHub) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await hub.http.post(TASKS, json={"title": "t", "prompt": "p"}, headers=headers)

    again = await hub.http.post(TASKS, json={"prompt": "p", "title": "t"}, headers=headers)
    other = await hub.http.post(TASKS, json={"title": "u", "prompt": "p"}, headers=headers)

    assert again.json() == first.json()
    assert_problem(other, 409, "key_reused")


async def test_removing_a_machine_can_be_repeated_with_its_key(hub: RunningHub) -> None:
    machine = await hub.machine("box")
    path, headers = f"/api/v1/machines/{machine.machine}", {"Idempotency-Key": "gone"}

    first = await hub.http.delete(path, headers=headers)
    again = await hub.http.delete(path, headers=headers)

    async with hub.client(machine.token) as client:
        own = await client.get("/api/v1/whoami")
    assert (first.status_code, again.json()) == (200, first.json())
    assert_problem(own, 401, "not_authenticated")


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "not_found"),
        ("GET", "/api/v1/tasks/", {}, 404, "not_found"),
        ("GET", "/api/v1/tasks/%00", {}, 404, "not_found"),
        ("GET", "/api/v1/tasks/zzzzzz", {}, 404, "not_found"),
        ("PUT", TASKS, {}, 405, "method_not_allowed"),
        ("POST", TASKS, {"content": b"{}"}, 415, "wrong_media_type"),
        ("POST", TASKS, {"data": {"title": "x"}}, 415, "wrong_media_type"),
        ("POST", TASKS, {"json": {"title": "x", "prompt": "p", "own": 1}}, 422, "invalid_input"),
        ("POST", TASKS, {"json": {"title": 5}}, 422, "invalid_input"),
        ("POST", TASKS, {"json": {"title": "a\0b", "prompt": "p"}}, 422, "invalid_input"),
        ("POST", TASKS, {"json": {"tasks": []}}, 422, "invalid_input"),
        ("GET", f"{TASKS}?limit=0", {}, 422, "invalid_input"),
        ("GET", f"{TASKS}?limit=1&limit=2", {}, 422, "invalid_input"),
        ("GET", f"{TASKS}?state=sleeping", {}, 422, "invalid_input"),
        ("GET", f"{TASKS}?colour=red", {}, 422, "invalid_input"),
        ("GET", f"{TASKS}?cursor=AAAA", {}, 422, "invalid_input"),
        ("GET", f"{TASKS}?project=other", {}, 403, "not_allowed"),
        ("GET", f"{TASKS}?token=x", {}, 400, "token_in_query"),
    ],
)
async def test_a_wrong_request_is_a_problem_document(
    hub: RunningHub, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(await hub.http.request(method, path, **options), status, code)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"title": "\\ud800"}'])
async def test_malformed_json_is_told_from_wrong_fields(hub: RunningHub, body: bytes) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    response = await hub.http.post(TASKS, content=body, headers=headers)

    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_body_over_the_limit_is_refused() -> None:
    async with running_hub(limits=Bounds(body_bytes_max=2_048)) as hub:
        body = {"title": "t", "prompt": "p" * 4_096}

        assert_problem(await hub.http.post(TASKS, json=body), 413, "too_large")


async def test_allow_names_every_method_of_a_path(hub: RunningHub) -> None:
    response = await hub.http.put(TASKS)

    assert response.headers["allow"] == "GET, HEAD, POST"


async def test_head_answers_like_get_without_a_body(hub: RunningHub) -> None:
    response = await hub.http.head("/api/v1/status")

    assert (response.status_code, response.content) == (200, b"")


async def test_a_request_keeps_the_id_that_it_came_with(hub: RunningHub) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    traced = await hub.http.get("/healthz", headers={"traceparent": trace})
    named = await hub.http.get("/healthz", headers={"X-Request-Id": "my-request-1"})
    wild = await hub.http.get("/healthz", headers={"X-Request-Id": "a b;c"})
    key = await hub.http.get("/healthz", headers={"X-Request-Id": "ghp_" + "a" * 36})

    assert traced.headers["x-request-id"] == "0af7651916cd43dd8448eb211c80319c"
    assert named.headers["x-request-id"] == "my-request-1"
    assert wild.headers["x-request-id"] not in ("", "a b;c")
    assert "aaa" not in key.headers["x-request-id"]


async def test_the_id_of_a_request_is_the_cause_of_what_follows(hub: RunningHub) -> None:
    body = {"title": "t", "prompt": "p"}
    response = await hub.http.post(TASKS, json=body, headers={"X-Request-Id": "why-so-1"})

    events = await hub.http.get(f"{TASKS}/{response.json()['tasks'][0]}/events")
    assert events.json()["events"][0]["event"]["cause"] == "why-so-1"


async def test_a_submitter_cannot_touch_or_tell_anothers_task(hub: RunningHub) -> None:
    task = await submit(hub.http)
    ben = await hub.user("ben", Role.SUBMITTER)

    async with hub.client(ben.token) as client:
        response = await client.post(f"{TASKS}/{task}/cancel")

    assert_problem(response, 404, "not_found")


async def test_cancel_and_retry_move_a_task(hub: RunningHub) -> None:
    task = await submit(hub.http)

    cancelled = await hub.http.post(f"{TASKS}/@last/cancel", json={"reason": "no need"})
    again = await hub.http.post(f"{TASKS}/{task}/cancel")
    retried = await hub.http.post(f"{TASKS}/{task}/retry")
    adopted = await hub.http.post(f"{TASKS}/{task}/adopt", json={"attempt": 1})

    assert cancelled.json()["task"]["state"] == "cancelled"
    assert again.json()["task"]["state"] == "cancelled"
    assert retried.json()["task"]["state"] == "queued"
    assert_problem(adopted, 404, "not_found")


async def test_why_explains_with_the_next_step(hub: RunningHub) -> None:
    task = await submit(hub.http)

    reply = (await hub.http.get(f"{TASKS}/{task}/why")).json()
    assert (reply["summary"], reply["position"]) == ("there are no agents", 1)


async def test_a_cursor_goes_on_where_the_page_ended(hub: RunningHub) -> None:
    made = [await submit(hub.http) for _ in range(3)]
    params: dict[str, Any] = {"limit": 2}

    first = (await hub.http.get(TASKS, params=params)).json()
    rest = (await hub.http.get(TASKS, params={**params, "cursor": first["next"]})).json()

    shown = [row["id"] for row in (*first["tasks"], *rest["tasks"])]
    assert shown == made[::-1]
    assert "next" not in rest


async def test_a_cursor_is_no_use_to_someone_else(hub: RunningHub) -> None:
    for _ in range(2):
        await submit(hub.http)
    cursor = (await hub.http.get(TASKS, params={"limit": 1})).json()["next"]
    vic = await hub.user("vic", Role.VIEWER)

    async with hub.client(vic.token) as client:
        response = await client.get(TASKS, params={"limit": 1, "cursor": cursor})

    assert_problem(response, 422, "invalid_input")


async def events_of(lines: AsyncIterator[str], count: int) -> list[tuple[int, str]]:
    """Read events of a stream until there are `count`, or until it ends."""
    found: list[tuple[int, str]] = []
    seq = 0
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            line = await anext(lines, None)
            if line is None:
                break
            if line.startswith("id: "):
                seq = int(line[4:])
            if line.startswith("data: "):
                found.append((seq, json.loads(line[6:])["event"]["kind"]))
    return found


async def test_a_stream_brings_stored_and_new_events_under_their_sequences(
    hub: RunningHub,
) -> None:
    task = await submit(hub.http)
    headers = {"Accept": "text/event-stream"}

    async with hub.http.stream("GET", f"{TASKS}/{task}/events", headers=headers) as response:
        await hub.http.post(f"{TASKS}/{task}/cancel")
        found = await events_of(response.aiter_lines(), 2)

    listed = (await hub.http.get(f"{TASKS}/{task}/events")).json()["events"]
    assert found == [(row["seq"], row["event"]["kind"]) for row in listed]


async def test_a_stream_resumes_after_the_last_event(hub: RunningHub) -> None:
    task = await submit(hub.http)
    await hub.http.post(f"{TASKS}/{task}/cancel")
    first, second = (await hub.http.get(f"{TASKS}/{task}/events")).json()["events"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(first["seq"])}

    async with hub.http.stream("GET", f"{TASKS}/{task}/events", headers=headers) as response:
        assert await events_of(response.aiter_lines(), 1) == [(second["seq"], "cancelled")]


@pytest.mark.parametrize("digits", [20, 50, 5_000])
async def test_a_last_event_id_that_is_no_sequence_is_refused(hub: RunningHub, digits: int) -> None:
    task = await submit(hub.http)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "9" * digits}

    response = await hub.http.get(f"{TASKS}/{task}/events", headers=headers)

    assert_problem(response, 422, "invalid_input")


async def test_a_reader_ahead_of_a_restored_hub_is_told_to_start_over(hub: RunningHub) -> None:
    task = await submit(hub.http)
    stream = {"Accept": "text/event-stream", "Last-Event-ID": "1000"}

    streamed = await hub.http.get(f"{TASKS}/{task}/events", headers=stream)
    listed = await hub.http.get(f"{TASKS}/{task}/events", params={"after": 1_000})

    assert_problem(streamed, 409, "conflict")
    assert_problem(listed, 409, "conflict")
    assert "start over" in listed.json()["detail"]


async def test_a_stream_ends_with_its_token(hub: RunningHub) -> None:
    task = await submit(hub.http)
    made = (await hub.http.post("/api/v1/tokens", json={"role": "viewer"})).json()
    headers = {"Accept": "text/event-stream"}

    async with (
        hub.client(made["token"]) as client,
        client.stream("GET", f"{TASKS}/{task}/events", headers=headers) as response,
    ):
        lines = response.aiter_lines()
        before = await events_of(lines, 1)
        await hub.http.delete(f"/api/v1/tokens/{made['credential']['id']}")
        after = await events_of(lines, 1)

    assert (len(before), after) == (1, [])


async def test_a_stream_ends_with_the_hub(hub: RunningHub) -> None:
    task = await submit(hub.http)
    headers = {"Accept": "text/event-stream"}

    async with hub.http.stream("GET", f"{TASKS}/{task}/events", headers=headers) as response:
        lines = response.aiter_lines()
        before = await events_of(lines, 1)
        await hub.http.post("/api/v1/drain")
        after = await events_of(lines, 1)

    assert (len(before), after) == (1, [])


async def test_one_token_has_only_so_many_streams(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcom.transport.http_events.STREAMS_MAX", 1)
    task = await submit(hub.http)
    headers = {"Accept": "text/event-stream"}

    async with hub.http.stream("GET", f"{TASKS}/{task}/events", headers=headers) as response:
        await events_of(response.aiter_lines(), 1)
        second = await hub.http.get(f"{TASKS}/{task}/events", headers=headers)

    assert_problem(second, 429, "rate_limited")


@pytest.mark.parametrize("budget", ["spend", "spend_known"])
async def test_a_used_up_budget_says_when_to_come_back(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    def used_up(*_: object, **__: object) -> None:
        raise RateLimited("too many requests", 1_500)

    monkeypatch.setattr(f"agentcom.hub.limits_guard.Budgets.{budget}", used_up)

    response = await hub.http.get("/api/v1/status")
    assert_problem(response, 429, "rate_limited")
    assert response.headers["retry-after"] == "2"


async def test_a_token_is_shown_once_and_never_listed(hub: RunningHub) -> None:
    made = (await hub.http.post("/api/v1/tokens", json={"role": "viewer", "note": "ci"})).json()

    listed = await hub.http.get("/api/v1/tokens")
    async with hub.client(made["token"]) as client:
        who = (await client.get("/api/v1/whoami")).json()
    assert made["token"] not in listed.text
    assert "digest" not in listed.text
    assert (who["user"], who["role"]) == ("ann", "viewer")


async def test_a_narrow_token_cannot_become_a_wide_one(hub: RunningHub) -> None:
    wide = (await hub.http.get("/api/v1/whoami")).json()["credential"]
    narrow = (await hub.http.post("/api/v1/tokens", json={"role": "viewer"})).json()["token"]

    async with hub.client(narrow) as client:
        rotated = await client.post(f"/api/v1/tokens/{wide}/rotate")
        made = await client.post("/api/v1/tokens", json={"role": "admin"})

    assert_problem(rotated, 403, "not_allowed")
    assert_problem(made, 403, "not_allowed")


async def test_a_machine_may_rotate_its_own_token_only(hub: RunningHub) -> None:
    one, other = await hub.machine("one"), await hub.machine("other")
    async with hub.client(other.token) as client:
        foreign = (await client.get("/api/v1/whoami")).json()["credential"]

    async with hub.client(one.token) as client:
        own = await client.post("/api/v1/tokens/self/rotate")
        stolen = await client.post(f"/api/v1/tokens/{foreign}/rotate")

    assert own.status_code == 201
    assert_problem(stolen, 403, "not_allowed")


async def test_a_removed_person_has_no_way_in_and_the_last_admin_stays(hub: RunningHub) -> None:
    ben = await hub.user("ben", Role.OPERATOR)

    removed = await hub.http.delete("/api/v1/users/ben")
    last = await hub.http.delete("/api/v1/users/ann")

    async with hub.client(ben.token) as client:
        own = await client.get("/api/v1/whoami")
    assert removed.status_code == 200
    assert_problem(own, 401, "not_authenticated")
    assert_problem(last, 409, "last_admin")


async def test_a_join_code_works_once(hub: RunningHub) -> None:
    invited = await hub.invite_machine("box")
    async with hub.client(None) as client:
        first = await client.post("/api/v1/enrol", json={"code": invited.code})
        second = await client.post("/api/v1/enrol", json={"code": invited.code})

    machines = (await hub.http.get("/api/v1/machines")).json()["machines"]
    assert invited.join == f"{hub.url}#{invited.code}"
    assert first.status_code == 201
    assert_problem(second, 401, "not_authenticated")
    assert [row["name"] for row in machines] == ["box"]


async def test_a_drained_machine_is_shown_so(hub: RunningHub) -> None:
    await hub.machine("box")

    await hub.http.post("/api/v1/machines/box/drain")
    drained = (await hub.http.get("/api/v1/machines/box")).json()
    await hub.http.post("/api/v1/machines/box/resume")
    resumed = (await hub.http.get("/api/v1/machines/box")).json()

    assert drained["draining"]
    assert "draining" not in resumed


async def test_status_and_metrics_count_tasks(hub: RunningHub) -> None:
    await submit(hub.http)
    await hub.http.post(f"{TASKS}/@last/cancel")

    status = (await hub.http.get("/api/v1/status")).json()
    metrics = (await hub.http.get("/metrics")).text
    assert (status["state"], status["ended"]["cancelled"]) == ("ready", 1)
    assert 'agentcom_tasks_ended_total{state="cancelled"} 1.0' in metrics


async def test_an_unforeseen_fault_says_nothing_of_its_cause(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is forty-two")

    monkeypatch.setattr("agentcom.hub.queries_fleet.Fleet.agents", broken)

    response = await hub.http.get("/api/v1/agents")
    assert_problem(response, 500, "fault")
    assert "forty" not in response.text


async def test_an_answer_that_does_not_come_is_a_timeout_to_be_repeated(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("agentcom.hub.engine.Engine.ask", late)

    response = await hub.http.post(TASKS, json={"title": "t", "prompt": "p"})
    assert_problem(response, 504, "timeout")
