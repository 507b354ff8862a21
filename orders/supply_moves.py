"""Whom of a city's idle riders to propose where to wait, and which proposals are over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dispatch.forecast import Forecast
from dispatch.positioning import Idle, Target, propose
from geo.distances import Point, distance_m
from geo.travel import StraightLine
from orders.settings import SupplySettings
from orders.supply import Facts, Move
from orders.territory import StorePlace, Territory
from riders.locations import RiderFix
from riders.proposals import ProposalStatus

# A rider stays where orders are expected in the time of about one delivery.
POSITION_S = 900.0
# More riders than this wait at no store.
PLACES = 12
# Who has just become free may be given work by the next plan, and is left alone until then.
IDLE_AFTER_S = 60.0
# That close to the store a rider has arrived.
ARRIVED_M = 150.0
# A proposal stands for the way and a while.
STANDS_S = 600.0

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """A rider who may be given work: place None when nobody knows it."""

    row: Any
    point: Point | None
    free_at_s: float

    @property
    def on_trip(self) -> bool:
        return self.row.trip_id is not None


def travel_s(
    territory: Territory, city_id: str, starts: Sequence[Point], ends: Sequence[Point]
) -> Matrix:
    """Shape (starts, ends): a rider's seconds."""
    times = territory.travel.get(city_id) or StraightLine()
    seconds = times.between(
        np.array([p.lat for p in starts])[:, None],
        np.array([p.lon for p in starts])[:, None],
        np.array([p.lat for p in ends])[None, :],
        np.array([p.lon for p in ends])[None, :],
    )
    return np.asarray(seconds, dtype=np.float64).reshape(len(starts), len(ends))


def idle_since(row: Any) -> datetime:
    since: datetime = row.idle_since or row.started_at
    return since


def idle_riders(facts: Facts, riders: Sequence[Seen]) -> list[Seen]:
    """Riders of whom it is known where they stand and that they have had nothing for a while."""
    before = facts.now - timedelta(seconds=IDLE_AFTER_S)
    return [
        rider
        for rider in riders
        if not rider.on_trip and rider.point is not None and idle_since(rider.row) <= before
    ]


def moves_of(
    facts: Facts,
    territory: Territory,
    stores: Sequence[StorePlace],
    forecasts: Sequence[Forecast],
    idle: Sequence[Seen],
    settings: SupplySettings,
) -> list[Move]:
    """Whom to propose what.  Who has a proposal counts as being where it leads."""
    heading = {row.rider_id: row.store_id for row in facts.standing}
    since = facts.now - timedelta(seconds=settings.dismissed_for_s)
    willing = [r for r in idle if r.row.dismissed_at is None or r.row.dismissed_at < since]
    points = []
    for rider in willing:
        assert rider.point is not None, "an idle rider's place is known"
        store_id = heading.get(rider.row.id)
        known = store_id in territory.stores
        points.append(territory.stores[str(store_id)].point if known else rider.point)
    if not willing:
        return []
    targets = []
    for store, forecast in zip(stores, forecasts, strict=True):
        sure = min(PLACES, facts.waiting.get(store.store_id, 0))
        coming = forecast.chances(POSITION_S, PLACES)
        if store.store_id in facts.closed:
            coming = np.zeros(PLACES)
        chances = np.concatenate([np.ones(sure), coming])
        targets.append(Target(store_id=store.store_id, chances=chances))
    way_s = travel_s(territory, facts.city_id, points, [store.point for store in stores])
    found = propose([Idle(rider_id=r.row.id, moves=r.row.moves) for r in willing], targets, way_s)
    return [
        Move(one.rider_id, one.store_id, one.way_s, one.chance, one.gain_s)
        for one in found
        if one.rider_id not in heading
    ]


def ended_of(
    facts: Facts, fixes: Mapping[str, RiderFix] | None, territory: Territory
) -> dict[str, ProposalStatus]:
    """Proposals that stand no longer: the rider has work, is there, went home, or time is up."""
    ended = {}
    for row in facts.standing:
        fix = None if fixes is None else fixes.get(row.rider_id)
        store = territory.stores.get(row.store_id)
        if row.on_trip or not row.on_shift or store is None:
            ended[row.id] = ProposalStatus.WITHDRAWN
        elif fix is not None and distance_m(Point(fix.lat, fix.lon), store.point) <= ARRIVED_M:
            ended[row.id] = ProposalStatus.ARRIVED
        elif row.expires_at <= facts.now:
            ended[row.id] = ProposalStatus.EXPIRED
    return ended


def stands_for(move: Move) -> timedelta:
    """How long a proposal is good for."""
    return timedelta(seconds=2 * move.way_s + STANDS_S)
