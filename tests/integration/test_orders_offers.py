"""Offers on a real database: what each answer means, who is asked again, when ops are called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kit.db import Database
from kit.errors import DarkstoreError
from orders import assigning, dispatch_alerts, offers, reassigning
from orders.assigning import Seen
from orders.cancellation import cancel_as_staff
from orders.errors import OfferExpired
from riders import availability
from riders.model import PAUSING, DeclineReason, PauseReason
from riders.settings import OfferRules
from server.verify import verify_database
from tests.addresses import Addresses
from tests.dispatch_support import (
    OPS,
    alerts,
    decline,
    events,
    later,
    let_pass,
    riders_of,
)
from tests.order_support import Shop, open_shop
from tests.support import new_database, opened_database


@pytest.fixture(scope="module")
async def own_database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """One database for this module, so that its last test can judge all that the others did."""
    async with new_database(engines.database_url, template) as url:
        async with opened_database(url) as database:
            yield database


@pytest.fixture
async def shop(own_database: Database) -> Shop:
    return await open_shop(own_database)


async def declined(shop: Shop, order_id: str) -> list[tuple[str, bool, int]]:
    """(rider, whether for good, missed how often) of who is not asked about an order now."""
    rows = await shop.rows(
        "SELECT rider_id, until IS NULL AS for_good, misses FROM declines"
        " WHERE order_id = :id AND (until IS NULL OR until > darkstore_now())", id=order_id,
    )  # fmt: skip
    return [(row["rider_id"], row["for_good"], row["misses"]) for row in rows]


async def standing(shop: Shop, rider_id: str) -> availability.Availability:
    async with shop.database.begin() as conn:
        return await availability.read(conn, rider_id)


# Answers.


@pytest.mark.parametrize("reason", list(DeclineReason))
async def test_each_reason_means_something_for_dispatch(shop: Shop, reason: DeclineReason) -> None:
    """What is said of the order holds for good; what is said of the rider begins a pause."""
    order_id = await shop.order_at("offered")
    await decline(shop, order_id, reason)
    ((rider_id, for_good, _),) = await declined(shop, order_id)
    now = await standing(shop, rider_id)
    if reason in PAUSING:
        assert (for_good, now.reason) == (False, PauseReason(reason.value))
        (told,) = await events(shop, f"rider:{rider_id}", "rider.availability")
        assert (told["status"], told["reason"]) == ("paused", reason.value)
        assert (told["until"] is None) == (reason is DeclineReason.SHIFT_ENDS)
    else:
        assert (for_good, now.paused) == (True, False)
    rows = await shop.rows("SELECT status, reason FROM offers WHERE rider_id = :id", id=rider_id)
    assert rows == [{"status": "declined", "reason": reason.value}]


async def test_a_break_ends_by_itself(shop: Shop) -> None:
    """After its time the rider gets offers again, of this order too, without doing anything."""
    order_id = await shop.order_at("offered")
    await decline(shop, order_id, DeclineReason.BREAK)
    assert (await standing(shop, shop.rider_id)).paused
    await later(shop, shop.rider_settings.offers.break_s + 1)
    assert not (await standing(shop, shop.rider_id)).paused
    assert await declined(shop, order_id) == []


async def test_a_pause_makes_the_plans_so_far_stale(shop: Shop) -> None:
    """A trip that was planned before the rider took a break is not offered any more."""
    order_id = await shop.order_at("packed")
    await shop.start_shift()
    planned = await shop.planned([order_id], shop.rider_id)
    async with shop.database.begin() as conn:
        await availability.pause(conn, shop.rider_id, PauseReason.BREAK, None)
    with pytest.raises(DarkstoreError, match="changed"):
        await shop.commit(planned)


async def test_a_reason_outside_the_list_cannot_be_stored(shop: Shop) -> None:
    """The list is closed in the database too."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    with pytest.raises(DBAPIError, match="ck_offers_reason"):
        async with shop.database.begin() as conn:
            await conn.execute(
                text("UPDATE offers SET status = 'declined', reason = 'mood' WHERE id = :id"),
                {"id": trip.offer_id},
            )


async def test_who_lets_offers_pass_gets_none_until_one_tap(shop: Shop) -> None:
    """After so many in a row; an answer in between counts from the start again."""
    order_id = await shop.order_at("packed")
    most = shop.rider_settings.offers.missed_most
    for n in range(1, most):
        await shop.offer(order_id)
        await let_pass(shop, order_id)
        assert not (await standing(shop, shop.rider_id)).paused, n
    await shop.offer(order_id)
    await decline(shop, order_id)
    for _ in range(most):
        await shop.offer(order_id)
        await let_pass(shop, order_id)
    found = await standing(shop, shop.rider_id)
    assert (found.reason, found.until) == (PauseReason.NOT_RESPONDING, None)
    told = await events(shop, f"rider:{shop.rider_id}", "rider.availability")
    assert told[-1]["reason"] == "not_responding"
    async with shop.database.begin() as conn:
        await availability.resume(conn, shop.rider_id)
    assert not (await standing(shop, shop.rider_id)).paused
    told = await events(shop, f"rider:{shop.rider_id}", "rider.availability")
    assert told[-1]["status"] == "available"


async def test_who_missed_an_offer_is_asked_once_more_after_a_while(shop: Shop) -> None:
    """Ten minutes later the order may come again; who misses it twice never sees it again."""
    order_id = await shop.order_at("offered")
    await let_pass(shop, order_id)
    assert await declined(shop, order_id) == [(shop.rider_id, False, 1)]
    await later(shop, shop.rider_settings.offers.again_after_s + 1)
    assert await declined(shop, order_id) == []
    await shop.offer(order_id)
    await let_pass(shop, order_id)
    assert await declined(shop, order_id) == [(shop.rider_id, True, 2)]


async def test_an_offer_does_not_run_out_before_its_time(shop: Shop) -> None:
    """Whoever says so too early changes nothing."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await offers.expire(conn, trip.id)
    assert (await shop.trip(order_id)).offer_status == trip.offer_status
    await later(shop, shop.rider_settings.offer_life_s + 1)
    with pytest.raises(OfferExpired):
        await shop.accept(order_id)
    async with shop.database.begin() as conn:
        await offers.expire(conn, trip.id)
    assert (await shop.states(order_id))[1] == "unassigned"


# Auto-accept.


async def test_who_takes_all_is_not_asked(shop: Shop) -> None:
    """The trip is the rider's in the transaction of the offer, which says so."""
    async with shop.database.begin() as conn:
        await availability.prefer(conn, shop.rider_id, auto_accept=True)
    order_id = await shop.order_at("packed")
    await shop.offer(order_id)
    trip = await shop.trip(order_id)
    assert (trip.status.value, (await shop.states(order_id))[1]) == ("active", "assigned")
    stream = f"rider:{shop.rider_id}"
    (made,) = await events(shop, stream, "offer.made")
    assert made["auto_accept"] is True
    (closed,) = await events(shop, stream, "offer.closed")
    assert closed["reason"] == "accepted"
    rows = await shop.rows("SELECT status, auto FROM offers WHERE trip_id = :id", id=trip.id)
    assert rows == [{"status": "accepted", "auto": True}]
    await shop.arrive(order_id, 1)
    await shop.hand_over(order_id)


async def test_the_choice_holds_from_the_next_offer_on(shop: Shop) -> None:
    """An offer that waits for an answer goes on waiting for one."""
    order_id = await shop.order_at("offered")
    async with shop.database.begin() as conn:
        await availability.prefer(conn, shop.rider_id, auto_accept=True)
    assert (await shop.states(order_id))[1] == "offered"
    await shop.accept(order_id)


# Calling ops.


async def test_an_order_that_nobody_wants_is_shown_to_ops_once(shop: Shop) -> None:
    """The n-th failed offer calls, later ones do not call again; a rider closes the alert."""
    order_id = await shop.order_at("packed")
    first, second = riders_of(shop)
    for n in range(shop.rider_settings.offers.failed_alert + 1):
        assert len(await alerts(shop, order_id)) == (n >= shop.rider_settings.offers.failed_alert)
        await shop.offer(order_id, rider_id=first)
        await decline(shop, order_id)
    city = f"city:{shop.place.city.id}"
    (called,) = await events(shop, city, "dispatch.alert")
    assert (called["kind"], called["order_id"], called["status"]) == (
        "needs_rider", order_id, "open",
    )  # fmt: skip
    await shop.offer(order_id, rider_id=second)
    assert await alerts(shop, order_id) == [("needs_rider", True)]
    await shop.accept(order_id)
    assert await alerts(shop, order_id) == [("needs_rider", False)]
    assert [e["status"] for e in await events(shop, city, "dispatch.alert")] == [
        "open", "resolved",
    ]  # fmt: skip


async def test_a_cancelled_order_needs_nobody(shop: Shop) -> None:
    """However an order ends, its alert ends with it."""
    order_id = await shop.order_at("packed")
    async with shop.database.begin() as conn:
        assert await dispatch_alerts.call(
            conn, order_id, dispatch_alerts.AlertKind.NEEDS_RIDER, "It waits.", {"cause": "test"}
        )
    async with shop.database.begin() as conn:
        await cancel_as_staff(conn, order_id, OPS, "spilled")
    assert await alerts(shop, order_id) == [("needs_rider", False)]


async def test_ops_are_not_called_for_an_order_that_has_got_on(shop: Shop) -> None:
    """An alert that comes too late is none."""
    order_id = await shop.order_at("assigned")
    async with shop.database.begin() as conn:
        assert not await dispatch_alerts.call(
            conn, order_id, dispatch_alerts.AlertKind.NEEDS_RIDER, "It waits.", {"cause": "test"}
        )


async def test_ops_close_an_alert_once(shop: Shop) -> None:
    """The first word stands."""
    order_id = await shop.order_at("packed")
    async with shop.database.begin() as conn:
        await dispatch_alerts.call(
            conn, order_id, dispatch_alerts.AlertKind.NEEDS_RIDER, "It waits.", {"cause": "test"}
        )
    (row,) = await shop.rows("SELECT id FROM dispatch_alerts WHERE order_id = :id", id=order_id)
    for who in ("usr_first", "usr_second"):
        async with shop.database.begin() as conn:
            closed = await dispatch_alerts.close(conn, row["id"], who, "somebody walks")
    assert (closed["resolved_by"], closed["resolution"]) == ("usr_first", "somebody walks")


# All at once.


@pytest.mark.parametrize("round_", range(4))
async def test_accept_expire_assign_and_unassign_race_to_one_end(shop: Shop, round_: int) -> None:
    """Whoever comes first, the order has one rider or none, and the histories fit."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    first, second = riders_of(shop)
    await shop.start_shift(second)
    async with shop.database.begin() as conn:
        # Its time is over at this very moment.
        await conn.execute(
            text("UPDATE offers SET expires_at = darkstore_now() + interval '20 ms' WHERE id = :i"),
            {"i": trip.offer_id},
        )

    async def attempt(work: object) -> str:
        for _ in range(3):
            try:
                async with shop.database.begin() as conn:
                    await work(conn)  # type: ignore[operator]  # one of the use cases below
                return "done"
            except DBAPIError as error:
                # As the API does it: a deadlock is tried again.
                if "deadlock" not in str(error):
                    raise
            except DarkstoreError as refused:
                return refused.code
        return "busy"

    rules = OfferRules()
    works = [
        lambda conn: offers.accept(conn, first, trip.offer_id or ""),
        lambda conn: offers.expire(conn, trip.id, rules),
        lambda conn: offers.decline(
            conn, rules, first, trip.offer_id or "", DeclineReason.TOO_FAR
        ),
        lambda conn: reassigning.unassign(conn, trip.id, OPS, "changed my mind"),
        lambda conn: assigning.assign(
            conn, shop.territory, shop.rider_settings, order_id, second, OPS, "take it",
            Seen(None, silent=False), force=True,
        ),
    ]  # fmt: skip
    outcomes = await asyncio.gather(*(attempt(work) for work in works[round_:] + works[:round_]))
    assert "done" in outcomes
    state = (await shop.states(order_id))[1]
    rows = await shop.rows(
        "SELECT rider_id FROM assignments WHERE order_id = :id AND active", id=order_id
    )
    assert len(rows) == (state in ("offered", "assigned"))
    order = await shop.order(order_id)
    assert order["rider_id"] == (rows[0]["rider_id"] if state == "assigned" else None)


async def test_all_of_this_is_clean(shop: Shop) -> None:
    """After all that the tests of this module did, no invariant is broken."""
    await shop.relay()
    checks = await verify_database(shop.database, None, patience_s=3600.0 * 24)
    assert {check.name: check.examples for check in checks if check.broken_rows} == {}
