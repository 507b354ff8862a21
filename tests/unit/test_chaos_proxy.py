"""The wires of a fault run: slow they may be, but a TCP connection keeps its bytes in order."""

import asyncio
import random

from loadtests.chaos.proxy import Link, Mode


async def test_a_slow_wire_keeps_the_order_of_bytes() -> None:
    """Many small pieces with waits of their own arrive as they were sent."""
    arrived = bytearray()
    ended = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.extend(await reader.read(-1))
        writer.close()
        ended.set()

    target = await asyncio.start_server(take, "127.0.0.1", 0)
    link = Link("test", target.sockets[0].getsockname()[1], random.Random(5))
    await link.open()
    await link.become(Mode.SLOW, (0.0, 0.05))
    _, writer = await asyncio.open_connection("127.0.0.1", link.port)
    sent = b"".join(b"%05d" % n for n in range(300))
    for at in range(0, len(sent), 5):
        before = link.struck["delayed"]
        writer.write(sent[at : at + 5])
        async with asyncio.timeout(5):
            while link.struck["delayed"] == before:  # noqa: ASYNC110 - a counter tells no event
                await asyncio.sleep(0)
    writer.close()
    async with asyncio.timeout(5):
        await ended.wait()
    await link.close()
    target.close()
    assert link.struck["delayed"] == 300
    assert bytes(arrived) == sent
