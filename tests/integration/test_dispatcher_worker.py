"""When a dispatcher looks at its partitions: wake-ups, held orders, ticks, and failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest
from redis.asyncio import Redis

from geo.distances import Point
from geo.zones import ZoneIndex
from kit.clock import Clock
from kit.db import Database
from orders.dispatch_settings import DispatchSettings
from orders.dispatch_world import Partition
from orders.errors import LeaseLost
from orders.territory import StorePlace, Territory
from server import wakeups
from server.dispatch_look import Lookout, Outcome
from server.wiring import Services
from server.workers.dispatcher import UNMANNED_S, Dispatcher
from tests.cities import Place, make_place

# A tick that no test waits for: whoever looks sooner was woken.
SLOW = DispatchSettings(tick_s=600.0, lease_s=2.0, renew_s=0.3, lease_poll_s=0.05, least_gap_s=0.01)
NOTHING = Outcome(None, stale=False)


class Looks:
    """Stands in for the looks: notes them, and answers as it is told."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {}
        self.answer: Callable[[str], Outcome] = lambda _: NOTHING
        self._changed = asyncio.Event()

    async def look(self, territory: Territory, partition: Partition, epoch: int) -> Outcome:
        self.seen.setdefault(partition.id, []).append(time.monotonic())
        self._changed.set()
        return self.answer(partition.id)

    def forget(self, partition_id: str) -> None:
        return None

    async def until(self, partition_id: str, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.seen.get(partition_id, ())) < count:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def places(database: Database) -> list[Place]:
    return [await make_place(database, n, 0) for n in range(2)]


def territory_of(places: list[Place], parts: tuple[int, ...] = (0, 0)) -> Territory:
    stores = {
        place.store.id: StorePlace(
            place.store.id, place.city.id, "A store", Point(place.store.lat, place.store.lon),
            "INR", part,
        )
        for place, part in zip(places, parts, strict=True)
    }  # fmt: skip
    return Territory(stores, ZoneIndex([]), {}, {})


@asynccontextmanager
async def at_work(
    database: Database,
    redis: Redis,
    territory: Territory,
    looks: Looks,
    settings: DispatchSettings = SLOW,
    clock: Clock | None = None,
) -> AsyncIterator[Dispatcher]:
    """A dispatcher until the end of the block, stopped in good order."""

    async def get() -> Territory:
        return territory

    services = SimpleNamespace(
        database=database, redis=redis, clock=clock or Clock(),
        settings=SimpleNamespace(dispatch=settings), territory=SimpleNamespace(get=get),
    )  # fmt: skip
    dispatcher = Dispatcher(cast(Services, services), cast(Lookout, looks), "test:1")
    stopping = asyncio.Event()
    running = asyncio.create_task(dispatcher.run(stopping))
    try:
        yield dispatcher
    finally:
        stopping.set()
        await running


async def listeners(redis: Redis) -> int:
    found = await redis.pubsub_numsub(wakeups.CHANNEL)
    return int(found[0][1])


async def test_a_city_is_looked_at_when_something_happens_there(
    database: Database, redis: Redis, places: list[Place]
) -> None:
    """At once, and only that city: the tick is ten minutes away."""
    here, there = places[0].city.id, places[1].city.id
    looks = Looks()
    async with at_work(database, redis, territory_of(places), looks):
        await looks.until(here, 1)
        await looks.until(there, 1)
        async with asyncio.timeout(10):
            while not await listeners(redis):  # noqa: ASYNC110 - what Redis knows
                await asyncio.sleep(0.02)
        await wakeups.wake(redis, [here])
        await looks.until(here, 2)
        assert len(looks.seen[there]) == 1


async def test_a_held_order_is_looked_at_when_it_is_due(
    database: Database, redis: Redis, places: list[Place]
) -> None:
    """The engine says when; nobody has to wake the dispatcher up for that."""
    city_id, clock, looks = places[0].city.id, Clock(), Looks()
    looks.answer = lambda _: Outcome(clock.now_s() + 0.5, stale=False)
    async with at_work(database, redis, territory_of(places), looks, clock=clock):
        await looks.until(city_id, 2)
    first, second = looks.seen[city_id][:2]
    assert second - first >= 0.45


async def test_orders_do_not_keep_a_city_awake_in_which_nobody_rides(
    database: Database, redis: Redis, places: list[Place]
) -> None:
    """However often it is woken up, it is looked at twice a second; a wake-up is not lost."""
    city_id, looks = places[0].city.id, Looks()
    looks.answer = lambda _: Outcome(None, stale=False, unmanned=True)
    async with at_work(database, redis, territory_of(places), looks) as dispatcher:
        await looks.until(city_id, 1)
        async with asyncio.timeout(10):
            while len(looks.seen[city_id]) < 3:
                dispatcher._wake({city_id})
                await asyncio.sleep(0.01)
    first, second, third = looks.seen[city_id][:3]
    assert min(second - first, third - second) >= 0.9 * UNMANNED_S
    assert third - first < 5.0


async def test_a_stale_part_is_planned_anew_at_once(
    database: Database, redis: Redis, places: list[Place]
) -> None:
    """Whoever changed the world may not wake us up for it."""
    city_id, looks = places[0].city.id, Looks()
    looks.answer = lambda _: Outcome(None, stale=len(looks.seen[city_id]) < 2)
    async with at_work(database, redis, territory_of(places), looks):
        await looks.until(city_id, 2)
    first, second = looks.seen[city_id][:2]
    assert second - first < 5.0


async def test_without_any_hint_the_tick_comes(
    database: Database, redis: Redis, places: list[Place]
) -> None:
    """A lost wake-up costs no more than that."""
    quick = SLOW.model_copy(update={"tick_s": 0.2})
    looks = Looks()
    async with at_work(database, redis, territory_of(places), looks, quick):
        await looks.until(places[0].city.id, 3)
    first, _, third = looks.seen[places[0].city.id][:3]
    assert third - first >= 0.35


async def test_a_city_that_cannot_be_planned_does_not_stop_the_others(
    database: Database, redis: Redis, places: list[Place]
) -> None:
    """It is tried again and again, with growing pauses."""
    bad, good = places[0].city.id, places[1].city.id
    looks = Looks()

    def answer(partition_id: str) -> Outcome:
        if partition_id == bad:
            raise ValueError("a city from nowhere")
        return Outcome(None, stale=True)

    looks.answer = answer
    async with at_work(database, redis, territory_of(places), looks):
        await looks.until(bad, 3)
        await looks.until(good, 5)
    first, second, third = looks.seen[bad][:3]
    assert third - second > second - first > 0


async def test_a_lost_lease_ends_the_looks_until_it_is_back(
    database: Database, redis: Redis, places: list[Place]
) -> None:
    """The partition is free in this case, so the dispatcher takes it again."""
    city_id, looks = places[0].city.id, Looks()

    def answer(partition_id: str) -> Outcome:
        if len(looks.seen[partition_id]) == 1:
            raise LeaseLost("Another dispatcher holds this partition.")
        return NOTHING

    looks.answer = answer
    async with at_work(database, redis, territory_of(places), looks) as dispatcher:
        await looks.until(city_id, 1)
        await dispatcher.leases.release()
        await looks.until(city_id, 2)
        assert city_id in dispatcher.leases.held


async def test_a_split_city_is_looked_at_part_by_part(
    database: Database, redis: Redis, places: list[Place]
) -> None:
    """Each part has a lease of its own, and a hint for the city wakes both."""
    city_id = places[0].city.id
    whole = territory_of(places)
    stores = [
        StorePlace(store.store_id, city_id, store.name, store.point, "INR", part)
        for part, store in enumerate(whole.stores.values())
    ]
    split = Territory({store.store_id: store for store in stores}, ZoneIndex([]), {}, {})
    looks = Looks()
    async with at_work(database, redis, split, looks) as dispatcher:
        await looks.until(city_id, 1)
        await looks.until(f"{city_id}/1", 1)
        assert set(dispatcher.leases.held) == {city_id, f"{city_id}/1"}
        dispatcher._wake({city_id})
        await looks.until(city_id, 2)
        await looks.until(f"{city_id}/1", 2)
