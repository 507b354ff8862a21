"""One-use tickets: what a client sends first, so that no token stands in a URL or a log."""

from __future__ import annotations

import asyncio
import hashlib
import secrets

import msgspec
import structlog
from redis.asyncio import Redis

from kit.redis import RedisError
from realtime.errors import StreamUnavailable
from realtime.keys import PREFIX
from realtime.ports import Principal

_log = structlog.get_logger(__name__)

TICKET_BYTES = 24  # 192 bits
TICKET_LIFE_S = 30.0
DEADLINE_S = 1.0

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Principal)


class RedisTickets:
    """Issues and redeems; Redis holds a digest, so that a dump of it opens no socket."""

    def __init__(
        self, redis: Redis, *, life_s: float = TICKET_LIFE_S, deadline_s: float = DEADLINE_S
    ) -> None:
        self._redis = redis
        self._life_s = life_s
        self._deadline_s = deadline_s

    async def issue(self, principal: Principal) -> str:
        """A new ticket for ``principal``, good once.  Raises ``StreamUnavailable``."""
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._redis.set(
                    _key(ticket), _encoder.encode(principal), px=int(self._life_s * 1000)
                )
        except (RedisError, OSError) as error:
            raise StreamUnavailable("Tickets cannot be issued for a moment.") from error
        return ticket

    async def redeem(self, ticket: str) -> Principal | None:
        """Take the ticket out; None when it is unknown, used or expired.

        Raises ``StreamUnavailable``.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                held = await self._redis.getdel(_key(ticket))
        except (RedisError, OSError) as error:
            raise StreamUnavailable("Tickets cannot be checked for a moment.") from error
        if held is None:
            return None
        try:
            return _decoder.decode(held)
        except msgspec.DecodeError:
            # Written by another version during a rollout: the client asks for a new one.
            _log.warning("ticket_unreadable")
            return None


def _key(ticket: str) -> str:
    return f"{PREFIX}:ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"
