"""Questions to the engine that can be checked by hand, and cities large enough to be planned.

On the line a place is a whole number of minutes from place 0; in the plane everybody goes straight.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dispatch import (
    CommitmentParameters,
    OfferParameters,
    Order,
    Parameters,
    Rider,
    Snapshot,
    Solver,
    Store,
    TravelTimes,
)
from dispatch.travel import FloatArray

MINUTE = 60.0
LINE = TravelTimes(
    seconds=np.abs(np.subtract.outer(np.arange(61), np.arange(61))) * MINUTE,
    row_of=np.arange(61, dtype=np.int32),
)


def exact(solver: Solver) -> Parameters:
    """Nobody needs time to answer an offer and nothing leaves earlier than it must."""
    return Parameters(
        solver=solver,
        offers=OfferParameters(response_s=0.0),
        commitment=CommitmentParameters(slack_s=0.0),
    )


def order(order_id: str = "a", **changes: object) -> Order:
    """Placed and ready at 0, to be brought from store s to place 20 within an hour."""
    base = Order(
        order_id=order_id,
        store_id="s",
        place=20,
        placed_at_s=0.0,
        ready_at_s=0.0,
        promised_by_s=60 * MINUTE,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # any field by name


def rider(rider_id: str = "r", **changes: object) -> Rider:
    """Free at store s for the next two hours."""
    base = Rider(
        rider_id=rider_id,
        place=10,
        free_at_s=0.0,
        shift_start_s=0.0,
        shift_end_s=120 * MINUTE,
        cash_headroom_minor=1000,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # any field by name


def on_the_line(
    orders: list[Order], riders: list[Rider], parameters: Parameters, **changes: object
) -> Snapshot:
    """Store s at place 10 with two minutes of service, and t at 40; a decision each minute."""
    base: dict[str, object] = {
        "now_s": 0.0,
        "epoch_s": MINUTE,
        "dropoff_service_s": 2 * MINUTE,
        "orders": tuple(orders),
        "riders": tuple(riders),
        "stores": (
            Store(store_id="s", place=10, pickup_service_s=2 * MINUTE),
            Store(store_id="t", place=40, pickup_service_s=2 * MINUTE),
        ),
        "travel": LINE,
        "parameters": parameters,
    }
    return Snapshot(**{**base, **changes})  # type: ignore[arg-type]  # any field by name


def straight(points: FloatArray, speed_mps: float) -> TravelTimes:
    """Between points of a plane, given as a row of two metres each."""
    seconds = np.hypot(*(points[:, None] - points[None, :]).transpose(2, 0, 1)) / speed_mps
    return TravelTimes(seconds=seconds, row_of=np.arange(len(points), dtype=np.int32))


def in_the_plane(
    stores: int, orders: int, riders: int, *, side_m: float, seed: int = 1, **changes: object
) -> Snapshot:
    """A square at second 1000, riders at 6 m/s; each door orders from the store that is nearest.

    Orders were placed 100 s ago and are packed within 300 s of that.
    """
    random = np.random.default_rng(seed)
    travel = straight(random.uniform(0, side_m, (stores + orders + riders, 2)), 6.0)
    doors = np.arange(stores, stores + orders)
    store_of = travel.seconds_between(np.arange(stores)[:, None], doors).argmin(axis=0)
    base = Snapshot(
        now_s=1000.0,
        epoch_s=10.0,
        dropoff_service_s=60.0,
        stores=tuple(Store(store_id=f"s{n}", place=n) for n in range(stores)),
        orders=tuple(
            Order(
                order_id=f"o{n:03}",
                store_id=f"s{store_of[n]}",
                place=stores + n,
                placed_at_s=900.0,
                ready_at_s=900.0 + float(random.uniform(0, 300)),
                promised_by_s=2200.0,
                weight_g=1000,
            )
            for n in range(orders)
        ),
        riders=tuple(
            Rider(
                rider_id=f"r{n:03}",
                place=stores + orders + n,
                free_at_s=0.0,
                shift_start_s=0.0,
                shift_end_s=9000.0,
                capacity_g=3000,
            )
            for n in range(riders)
        ),
        travel=travel,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # any field by name
