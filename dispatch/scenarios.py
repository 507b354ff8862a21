"""Sampled futures: the orders that may come, as one of many ways in which they may.

How many is Poisson at the rate of the last window, when is uniform over the horizon, and where
(store, drop-off, time to pack) is that of an order drawn from the recent past, with replacement.
"""

from collections.abc import Sequence

import numpy as np

from dispatch.ghosts import Ghost
from dispatch.parameters import ScenarioParameters
from dispatch.snapshot import Demand


def expected_orders(
    recent: Sequence[Demand], now_s: float, parameters: ScenarioParameters
) -> float:
    """How many orders come until the horizon, on average."""
    counted = sum(now_s - parameters.window_s < one.placed_at_s <= now_s for one in recent)
    return counted * parameters.horizon_s / parameters.window_s


def sample_future(
    recent: Sequence[Demand],
    now_s: float,
    parameters: ScenarioParameters,
    random: np.random.Generator,
) -> list[Ghost]:
    """One future as ghosts of full weight. recent: in a sequence that does not depend on chance."""
    drawn_from = [one for one in recent if now_s - parameters.places_s < one.placed_at_s <= now_s]
    number = int(random.poisson(expected_orders(recent, now_s, parameters))) if drawn_from else 0
    placed_s = now_s + random.uniform(0.0, parameters.horizon_s, number)
    which = random.integers(len(drawn_from), size=number) if number else ()
    return [
        Ghost(
            key=f"future+{index:05d}",
            store_id=drawn_from[at].store_id,
            place=drawn_from[at].place,
            placed_at_s=when,
            ready_at_s=when + drawn_from[at].ready_at_s - drawn_from[at].placed_at_s,
            weight=1.0,
        )
        for index, (when, at) in enumerate(zip(placed_s.tolist(), which, strict=True))
    ]
