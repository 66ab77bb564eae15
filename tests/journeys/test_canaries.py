"""Secrets of every known form, in every field that somebody can fill, are in no output of ours.

A hub and a sidecar run as they are started by hand. The secrets go into titles, prompts, letters,
branches, names of files, what the agent says and how it fails, settings, headers and addresses.
Then everything that leaves the processes is searched for them: logs, metrics, traces, refusals and
the archive for a report. Where they belong (the task, the mailbox, the repository) they stay.
"""

import asyncio
import base64
import json
import random
import string
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentcom.cli import background
from agentcom.model import token_text
from agentcom.model.identity import CredentialKind
from agentcom.sidecar.config import Home
from agentcom.testing.waiting import PATIENCE_S
from tests.cli.terminal import Shell
from tests.hub.collector import collecting

RNG = random.Random(20_260_101)
LETTERS = string.ascii_letters + string.digits


def chance(count: int, alphabet: str = LETTERS) -> str:
    return "".join(RNG.choice(alphabet) for _ in range(count))


AGENTS = 6
"""One that fails too often gets no more work."""
CORE = {
    "own": chance(43),
    "github": chance(36),
    "aws": chance(16, string.ascii_uppercase + "234567"),
    "aws secret": chance(38) + "1a",
    "openai": chance(48),
    "anthropic": chance(60),
    "slack": chance(28),
    "jwt": chance(40),
    "pem": chance(64),
    "url": chance(20),
    "bearer": chance(40),
    "basic": base64.b64encode(f"ada:{chance(16)}".encode()).decode().rstrip("="),
    "exact": "correct horse " + chance(12),
    "agents": chance(18),
}
"""What must not be seen of each."""
ONE_LINE = {
    "own": token_text.compose(CredentialKind.USER, "abcd1234", CORE["own"]),
    "github": f"ghp_{CORE['github']}",
    "aws": f"AKIA{CORE['aws']}",
    "aws secret": f"AWS_SECRET_ACCESS_KEY={CORE['aws secret']}",
    "openai": f"sk-proj-{CORE['openai']}",
    "anthropic": f"sk-ant-api03-{CORE['anthropic']}",
    "slack": f"xoxb-{CORE['slack']}",
    "jwt": f"eyJ{chance(20)}.eyJ{chance(30)}.{CORE['jwt']}",
    "url": f"https://ada:{CORE['url']}@db.invalid/x",
    "bearer": f"Authorization: Bearer {CORE['bearer']}",
    "basic": f"Authorization: Basic {CORE['basic']}",
    "exact": CORE["exact"],
    "agents": CORE["agents"],
}
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{CORE['pem']}\n-----END RSA PRIVATE KEY-----"
ALL = "\n".join([*ONE_LINE.values(), PEM])
WORDS = [ONE_LINE[name] for name in ("own", "github", "aws", "openai", "slack", "jwt")]
"""Those that can be a name: of a branch, a file, a header."""

SETTINGS_ONLY = chance(24)
"""Of an agent and of the collector's headers; no task or letter has it."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    origin, work = tmp_path / "origin.git", tmp_path / "seed"
    git("init", "-q", "--bare", "-b", "main", str(origin))
    git("clone", "-q", str(origin), str(work))
    (work / ".agentcom.toml").write_text('verify = "sh check.sh"\nland = "merge"\n')
    (work / "check.sh").write_text("cat said* >&2\n! grep -q fail said*\n")
    git("add", ".", at=work)
    git("commit", "-qm", "Begin", at=work)
    git("push", "-q", "origin", "HEAD:main", at=work)
    return origin


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path / "home", tmp_path)
    yield made
    made("down", ok=False)


def git(*words: str, at: Path | None = None) -> None:
    subprocess.run(["git", *words], cwd=at, check=True, capture_output=True)


def steps(*lines: dict[str, Any]) -> str:
    text = "\n".join(json.dumps(line) for line in lines)
    return f"{ALL}\n<<mock:edit>>\n```steps\n{text}\n```\n"


def prompts() -> Iterator[tuple[str, str]]:
    """Yield a title and a prompt of each way in which an agent can let something slip."""
    names = iter([*ONE_LINE.values(), *ONE_LINE.values()])
    say, word = {"say": ALL}, WORDS[1]
    write = {"write": {"path": f"said-{word}.txt", "text": "fine"}}
    yield next(names), steps(say, write, {"commit": f"Add {ALL}"}, say)
    failing = {"write": {"path": "said.txt", "text": f"fail {ALL}"}}
    yield next(names), steps(failing, {"commit": ALL}, say)
    for kind in ("agent", "refused"):
        yield next(names), steps(say, {"error": kind})
    yield next(names), steps({"shell": ["sh", "-c", f"echo '{word}' >&2; exit 7"]})
    yield next(names), steps({"garbage": 100}, {"exit": 9})
    # The last ones: an agent that may not log in, or has no quota, gets nothing more for now.
    yield next(names), steps(say, {"error": "auth"})
    yield next(names), steps(say, {"limit": f"Usage limit, {ALL}"})


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_no_secret_is_in_anything_that_leaves_the_processes(
    shell: Shell, project: Path, tmp_path: Path
) -> None:
    async with collecting() as collector:
        settle(shell, tmp_path, collector.url)
        outputs = await asyncio.to_thread(run, shell, project, tmp_path)
        async with asyncio.timeout(PATIENCE_S):
            while not collector.bodies:
                collector.came.clear()
                await collector.came.wait()
        outputs |= {f"trace {n}": body.decode() for n, body in enumerate(collector.bodies)}

    found = {
        (where, name)
        for where, text in outputs.items()
        for name, core in CORE.items()
        if core in text
    }
    assert found == set()
    exported = await asyncio.to_thread(export, shell, tmp_path)
    assert CORE["github"] in exported, "what people wrote is theirs, and in it"
    assert [name for name, secret in own(shell).items() if secret in exported] == []
    assert outputs["hub.log"].count("[redacted]") >= len(WORDS), "the net was not even touched"
    assert "task.completed" in outputs["hub.log"]
    assert "report.sent" in outputs["sidecar.log"]
    assert {"report agentcom-report/metrics.txt", "trace 0"} <= set(outputs)


def settle(shell: Shell, folder: Path, collector: str) -> None:
    """Write secrets into all settings that take some."""
    (folder / "agent.secrets").write_text(f"DEPLOY={CORE['agents']}\nVAULT={SETTINGS_ONLY}\n")
    (folder / "headers").write_text(f"X-Collector: {CORE['exact']}\nX-Vault: {SETTINGS_ONLY}\n")
    for name in ("agent.secrets", "headers"):
        (folder / name).chmod(0o600)
    hub = shell.home / "hub"
    hub.mkdir(parents=True)
    (hub / "hub.toml").write_text(
        f'otlp_endpoint = "{collector}"\n'
        f'otlp_headers = "{folder / "headers"}"\n'
        'log_level = "debug"\n'
    )


def run(shell: Shell, project: Path, folder: Path) -> dict[str, str]:
    """Run a fleet and return all that left its processes, by where it went."""
    agents = [
        f"tester{n}=testagent:sandbox=off,account=a{n},secrets={folder / 'agent.secrets'}"
        for n in range(AGENTS)
    ]
    named = [word for agent in agents for word in ("--agent", agent)]
    up = shell("up", "--port", "0", *named, CANARY_DEPLOY_TOKEN=CORE["exact"])
    outputs = {f"answer {n}": text for n, text in enumerate(play(shell, project))}
    bundle = str(folder / "report.tar.gz")
    words = ("doctor", "--quick", "--bundle", bundle)
    told = shell(*words, ok=False, CANARY_DEPLOY_TOKEN=CORE["exact"])
    shown = shell("logs", "--lines", "100000")
    outputs |= {"up": up.out + up.err, "doctor": told.out + told.err, "logs": shown.out}
    outputs |= {path.name: path.read_text("utf-8") for path in (shell.home / "logs").iterdir()}
    with tarfile.open(bundle) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            assert file is not None
            outputs[f"report {entry.name}"] = file.read().decode()
    return outputs


def export(shell: Shell, folder: Path) -> str:
    """Return all that a hub knows, with its people's access."""
    path = folder / "hub.jsonl"
    shell("store", "export", str(path), "--with-access")
    return path.read_text("utf-8")


def own(shell: Shell) -> dict[str, str]:
    """Return the secrets that let people and machines in, and those that only settings have."""
    person = json.loads((shell.home / "context.json").read_text())["hubs"][0]["token"]
    machine = Home(shell.home / "machine").load().token
    tokens = {"person": person, "machine": machine}
    return {name: token.rpartition("_")[2] for name, token in tokens.items()} | {
        "settings": SETTINGS_ONLY
    }


def play(shell: Shell, project: Path) -> list[str]:
    """Put the secrets everywhere; return what the hub answered to what it refused."""
    known = json.loads((shell.home / "context.json").read_text())["hubs"][0]
    bearer = {"Authorization": f"Bearer {known['token']}"}
    with httpx.Client(base_url=known["url"], headers=bearer, trust_env=False) as http:
        clean = {"write": {"path": "clean.txt", "text": "fine"}}
        good = [{"title": "Say it", "prompt": steps({"say": ALL}, clean, {"say": ALL})}]
        bad_base = [{"title": "x", "prompt": steps(), "base": f"x/{word}"} for word in WORDS[:2]]
        specs: list[dict[str, Any]] = [
            *good,
            *bad_base,
            *({"title": a, "prompt": b, "labels": {"a": a}} for a, b in prompts()),
        ]
        tasks = [_submit(http, repo=str(project), **spec) for spec in specs]
        _talk(http)
        refused = [answer.text for answer in _refused(http)]
        over = background.wait_for(lambda: all(_over(http, task) for task in tasks), timeout_s=60)
        assert over, [http.get(f"/api/v1/tasks/{task}").json()["task"] for task in tasks]
        return [*refused, http.get("/metrics").text]


def _submit(http: httpx.Client, **spec: Any) -> str:
    asked = {"failures_max": 1, "corrections": 0, **spec}
    answer = http.post("/api/v1/tasks", json=asked)
    assert answer.is_success, answer.text
    return str(answer.json()["tasks"][0])


def _over(http: httpx.Client, task: str) -> bool:
    row = http.get(f"/api/v1/tasks/{task}").json()["task"]
    moved_on = row["state"] == "queued" and row.get("attempt", 0) >= AGENTS - 1  # nobody has quota
    return moved_on or row["state"] in ("completed", "failed", "cancelled", "waiting")


def _talk(http: httpx.Client) -> None:
    """Write letters, posts, notes and questions; where they go they are data."""
    for name, body in (
        ("channel_create", {"channel": "canaries", "purpose": ONE_LINE["github"]}),
        ("channel_post", {"channel": "canaries", "body": ALL}),
        ("message_send", {"to": ["agent:tester1"], "subject": WORDS[0], "body": ALL}),
        ("note_write", {"name": "canary", "text": ALL}),
        ("ask", {"to": ["agent:tester1"], "question": ALL}),
    ):
        answer = http.post(f"/api/v1/calls/{name}", json=body)
        assert answer.status_code < 500, (name, answer.text)


def _refused(http: httpx.Client) -> Iterator[httpx.Response]:
    """Ask for what cannot be, with secrets in all places that a request has."""
    for word in WORDS:
        yield http.get(f"/api/v1/tasks/{word}", headers={"X-Request-Id": word})
        yield http.get("/api/v1/tasks", params={"cursor": word, word: "x"})
        yield http.post("/api/v1/tasks", json={"title": "x", "prompt": "y", word: word})
        yield http.post(
            "/api/v1/tasks", json={"title": word * 9, "prompt": "y", "base": f"-{word}"}
        )
        unsafe = {"title": "x", "prompt": "y", "repo": f"{ONE_LINE['url']}/{word}"}
        yield http.post("/api/v1/tasks", json=unsafe)
        yield http.post("/api/v1/enrol", json={"code": word})
        yield http.get("/api/v1/status", headers={"Authorization": f"Bearer {word}"})
        yield http.post(f"/api/v1/calls/{word}", content=ALL)
        yield http.put("/api/v1/log-level", json={"level": word, "logger": word})
        yield http.request("FOO", f"/{word}")
        yield http.post("/api/v1/calls/lock_acquire", json={"names": [word, ALL]})
