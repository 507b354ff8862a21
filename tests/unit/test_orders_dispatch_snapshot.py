"""The engine's question: travel times only where a trip may lead, and the same plan from them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from dispatch.codec import decode, encode
from dispatch.decision import Decision, write_decision
from dispatch.explain import candidates
from dispatch.parameters import Parameters
from dispatch.plan import plan
from dispatch.recorded_day import rebuild
from dispatch.snapshot import Snapshot
from dispatch.travel import TravelTimes
from geo.distances import Point
from geo.travel import StraightLine
from geo.zones import ZoneIndex
from orders.dispatch_snapshot import Question, ask, rider_of
from orders.dispatch_world import World
from orders.territory import StorePlace, Territory
from riders.locations import RiderFix
from riders.settings import RiderSettings

CITY = "cit_test"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STORES = {
    store_id: StorePlace(store_id, CITY, store_id, Point(12.97, lon), "INR", 1)
    for store_id, lon in (("sto_a", 77.60), ("sto_b", 77.63))
}
TERRITORY = Territory(STORES, ZoneIndex([]), {}, {})


def order(number: int, point: Point, store_id: str) -> SimpleNamespace:
    placed_at = NOW - timedelta(seconds=40 * number)
    return SimpleNamespace(
        id=f"ord_{number:02d}", store_id=store_id, lat=point.lat, lon=point.lon, lines=3, units=4,
        placed_at=placed_at, packed_at=placed_at if number % 2 else None, claimed_at=None,
        pick_status="queued", slot_start=None, promised_high_at=placed_at + timedelta(minutes=20),
        weight_g=2000, owed_minor=0, gateway="card", declined_by=(), version=1,
    )  # fmt: skip


def rider(number: int) -> SimpleNamespace:
    return SimpleNamespace(
        id=f"rdr_{number:02d}", vehicle="scooter", capacity_g=20_000, capacity_orders=4, version=1,
        started_at=NOW - timedelta(hours=1), ends_at=NOW + timedelta(hours=3), idle_since=None,
        busy_s=600.0, on_shift_s=3600.0, cash_minor=0, trip=None,
    )  # fmt: skip


def question() -> Question:
    """Thirty orders and eight riders: one door orders from both stores, one rider is at a store."""
    random = np.random.default_rng(7)
    points = [
        Point(float(lat), float(lon))
        for lat, lon in zip(
            random.uniform(12.95, 12.99, 38), random.uniform(77.58, 77.65, 38), strict=True
        )
    ]
    points[1] = points[0]
    points[30] = STORES["sto_a"].point
    orders = [order(n, points[n], ("sto_a", "sto_b")[n % 2]) for n in range(30)]
    riders = [rider(n) for n in range(8)]
    t_ms = round(NOW.timestamp() * 1000)
    world = World(
        city_id=CITY,
        orders={row.id: row for row in orders[:20]},
        riders={row.id: row for row in riders},
        fixes={
            row.id: RiderFix(row.id, CITY, t_ms, points[30 + n].lat, points[30 + n].lon)
            for n, row in enumerate(riders)
        },
        demand=orders,
    )
    return ask(world, TERRITORY, RiderSettings(), NOW, 10.0, math.inf, Parameters())


def with_all_ways(asked: Question) -> Snapshot:
    """The same question with the time between every two places, as a matrix."""
    lat = np.array([point.lat for point in asked.points])
    lon = np.array([point.lon for point in asked.points])
    seconds = np.rint(StraightLine().between(lat[:, None], lon[:, None], lat, lon))
    travel = TravelTimes(seconds, np.arange(len(asked.points), dtype=np.int32))
    return replace(asked.snapshot, travel=travel)


@pytest.mark.parametrize("deadline_s", [0.0, math.inf], ids=["fallback", "rolling"])
def test_the_plan_is_that_of_a_matrix_of_all_places(deadline_s: float) -> None:
    """Also after the question went through the log."""
    asked = question()
    answers = [
        plan(replace(one, deadline_s=deadline_s))
        for one in (
            with_all_ways(asked),
            asked.snapshot,
            decode(Snapshot, encode(asked.snapshot)),
        )
    ]
    assert len(answers[0].trips) > 3
    assert answers[0].held or answers[0].unassigned
    for answer in answers[1:]:
        assert (answer.trips, answer.held, answer.unassigned, answer.tentative) == (
            answers[0].trips, answers[0].held, answers[0].unassigned, answers[0].tentative,
        )  # fmt: skip


def test_each_store_knows_its_own_doors() -> None:
    """A door that orders from two stores is two places, and so is a rider who stands at a store;
    the time between them is none.
    """
    asked = question()
    snapshot = asked.snapshot
    one, other = snapshot.orders[:2]
    assert one.place != other.place
    assert asked.points[one.place] == asked.points[other.place]
    (store,) = [store for store in snapshot.stores if store.store_id == "sto_a"]
    assert snapshot.riders[0].place != store.place
    assert snapshot.travel.seconds_between(snapshot.riders[0].place, store.place) == 0


def test_who_could_have_had_an_order_is_told_from_it() -> None:
    """What explains a decision asks for no other ways."""
    asked = question()
    for one in asked.snapshot.orders:
        found = candidates(asked.snapshot, one.order_id)
        assert found
        assert found == candidates(with_all_ways(asked), one.order_id)


def test_a_day_is_put_together_from_such_questions() -> None:
    """Ways from riders to stores and among the doors of a store are those of the question."""
    asked = question()
    answer = plan(replace(asked.snapshot, deadline_s=0.0))
    (day,) = rebuild(
        [Decision(decision_id="d", city_id=CITY, snapshot=asked.snapshot, plan=answer)]
    )
    place = {one.order.order_id: one.order.place for one in day.orders}
    ways = [("ord_00", "ord_02"), ("ord_05", "ord_01")]
    known = {one.order_id: one.place for one in asked.snapshot.orders}
    for start, end in ways:
        now_s = asked.snapshot.travel.seconds_between(known[start], known[end])
        assert day.travel.seconds_between(place[start], place[end]) == now_s


def test_a_decision_takes_less_room_than_the_matrix_would() -> None:
    """Most of what is kept of a decision is ways; those that no trip can take are left out."""
    asked = question()
    answer = plan(replace(asked.snapshot, deadline_s=0.0))

    def size(snapshot: Snapshot) -> int:
        kept = Decision(decision_id="d", city_id=CITY, snapshot=snapshot, plan=answer)
        travel = write_decision(kept)["snapshot"]["travel"]
        return sum(len(value["data"]) for value in travel.values() if isinstance(value, dict))

    assert size(asked.snapshot) < size(with_all_ways(asked)) * 0.75


@pytest.mark.parametrize(
    ("busy_s", "on_shift_s", "share"),
    [(300.0, 400.0, 0.5), (900.0, 3600.0, 0.25), (700.0, 650.0, 1)],
)
def test_the_share_of_work_is_that_of_the_shift(
    busy_s: float, on_shift_s: float, share: float
) -> None:
    """A shift counts as ten minutes at least: whoever has just come and got a trip is not worn."""
    row = rider(1)
    row.busy_s, row.on_shift_s = busy_s, on_shift_s
    assert rider_of(row, 0, RiderSettings(), 0.0).work_share == share
