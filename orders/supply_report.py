"""What ops are shown of a city's riders and orders, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from dispatch.forecast import Forecast, shares
from dispatch.pressure import LOOKS_S, Balance, Told
from geo.cells import DEMAND_RESOLUTION, cell_of
from orders.supply import Facts
from orders.territory import StorePlace

HORIZON_S = 3600.0
QUARTER_S = 900.0
# Cells of the drop-offs that are told of a store, and how fast older ones are forgotten.
MOST_CELLS = 12
CELL_HALF_LIFE_S = 3600.0
# One case in ten lies outside such a range on either side.
RANGE_SD = 1.28


def outlook(one: Balance) -> list[dict[str, Any]]:
    return [
        {
            "in_s": round(look_s),
            "riders": round(one.riders[look_s], 1),
            "needed": one.needed[look_s],
            "missing": one.missing[look_s],
        }
        for look_s in LOOKS_S
    ]


def likely_range(forecasts: Sequence[Forecast], horizon_s: float) -> dict[str, float]:
    """Expected orders, and between which numbers they lie four times out of five."""
    mean = sum(forecast.mean(horizon_s) for forecast in forecasts)
    sd = sqrt(sum(forecast.variance(horizon_s) for forecast in forecasts))
    return {
        "mean": round(mean, 1),
        "low": max(0, round(mean - RANGE_SD * sd)),
        "high": round(mean + RANGE_SD * sd),
    }


def store_report(
    store: StorePlace, one: Balance, told: Told, forecast: Forecast, facts: Facts
) -> dict[str, Any]:
    quarters = np.diff([forecast.mean(q * QUARTER_S) if q else 0.0 for q in range(5)])
    rows = facts.orders[store.store_id]
    cells = shares(
        [f"{cell_of(row.lat, row.lon, DEMAND_RESOLUTION):x}" for row in rows],
        [(facts.now - row.placed_at).total_seconds() for row in rows],
        CELL_HALF_LIFE_S,
    )
    most = sorted(cells.items(), key=lambda item: (-item[1], item[0]))[:MOST_CELLS]
    return {
        "store_id": store.store_id,
        "name": store.name,
        "growth_s": round(told.growth_s),
        "riders_short": told.full,
        "wait_s": round(one.wait_s),
        "riders_missing": one.missing[LOOKS_S[0]],
        "orders_waiting": facts.waiting.get(store.store_id, 0),
        "orders_expected": likely_range([forecast], HORIZON_S),
        "quarters": [round(float(quarter), 1) for quarter in quarters],
        "ready_after_s": round(forecast.ready_after_s),
        "outlook": outlook(one),
        "cells": [{"cell": cell, "share": round(share, 3)} for cell, share in most],
    }
