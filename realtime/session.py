"""The protocol of one socket, free of any transport.

A transport calls :meth:`Session.receive` for each text frame (it never blocks), runs
:meth:`Session.run` beside it until the socket is gone, and tells :meth:`Session.on_writable`.
Pings and positions are answered at once; ops that need the network wait in a bounded queue and
are done one after another.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from kit.errors import Conflict, DarkstoreError, Denied, Invalid, NotFound, RateLimited
from kit.errors import Unauthenticated as NotAuthenticated
from kit.ids import new_id
from realtime import ops
from realtime.channels import Channel, parse_channel
from realtime.errors import StreamUnavailable
from realtime.events import StreamEvent, encode_event
from realtime.frames import Frame
from realtime.history import Cursor
from realtime.hub import Hub, Subscription
from realtime.limits import StreamLimits
from realtime.ports import Ports, Principal
from realtime.writer import CloseCode, Socket, Writer

_log = structlog.get_logger(__name__)


class AlreadyAuthenticated(Conflict):
    code = "already_authenticated"


class TooManyChannels(Conflict):
    code = "too_many_channels"


class TokenBucket:
    """``burst`` at once, ``per_s`` in the long run."""

    def __init__(self, per_s: float, burst: float, now: Callable[[], float]) -> None:
        self._per_s, self._burst, self._now = per_s, burst, now
        self._tokens, self._at = burst, now()

    def take(self) -> bool:
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Session:
    """``principal`` is None until a ticket was redeemed."""

    def __init__(
        self,
        socket: Socket,
        hub: Hub,
        ports: Ports,
        limits: StreamLimits,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = new_id("con")
        self.principal: Principal | None = None
        self._hub = hub
        self._ports = ports
        self._limits = limits
        self._writer = Writer(socket, limits.max_queue_bytes, hub.mark_dirty)
        self._subscriptions: dict[Channel, tuple[Subscription, ops.OpId]] = {}
        self._waiting: deque[ops.Op | Subscription] = deque()
        self._wake = asyncio.Event()
        self._busy = False
        self._ended = False
        self._op_tokens = TokenBucket(limits.ops_per_s, limits.ops_burst, now)
        self._position_tokens = TokenBucket(
            limits.position_frames_per_s, limits.position_frames_burst, now
        )
        self._violations = 0

    def close(self, code: CloseCode, reason: str) -> None:
        """End the session: what is queued goes out first."""
        self._writer.close(code, reason)

    def end(self) -> None:
        """The socket is gone: :meth:`run` returns after the op that it is at.

        Transports cancel it too, but a cancellation alone can be lost in an op's network calls.
        """
        self._ended = True
        self._wake.set()

    def on_writable(self) -> None:
        """The transport can take the next batch."""
        self._writer.on_writable()

    def receive(self, raw: bytes | str) -> None:
        """Take one text frame; every refusal is an error frame or a close."""
        if self._writer.closed:
            return
        size = len(raw.encode()) if isinstance(raw, str) else len(raw)
        if size > self._limits.max_frame_bytes:
            self.close(CloseCode.TOO_BIG, f"a frame has at most {self._limits.max_frame_bytes} B")
            return
        op_id: ops.OpId = None
        try:
            op = self._admit(raw)
            op_id = op.id
            if isinstance(op, ops.Ping | ops.Positions) and not (self._busy or self._waiting):
                self._answer(op)
            elif len(self._waiting) >= self._limits.max_waiting_ops:
                raise RateLimited("Too many ops are waiting: wait for the replies to earlier ones.")
            else:
                self._waiting.append(op)
                self._wake.set()
        except DarkstoreError as error:
            self._refuse(error, op_id if op_id is not None else ops.id_of(raw))

    def _admit(self, raw: bytes | str) -> ops.Op:
        """Rate limits first, since decoding costs too; positions have a bucket of their own."""
        op = ops.decode_op(raw) if self._op_tokens.take() else None
        if op is None or (isinstance(op, ops.Positions) and not self._position_tokens.take()):
            self._violations += 1
            if self._violations >= self._limits.max_violations:
                self.close(CloseCode.POLICY, "too many frames")
            raise RateLimited("Too many frames: send fewer, or several points in one.")
        self._violations = 0
        return op

    async def run(self) -> None:
        """Do the ops that wait, until :meth:`end`; the subscriptions end with it."""
        timer = asyncio.get_running_loop().call_later(
            self._limits.auth_timeout_s, self._on_auth_timeout
        )
        try:
            while not self._ended:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting and not self._ended:
                    await self._do(self._waiting.popleft())
        except Exception:
            self.close(CloseCode.INTERNAL, "an error of the server: reconnect")
            raise
        finally:
            timer.cancel()
            self._writer.closed = True
            for subscription, _ in self._subscriptions.values():
                self._hub.detach(subscription)
            self._subscriptions.clear()

    def _on_auth_timeout(self) -> None:
        if self.principal is None:
            self.close(CloseCode.UNAUTHENTICATED, "no ticket in time")

    async def _do(self, op: ops.Op | Subscription) -> None:
        self._busy = True
        try:
            match op:
                case Subscription():
                    await self._resynchronise(op)
                case ops.Auth():
                    await self._authenticate(op)
                case ops.Subscribe():
                    await self._subscribe(op)
                case ops.Unsubscribe():
                    self._unsubscribe(op)
                case _:
                    self._answer(op)
        except DarkstoreError as error:
            self._refuse(error, None if isinstance(op, Subscription) else op.id)
        finally:
            self._busy = False

    def _answer(self, op: ops.Ping | ops.Positions) -> None:
        principal = self._known()
        if isinstance(op, ops.Ping):
            self._reply(ops.PONG)
            return
        if principal.rider_id is None:
            raise Denied("Only riders send positions.")
        if len(op.points) > self._limits.max_points:
            raise Invalid(f"At most {self._limits.max_points} points fit in one frame.")
        reply = self._ports.positions(principal, op.points)
        if reply.code is not None:
            self._reply(ops.error(op.id, reply.code, reply.detail))

    async def _authenticate(self, op: ops.Auth) -> None:
        if self.principal is not None:
            raise AlreadyAuthenticated("This connection already has its user.")
        async with _deadline(self._limits.port_timeout_s):
            self.principal = await self._ports.authenticator.redeem(op.ticket)
        if self.principal is None:
            self.close(CloseCode.UNAUTHENTICATED, "the ticket is unknown, used or expired")
            return
        limits = self._limits
        self._reply(ops.ready(self.id, limits.heartbeat_s, limits.position_interval_s))

    async def _subscribe(self, op: ops.Subscribe) -> None:
        principal = self._known()
        channel = parse_channel(op.channel)
        held = self._subscriptions.get(channel)
        if held is None and len(self._subscriptions) >= self._limits.max_channels:
            raise TooManyChannels(f"At most {self._limits.max_channels} channels a connection.")
        async with _deadline(self._limits.port_timeout_s):
            if not await self._ports.authorise(principal, channel):
                raise NotFound("There is no such channel.")
        if held is not None:
            self._drop(channel)
        await self._room()
        subscription = self._hub.attach(channel, self._writer, self._on_lost)
        self._subscriptions[channel] = (subscription, op.id)
        try:
            await self._synchronise(principal, subscription, op)
        except BaseException:
            self._drop(channel)
            raise

    async def _synchronise(
        self, principal: Principal, subscription: Subscription, op: ops.Subscribe
    ) -> None:
        """Replay what was missed, if that can be, else give a snapshot; then go live."""
        await self._hub.listening(subscription)
        if op.since is not None:
            after = Cursor(op.since.epoch, op.since.seq)
            events = await self._hub.replay(subscription, after)
            if events is not None:
                self._recover(subscription, op.id, after, events)
                return
        await self._snapshot(principal, subscription, op.id)

    def _recover(
        self,
        subscription: Subscription,
        op_id: ops.OpId,
        after: Cursor,
        events: list[StreamEvent],
    ) -> None:
        last = Cursor(after.epoch, after.seq + len(events))
        head = ops.subscribed(
            op_id, str(subscription.channel), last.epoch, last.seq, recovered=True
        )
        self._writer.push_reply([head, *(Frame(encode_event(event)) for event in events)])
        self._hub.go_live(subscription, last)
        self._writer.flush()

    async def _snapshot(
        self, principal: Principal, subscription: Subscription, op_id: ops.OpId
    ) -> None:
        name = str(subscription.channel)
        async with _deadline(self._limits.port_timeout_s):
            taken = await self._ports.snapshot(principal, subscription.channel)
        head = ops.subscribed(op_id, name, taken.epoch, taken.seq, recovered=False)
        self._writer.push_reply([head, ops.snapshot(name, taken)])
        self._hub.go_live(subscription, Cursor(taken.epoch, taken.seq))
        self._writer.flush()

    def _on_lost(self, subscription: Subscription) -> None:
        self._waiting.append(subscription)
        self._wake.set()

    async def _resynchronise(self, subscription: Subscription) -> None:
        """The hub cannot go on without a gap: start the channel again from a snapshot."""
        held = self._subscriptions.get(subscription.channel)
        if held is None or held[0] is not subscription:
            return
        await self._room()
        try:
            await self._snapshot(self._known(), subscription, held[1])
        except DarkstoreError as error:
            if error.retryable:
                _log.warning("resynchronise_postponed", code=error.code)
                loop = asyncio.get_running_loop()
                loop.call_later(self._limits.reconcile_s, self._on_lost, subscription)
                return
            self._drop(subscription.channel)
            name = str(subscription.channel)
            self._reply(ops.error(held[1], error.code, error.detail, name))

    def _unsubscribe(self, op: ops.Unsubscribe) -> None:
        self._known()
        channel = parse_channel(op.channel)
        if channel not in self._subscriptions:
            raise NotFound("This connection does not watch that channel.")
        self._drop(channel)
        self._reply(ops.unsubscribed(op.id, str(channel)))

    def _drop(self, channel: Channel) -> None:
        subscription, _ = self._subscriptions.pop(channel)
        self._hub.detach(subscription)

    def _known(self) -> Principal:
        if self.principal is None:
            raise NotAuthenticated("Send an auth op with a ticket first.")
        return self.principal

    async def _room(self) -> None:
        """Wait until earlier replies are out, so that many replays cannot pile up."""
        self._writer.flush()
        try:
            async with asyncio.timeout(self._limits.heartbeat_s):
                await self._writer.drained()
        except TimeoutError:
            self.close(CloseCode.SLOW, "too slow: resume from your last event")

    def _reply(self, frame: Frame) -> None:
        self._writer.push(frame)

    def _refuse(self, error: DarkstoreError, op_id: ops.OpId) -> None:
        self._reply(ops.error(op_id, error.code, error.detail))


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """``asyncio.timeout`` whose end is the retryable refusal that a client understands."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise StreamUnavailable("The answer took too long: try again.") from error
