"""The AsyncAPI document: whole, true to the codec, and served."""

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema  # type: ignore[import-untyped]  # it has no types
import msgspec
import pytest

from agentcom.protocol import frames
from agentcom.testing.hub import running_hub
from agentcom.transport.asyncapi import document

SPEC = os.environ.get("ASYNCAPI_SCHEMA", "")
FRAMES = list(dict.fromkeys((*get_args(frames.FromPeer), *get_args(frames.FromHub))))


def refs(value: Any) -> set[str]:
    return set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(value)))


def at(whole: Any, pointer: str) -> Any:
    found = whole
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_every_frame_is_a_message_and_every_reference_leads_somewhere() -> None:
    whole = document()

    assert {one["name"] for one in whole["components"]["messages"].values()} == {
        kind.__struct_config__.tag for kind in FRAMES
    }
    assert all(at(whole, ref) for ref in refs(whole))
    assert all(one["summary"] for one in whole["components"]["messages"].values())
    told = [ref["$ref"] for one in whole["operations"].values() for ref in one["messages"]]
    assert {ref.rpartition("/")[2] for ref in told} == set(whole["channels"]["socket"]["messages"])


@pytest.mark.parametrize("kind", FRAMES, ids=lambda kind: kind.__name__)
def test_a_payload_tells_the_type_that_the_codec_reads(kind: Any) -> None:
    whole = document()
    payload = whole["components"]["messages"][kind.__name__]["payload"]
    schema = {**payload, "components": whole["components"]}

    validator = jsonschema.Draft202012Validator(schema)
    tag = {"type": kind.__struct_config__.tag}
    wrong = [error for error in validator.iter_errors(tag) if error.validator != "required"]
    assert wrong == []
    assert not validator.is_valid({"type": "nothing"})
    assert msgspec.json.schema(kind)


async def test_the_hub_serves_it_beside_the_openapi_document() -> None:
    async with running_hub() as hub, hub.client(None) as nobody:
        answer = await hub.http.get("/api/v1/asyncapi.json")
        stranger = await nobody.get("/api/v1/asyncapi.json")

    assert answer.json()["servers"]["local"]["host"] == hub.url.partition("://")[2]
    assert stranger.status_code == 401


@pytest.mark.skipif(not SPEC, reason="ASYNCAPI_SCHEMA names no schema of AsyncAPI 3.0")
def test_it_keeps_the_rules_of_asyncapi() -> None:
    schema = json.loads(Path(SPEC).read_text())

    jsonschema.Draft7Validator(schema).validate(document())
