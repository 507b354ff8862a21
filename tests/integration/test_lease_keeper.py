"""Leases kept by a task of their own: who has a partition, and when somebody else gets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kit.db import Database
from orders.dispatch_settings import DispatchSettings
from orders.dispatch_world import Partition
from riders import leases
from server.lease_keeper import LeaseKeeper
from tests.cities import Place, make_place

QUICK = DispatchSettings(lease_s=1.5, renew_s=0.1, lease_poll_s=0.05)


@pytest.fixture
async def places(database: Database) -> list[Place]:
    return [await make_place(database, n, 0) for n in range(3)]


@asynccontextmanager
async def keeping(
    database: Database, holder: str, places: list[Place]
) -> AsyncIterator[LeaseKeeper]:
    """A keeper at work, stopped without giving anything back: as if it were killed.

    Its name is the test's own: a holder renews whatever is under its name, and a lease of the
    test before may not be over yet.
    """
    wanted = {
        place.city.id: Partition(place.city.id, 0, frozenset({place.store.id})) for place in places
    }

    keeper = LeaseKeeper(database, QUICK, f"{holder} {places[0].city.id}", lambda: wanted)
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until_held(keeper: LeaseKeeper, count: int) -> dict[str, int]:
    async with asyncio.timeout(10):
        while len(keeper.held) != count:
            keeper.changed.clear()
            await keeper.changed.wait()
    return keeper.held


async def test_a_lease_outlives_a_plan_that_takes_long(
    database: Database, places: list[Place]
) -> None:
    """Renewal goes on beside whatever the dispatcher does, past the life of a lease."""
    async with keeping(database, "one", places[:1]) as keeper:
        held = dict(await until_held(keeper, 1))
        await asyncio.sleep(2 * QUICK.lease_s)
        assert keeper.held == held
        assert await leases.free(database.pool, list(held)) == []


async def test_who_is_gone_is_replaced_under_a_new_epoch(
    database: Database, places: list[Place]
) -> None:
    """The next one waits for the end of the lease, and takes everything then."""
    async with keeping(database, "one", places) as first:
        old = dict(await until_held(first, 3))
    async with keeping(database, "two", places) as second:
        new = await until_held(second, 3)
    assert new.keys() == old.keys()
    assert all(new[key] > old[key] for key in old)


async def test_two_share_what_is_free(database: Database, places: list[Place]) -> None:
    """No partition has two holders, and none has nobody."""
    async with (
        keeping(database, "one", places) as first,
        keeping(database, "two", places) as second,
    ):
        async with asyncio.timeout(10):
            while len(first.held) + len(second.held) < 3:  # noqa: ASYNC110 - two at once
                await asyncio.sleep(0.02)
        assert not first.held.keys() & second.held.keys()


async def test_what_is_given_back_is_taken_at_once(database: Database, places: list[Place]) -> None:
    """A dispatcher that ends in good order leaves no gap."""
    async with keeping(database, "one", places[:1]) as first:
        await until_held(first, 1)
    await first.release()
    assert first.held == {}
    assert await leases.free(database.pool, [places[0].city.id]) == [places[0].city.id]


async def test_a_keeper_notices_that_somebody_else_has_its_lease(
    database: Database, places: list[Place]
) -> None:
    """Stopped past the end, it finds out at its next renewal and holds nothing any more."""
    city_id = places[0].city.id
    async with keeping(database, "one", places[:1]) as keeper:
        await until_held(keeper, 1)
        async with database.begin() as conn:
            await conn.exec_driver_sql(
                "UPDATE dispatch_leases SET holder = 'other', epoch = epoch + 1,"
                " expires_at = clock_timestamp() + interval '1 minute' WHERE partition_id = $1",
                (city_id,),
            )
        assert await until_held(keeper, 0) == {}


async def test_a_process_that_sleeps_in_an_assignment_holds_nobody_up(
    database: Database, places: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction is cut off, and with it the lock on the lease's row."""
    monkeypatch.setattr(leases, "IDLE_LIMIT_MS", 300)
    pool, city_id = database.pool, places[0].city.id
    async with database.engine.connect() as sleeper:
        epoch = await leases.acquire(pool, city_id, city_id, "sleeper", 1.0)
        assert epoch is not None
        assert await leases.holds(sleeper, city_id, epoch)
        async with keeping(database, "other", places[:1]) as keeper:
            assert await until_held(keeper, 1) == {city_id: epoch + 1}
        await sleeper.invalidate()
