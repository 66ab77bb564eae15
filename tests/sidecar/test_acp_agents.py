"""The agents of the protocol that have a driver of their own."""

import json
import tomllib
from typing import Any

import msgspec
import pytest

from agentcom.sidecar.runtime import base, opencode, vibe
from agentcom.sidecar.runtime.gemini import Gemini
from agentcom.sidecar.runtime.qwen import Qwen
from agentcom.sidecar.runtime.vibe import Vibe
from tests.sidecar.test_drivers import JOB

OWN = {"base_url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": "MY_KEY"}


def told(method: str, **parameters: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": parameters}).encode()


def test_vibe_tells_that_it_tries_again() -> None:
    line = told("_session/retrying", sessionId="s", category="rate_limited", detail="HTTP 429")

    assert Vibe().parser().feed(line) == [base.Retrying("rate_limited HTTP 429")]


def test_what_qwen_spent_comes_with_an_empty_word() -> None:
    parser = Qwen().parser()
    parser.feed(b'{"jsonrpc":"2.0","id":3,"result":{"sessionId":"s"}}')
    usage = {"inputTokens": 20, "outputTokens": 5, "totalTokens": 25, "cachedReadTokens": 8}
    update = {
        "sessionUpdate": "agent_message_chunk",
        "content": {"type": "text", "text": ""},
        "_meta": {"usage": usage},
    }
    events = parser.feed(told("session/update", update=update))
    parser.feed(told("session/update", update=update))

    spent = base.Usage(input=20, cached=8, output=5)
    assert [event for event in events if isinstance(event, base.Usage)] == [spent]
    assert parser.finish(base.Exit(code=0)).usage == base.Usage(input=40, cached=16, output=10)


def test_gemini_and_qwen_retry_little_and_call_nobody() -> None:
    for driver in (Gemini(), Qwen()):
        (file,) = driver.launch(msgspec.structs.replace(JOB, settings=OWN)).files
        settings = json.loads(file.text)

        assert settings["telemetry"] == {"enabled": False}
        assert settings["general"]["enableAutoUpdate"] is False
        assert settings["security"]["folderTrust"] == {"enabled": False}


def test_vibes_configuration_names_the_model_server() -> None:
    read = tomllib.loads(vibe.config(OWN))

    (provider,) = read["providers"]
    assert (provider["api_base"], provider["api_key_env_var"]) == (
        "http://127.0.0.1:1/v1",
        "MY_KEY",
    )
    assert read["enable_telemetry"] is False
    assert read["experiments"] == {"enable": False}


def test_vibe_speaks_by_the_program_beside_it() -> None:
    assert Vibe().argv({"binary": "/opt/vibe/bin/vibe"}) == ["/opt/vibe/bin/vibe-acp"]
    assert Vibe().argv({}) == ["vibe-acp"]


@pytest.mark.parametrize(("policy", "may"), [("allow", "allow"), ("ask", "ask"), ("deny", "ask")])
def test_opencode_asks_unless_it_may_everything(policy: str, may: str) -> None:
    made = opencode.config({**OWN, "permissions": policy})

    assert made["permission"]["bash"] == may
    assert made["enabled_providers"] == ["agentcom"]
    assert made["provider"]["agentcom"]["options"]["apiKey"] == "{env:MY_KEY}"
