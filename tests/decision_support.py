"""Questions to the engine, and days of recorded decisions, small enough to look at."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from dispatch.decision import Decision
from dispatch.parameters import Parameters, Temperature, Vehicle
from dispatch.plan import plan
from dispatch.recorded_day import Day, DayOrder
from dispatch.replay import Delivery, live
from dispatch.result import Plan
from dispatch.snapshot import CurrentTrip, Order, Rider, Snapshot, Store
from dispatch.travel import FloatArray, TravelTimes
from dispatch.travel_blocks import NO_STORE, IntArray, TravelBlocks
from tests.plan_support import straight

SPEED_MPS = 5.0
LATITUDE, LONGITUDE = 12.97, 77.64


def town(seed: int, orders: int = 6, riders: int = 4, deadline_s: float = math.inf) -> Snapshot:
    """Two stores on a 3 km square; orders at several stages, one rider on the way to a store."""
    random = np.random.default_rng(seed)
    stores = 2
    places = stores + orders + riders + 1
    points = random.uniform(0, 3000, (places, 2))
    travel = straight(points, SPEED_MPS)
    return Snapshot(
        now_s=1_000.0,
        epoch_s=5.0,
        dropoff_service_s=60.0,
        orders=tuple(
            Order(
                order_id=f"order-{n}",
                store_id=f"store-{n % stores}",
                place=stores + n,
                placed_at_s=1_000.0 - 60 * n,
                ready_at_s=1_000.0 + 100 * (n % 3) - 50,
                promised_by_s=1_600.0 + 30 * n,
                ready_spread_s=10.0 * (n % 2),
                temperature=Temperature.CHILLED if n % 2 else Temperature.AMBIENT,
                declined_by=frozenset({"rider-1"} if n == 1 else ()),
            )
            for n in range(orders)
        ),
        trip_orders=(
            Order(
                order_id="taken",
                store_id="store-0",
                place=places - 1,
                placed_at_s=500.0,
                ready_at_s=1_100.0,
                promised_by_s=1_500.0,
            ),
        ),
        riders=tuple(
            Rider(
                rider_id=f"rider-{n}",
                place=stores + orders + n,
                free_at_s=1_000.0,
                shift_start_s=0.0,
                shift_end_s=20_000.0,
                vehicle=list(Vehicle)[n % len(Vehicle)],
                trip=CurrentTrip(store_id="store-0", order_ids=("taken",), arrives_at_s=1_050.0)
                if n == 0
                else None,
            )
            for n in range(riders)
        ),
        stores=tuple(Store(store_id=f"store-{n}", place=n) for n in range(stores)),
        travel=replace(travel, seconds=np.rint(travel.seconds)),
        deadline_s=deadline_s,
        seed=seed,
    )


def a_day(seed: int = 1, orders: int = 40, riders: int = 8, minutes: float = 40.0) -> Day:
    """Two stores in a town of 4 km, orders over so many minutes, a decision every 20 s."""
    random = np.random.default_rng(seed)
    stores = 2
    metres = random.uniform(-2000, 2000, (stores + orders + riders, 2))
    owner = [0, 1, *[n % stores for n in range(orders)], *[NO_STORE] * riders]

    def between(start: IntArray, end: IntArray) -> FloatArray:
        seconds: FloatArray = np.hypot(*np.moveaxis(metres[start] - metres[end], -1, 0)) / SPEED_MPS
        return seconds

    placed = np.sort(random.uniform(0, 60 * minutes, orders))
    made = []
    for n, at in enumerate(placed.tolist()):
        ready, known = at + random.uniform(90, 300), math.ceil(at / 20) * 20.0
        order = Order(
            order_id=f"ord-{n:03d}", store_id=f"store-{n % stores}", place=stores + n,
            placed_at_s=at, ready_at_s=ready, promised_by_s=at + 1200, ready_spread_s=30.0,
        )  # fmt: skip
        told = [(known, ready + 30.0, 30.0), (known + 60.0, ready, 0.0)]
        made.append(DayOrder(order, known, told))
    moments = tuple(20.0 * n for n in range(int(minutes * 3) + 10))
    first = Snapshot(
        now_s=0.0, epoch_s=20.0, dropoff_service_s=60.0, orders=(), riders=(), stores=(),
        travel=TravelTimes(np.zeros((1, 1)), np.zeros(1, dtype=np.int32)),
    )  # fmt: skip
    return Day(
        city_id="town",
        moments_s=moments,
        orders=tuple(made),
        riders=tuple(
            Rider(
                rider_id=f"rider-{n}", place=stores + orders + n, free_at_s=0.0,
                shift_start_s=0.0, shift_end_s=20_000.0,
            )
            for n in range(riders)
        ),
        stores=tuple(Store(store_id=f"store-{n}", place=n) for n in range(stores)),
        travel=TravelBlocks.gather(owner, range(stores), between),
        first=first,
    )  # fmt: skip


def recorded(
    day: Day, parameters: Parameters, seed: int = 1
) -> tuple[list[Delivery], list[Decision]]:
    """Live a day, and keep every decision of it as a dispatcher would."""
    random = np.random.default_rng(seed)
    metres = random.uniform(-2000, 2000, (day.travel.places, 2))
    degrees = metres / 111_195.0
    points = np.column_stack(
        [LATITUDE + degrees[:, 1], LONGITUDE + degrees[:, 0] / math.cos(math.radians(LATITUDE))]
    )
    kept: list[Decision] = []

    def engine(question: Snapshot) -> Plan:
        answer = plan(question)
        kept.append(
            Decision(
                decision_id=f"dec-{len(kept):04d}",
                city_id=day.city_id,
                snapshot=question,
                plan=answer,
                points=points,
                engine="test",
                seconds=0.01,
            )
        )
        return answer

    return live(day, parameters, engine=engine), kept
