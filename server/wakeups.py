"""Wake-ups: a dispatcher looks at a city when something has happened there, not at its next tick.

The relay tells Redis after it has published a batch, once for all of its events; the dispatchers
listen.  It is a hint and nothing more: one that is lost costs the rest of a tick.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import structlog
from redis.asyncio import Redis

from kit.redis import RedisError
from kit.relay import OutboxEvent
from orders.model import DeliveryState, OrderState

log = structlog.get_logger(__name__)

CHANNEL: Final = "dispatch:wake"
READ_S: Final = 1.0
_FIRST_DELAYS_S: Final = (0.05, 0.2, 0.5)
_LONGEST_DELAY_S: Final = 1.0

# What lets a rider go, lets a trip grow, or ends an order that a plan had counted on.
_RIDER_OR_TRIP: Final = frozenset(
    {
        DeliveryState.ASSIGNED, DeliveryState.DONE, DeliveryState.FAILED, DeliveryState.CANCELLED,
    }
)  # fmt: skip
# While it is being picked too: that is when many an offer is declined.
_ORDER_WAITS: Final = frozenset({OrderState.CONFIRMED, OrderState.PICKING, OrderState.PACKED})
_CITY_EVENTS: Final = frozenset({"rider.changed", "dispatch.control"})


def cities_to_wake(events: Iterable[OutboxEvent]) -> set[str]:
    """The cities whose dispatcher should look now."""
    return {
        event.stream.removeprefix("city:")
        for event in events
        if event.stream.startswith("city:") and _matters(event)
    }


def _matters(event: OutboxEvent) -> bool:
    if event.type != "order.changed":
        return event.type in _CITY_EVENTS
    delivery = event.data["delivery_status"]
    if delivery == DeliveryState.UNASSIGNED:
        return event.data["status"] in _ORDER_WAITS
    return delivery in _RIDER_OR_TRIP


async def wake(redis: Redis, city_ids: Iterable[str]) -> None:
    """Tell the dispatchers.  Never fails: nobody waits for a hint."""
    wanted = sorted(city_ids)
    if not wanted:
        return
    try:
        await redis.publish(CHANNEL, ",".join(wanted))
    except (RedisError, TimeoutError) as error:
        log.warning("wake_up_lost", cities=len(wanted), error=type(error).__name__)


async def listen(redis: Redis, on_wake: Callable[[set[str]], None]) -> None:
    """Call ``on_wake`` with the cities of each hint, until cancelled."""
    delays = _delays_s()
    while True:
        pubsub = redis.pubsub()
        try:
            await pubsub.subscribe(CHANNEL)
            delays = _delays_s()
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=READ_S)
                if message is not None:
                    on_wake(set(message["data"].decode().split(",")))
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("wake_ups_interrupted", error=type(error).__name__)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
        await asyncio.sleep(next(delays) * random.uniform(0.5, 1.5))


def _delays_s() -> Iterator[float]:
    return itertools.chain(_FIRST_DELAYS_S, itertools.repeat(_LONGEST_DELAY_S))
