"""One suite over both transports, with a real WebSocket client."""

from __future__ import annotations

import asyncio
import json
import socket
from base64 import b64encode

import pytest
from websockets.exceptions import InvalidStatus

from realtime.events import encode_event
from tests.realtime_support import (
    CUSTOMER,
    EPOCH,
    ORDER,
    ORIGIN,
    RIDER,
    TRANSPORTS,
    World,
    client,
    limits,
    position,
    serving,
    status,
)
from tests.waiting import until


@pytest.fixture(params=sorted(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_snapshot_then_events(transport: str) -> None:
    """A subscription without ``since`` gets a snapshot at ``seq`` and then every later event."""
    world = World()
    await world.happen(1, 2)
    async with serving(transport, world.service()) as served, client(served) as c:
        ready = await c.auth(world.ticket())
        assert ready["op"] == "ready"
        assert (ready["heartbeat_s"], ready["position_interval_s"]) == (25.0, 4.0)
        assert await c.subscribe() == {
            "op": "subscribed",
            "id": 1,
            "channel": "order:ord_1",
            "epoch": EPOCH,
            "seq": 2,
            "recovered": False,
        }
        taken = await c.next()
        assert (taken["op"], taken["seq"], taken["data"]) == ("snapshot", 2, {"version": 2})
        await world.happen(3)
        assert await c.next() == json.loads(encode_event(status(3)))


async def test_twenty_drops_equal_none(transport: str) -> None:
    """A client that drops its socket 20 times sees what one that never dropped sees."""
    world = World()
    await world.happen(1)
    steady: list[dict[str, object]] = []
    broken: list[dict[str, object]] = []
    async with serving(transport, world.service()) as served, client(served) as whole:
        await whole.auth(world.ticket())
        await whole.subscribe(since={"epoch": EPOCH, "seq": 0})
        seq = 1
        for drop in range(21):
            async with client(served) as c:
                await c.auth(world.ticket())
                last = broken[-1]["seq"] if broken else 0
                answer = await c.subscribe(since={"epoch": EPOCH, "seq": last})
                assert answer["recovered"] is True
                while len(broken) < seq - drop % 3 % 2:
                    broken.append(await c.next("event"))
                c.connection.transport.abort()
            await world.happen(seq + 1, seq + 2)
            seq += 2
        async with client(served) as c:
            await c.auth(world.ticket())
            await c.subscribe(since={"epoch": EPOCH, "seq": broken[-1]["seq"]})
            while len(broken) < seq:
                broken.append(await c.next("event"))
        while len(steady) < seq:
            steady.append(await whole.next("event"))
    assert broken == steady
    assert [event["seq"] for event in steady] == list(range(1, seq + 1))


async def test_old_epoch_gets_a_snapshot(transport: str) -> None:
    """A place under another epoch, or one that was never reached, is answered by a snapshot."""
    world = World()
    await world.happen(1)
    async with serving(transport, world.service()) as served, client(served) as c:
        await c.auth(world.ticket())
        for since in ({"epoch": "another", "seq": 1}, {"epoch": EPOCH, "seq": 9}):
            answer = await c.subscribe(since=since)
            assert (answer["recovered"], answer["epoch"], answer["seq"]) == (False, EPOCH, 1)
            assert (await c.next())["op"] == "snapshot"


async def test_no_ticket_in_time(transport: str) -> None:
    """Without a ticket in time the socket is closed with 4401, whatever else it sends."""
    world = World()
    service = world.service(limits(auth_timeout_s=0.1))
    async with serving(transport, service) as served, client(served) as c:
        await c.send(op="ping")
        assert (await c.next())["code"] == "unauthenticated"
        assert await c.close_code() == 4401


async def test_ticket_works_once(transport: str) -> None:
    """A used ticket closes the second socket with 4401 and leaves the first."""
    world = World()
    async with serving(transport, world.service()) as served, client(served) as first:
        ticket = world.ticket()
        assert (await first.auth(ticket))["op"] == "ready"
        async with client(served) as second:
            await second.send(op="auth", ticket=ticket)
            assert await second.close_code() == 4401
        await first.send(op="ping")
        assert await first.next() == {"op": "pong"}


async def test_revoked_login(transport: str) -> None:
    """The sockets of an ended log-in are closed with 4401; others stay."""
    world = World()
    async with (
        serving(transport, world.service()) as served,
        client(served) as gone,
        client(served) as stays,
    ):
        await gone.auth(world.ticket(CUSTOMER))
        await stays.auth(world.ticket(RIDER))
        world.ended_logins.add(CUSTOMER.session_id)
        assert await gone.close_code() == 4401
        await stays.send(op="ping")
        assert await stays.next() == {"op": "pong"}


async def test_origins(transport: str) -> None:
    """A foreign origin is refused with 403 before the upgrade; ours and native apps are let in."""
    world = World()
    async with serving(transport, world.service()) as served:
        with pytest.raises(InvalidStatus) as refused:
            async with client(served, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        async with client(served, origin=ORIGIN) as c:
            assert (await c.auth(world.ticket()))["op"] == "ready"


async def test_no_compression(transport: str) -> None:
    """The server does not take up an offer of permessage-deflate."""
    async with serving(transport, World().service()) as served:
        key = b64encode(b"0123456789abcdef").decode()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            (
                f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                f"Sec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
            ).encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        writer.close()
    assert b"101" in head.split(b"\r\n")[0]
    assert b"permessage-deflate" not in head


async def test_frame_limit(transport: str) -> None:
    """A frame of 16 KiB is read; one byte more closes the socket with 1009."""
    world = World()
    async with serving(transport, world.service()) as served, client(served) as c:
        await c.auth(world.ticket())
        most = json.dumps({"op": "ping", "pad": ""})
        await c.connection.send(most.replace('""', f'"{"x" * (16_384 - len(most))}"'))
        assert await c.next() == {"op": "pong"}
        await c.connection.send("x" * 16_385)
        assert await c.close_code() == 1009


async def test_fragments_are_one_frame(transport: str) -> None:
    """A message in fragments is read whole."""
    world = World()
    async with serving(transport, world.service()) as served, client(served) as c:
        await c.auth(world.ticket())
        await c.connection.send(['{"op":', ' "ping"', "}"])
        assert await c.next() == {"op": "pong"}


async def test_binary_is_refused(transport: str) -> None:
    """Frames are text: a binary one closes the socket with 1003."""
    async with serving(transport, World().service()) as served, client(served) as c:
        await c.connection.send(b"{}")
        assert await c.close_code() == 1003


async def test_slow_client(transport: str) -> None:
    """A client that does not read is closed with 4408, and resumes; others miss nothing."""
    world = World()
    service = world.service(limits(max_queue_bytes=32_768, close_grace_s=10))
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    received: list[int] = []
    async with serving(transport, service, send_buffer_bytes=8_192) as served:
        raw.connect(("127.0.0.1", served.port))
        async with client(served) as good, client(served, sock=raw, max_queue=1) as slow:
            for c in (good, slow):
                await c.auth(world.ticket())
                assert (await c.subscribe(since={"epoch": EPOCH, "seq": 0}))["recovered"]
            watched = {s.id: s for s in service._sessions}
            seq = 0
            while not any(s._writer.closed for s in watched.values()):
                seq += 1
                events = [status(seq, reason="x" * 1_000)]
                world.history.append(events)
                await world.bus.publish(events)
                assert (await good.next("event"))["seq"] == seq
                assert seq < 2_000
            received += [event["seq"] for event in await slow.rest("event")]
            assert slow.connection.close_code == 4408
        assert received == list(range(1, len(received) + 1))
        assert len(received) < seq
        async with client(served) as again:
            await again.auth(world.ticket())
            await again.subscribe(since={"epoch": EPOCH, "seq": received[-1]})
            while received[-1] < seq:
                received.append((await again.next("event"))["seq"])
    assert received == list(range(1, seq + 1))


async def test_client_that_never_reads(transport: str) -> None:
    """A slow client that does not even read its close is cut off after the grace."""
    world = World()
    service = world.service(limits(max_queue_bytes=32_768, close_grace_s=0.2))
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    async with serving(transport, service, send_buffer_bytes=8_192) as served:
        raw.connect(("127.0.0.1", served.port))
        async with client(served, sock=raw, max_queue=1, close_timeout=0.1) as slow:
            await slow.auth(world.ticket())
            await slow.subscribe()
            assert (service.sockets, service.hub.channels) == (1, 1)
            await world.happen(1)
            for seq in range(2, 600):
                events = [status(seq, reason="x" * 1_000)]
                world.history.append(events)
                await world.bus.publish(events)
                await asyncio.sleep(0)
            await until(lambda: service.sockets == service.hub.channels == 0)
    assert (service.sockets, service.hub.channels) == (0, 0)


async def test_positions_in(transport: str) -> None:
    """A rider's points reach the sink; a customer's are refused."""
    world = World()
    point = {"t": "2026-01-01T12:00:00Z", "lat": -30.03, "lon": -51.2, "accuracy_m": 8}
    async with serving(transport, world.service()) as served:
        async with client(served) as rider:
            await rider.auth(world.ticket(RIDER))
            await rider.send(op="positions", points=[point, point])
            await until(lambda: len(world.points) == 2)
        async with client(served) as customer:
            await customer.auth(world.ticket(CUSTOMER))
            await customer.send(op="positions", id=7, points=[point])
            refusal = await customer.next()
            assert (refusal["code"], refusal["id"]) == ("denied", 7)
    assert world.points[0].lat == -30.03


async def test_positions_out(transport: str) -> None:
    """A position reaches those who watch, without a ``seq``; an older one does not follow it."""
    world = World()
    async with serving(transport, world.service()) as served, client(served) as c:
        await c.auth(world.ticket())
        await c.subscribe()
        await c.next("snapshot")
        await world.bus.publish_position(ORDER, position(5))
        shown = await c.next()
        assert (shown["op"], shown["channel"], shown["eta_s"]) == ("position", "order:ord_1", 5)
        assert "seq" not in shown
        await world.bus.publish_position(ORDER, position(4))
        await world.bus.publish_position(ORDER, position(6))
        assert (await c.next())["eta_s"] == 6


async def test_dead_peer_is_dropped(transport: str) -> None:
    """A peer that answers no ping is dropped after the heartbeat."""
    world = World()
    service = world.service(limits(heartbeat_s=0.15))
    async with serving(transport, service) as served:
        key = b64encode(b"0123456789abcdef").decode()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        assert service.sockets == 1
        await until(lambda: service.sockets == 0, 3)
        writer.close()


async def test_drain(transport: str) -> None:
    """A stopping process closes its sockets with 1012, and takes no new ones."""
    world = World()
    service = world.service()
    async with serving(transport, service) as served, client(served) as c:
        await c.auth(world.ticket())
        drained = asyncio.create_task(service.drain())
        assert await c.close_code() == 1012
        await drained
        assert service.sockets == 0
        with pytest.raises(InvalidStatus) as refused:
            async with client(served):
                pass
        assert refused.value.response.status_code == 503


async def test_shutdown_of_the_process(transport: str) -> None:
    """What SIGTERM starts ends with 1012 on each socket."""
    world = World()
    async with serving(transport, world.service()) as served, client(served) as c:
        await c.auth(world.ticket())
        served.shutdown()
        assert await c.close_code() == 1012
