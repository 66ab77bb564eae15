"""Measure the port: server CPU per echo of 500 bytes, and memory per idle connection.

Run `python bench/port.py [connections] [--loop uvloop|asyncio] [--tls] [--codec picows|fallback]`.
The client is another process, so the CPU figures are the server's alone.
"""

import argparse
import asyncio
import gc
import importlib
import multiprocessing
import resource
import ssl
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from agentcom.hub.certificate import ensure_certificate, server_context
from agentcom.transport.port import Port
from agentcom.transport.socket import Head, PortLimits, Socket

PAYLOAD = b"x" * 500
SECONDS = 4.0


class Echo:
    """Sends back what it gets."""

    def on_open(self, socket: Socket, _head: Head) -> None:
        self.socket = socket
        socket.trust()

    def on_text(self, payload: bytes) -> None:
        self.socket.send_text(payload)

    def on_close(self, code: int) -> None:
        """Nothing to free."""


class Pinger(WSListener):
    """Keeps one message in flight."""

    count = 0
    active = False

    def on_ws_frame(self, transport: WSTransport, _frame: WSFrame) -> None:
        Pinger.count += 1
        if Pinger.active:
            transport.send(WSMsgType.TEXT, PAYLOAD)


async def _attack(pipe: Connection, port: int, connections: int, *, tls: bool) -> None:
    context = ssl._create_unverified_context() if tls else None  # noqa: SLF001  # a benchmark
    url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ws"
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    opened = [await ws_connect(Pinger, url, ssl_context=context) for _ in range(connections)]
    pipe.send("open")
    await asyncio.to_thread(pipe.recv)
    Pinger.active = True
    for transport, _listener in opened:
        transport.send(WSMsgType.TEXT, PAYLOAD)
    await asyncio.sleep(SECONDS)
    Pinger.active = False
    pipe.send(Pinger.count)
    await asyncio.to_thread(pipe.recv)


def _client(pipe: Connection, port: int, connections: int, tls: bool) -> None:
    _more_files()
    importlib.import_module("uvloop").run(_attack(pipe, port, connections, tls=tls))


async def _measure(options: argparse.Namespace) -> None:
    context = None
    if options.tls:
        with tempfile.TemporaryDirectory() as folder:
            context = server_context(ensure_certificate(Path(folder, "tls"), []))
    codec: Any = importlib.import_module(f"agentcom.transport.socket_{options.codec}")
    big = PortLimits(untrusted_per_address_max=100_000, untrusted_max=100_000)
    port = Port(
        _none, {b"/ws": lambda _: Echo()}, limits=big, tls=context, open_socket=codec.open_socket
    )
    number = await port.start("127.0.0.1", 0)
    here, there = multiprocessing.get_context("spawn").Pipe()
    args = (there, number, options.connections, options.tls)
    process = multiprocessing.get_context("spawn").Process(target=_client, args=args)
    process.start()
    await asyncio.to_thread(here.recv)
    gc.collect()
    before = _resident_bytes()
    here.send("connect")
    await asyncio.to_thread(here.recv)
    await asyncio.sleep(1)
    gc.collect()
    idle_kib = (_resident_bytes() - before) / 1024 / options.connections
    cpu = time.process_time()
    here.send("go")
    count = await asyncio.to_thread(here.recv)
    cpu = time.process_time() - cpu
    after_kib = (_resident_bytes() - before) / 1024 / options.connections
    here.send("end")
    await asyncio.to_thread(process.join)
    print(
        f"{options.loop:8} {options.codec:9} tls={options.tls!s:5} n={options.connections:5} "
        f"{count / SECONDS:8.0f} echo/s  {cpu / count * 1e6:5.1f} us/echo  "
        f"{idle_kib:5.1f} KiB idle  {after_kib:5.1f} KiB after load"
    )
    await port.stop(2)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


async def _none(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


def _more_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("connections", nargs="?", type=int, default=200)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--codec", choices=["picows", "fallback"], default="picows")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    _more_files()
    factory = importlib.import_module(options.loop).new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_measure(options))


if __name__ == "__main__":
    _main()
