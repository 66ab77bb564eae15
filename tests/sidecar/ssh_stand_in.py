"""An ssh that goes nowhere: it forwards the port it is asked for, and notes how it was called.

Run as a program named `ssh`: `AGENTCOM_TEST_SSH_LOG` names a file for its arguments, and
`AGENTCOM_TEST_SSH_SAYS` makes it refuse with these words.
"""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path


async def forward(local: int, host: str, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", local)
    await server.serve_forever()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


def main() -> int:
    log = os.environ.get("AGENTCOM_TEST_SSH_LOG")
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"pid": os.getpid(), "argv": sys.argv[1:]}) + "\n")
    refusal = os.environ.get("AGENTCOM_TEST_SSH_SAYS")
    if refusal:
        sys.stderr.write(refusal + "\n")
        return 255
    asked = sys.argv[sys.argv.index("-L") + 1]
    _, local, host, port = asked.replace("[::1]", "localhost").split(":")
    asyncio.run(forward(int(local), host, int(port)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
