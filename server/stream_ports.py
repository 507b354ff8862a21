"""What the stream needs from the features: tickets, rights, snapshots, positions, revocation."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from identity.model import Actor, Role
from identity.service import Identity
from kit.sql import load
from kit.wire import money, rfc3339
from ledger import rider_cash
from orders import dispatch_alerts, dispatch_controls, supply
from orders.access import may_act_in_store, may_see_order
from orders.queued import outcome_view, was_queued
from orders.views import shape_order
from realtime.channels import Channel, ChannelKind
from realtime.ports import Point, Ports, PositionReply, Principal, Snapshot
from realtime.tickets import RedisTickets
from riders import availability, proposals, trip_views, trips
from riders.locations import PositionIngest, RiderFix
from riders.model import TripStatus
from server.wiring import Services
from stores import picking

_CITY = load("orders", "city_snapshot")

# A phone's clock may be a little ahead; a fix from the far future would block all later ones.
AHEAD_S = 60.0
MOST_ALERTS = 500
_OPS = frozenset({Role.OPS, Role.SUPPORT, Role.ADMIN})


def principal_of(actor: Actor) -> Principal:
    """The holder of a ticket."""
    return Principal(
        user_id=actor.user_id,
        role=actor.role.value,
        session_id=actor.session_id,
        store_ids=tuple(sorted(actor.store_ids)),
        city_ids=tuple(sorted(actor.city_ids)),
        rider_id=actor.rider_id,
    )


def actor_of(principal: Principal) -> Actor:
    return Actor(
        user_id=principal.user_id,
        role=Role(principal.role),
        session_id=principal.session_id,
        store_ids=frozenset(principal.store_ids),
        city_ids=frozenset(principal.city_ids),
        rider_id=principal.rider_id,
    )


def make_ports(services: Services, identity: Identity, ingest: PositionIngest) -> Ports:
    """The ports of this process's stream."""
    channels = _Channels(services)

    async def revoked(session_ids: Collection[str]) -> Collection[str]:
        return await identity.revoked(session_ids)

    def positions(principal: Principal, points: Sequence[Point]) -> PositionReply:
        return take_positions(services, ingest, principal, points)

    return Ports(
        authenticator=RedisTickets(services.redis),
        authorise=channels.authorise,
        snapshot=channels.snapshot,
        positions=positions,
        revoked=revoked,
    )


def take_positions(
    services: Services, ingest: PositionIngest, principal: Principal, points: Sequence[Point]
) -> PositionReply:
    """Take a rider's fixes; late and repeated ones are fine, those from the future are not."""
    if principal.rider_id is None or not principal.city_ids:
        return PositionReply(0, "denied", "Only riders send positions.")
    latest_ms = (services.clock.now_s() + AHEAD_S) * 1000
    accepted = 0
    for point in points:
        t_ms = round(point.t.timestamp() * 1000)
        if t_ms > latest_ms:
            continue
        ingest.put(
            RiderFix(
                rider_id=principal.rider_id,
                city_id=principal.city_ids[0],
                t_ms=t_ms,
                lat=point.lat,
                lon=point.lon,
                heading_deg=point.heading_deg,
                speed_mps=point.speed_mps,
            )
        )
        accepted += 1
    if accepted < len(points):
        return PositionReply(accepted, "from_the_future", "Check the clock of the phone.")
    return PositionReply(accepted)


class _Channels:
    """Rights and snapshots by kind of channel."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def authorise(self, principal: Principal, channel: Channel) -> bool:
        actor = actor_of(principal)
        match channel.kind:
            case ChannelKind.RIDER:
                return actor.rider_id == channel.id
            case ChannelKind.CITY:
                return actor.role in _OPS and actor.may_act_in_city(channel.id)
            case ChannelKind.ORDER:
                async with self._services.database.begin() as conn:
                    return await may_see_order(conn, actor, channel.id) or await was_queued(
                        conn, channel.id, actor.user_id
                    )
            case ChannelKind.STORE:
                async with self._services.database.begin() as conn:
                    return await may_act_in_store(conn, actor, channel.id)

    async def snapshot(self, principal: Principal, channel: Channel) -> Snapshot:
        """The channel's state after its last event, both read at one moment."""
        async with self._services.database.snapshot() as conn:
            epoch, seq = await _head(conn, channel)
            data = await self._state(conn, principal, channel)
        return Snapshot(epoch, seq, data)

    async def _state(
        self, conn: AsyncConnection, principal: Principal, channel: Channel
    ) -> dict[str, object]:
        match channel.kind:
            case ChannelKind.ORDER:
                ended = await outcome_view(conn, channel.id, principal.user_id)
                if ended is not None and ended["order_id"] != channel.id:
                    return ended
                order = await self._services.tracking.order_record(conn, channel.id)
                eta_at = await self._services.tracking.eta_at(order)
                mine = order["user_id"] == principal.user_id
                return shape_order(order, with_code=mine, eta_at=eta_at)
            case ChannelKind.STORE:
                return {"pick_tasks": await picking.queue(conn, channel.id, picking.OPEN)}
            case ChannelKind.RIDER:
                return await rider_state(conn, channel.id)
            case ChannelKind.CITY:
                return await _city_state(conn, channel.id)


async def rider_state(conn: AsyncConnection, rider_id: str) -> dict[str, object]:
    """A rider's open offers and trips, the cash in hand, and whether there will be offers."""
    held = await rider_cash.held(conn, rider_id)
    free = await availability.read(conn, rider_id)
    found = await trips.of_rider(conn, rider_id, trips.OPEN_TRIPS, 20)
    return {
        "offers": [
            {
                "id": trip.offer_id,
                "trip": trip_views.shape_work(trip),
                "expires_at": rfc3339(trip.expires_at),
                "auto_accept": False,
            }
            for trip in found
            if trip.status == TripStatus.OFFERED
        ],
        "trips": [trip_views.shape(trip) for trip in found if trip.status == TripStatus.ACTIVE],
        "cash": [money(amount, currency) for currency, amount in sorted(held.items())],
        "availability": availability.shape(free),
        "proposal": await proposals.current(conn, rider_id),
    }


async def _city_state(conn: AsyncConnection, city_id: str) -> dict[str, object]:
    """A city's orders on their way, what its ops are called for, and what they have said."""
    called = await dispatch_alerts.rows(
        conn, [city_id], resolved=False, before=None, limit=MOST_ALERTS
    )
    controls = await dispatch_controls.read_controls(conn, city_id)
    return {
        "orders": [_city_order(row) for row in await _CITY.dicts(conn, city_id)],
        "alerts": [dispatch_alerts.event(row) for row in called],
        "controls": [dispatch_controls.shape(row) for row in controls.rows],
        "supply": await supply.grown(conn, city_id),
    }


def _city_order(row: dict[str, object]) -> dict[str, object]:
    low, high = row.pop("promised_low_at"), row.pop("promised_high_at")
    return {**row, "promised_at": {"low": low, "high": high}}


async def _head(conn: AsyncConnection, channel: Channel) -> tuple[str, int]:
    row = (
        await conn.execute(
            text(
                "SELECT (SELECT epoch FROM stream_epoch) AS epoch, coalesce("
                "(SELECT seq FROM stream_heads WHERE stream = :stream), 0) AS seq"
            ),
            {"stream": str(channel)},
        )
    ).one()
    return row.epoch, row.seq
