"""Riders who vanish, fall behind or hand back; time moves by the virtual clock alone."""

from __future__ import annotations

import pytest

from kit.db import Database
from kit.errors import IllegalTransition, NotFound
from orders import controlling, reassigning, returns
from riders import availability, waiting
from riders.model import HandBackReason, PauseReason
from riders.settings import RiderSettings, WatchRules
from server.workers.trip_watch import TripWatch, watch_orders, watch_queues
from tests.dispatch_support import (
    OPS,
    Streets,
    alerts,
    audited,
    events,
    later,
    pin,
    riders_of,
    said,
    services_of,
)
from tests.order_support import Shop, open_shop

RULES = WatchRules()


@pytest.fixture
async def shop(judged_database: Database) -> Shop:
    shop = await open_shop(judged_database)
    await later(shop, 0.0)
    return shop


async def paused(shop: Shop, rider_id: str) -> PauseReason | None:
    async with shop.database.begin() as conn:
        return (await availability.read(conn, rider_id)).reason


async def look(shop: Shop, watch: TripWatch, streets: Streets) -> None:
    await watch(services_of(shop, streets))


# Silence.


async def test_a_silent_rider_loses_what_is_not_collected(shop: Shop) -> None:
    """The order is planned anew, its history says why, and the rider is told and paused."""
    order_id = await shop.order_at("assigned")
    trip = await shop.trip(order_id)
    streets, watch = Streets(), TripWatch()
    streets.put(shop, shop.rider_id, 500.0)
    await later(shop, RULES.lost_after_s - 5)
    await look(shop, watch, streets)
    assert (await shop.states(order_id))[1] == "assigned"
    await later(shop, 10)
    await look(shop, watch, streets)
    order = await shop.order(order_id)
    assert (order["delivery_status"], order["rider_id"]) == ("unassigned", None)
    assert await paused(shop, shop.rider_id) is PauseReason.NOT_RESPONDING
    rows = await shop.rows(
        "SELECT reason, actor FROM order_history WHERE order_id = :id ORDER BY seq DESC LIMIT 1",
        id=order_id,
    )
    assert rows == [{"reason": "rider_silent", "actor": "system"}]
    (told,) = await events(shop, f"rider:{shop.rider_id}", "trip.taken_off")
    assert told == {"trip_id": trip.id, "order_ids": [order_id], "reason": "rider_silent"}
    other = riders_of(shop)[1]
    await shop.offer(order_id, rider_id=other)
    assert (await shop.accept(order_id)).rider_id == other


async def test_a_rider_who_acts_is_there_whatever_the_positions_say(shop: Shop) -> None:
    """A phone without GPS that presses buttons is no silent phone."""
    order_id = await shop.order_at("assigned")
    streets, watch = Streets(), TripWatch()
    streets.put(shop, shop.rider_id, 500.0)
    await later(shop, RULES.lost_after_s + 10)
    await shop.arrive(order_id, 1)
    await look(shop, watch, streets)
    assert (await shop.states(order_id))[1] == "at_store"


async def test_who_acts_in_the_very_moment_keeps_the_trip(shop: Shop) -> None:
    """What the watcher saw is checked again under the locks."""
    order_id = await shop.order_at("assigned")
    trip = await shop.trip(order_id)
    seen_at = shop.clock.now()
    await later(shop, 600)
    await shop.arrive(order_id, 1)
    async with shop.database.begin() as conn:
        assert await reassigning.give_up_silent(conn, trip.id, seen_at) == ([], [])
    assert (await shop.states(order_id))[1] == "at_store"


async def test_a_collected_order_is_never_moved_only_shown(shop: Shop) -> None:
    """Ops are called once, the phone is asked once; a sign of life ends the alert."""
    order_id = await shop.order_at("collected")
    trip = await shop.trip(order_id)
    streets, watch = Streets(), TripWatch()
    streets.put(shop, shop.rider_id, 500.0)
    await later(shop, RULES.carrying_lost_after_s + 10)
    for _ in range(3):
        await look(shop, watch, streets)
    assert (await shop.states(order_id))[1] == "collected"
    assert await alerts(shop, order_id) == [("rider_silent", True)]
    (asked,) = await events(shop, f"rider:{shop.rider_id}", "trip.check_in")
    assert (asked["trip_id"], asked["order_ids"]) == (trip.id, [order_id])
    assert await paused(shop, shop.rider_id) is None
    streets.put(shop, shop.rider_id, 700.0)
    await look(shop, watch, streets)
    assert await alerts(shop, order_id) == [("rider_silent", False)]


async def test_the_rider_answers_the_question(shop: Shop) -> None:
    """One tap ends the alert; another rider has no such trip."""
    order_id = await shop.order_at("collected")
    trip = await shop.trip(order_id)
    streets, watch = Streets(), TripWatch()
    streets.put(shop, shop.rider_id, 500.0)
    await later(shop, RULES.carrying_lost_after_s + 10)
    await look(shop, watch, streets)
    with pytest.raises(NotFound):
        async with shop.database.begin() as conn:
            await reassigning.check_in(conn, riders_of(shop)[1], "usr_other", trip.id)
    async with shop.database.begin() as conn:
        await reassigning.check_in(conn, shop.rider_id, shop.rider_user_id, trip.id)
    assert await alerts(shop, order_id) == [("rider_silent", False)]
    await look(shop, watch, streets)
    assert await alerts(shop, order_id) == [("rider_silent", False)]


async def test_a_delivery_ends_the_alert_about_its_rider(shop: Shop) -> None:
    """An order that arrives needs nobody."""
    order_id = await shop.order_at("collected")
    streets, watch = Streets(), TripWatch()
    streets.put(shop, shop.rider_id, 500.0)
    await later(shop, RULES.carrying_lost_after_s + 10)
    await look(shop, watch, streets)
    await shop.arrive(order_id, 2)
    await shop.deliver(order_id)
    assert await alerts(shop, order_id) == [("rider_silent", False)]


async def test_half_a_batch_is_saved_from_a_silent_rider(shop: Shop) -> None:
    """What is still in the store goes to somebody else; the rest is for ops to decide."""
    (product,) = await shop.stock(20)
    first = await shop.order_at("packed", {product.sku_id: 1})
    second = await shop.order_at("packed", {product.sku_id: 1})
    await shop.offer(first, second)
    await shop.accept(first)
    await shop.arrive(first, 1)
    await shop.hand_over(first)
    streets, watch = Streets(), TripWatch()
    streets.put(shop, shop.rider_id, 10.0)
    await later(shop, RULES.carrying_lost_after_s + 10)
    await look(shop, watch, streets)
    assert [(await shop.states(each))[1] for each in (first, second)] == [
        "collected", "unassigned",
    ]  # fmt: skip
    assert await alerts(shop, first) == [("rider_silent", True)]
    assert await alerts(shop, second) == []


# Falling behind.


async def late_rider(shop: Shop, other_m: float) -> tuple[str, Streets, TripWatch]:
    """A rider who is overdue and stands still 2.5 km away; another one is free so far away."""
    order_id = await shop.order_at("assigned")
    other = riders_of(shop)[1]
    await shop.start_shift(other)
    streets, watch = Streets(), TripWatch()
    for wait_s in (60.0 + RULES.late_s + 1, RULES.no_nearer_s + 1):
        await later(shop, wait_s)
        streets.put(shop, shop.rider_id, 2_500.0)
        streets.put(shop, other, other_m)
        await look(shop, watch, streets)
    return order_id, streets, watch


async def test_a_late_rider_is_replaced_when_somebody_else_is_sooner(shop: Shop) -> None:
    """The order is free for the next plan; the rider stays available for others."""
    order_id, _, _ = await late_rider(shop, 200.0)
    assert (await shop.states(order_id))[1] == "unassigned"
    assert await paused(shop, shop.rider_id) is None
    (told,) = await events(shop, f"rider:{shop.rider_id}", "trip.taken_off")
    assert told["reason"] == "rider_late"


async def test_a_late_rider_stays_when_nobody_is_sooner(shop: Shop) -> None:
    """Late is better than later."""
    order_id, _, _ = await late_rider(shop, 4_000.0)
    assert (await shop.states(order_id))[1] == "assigned"


async def test_an_order_changes_hands_only_so_often(shop: Shop) -> None:
    """After that whoever has it keeps it."""
    order_id, streets, watch = await late_rider(shop, 200.0)
    first, second = riders_of(shop)
    for rider_id, other in ((second, first), (first, second)):
        await later(shop, 601)
        await shop.offer(order_id, rider_id=rider_id)
        await shop.accept(order_id)
        for wait_s in (60.0 + RULES.late_s + 1, RULES.no_nearer_s + 1):
            await later(shop, wait_s)
            streets.put(shop, rider_id, 2_500.0)
            streets.put(shop, other, 100.0)
            await look(shop, watch, streets)
    assert (await shop.states(order_id))[1] == "assigned"
    rows = await shop.rows(
        "SELECT count(*) AS n FROM order_history WHERE order_id = :id AND reason = 'rider_late'",
        id=order_id,
    )
    assert rows == [{"n": RULES.late_most}]


# Handing back.


async def test_a_trip_is_handed_back_before_the_pickup(shop: Shop) -> None:
    """Its orders go to others, never again to this rider, who gets no offers until back."""
    order_id = await shop.order_at("at_store")
    trip = await shop.trip(order_id)
    for _ in range(2):
        async with shop.database.begin() as conn:
            done = await reassigning.hand_back(
                conn, shop.rider_id, shop.rider_user_id, trip.id,
                HandBackReason.VEHICLE_PROBLEM, "flat tyre",
            )  # fmt: skip
    assert done.status.value in ("cancelled", "completed")
    assert (await shop.states(order_id))[1] == "unassigned"
    assert await paused(shop, shop.rider_id) is PauseReason.HANDED_BACK
    rows = await shop.rows("SELECT until FROM declines WHERE order_id = :id", id=order_id)
    assert rows == [{"until": None}]
    assert await alerts(shop, order_id) == []


async def test_bags_that_are_handed_back_come_back_to_the_store(shop: Shop) -> None:
    """Ops decide: undeliverable, nothing is charged, and the goods are on the shelf again."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("collected", {product.sku_id: 3})
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await reassigning.hand_back(
            conn, shop.rider_id, shop.rider_user_id, trip.id, HandBackReason.ACCIDENT, None
        )
    assert (await shop.states(order_id))[1] == "collected"
    assert await alerts(shop, order_id) == [("handed_back", True)]
    async with shop.database.begin() as conn:
        ended = await reassigning.bring_back(conn, order_id, OPS, "rider had an accident")
    assert ended.status.value == "completed"
    assert await alerts(shop, order_id) == [("handed_back", False)]
    await shop.settle_all()
    assert await shop.states(order_id) == ("undeliverable", "failed", "voided")
    async with shop.database.begin() as conn:
        await returns.take_back(conn, shop.settings.returns, order_id, OPS)
    assert await shop.stock_of(product.sku_id) == (20, 0)


async def test_only_an_open_trip_of_ones_own_is_handed_back(shop: Shop) -> None:
    """Not a foreign one, not an offer, not one that is done; nothing to bring back in the store."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    reason = HandBackReason.OTHER
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await reassigning.hand_back(conn, shop.rider_id, "usr_r", trip.id, reason)
    with pytest.raises(NotFound):
        async with shop.database.begin() as conn:
            await reassigning.hand_back(conn, riders_of(shop)[1], "usr_r", trip.id, reason)
    await shop.accept(order_id)
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await reassigning.bring_back(conn, order_id, OPS, "no")


# Orders that wait, riders that wait.


async def test_ops_are_called_for_a_packed_order_that_waits(shop: Shop) -> None:
    """Once, after the threshold; an order that they hold themselves is not reported to them."""
    order_id = await shop.order_at("packed")
    held_id = await shop.order_at("packed")
    async with shop.database.begin() as conn:
        row = await controlling.pause(
            conn, shop.territory.zones, shop.place.city.id, said(shop, 600),
            store_id=shop.place.store.id, hold_dispatch=True, stop_orders=False,
        )  # fmt: skip
        control_id = await audited(conn, row)
    streets = Streets()
    await later(shop, RULES.waiting_s + 3_600)
    await watch_orders(services_of(shop, streets))
    assert await alerts(shop, order_id) == []
    async with shop.database.begin() as conn:
        await controlling.release(conn, control_id, OPS, None)
    for _ in range(2):
        await watch_orders(services_of(shop, streets))
    assert await alerts(shop, order_id) == [("needs_rider", True)]
    assert await alerts(shop, held_id) == [("needs_rider", True)]


async def test_a_pinned_order_that_waits_says_that_it_is_pinned(shop: Shop) -> None:
    """Who is called sees at once what may be the matter."""
    order_id = await shop.order_at("packed")
    await pin(shop, order_id, shop.rider_id, minutes=600)
    await later(shop, 7_200)
    await watch_orders(services_of(shop, Streets()))
    rows = await shop.rows(
        "SELECT detail, rider_id FROM dispatch_alerts WHERE order_id = :id", id=order_id
    )
    assert rows[0]["rider_id"] == shop.rider_id
    assert "pinned" in rows[0]["detail"]


async def test_riders_queue_at_a_store_in_the_order_of_their_coming(shop: Shop) -> None:
    """Who leaves, rides, or takes a break loses the place; who wanders a little does not."""
    first, second = riders_of(shop)
    city_id, store_id = shop.place.city.id, shop.place.store.id
    streets = Streets()

    async def queue() -> tuple[str, ...]:
        await watch_queues(services_of(shop, streets))
        async with shop.database.begin() as conn:
            return (await waiting.read(conn, city_id)).get(store_id, ())

    for rider_id in (first, second):
        await shop.start_shift(rider_id)
    streets.put(shop, second, 40.0)
    streets.put(shop, first, 900.0)
    assert await queue() == (second,)
    await later(shop, 5)
    streets.put(shop, first, 30.0)
    assert await queue() == (second, first)
    streets.put(shop, second, 120.0)
    assert await queue() == (second, first)
    async with shop.database.begin() as conn:
        assert await waiting.place_of(conn, first) == (store_id, 2, 2)
        await availability.pause(conn, second, PauseReason.BREAK, None)
    assert await queue() == (first,)
    order_id = await shop.order_at("packed")
    await shop.offer(order_id, rider_id=first)
    assert await queue() == ()
    async with shop.database.begin() as conn:
        assert await waiting.place_of(conn, first) is None


async def test_settings_that_contradict_each_other_are_refused() -> None:
    """Nobody is lost before being silent."""
    with pytest.raises(ValueError, match="lost_after_s"):
        RiderSettings(silent_after_s=400.0)
