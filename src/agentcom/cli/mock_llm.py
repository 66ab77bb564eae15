"""`agentcom mock-llm`: the scripted model server, for tests of agents and of drivers."""

import sys
from pathlib import Path

import click


@click.command("mock-llm")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="0 takes a free one.")
@click.option("--port-file", type=click.Path(path_type=Path), help="The port is written there.")
@click.option("--latency-ms", type=click.IntRange(0), default=0, help="Before each answer.")
def mock_llm(host: str, port: int, port_file: Path | None, latency_ms: int) -> None:
    """Serve a scripted model in the dialects of Anthropic, OpenAI and Gemini.

    A prompt names its script by a marker, <<mock:edit>>. Prints the address, then one line of
    JSON for each request.

    \b
    Example:
      agentcom mock-llm --port-file /tmp/port &
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    import asyncio
    import signal

    from agentcom.testing.mock_llm import server

    def write(line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        log = server.json_lines(write)
        async with server.serve(
            host, port, log=log, latency_ms=latency_ms, port_file=port_file
        ) as running:
            click.echo(running.url)
            await stopped.wait()

    asyncio.run(serve())
