"""Serviceability and quotes: which store serves a point, what a basket costs, by when it comes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any, TypeAlias

import asyncpg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.promise import PromiseInputs, PromiseRange, promise
from geo.distances import Point
from kit.clock import Clock
from kit.ids import new_id
from kit.money import portion
from kit.sql import json_parameter, load
from orders import slots
from orders.errors import (
    CouponExpired,
    CouponNotApplicable,
    CouponUnknown,
    NotServiceable,
    StorePaused,
    UnknownProduct,
)
from orders.pricing import BasketLine, Coupon, PricedLine, Totals, price
from orders.settings import OrderSettings
from orders.shortage import stock_short
from orders.tables import coupons
from orders.territory import StorePlace, Territory
from orders.views import shape_quote

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_BASKET = load("orders", "basket")
_STORE_LOAD = load("orders", "store_load")
_INSERT_QUOTE = load("orders", "insert_quote")

# A typical gap between two riders becoming free, for a city of some tens of riders: a delivery
# keeps a rider for about twelve minutes.
RIDER_CYCLE_S = 720.0
# A free rider's way to the store; dispatch keeps riders near stores.
TYPICAL_APPROACH_S = 90.0
TYPICAL_LINES, TYPICAL_UNITS = 4, 6


@dataclass(frozen=True, slots=True)
class WantedLine:
    sku_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """``store_id`` may be None: then the store that serves the drop-off.

    ``slot`` is the start of a scheduled delivery's slot; None means as soon as possible.
    """

    user_id: str
    store_id: str | None
    lines: tuple[WantedLine, ...]
    dropoff: Point
    address: str
    coupon: str | None = None
    tip_minor: int = 0
    slot: datetime | None = None


@dataclass(frozen=True, slots=True)
class Serviceability:
    store: StorePlace | None
    promise: PromiseRange | None
    reason: str | None


async def serviceability(
    conn: AsyncConnection, territory: Territory, settings: OrderSettings, point: Point
) -> Serviceability:
    """Which store serves a point now and how fast; otherwise why not."""
    try:
        store, travel_s = serving_store(territory, settings, None, point)
        zone_ids = territory.zones.zones_at(point)
        told = await _promise(conn, store, zone_ids, travel_s, TYPICAL_LINES, TYPICAL_UNITS)
    except (NotServiceable, StorePaused) as refusal:
        return Serviceability(None, None, refusal.code)
    return Serviceability(store, told, None)


def serving_store(
    territory: Territory, settings: OrderSettings, store_id: str | None, point: Point
) -> tuple[StorePlace, float]:
    """The store that serves a point, and a rider's seconds from there to it.

    Raises NotServiceable, also when it is not the store with ``store_id``.
    """
    store = territory.store_for(point)
    if store is None:
        raise NotServiceable("We do not deliver to that address yet.")
    if store_id is not None and store_id != store.store_id:
        raise NotServiceable(
            "That address is served by another store.", extra={"store_id": store.store_id}
        )
    travel_s = territory.travel_s(store.city_id, store.point, point)
    if travel_s > settings.max_travel_s:
        raise NotServiceable("That address is too far for a rider at the moment.")
    return store, travel_s


async def _open_store(conn: AsyncConnection, store: StorePlace, zone_ids: Collection[str]) -> Any:
    busy = await _STORE_LOAD.one(conn, store.store_id)
    if not busy.open:
        raise StorePaused(busy.paused_reason or "The store is paused; try again in some minutes.")
    if _stopped(busy.stopped_zones, zone_ids):
        raise StorePaused("We take no orders for that address at the moment; try again later.")
    return busy


def _stopped(zones: Sequence[str], zone_ids: Collection[str]) -> bool:
    """Whether ops take no orders there (``orders.dispatch_controls``)."""
    return "*" in zones or any(zone_id in zones for zone_id in zone_ids)


async def _promise(
    conn: AsyncConnection,
    store: StorePlace,
    zone_ids: Collection[str],
    travel_s: float,
    lines: int,
    units: int,
) -> PromiseRange:
    busy = await _open_store(conn, store, zone_ids)
    if busy.riders_short:
        raise StorePaused(
            "All riders are busy, and an order would take far too long;"
            " try again in some minutes or choose a slot later today.",
            extra={"cause": "riders_short"},
        )
    return _promised(busy, travel_s, lines, units)


def _promised(busy: Any, travel_s: float, lines: int, units: int) -> PromiseRange:
    """The promise of a store as busy as a row of ``store_load`` says."""
    return promise(
        PromiseInputs(
            lines=lines,
            units=units,
            orders_ahead=busy.orders_ahead,
            orders_waiting=busy.orders_waiting,
            pickers=busy.pickers,
            riders_free=busy.riders_free,
            expected_rider_wait_s=RIDER_CYCLE_S / max(1, busy.riders_on_shift),
            approach_s=TYPICAL_APPROACH_S,
            growth_s=busy.growth_s,
            travel_s=travel_s,
        )
    )


async def _slot_promise(
    conn: AsyncConnection,
    settings: OrderSettings,
    store: StorePlace,
    zone_ids: Collection[str],
    travel_s: float,
    now: datetime,
    start: datetime,
) -> PromiseRange:
    """The promise of a scheduled order is its slot, however busy the store is at the moment."""
    await _open_store(conn, store, zone_ids)
    await slots.check_bookable(conn, settings.slots, now, store.store_id, start, travel_s)
    low_s = round((start - now).total_seconds())
    return PromiseRange(low_s=low_s, high_s=low_s + round(slots.SLOT.total_seconds()))


async def create_quote(
    conn: AsyncConnection,
    territory: Territory,
    settings: OrderSettings,
    clock: Clock,
    request: QuoteRequest,
) -> str:
    """Snapshot price and promise of a basket; returns the quote's id.

    Raises NotServiceable, StorePaused, UnknownProduct, StockShort, CouponUnknown, CouponExpired,
    CouponNotApplicable, SlotUnavailable, SlotFull.
    """
    store, travel_s = serving_store(territory, settings, request.store_id, request.dropoff)
    basket = await read_basket(conn, store.store_id, request.lines)
    coupon = await _coupon(conn, clock, request.coupon, basket)
    lines, totals = price(basket, settings.fees, request.tip_minor, coupon)
    units = sum(line.quantity for line in lines)
    quote_id = new_id("quo")
    now = clock.now()
    zone_ids = territory.zones.zones_at(request.dropoff)
    if request.slot is None:
        told = await _promise(conn, store, zone_ids, travel_s, len(lines), units)
        expires_at, pick_from = clock.after(settings.quote_life_s), None
    else:
        told = await _slot_promise(conn, settings, store, zone_ids, travel_s, now, request.slot)
        expires_at = min(clock.after(settings.quote_life_s), request.slot)
        pick_from = slots.pick_from(settings.slots, request.slot, round(travel_s))
    row = _row(quote_id, request, store, travel_s, lines, totals, told) | {
        "created_at": now, "expires_at": expires_at, "pick_from": pick_from,
        "discount_payer": _payer(coupon, store.store_id),
    }  # fmt: skip
    await _INSERT_QUOTE.run(conn, json_parameter(row))
    return quote_id


async def create_plain_quote(
    pool: Pool, territory: Territory, settings: OrderSettings, clock: Clock, request: QuoteRequest
) -> dict[str, object] | None:
    """A quote without coupon and slot, in three short statements on a bare connection; its view.

    None when anything stands in its way: then nothing has happened, and ``create_quote`` says what.
    Raises NotServiceable.
    """
    if request.coupon is not None or request.slot is not None:
        return None
    store, travel_s = serving_store(territory, settings, request.store_id, request.dropoff)
    async with pool.acquire() as conn:
        found = await conn.fetch(
            _BASKET.text, store.store_id, [line.sku_id for line in request.lines]
        )
        rows = {row["sku_id"]: SimpleNamespace(**row) for row in found}
        if any(
            line.sku_id not in rows or rows[line.sku_id].available < line.quantity
            for line in request.lines
        ):
            return None
        load_row = await conn.fetchrow(_STORE_LOAD.text, store.store_id)
        if load_row is None or not load_row["open"] or load_row["riders_short"]:
            return None
        if _stopped(load_row["stopped_zones"], territory.zones.zones_at(request.dropoff)):
            return None
        busy = SimpleNamespace(**load_row)
        lines, totals = price(
            _basket_lines(request.lines, rows), settings.fees, request.tip_minor, None
        )
        told = _promised(busy, travel_s, len(lines), sum(line.quantity for line in lines))
        row = _row(new_id("quo"), request, store, travel_s, lines, totals, told) | {
            "created_at": clock.now(), "expires_at": clock.after(settings.quote_life_s),
        }  # fmt: skip
        await conn.execute(_INSERT_QUOTE.text, json_parameter(row))
    return shape_quote(row)


def _row(
    quote_id: str,
    request: QuoteRequest,
    store: StorePlace,
    travel_s: float,
    lines: Sequence[PricedLine],
    totals: Totals,
    told: PromiseRange,
) -> dict[str, object]:
    """The columns of every quote."""
    return dict(
        id=quote_id,
        user_id=request.user_id,
        store_id=store.store_id,
        city_id=store.city_id,
        lines=[asdict(line) for line in lines],
        **total_columns(totals),
        currency=store.currency,
        lat=request.dropoff.lat,
        lon=request.dropoff.lon,
        address=request.address,
        travel_s=round(travel_s),
        promise_low_s=told.low_s,
        promise_high_s=told.high_s,
        slot_start=request.slot,
    )


def total_columns(totals: Totals) -> dict[str, int]:
    return {**asdict(totals), "total_minor": totals.total_minor}


async def read_basket(
    conn: AsyncConnection, store_id: str, wanted: Sequence[WantedLine]
) -> tuple[BasketLine, ...]:
    """Today's prices for the wanted lines, in their order.

    Raises UnknownProduct for what the store does not sell and StockShort for what has run out.
    """
    rows = {
        row.sku_id: row for row in await _BASKET.all(conn, store_id, [w.sku_id for w in wanted])
    }
    unknown = [line.sku_id for line in wanted if line.sku_id not in rows]
    if unknown:
        raise UnknownProduct(
            "The store does not sell all of these products; take them out and ask again.",
            errors=[{"field": "lines", "detail": f"unknown product {sku}"} for sku in unknown],
        )
    short = [
        {
            "sku_id": line.sku_id,
            "requested": line.quantity,
            "available": max(0, rows[line.sku_id].available),
        }
        for line in wanted
        if rows[line.sku_id].available < line.quantity
    ]
    if short:
        raise await stock_short(conn, store_id, short)
    return _basket_lines(wanted, rows)


def _basket_lines(wanted: Sequence[WantedLine], rows: Mapping[str, Any]) -> tuple[BasketLine, ...]:
    return tuple(
        BasketLine(
            line.sku_id,
            rows[line.sku_id].name,
            line.quantity,
            rows[line.sku_id].price_minor,
            rows[line.sku_id].tax_rate_bp,
            rows[line.sku_id].weight_g,
        )
        for line in wanted
    )


async def _coupon(
    conn: AsyncConnection, clock: Clock, code: str | None, basket: Sequence[BasketLine]
) -> Coupon | None:
    if code is None:
        return None
    row = (
        await conn.execute(select(coupons).where(coupons.c.code == code.strip().upper()))
    ).first()
    if row is None:
        raise CouponUnknown("There is no such coupon; check its spelling.")
    if not row.starts_at <= clock.now() < row.ends_at:
        raise CouponExpired("This coupon is not valid now; order without it or use another.")
    items_total = sum(line.quantity * line.unit_price_minor for line in basket)
    if items_total < row.min_items_minor or portion(items_total, row.percent_bp) == 0:
        raise CouponNotApplicable(
            "The basket is too small for this coupon.",
            extra={"min_items_minor": row.min_items_minor},
        )
    return Coupon(
        row.code, row.percent_bp, row.max_discount_minor, row.min_items_minor, row.funded_by
    )


def _payer(coupon: Coupon | None, store_id: str) -> str | None:
    """Whose expense the coupon's discount is, as the party of a posting."""
    if coupon is None:
        return None
    return store_id if coupon.funded_by == "store" else coupon.funded_by
