"""The forecast against "the last half hour again" on the public MDRP days, where they lie beside.

Each day is cut into four districts of about as many restaurants, as if each were a store with
some 30 orders an hour; earlier days are those of other seeds.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dispatch.forecast import ForecastParameters, Placed, Shape, forecast_store

DAYS = Path(__file__).parents[2] / "../shared/data/mdrp"
STEP_S, AHEAD_S = 900.0, 1800.0
DISTRICTS = 4

pytestmark = pytest.mark.skipif(not DAYS.is_dir(), reason="the public days are not there")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _districts(day: Path) -> list[np.ndarray]:
    """The times of each district's orders, seconds from the start of the day."""
    restaurants = sorted(
        _rows(day / "restaurants.txt"), key=lambda row: (float(row["x"]), float(row["y"]))
    )
    names = [row["restaurant"] for row in restaurants]
    orders = _rows(day / "orders.txt")
    return [
        np.array([60.0 * int(o["placement_time"]) for o in orders if o["restaurant"] in part])
        for part in (set(part) for part in np.array_split(np.array(names), DISTRICTS))
    ]


def _shape(days: dict[str, list[np.ndarray]], but: str) -> Shape:
    """The mean of a district on the days of other seeds."""
    bins = np.arange(0.0, 86_401.0, STEP_S)
    found = [
        np.histogram(times, bins=bins)[0]
        for name, parts in days.items()
        if name[0] != but[0]
        for times in parts
    ]
    return Shape(start_s=0.0, step_s=STEP_S, expected=np.mean(found, axis=0))


def _errors(days: dict[str, list[np.ndarray]]) -> Iterator[tuple[float, float, float]]:
    """(|forecast|, |forecast with earlier days|, |last half hour again|) off what came."""
    for name, parts in days.items():
        shape = _shape(days, name)
        hours = (max(map(np.max, parts)) - min(map(np.min, parts))) / 3600
        usual = ForecastParameters(prior_per_hour=float(shape.expected.sum()) / hours)
        for times in parts:
            for now_s in np.arange(times.min() + 3600, times.max() - AHEAD_S, 1800.0):
                since_s = now_s - 3 * 3600
                seen = [Placed(at_s=t) for t in times[(times > since_s) & (times <= now_s)]]
                came = ((times > now_s) & (times <= now_s + AHEAD_S)).sum()
                again = ((times > now_s - AHEAD_S) & (times <= now_s)).sum()
                plain = forecast_store("s", seen, now_s, since_s, None, usual).mean(AHEAD_S)
                shaped = forecast_store("s", seen, now_s, since_s, shape, usual).mean(AHEAD_S)
                yield abs(plain - came), abs(shaped - came), abs(again - came)


def test_earlier_days_beat_the_last_half_hour_again() -> None:
    """With earlier days the error is clearly smaller, from the day alone about as large."""
    names = sorted(day.name for day in DAYS.iterdir() if day.is_dir())
    errors = np.array(list(_errors({name: _districts(DAYS / name) for name in names[::3]})))
    plain, shaped, again = errors.mean(axis=0)
    assert shaped < 0.96 * again
    assert plain < 1.05 * again
