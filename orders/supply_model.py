"""From a city's rows to a report: forecast, balance, what to tell quotes, where riders had better
wait.  The arithmetic is that of ``dispatch``; this puts rows in and a report out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dispatch.forecast import Forecast, Placed, Shape, forecast_store, smoothed_mean
from dispatch.pressure import (
    Balance,
    PressureParameters,
    RiderSupply,
    ZoneDemand,
    balance,
    nearness,
    settle,
)
from geo.distances import Point
from orders.quotes import RIDER_CYCLE_S
from orders.settings import SupplySettings
from orders.supply import AHEAD, QUARTER, Facts, Outcome
from orders.supply_moves import Seen, ended_of, idle_riders, idle_since, moves_of, travel_s
from orders.supply_report import HORIZON_S, likely_range, outlook, store_report
from orders.territory import StorePlace, Territory
from riders.locations import RiderFix

# What an order takes of a rider before any trip has told: five orders of the usual length.
WORK_PRIOR_ORDERS = 5.0
WORK_HALF_LIFE_S = 3600.0
# A trip that is overdue is not over in no time.
LEAST_BUSY_S = 60.0
# Idle riders that are named to a city's ops.
MOST_RIDERS = 500


def pressure_parameters(settings: SupplySettings) -> PressureParameters:
    """The engine's parameters with what an operator has set."""
    return PressureParameters(cap_s=settings.growth_max_s, refuse_above_s=settings.refuse_above_s)


def assess(
    facts: Facts,
    fixes: Mapping[str, RiderFix] | None,
    territory: Territory,
    settings: SupplySettings,
    silent_after_s: float,
) -> Outcome:
    """What follows from the facts.

    fixes: where riders were seen last; None when nobody knows, and then every rider counts as
    near and nobody is proposed anything.
    """
    stores = [s for s in territory.stores.values() if s.city_id == facts.city_id]
    stores.sort(key=lambda store: store.store_id)
    now_s = facts.now.timestamp()
    riders = _seen(facts, fixes, silent_after_s)
    forecasts = [_forecast(facts, store, now_s) for store in stores]
    work_s = _work_s(facts, now_s)
    parameters = pressure_parameters(settings)
    balances = _balances(facts, territory, stores, forecasts, riders, work_s, parameters)
    city, by_store = balances[0], balances[1:]
    told = {
        one.zone_id: settle(
            facts.told.get(one.zone_id), _wanted_s(one, facts, riders, settings), now_s, parameters
        )
        for one in by_store
    }
    idle = idle_riders(facts, riders) if fixes is not None and settings.propose else []
    moves = moves_of(facts, territory, stores, forecasts, idle, settings) if idle else []
    report = {
        "active": bool(facts.riders or city.waiting or any(t.growth_s for t in told.values())),
        "riders": {
            "on_shift": len(facts.riders),
            "on_trip": sum(rider.on_trip for rider in riders),
            "idle": sum(not rider.on_trip for rider in riders),
            "silent": len(facts.riders) - len(riders),
        },
        "work_s": round(work_s),
        "orders_waiting": sum(facts.waiting.values()),
        "orders_expected": likely_range(forecasts, HORIZON_S),
        "outlook": outlook(city),
        "stores": [
            store_report(store, one, told[one.zone_id], forecast, facts)
            for store, one, forecast in zip(stores, by_store, forecasts, strict=True)
        ],
        "idle_riders": [
            {
                "rider_id": rider.row.id,
                "idle_s": round(now_s - idle_since(rider.row).timestamp()),
                "proposals": rider.row.moves,
            }
            for rider in idle[:MOST_RIDERS]
        ],
    }
    return Outcome(told, report, moves, ended_of(facts, fixes, territory))


def _wanted_s(
    one: Balance, facts: Facts, riders: Sequence[Seen], settings: SupplySettings
) -> float:
    """What the promise of a store should grow by.

    A city that has no riders on shift, and had none lately, tells nothing of a shortage: there the
    plain promise counts.  Where nobody's phone is heard it grows, but no store is closed for it.
    """
    if not facts.staffed:
        return 0.0
    return one.growth_s if riders else min(one.growth_s, settings.growth_max_s)


def _seen(facts: Facts, fixes: Mapping[str, RiderFix] | None, silent_after_s: float) -> list[Seen]:
    """Riders who get offers; one whose phone is silent gets none, and counts as none."""
    now_s = facts.now.timestamp()
    found = []
    for row in facts.riders:
        fix = None if fixes is None else fixes.get(row.id)
        heard = fix is not None and fix.t_ms >= (now_s - silent_after_s) * 1000
        if row.trip_id is not None and row.lat is not None:
            free_at_s = max(row.planned_at.timestamp(), now_s + LEAST_BUSY_S)
            found.append(Seen(row, Point(row.lat, row.lon), free_at_s))
        elif fixes is None or heard:
            point = None if fix is None else Point(fix.lat, fix.lon)
            found.append(Seen(row, point, now_s))
    return found


def _forecast(facts: Facts, store: StorePlace, now_s: float) -> Forecast:
    placed = [
        Placed(
            at_s=row.placed_at.timestamp(),
            ready_after_s=(
                None
                if row.packed_at is None
                else max(0.0, (row.packed_at - row.placed_at).total_seconds())
            ),
        )
        for row in facts.orders[store.store_id]
    ]
    since_s, shape = facts.since.timestamp(), _shape(facts, store.store_id)
    return forecast_store(store.store_id, placed, now_s, since_s, shape)


def _shape(facts: Facts, store_id: str) -> Shape | None:
    """Orders of earlier weeks, by quarters of an hour; None unless all of them are known."""
    known = facts.earlier.get(store_id)
    if not known:
        return None
    start = min(known)
    steps = round((facts.now + AHEAD - start) / QUARTER)
    expected = [known.get(start + step * QUARTER) for step in range(steps)]
    if start > facts.since + QUARTER or None in expected[:-1]:
        return None
    values = np.array([value for value in expected if value is not None])
    return Shape(start_s=start.timestamp(), step_s=QUARTER.total_seconds(), expected=values)


def _work_s(facts: Facts, now_s: float) -> float:
    """Rider seconds an order takes, from the offer to the last door, by recent trips."""
    trips = [row for row in facts.work if row.orders]
    return smoothed_mean(
        [row.busy_s / row.orders for row in trips],
        [now_s - row.ended_at.timestamp() for row in trips],
        WORK_HALF_LIFE_S,
        prior_value=RIDER_CYCLE_S,
        prior_weight=WORK_PRIOR_ORDERS,
    )


def _balances(
    facts: Facts,
    territory: Territory,
    stores: Sequence[StorePlace],
    forecasts: Sequence[Forecast],
    riders: Sequence[Seen],
    work_s: float,
    parameters: PressureParameters,
) -> list[Balance]:
    """The city as one pool, and then each of its stores."""
    zones = []
    for store, forecast in zip(stores, forecasts, strict=True):
        after_s, expected = forecast.cumulative(AHEAD.total_seconds())
        waiting = float(facts.waiting.get(store.store_id, 0))
        zones.append(
            ZoneDemand(zone_id=store.store_id, waiting=waiting, after_s=after_s, expected=expected)
        )
    whole = ZoneDemand(
        zone_id=facts.city_id,
        waiting=sum(zone.waiting for zone in zones),
        after_s=zones[0].after_s,
        expected=np.sum([zone.expected for zone in zones], axis=0),
    )
    points = [store.point for store in stores]
    supply = [
        RiderSupply(
            rider_id=rider.row.id,
            free_at_s=rider.free_at_s,
            shift_end_s=rider.row.ends_at.timestamp(),
        )
        for rider in riders
    ]
    near = np.ones((len(stores), len(riders)))
    known = [at for at, rider in enumerate(riders) if rider.point is not None]
    places = [rider.point for rider in riders if rider.point is not None]
    if known:
        near[:, known] = nearness(travel_s(territory, facts.city_id, places, points).T, parameters)
    store_near = nearness(travel_s(territory, facts.city_id, points, points), parameters)
    np.fill_diagonal(store_near, 1.0)
    now_s = facts.now.timestamp()
    city = balance(
        now_s, [whole], supply, np.ones((1, len(supply))), np.ones((1, 1)), work_s, parameters
    )
    return [*city, *balance(now_s, zones, supply, near, store_near, work_s, parameters)]
