"""Run schemathesis over the OpenAPI document of a hub that has a bit of everything: `make fuzz`."""

import argparse
import asyncio
import sys
from typing import Any, Final

from agentcom.hub.config import Bounds
from agentcom.testing.hub import RunningHub, running_hub

SEED: Final = 20_261_128
EXAMPLES: Final = 12
LEFT_OUT: Final = (
    "/api/v1/drain",  # it ends the hub
    "/mcp",  # speaks a protocol of its own; its tools are fuzzed in the tests
)
CHECKS: Final = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "negative_data_rejection"),
    *("unsupported_method", "allow_header_conformance", "ignored_auth"),
)
THINGS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("/tasks", {"title": "t", "prompt": "p", "needs": ["never"], "group": "g"}),
    ("/schedules", {"name": "s", "cron": "0 0 1 1 *", "task": {"title": "t", "prompt": "p"}}),
    ("/calls/note_write", {"name": "n", "text": "x"}),
    ("/calls/channel_create", {"channel": "c"}),
    ("/limits", {"scope": "key:k", "concurrency": 1}),
)


async def main(words: list[str]) -> int:
    """Return the exit code of schemathesis."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("schemathesis", help="where the program is")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each operation")
    parser.add_argument("--seed", type=int, default=SEED)
    given, more = parser.parse_known_args(words)
    async with running_hub(limits=Bounds(rates=False)) as hub:
        for path, body in THINGS:
            (await hub.http.post(f"/api/v1{path}", json=body)).raise_for_status()
        argv = _command(hub, given.schemathesis, given.examples, given.seed)
        process = await asyncio.create_subprocess_exec(*argv, *more)
        code = await process.wait()
        alive = await hub.http.get("/readyz")
    return code or int(alive.status_code != 200)


def _command(hub: RunningHub, program: str, examples: int, seed: int) -> list[str]:
    return [
        *(program, "run", f"{hub.url}/api/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {hub.admin_token}"),
        *("--phases", "examples,coverage,fuzzing", "--seed", str(seed)),
        *("--max-examples", str(examples), "--checks", ",".join(CHECKS)),
        *("--request-timeout", "60", "--suppress-health-check", "all", "--no-shrink"),
        *("--warnings", "off", "--continue-on-failure"),
        *(part for path in LEFT_OUT for part in ("--exclude-path", path)),
    ]


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
