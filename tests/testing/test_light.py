"""The bare socket that holds thousands of connections, against a hub's real door."""

import asyncio

from agentcom.client.link import Lost
from agentcom.model import errors
from agentcom.model.errors import AgentComError
from agentcom.model.task import TaskSpec
from agentcom.protocol import codec, frames
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.light import LightSocket


class Client:
    """Keeps what a socket brings."""

    def __init__(self, token: str) -> None:
        self.heard: asyncio.Queue[frames.FromHub] = asyncio.Queue()
        self.over: asyncio.Future[Lost | AgentComError] = asyncio.get_running_loop().create_future()
        self.socket = LightSocket(
            token,
            heard=lambda payload: self.heard.put_nowait(codec.decode_from_hub(payload)),
            ended=self.over.set_result,
            opened=lambda: self.socket.send(codec.encode(frames.Hello())),
        )

    async def enter(self, hub: RunningHub) -> None:
        await self.socket.dial(hub.url)
        assert isinstance(await self.heard.get(), frames.Ready)


async def test_frames_of_every_length_arrive_whole_in_both_directions() -> None:
    async with running_hub() as hub:
        client = Client(hub.admin_token)
        await client.enter(hub)
        for number, size in enumerate((1, 100, 1_000, 60_000)):
            spec = TaskSpec(title="x", prompt="y" * size)
            client.socket.send(codec.encode(frames.SubmitFrame(key=f"k{number}", tasks=(spec,))))
            reply = await client.heard.get()
            assert isinstance(reply, frames.ReplyFrame)
            assert reply.key == f"k{number}"
        many = frames.SubmitFrame(key="many", tasks=(TaskSpec(title="x", prompt="z"),) * 1_000)
        client.socket.send(codec.encode(many))
        assert isinstance(await client.heard.get(), frames.ReplyFrame)  # 28 bytes for each id
        client.socket.abort()
        assert await client.over == Lost("the connection broke: None")


async def test_a_refused_token_is_told_by_the_rule_of_the_real_client() -> None:
    async with running_hub() as hub:
        client = Client("acm_usr_nobody_knows_it")
        await client.socket.dial(hub.url)

        assert isinstance(await client.over, errors.NotAuthenticated)


async def test_the_hubs_goodbye_brings_its_code() -> None:
    async with running_hub() as hub:
        client = Client(hub.admin_token)
        await client.enter(hub)
        for _ in range(20):
            client.socket.send(b"this is no frame")

        assert (await client.over) == Lost("20 frames in a row made no sense", 1008)
