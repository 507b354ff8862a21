"""How dispatch does, for Prometheus: read from Postgres by any server process.

Labels are bounded: cities, partitions and zones beyond the limits count as ``other``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import structlog
from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from geo.distances import Point
from kit.db import Database
from kit.sql import load
from orders.territory import Territory
from server.dispatch_figures import DECISION_BOUNDS_S, OTHER, OUTCOMES, STALE_REASONS
from server.territory import TerritoryCache
from server.workers.loop import PASSING

_FIGURES = load("server", "read_dispatch_figures")
_NOW = load("server", "dispatch_now")
_HOUR = load("server", "dispatch_hour")
_PROMISES = load("server", "promises_kept")

log = structlog.get_logger(__name__)

PERIOD_S: Final = 10.0
# Virtual seconds: what "lately" is.
WINDOW_S: Final = 3600.0
MOST_CITIES: Final = 50
MOST_PARTITIONS: Final = 200
MOST_ZONES: Final = 200
MOST_ORDERS: Final = 20_000
REST: Final = "other"

_CITY = ("city",)
OLDEST = Gauge(
    "darkstore_dispatch_oldest_waiting_seconds",
    "Age of the oldest order for now that has no rider.", _CITY,
)  # fmt: skip
WAITING = Gauge("darkstore_dispatch_orders_waiting", "Orders without a rider.", _CITY)
HELD = Gauge(
    "darkstore_dispatch_orders_held",
    "Orders that the last plan held back: deciding later costs nothing.", ("partition",),
)  # fmt: skip
UNASSIGNED = Gauge(
    "darkstore_dispatch_orders_unassigned",
    "Orders for which the last plan had no rider.", ("partition",),
)  # fmt: skip
MISSING = Gauge(
    "darkstore_dispatch_riders_missing", "Riders that the last plan lacked.", ("partition",)
)
UTILISATION = Gauge(
    "darkstore_rider_utilisation", "Riders on a trip, as a share of those on shift.", _CITY
)
OFFERS = Gauge(
    "darkstore_offers_hour", "Offers of trips that ended in the last hour, by what became of them.",
    ("city", "outcome"),
)  # fmt: skip
DISTANCE = Gauge(
    "darkstore_rider_metres_hour",
    "Metres of the trips completed in the last hour: empty to the store, loaded from there.",
    ("city", "load"),
)  # fmt: skip
PROMISE = Gauge(
    "darkstore_promise_kept_ratio",
    "Orders of the last hour that were delivered within their promise, by zone.",
    ("city", "zone"),
)  # fmt: skip
DELIVERED = Gauge(
    "darkstore_delivered_hour", "Orders delivered in the last hour, by zone.", ("city", "zone")
)


class FiguresCollector(Collector):
    """Counters and a histogram that live in the database, as Prometheus wants them."""

    def __init__(self) -> None:
        self.rows: Sequence[Mapping[str, Any]] = ()

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        seconds = HistogramMetricFamily(
            "darkstore_dispatch_decision_seconds", "From a snapshot to its plan.",
            labels=("partition",),
        )  # fmt: skip
        trips = CounterMetricFamily(
            "darkstore_dispatch_trips", "What dispatchers did with trips.",
            labels=("partition", "outcome"),
        )  # fmt: skip
        stale = CounterMetricFamily(
            "darkstore_dispatch_stale", "Parts of plans that the world had overtaken, by reason.",
            labels=("partition", "reason"),
        )  # fmt: skip
        others = CounterMetricFamily(
            "darkstore_dispatch_events", "Looks, plans of the fallback, solvers replaced.",
            labels=("partition", "event"),
        )  # fmt: skip
        for row in self.rows:
            partition, counts = row["partition_id"], row["counts"]
            buckets = list(accumulate(row["decision_buckets"]))
            bounds = [*(str(bound) for bound in DECISION_BOUNDS_S), "+Inf"]
            seconds.add_metric(
                (partition,), list(zip(bounds, buckets, strict=True)), row["decision_s"]
            )
            for family, names, prefix in (
                (trips, OUTCOMES, ""), (stale, STALE_REASONS, "stale_"), (others, OTHER, ""),
            ):  # fmt: skip
                for name in names:
                    family.add_metric((partition, name), counts.get(prefix + name, 0))
        yield from (seconds, trips, stale, others)


FIGURES: Final = FiguresCollector()
REGISTRY.register(FIGURES)


async def watch_dispatch(database: Database, territory: TerritoryCache) -> None:
    """Bring the gauges up to date every ``PERIOD_S`` until cancelled."""
    while True:
        try:
            await read_dispatch_gauges(database, await territory.get())
        except PASSING as error:
            log.warning("dispatch_gauges_not_read", error=type(error).__name__)
        await asyncio.sleep(PERIOD_S)


async def read_dispatch_gauges(database: Database, territory: Territory) -> None:
    """Read everything once."""
    async with database.begin() as conn:
        FIGURES.rows = await _FIGURES.dicts(conn, MOST_PARTITIONS)
        now = await _NOW.dicts(conn, MOST_CITIES)
        hour = await _HOUR.dicts(conn, WINDOW_S)
        promises = await _PROMISES.all(conn, WINDOW_S, MOST_ORDERS)
    for row in FIGURES.rows:
        HELD.labels(row["partition_id"]).set(row["orders_held"])
        UNASSIGNED.labels(row["partition_id"]).set(row["orders_unassigned"])
        MISSING.labels(row["partition_id"]).set(row["riders_missing"])
    shown = {row["city_id"] for row in now}
    for row in now:
        OLDEST.labels(row["city_id"]).set(row["oldest_waiting_s"])
        WAITING.labels(row["city_id"]).set(row["waiting"])
        UTILISATION.labels(row["city_id"]).set(min(1.0, row["riding"] / max(1, row["on_shift"])))
    _show_hour({row["city_id"]: row for row in hour}, shown)
    delivered = await asyncio.to_thread(_by_zone, promises, territory, shown)
    _show_promises(delivered)


def _show_hour(hour: Mapping[str, Mapping[str, Any]], cities: set[str]) -> None:
    for city_id in cities:
        row = hour.get(city_id, {})
        for outcome in ("accepted", "declined", "expired", "withdrawn"):
            OFFERS.labels(city_id, outcome).set(row.get(outcome, 0))
        DISTANCE.labels(city_id, "empty").set(row.get("empty_m", 0))
        DISTANCE.labels(city_id, "loaded").set(row.get("loaded_m", 0))


def _by_zone(
    rows: Iterable[Any], territory: Territory, cities: set[str]
) -> dict[tuple[str, str], Counter[bool]]:
    """How many orders kept their promise (True) and did not, by (city, zone)."""
    found: dict[tuple[str, str], Counter[bool]] = {}
    for row in rows:
        city = row.city_id if row.city_id in cities else REST
        zone = territory.zones.zone_at(Point(row.lat, row.lon)) or REST
        if (city, zone) not in found and len(found) >= MOST_ZONES:
            city, zone = REST, REST
        found.setdefault((city, zone), Counter())[bool(row.kept)] += 1
    return found


def _show_promises(found: Mapping[tuple[str, str], Counter[bool]]) -> None:
    # A zone in which nothing was delivered says nothing: its last ratio would stand for ever.
    PROMISE.clear()
    DELIVERED.clear()
    for (city, zone), counts in found.items():
        DELIVERED.labels(city, zone).set(counts.total())
        PROMISE.labels(city, zone).set(counts[True] / counts.total())
