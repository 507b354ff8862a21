"""The protocol and the writer, without any transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from kit.errors import NotFound
from realtime.channels import Channel, ChannelKind
from realtime.errors import StreamUnavailable
from realtime.frames import Frame
from realtime.limits import StreamLimits
from realtime.ports import Principal, Snapshot
from realtime.service import StreamService
from realtime.session import Session, TokenBucket
from realtime.writer import CloseCode, Writer
from tests.realtime_support import (
    CUSTOMER,
    EPOCH,
    ORDER,
    QUICK,
    RIDER,
    FakeSocket,
    World,
    limits,
    position,
    running,
)
from tests.waiting import until

OTHER = Channel(ChannelKind.ORDER, "ord_2")
CITY = Channel(ChannelKind.CITY, "cty_1")


@dataclass
class Peer:
    world: World
    service: StreamService
    session: Session
    socket: FakeSocket

    def send(self, **op: object) -> None:
        self.session.receive(json.dumps(op))

    async def answer(self, op: str, count: int = 1) -> dict[str, object]:
        await until(lambda: len(self.socket.of(op)) >= count)
        return self.socket.of(op)[count - 1]

    async def subscribe(self, channel: Channel = ORDER) -> None:
        taken = len(self.socket.of("snapshot"))
        self.send(op="subscribe", channel=str(channel))
        await self.answer("snapshot", taken + 1)


@asynccontextmanager
async def peer(
    chosen: StreamLimits = QUICK, principal: Principal | None = CUSTOMER, world: World | None = None
) -> AsyncIterator[Peer]:
    """A session on a fake socket, logged in unless ``principal`` is None."""
    world = world or World()
    async with running(world.service(chosen)) as service:
        socket = FakeSocket()
        session = service.open(socket)
        task = asyncio.create_task(session.run())
        made = Peer(world, service, session, socket)
        if principal is not None:
            made.send(op="auth", ticket=world.ticket(principal))
            await made.answer("ready")
        try:
            yield made
        finally:
            session.end()
            await task


async def test_foreign_channel() -> None:
    """A foreign channel looks like one that does not exist, and nothing of it is watched."""
    async with peer() as p:
        p.world.foreign.add(ORDER)
        p.send(op="subscribe", id=5, channel=str(ORDER))
        error = await p.answer("error")
        assert (error["code"], error["id"]) == ("not_found", 5)
        assert p.service.hub.channels == 0
        assert p.world.snapshots_taken == 0


async def test_errors_carry_code_and_id() -> None:
    """Frames that are no ops, and ops that cannot be, are answered one by one."""
    async with peer() as p:
        cases: list[tuple[str, str, object]] = [
            ("{", "invalid", None),
            ('{"op":"dance","id":1}', "invalid", 1),
            ('{"op":"subscribe","id":2}', "invalid", 2),
            ('{"op":"subscribe","id":3,"channel":"planet:x"}', "invalid_channel", 3),
            ('{"op":"unsubscribe","id":4,"channel":"order:ord_1"}', "not_found", 4),
            ('{"op":"auth","id":"five","ticket":"x"}', "already_authenticated", "five"),
            ('{"op":"positions","id":6,"points":[]}', "denied", 6),
        ]
        for number, (raw, code, op_id) in enumerate(cases, 1):
            p.session.receive(raw)
            error = await p.answer("error", number)
            assert (error["code"], error.get("id")) == (code, op_id)
        assert p.socket.closed is None


async def test_everything_needs_a_ticket() -> None:
    """Before the ticket no op is done."""
    async with peer(principal=None) as p:
        for op in ("ping", "subscribe", "unsubscribe", "positions"):
            p.send(op=op, channel=str(ORDER), points=[])
        await p.answer("error", 4)
        assert {error["code"] for error in p.socket.of("error")} == {"unauthenticated"}


async def test_bad_points() -> None:
    """A point off the globe, or without a zone in its time, refuses its frame."""
    async with peer(principal=RIDER) as p:
        good = {"t": "2026-01-01T12:00:00Z", "lat": 1, "lon": 2}
        for number, wrong in enumerate(
            ({"lat": 91}, {"lon": 181}, {"t": "2026-01-01T12:00:00"}), 1
        ):
            p.send(op="positions", points=[good | wrong])
            assert (await p.answer("error", number))["code"] == "invalid"
        assert p.world.points == []


async def test_channel_limit() -> None:
    """One channel too many is refused; leaving one makes room; watching one twice counts once."""
    async with peer(limits(max_channels=1)) as p:
        await p.subscribe()
        await p.subscribe()
        p.send(op="subscribe", channel=str(OTHER))
        assert (await p.answer("error"))["code"] == "too_many_channels"
        p.send(op="unsubscribe", channel=str(ORDER))
        await p.answer("unsubscribed")
        await p.subscribe(OTHER)
        assert p.service.hub.channels == 1


async def test_watching_twice_tells_once() -> None:
    """Subscribing again to a channel starts it anew and does not double its events."""
    async with peer() as p:
        await p.subscribe()
        await p.subscribe()
        await p.world.happen(1)
        await p.world.happen(2)
        await p.answer("event", 2)
        assert [event["seq"] for event in p.socket.of("event")] == [1, 2]


async def test_rate_limit() -> None:
    """Above its rate a session is refused, and one that does not stop is closed with 1008."""
    async with peer(limits(ops_burst=5, ops_per_s=0.001, max_violations=3)) as p:
        for _ in range(6):
            p.send(op="ping")
        assert (await p.answer("error"))["code"] == "rate_limited"
        p.send(op="ping")
        p.send(op="ping")
        assert p.socket.closed is not None
        assert p.socket.closed[0] is CloseCode.POLICY


async def test_position_rate() -> None:
    """Frames of positions have a rate of their own."""
    async with peer(limits(position_frames_burst=2, position_frames_per_s=0.001), RIDER) as p:
        for _ in range(3):
            p.send(op="positions", points=[{"t": "2026-01-01T12:00:00Z", "lat": 1, "lon": 2}])
        assert (await p.answer("error"))["code"] == "rate_limited"
        assert len(p.world.points) == 2


def test_token_bucket() -> None:
    """A burst at once, then the rate, and never more saved up than a burst."""
    now = 0.0
    bucket = TokenBucket(2.0, 3.0, lambda: now)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    now = 100.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


async def test_session_checks_frame_size_itself() -> None:
    """A frame over the limit closes with 1009 even if a transport lets it through."""
    async with peer() as p:
        p.session.receive("é" * 8_193)
        assert p.socket.closed is not None
        assert p.socket.closed[0] is CloseCode.TOO_BIG


async def test_lost_history_starts_anew() -> None:
    """When what was missed is gone from the history the channel starts again from a snapshot."""
    async with peer() as p:
        await p.subscribe()
        p.world.bus.lose_next = 2
        await p.world.happen(1, 2)
        p.world.history.trim(ORDER, 0)
        await p.answer("subscribed", 2)
        assert (await p.answer("snapshot", 2))["seq"] == 2
        await p.world.happen(3)
        assert (await p.answer("event"))["seq"] == 3


async def test_new_epoch_starts_anew() -> None:
    """A restored database has another epoch: its snapshot replaces what the client has."""
    async with peer() as p:
        await p.world.happen(1, 2, 3)
        await p.subscribe()
        p.world.history = p.service.hub._history = p.service.hub._heads = type(p.world.history)(
            "e2"
        )
        p.world.bus.epoch = "e2"
        again = await p.answer("subscribed", 2)
        assert (again["epoch"], again["seq"], again["recovered"]) == ("e2", 0, False)


async def test_port_that_hangs() -> None:
    """A snapshot that does not come in time is a retryable refusal, and the next one works."""
    world = World()
    real = world.snapshot
    hangs = [True]

    async def snapshot(principal: Principal, channel: Channel) -> Snapshot:
        if hangs.pop() if hangs else False:
            await asyncio.Event().wait()
        return await real(principal, channel)

    world.snapshot = snapshot  # type: ignore[method-assign]  # a port of this test's own
    async with peer(limits(port_timeout_s=0.05), world=world) as p:
        p.send(op="subscribe", id=1, channel=str(ORDER))
        assert (await p.answer("error"))["code"] == StreamUnavailable.code
        assert p.service.hub.channels == 0
        await p.subscribe()


async def test_positions_conflate_for_a_slow_socket() -> None:
    """While a socket does not take its batch, only the newest position of each rider waits."""
    async with peer() as p:
        await p.subscribe(CITY)
        p.socket.open_gate = False
        for second in range(1, 50):
            await p.world.bus.publish_positions(
                [(CITY, position(second, "rdr_1")), (CITY, position(second, "rdr_2"))]
            )
        p.socket.open_gate = True
        await p.world.bus.publish_position(CITY, position(50, "rdr_1"))
        await until(lambda: len(p.socket.of("position")) == 2)
        shown = {frame["rider_id"]: frame["eta_s"] for frame in p.socket.of("position")}
        assert shown == {"rdr_1": 50, "rdr_2": 49}


async def test_no_old_position_after_an_event() -> None:
    """On an order's channel a waiting position is dropped when an event overtakes it."""
    async with peer() as p:
        await p.subscribe()
        p.socket.open_gate = False
        await p.world.bus.publish_position(ORDER, position(1))
        await p.world.happen(1)
        p.socket.open_gate = True
        await p.world.happen(2)
        await p.answer("event", 2)
        assert p.socket.of("position") == []


async def test_one_write_a_tick() -> None:
    """Events within a tick leave in one batch."""
    async with peer(limits(tick_s=0.02)) as p:
        await p.subscribe()
        before = p.socket.batches
        await p.world.happen(*range(1, 101))
        await p.answer("event", 100)
        assert p.socket.batches == before + 1


def _frame(size: int) -> Frame:
    return Frame(json.dumps({"op": "x", "pad": "x" * size}).encode())


async def test_writer_overflow() -> None:
    """Above the bound the socket is closed with 4408 and the queue is dropped; a single frame
    that is larger than the bound is let in when it is alone."""
    socket = FakeSocket()
    writer = Writer(socket, 1_000, lambda _: None)
    writer.push(_frame(5_000))
    assert socket.closed is None
    writer.push(_frame(10))
    assert socket.closed is not None
    assert socket.closed[0] is CloseCode.SLOW
    writer.flush()
    assert socket.frames == []


async def test_close_lets_the_queue_out_first() -> None:
    """What is queued before an ordinary close is still written."""
    socket = FakeSocket()
    writer = Writer(socket, 1_000, lambda _: None)
    writer.push(_frame(10))
    writer.close(CloseCode.RESTART, "")
    assert len(socket.frames) == 1
    writer.push(_frame(10))
    assert len(socket.frames) == 1


async def test_resume_reads_little_when_nothing_was_missed() -> None:
    """A client at the head recovers with no event and no snapshot."""
    async with peer() as p:
        await p.world.happen(1)
        p.send(op="subscribe", channel=str(ORDER), since={"epoch": EPOCH, "seq": 1})
        answer = await p.answer("subscribed")
        assert (answer["recovered"], answer["seq"]) == (True, 1)
        assert p.world.snapshots_taken == 0


async def test_events_during_the_snapshot() -> None:
    """What happens while the snapshot is read follows it at once, however much it is: neither the
    reconciler nor another event is needed."""
    world = World()
    real = world.snapshot
    meanwhile = [(1,), tuple(range(2, 400))]

    async def snapshot(principal: Principal, channel: Channel) -> Snapshot:
        taken = await real(principal, channel)
        await world.happen(*meanwhile.pop(0))
        return taken

    world.snapshot = snapshot  # type: ignore[method-assign]  # a port of this test's own
    async with peer(limits(reconcile_s=60, max_buffered=100), world=world) as p:
        await p.subscribe()
        assert (await p.answer("event"))["seq"] == 1
        await p.subscribe()
        await until(lambda: len(p.socket.of("event")) == 399)
        assert [event["seq"] for event in p.socket.of("event")] == list(range(1, 400))
        assert p.world.snapshots_taken == 2


async def test_missed_too_much() -> None:
    """A client that missed more than the bound of a replay gets a snapshot; at the bound, all."""
    async with peer(limits(max_replay=5)) as p:
        await p.world.happen(*range(1, 8))
        p.send(op="subscribe", channel=str(ORDER), since={"epoch": EPOCH, "seq": 1})
        assert (await p.answer("subscribed", 1))["recovered"] is False
        p.send(op="subscribe", channel=str(ORDER), since={"epoch": EPOCH, "seq": 2})
        assert (await p.answer("subscribed", 2))["recovered"] is True
        await p.answer("event", 5)


async def test_a_new_start_that_fails_is_tried_again() -> None:
    """When a lost channel cannot have its snapshot now it has it later, without a frame between;
    when the channel is gone for good the client is told which."""
    world = World()
    real = world.snapshot
    refusals: list[Exception] = []

    async def snapshot(principal: Principal, channel: Channel) -> Snapshot:
        if refusals:
            raise refusals.pop()
        return await real(principal, channel)

    world.snapshot = snapshot  # type: ignore[method-assign]  # a port of this test's own
    async with peer(limits(reconcile_s=0.02), world=world) as p:
        await p.subscribe()
        for seq, refusal in ((1, StreamUnavailable("not now")), (2, NotFound("gone"))):
            refusals.append(refusal)
            p.world.bus.lose_next = 1
            await p.world.happen(seq)
            p.world.history.trim(ORDER, 0)
            await until(lambda: not refusals)
            if seq == 1:
                assert (await p.answer("snapshot", 2))["seq"] == 1
        error = await p.answer("error")
        assert (error["code"], error["channel"]) == ("not_found", str(ORDER))
        assert p.service.hub.channels == 0


async def test_bug_in_a_port_ends_its_session_alone() -> None:
    """An unexpected error closes that socket with 1011, and is not hidden."""
    world = World()

    async def authorise(principal: Principal, channel: Channel) -> bool:
        raise ZeroDivisionError

    world.authorise = authorise  # type: ignore[method-assign]  # a port of this test's own
    socket = FakeSocket()
    service = world.service()
    session = service.open(socket)
    session.receive(json.dumps({"op": "auth", "ticket": world.ticket()}))
    session.receive(json.dumps({"op": "subscribe", "channel": str(ORDER)}))
    with pytest.raises(ZeroDivisionError):
        await session.run()
    assert socket.closed is not None
    assert socket.closed[0] is CloseCode.INTERNAL


async def test_failing_revocation_check_ends_nobody() -> None:
    """The check for ended log-ins goes on after an error, and so does everybody's stream."""
    world = World()
    real = world.revoked
    failures = [ZeroDivisionError()]

    async def revoked(logins: Collection[str]) -> Collection[str]:
        if failures:
            raise failures.pop()
        return await real(logins)

    world.revoked = revoked  # type: ignore[method-assign]  # a port of this test's own
    async with peer(limits(revocation_s=0.01), world=world) as p:
        await until(lambda: not failures)
        world.ended_logins.add(CUSTOMER.session_id)
        await until(lambda: p.socket.closed)
        assert p.socket.closed is not None
        assert p.socket.closed[0] is CloseCode.UNAUTHENTICATED
