"""A checkout that the server could only queue (202): wait until it is an order, or is refused."""

from __future__ import annotations

import asyncio
from typing import Final

from simulator.api import Reply, Session

QUEUED: Final = 202
# Real seconds between two looks; a queued checkout waits for the database to come back.
LOOK_S: Final = 1.0


async def until_placed(session: Session, reply: Reply) -> Reply:
    """The order that a queued checkout became, or its refusal; any other answer as it is.

    Raises what ``Session.call`` raises.
    """
    if reply.status != QUEUED:
        return reply
    path = f"/v1/orders/{reply.data['id']}"
    while reply.ok and reply.data["status"] == "queued":
        await asyncio.sleep(LOOK_S)
        reply = await session.call("GET", path)
    if reply.ok and reply.data["status"] == "refused":
        return Reply(409, reply.data, str(reply.data["code"]))
    if reply.ok and reply.data.get("order_id"):
        # The same checkout had gone through under another id before it was queued.
        return await session.call("GET", f"/v1/orders/{reply.data['order_id']}")
    return reply
