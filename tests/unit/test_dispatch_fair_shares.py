"""Between riders who are as good, the one who has worked less on this shift goes first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dispatch import Order, Parameters, Rider, Snapshot, Store, TravelTimes, plan

NOW_S = 1_000.0
# Store 0, drop-off 1, riders at 2 and 3: as far from the store as each other.
SECONDS = np.array(
    [
        [0.0, 300.0, 120.0, 120.0],
        [300.0, 0.0, 300.0, 300.0],
        [120.0, 300.0, 0.0, 60.0],
        [120.0, 300.0, 60.0, 0.0],
    ]
)


def rider(rider_id: str, place: int, work_share: float | None) -> Rider:
    return Rider(
        rider_id=rider_id, place=place, free_at_s=NOW_S, shift_start_s=0.0, shift_end_s=1e6,
        idle_since_s=NOW_S - 300.0, work_share=work_share,
    )  # fmt: skip


def chosen(*riders: Rider) -> str:
    """Who gets the only order."""
    order = Order(
        order_id="o1", store_id="s1", place=1, placed_at_s=NOW_S - 200, ready_at_s=NOW_S,
        promised_by_s=NOW_S + 900,
    )  # fmt: skip
    (trip,) = plan(
        Snapshot(
            now_s=NOW_S, epoch_s=5.0, dropoff_service_s=60.0, orders=(order,), riders=riders,
            stores=(Store(store_id="s1", place=0),),
            travel=TravelTimes(SECONDS, np.arange(4, dtype=np.int32)), parameters=Parameters(),
            deadline_s=1.0,
        )
    ).trips  # fmt: skip
    return trip.rider_id


def test_the_one_who_worked_less_goes_first() -> None:
    """Equal but for their work on this shift, whichever of the two it is."""
    assert chosen(rider("r1", 2, 0.9), rider("r2", 3, 0.1)) == "r2"
    assert chosen(rider("r1", 2, 0.1), rider("r2", 3, 0.9)) == "r1"


def test_fairness_only_breaks_ties() -> None:
    """A rider who is clearly nearer goes, however much work it has been."""
    near = replace(rider("r1", 2, 1.0), place=0)
    assert chosen(near, rider("r2", 3, 0.0)) == "r1"


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_lies_between_nothing_and_all(share: float) -> None:
    """Anything else raises ValueError."""
    with pytest.raises(ValueError, match="work_share"):
        rider("r1", 2, share)
