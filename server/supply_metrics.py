"""Supply and demand as metrics, from the reports that the last rounds have written."""

from __future__ import annotations

from typing import Any

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import load
from riders.proposals import ProposalStatus

_METRICS = load("server", "supply_metrics")

GROWTH = Gauge(
    "darkstore_promise_growth_seconds",
    "What a store's promises grow by because riders are short.",
    ("store_id",),
)
SHORT = Gauge(
    "darkstore_store_riders_short",
    "Whether a store takes no orders because riders are short: 0 or 1.",
    ("store_id",),
)
MISSING = Gauge(
    "darkstore_riders_missing",
    "Riders that a city lacks, by seconds from now.",
    ("city_id", "in_s"),
)
EXPECTED = Gauge(
    "darkstore_orders_expected", "Orders that a city may expect in the next hour.", ("city_id",)
)
IDLE = Gauge("darkstore_riders_idle", "Riders who are heard of and have no trip.", ("city_id",))
WORK = Gauge(
    "darkstore_rider_seconds_per_order", "What an order takes of a rider lately.", ("city_id",)
)
PROPOSALS = Gauge(
    "darkstore_rider_proposals",
    "Proposals where to wait that stand or ended in the last hour, by status.",
    ("status",),
)
_OF_CITIES = (GROWTH, SHORT, MISSING, EXPECTED, IDLE, WORK)


async def read_supply(conn: AsyncConnection) -> None:
    """Bring the gauges up to date; a city without a recent report has none."""
    row = await _METRICS.one(conn)
    for gauge in _OF_CITIES:
        gauge.clear()
    for city_id, report in (row.reports or {}).items():
        _show(city_id, report)
    counts = row.proposals or {}
    for status in ProposalStatus:
        PROPOSALS.labels(status.value).set(counts.get(status.value, 0))


def _show(city_id: str, report: dict[str, Any]) -> None:
    for store in report["stores"]:
        GROWTH.labels(store["store_id"]).set(store["growth_s"])
        SHORT.labels(store["store_id"]).set(store["riders_short"])
    for look in report["outlook"]:
        MISSING.labels(city_id, str(look["in_s"])).set(look["missing"])
    EXPECTED.labels(city_id).set(report["orders_expected"]["mean"])
    IDLE.labels(city_id).set(report["riders"]["idle"])
    WORK.labels(city_id).set(report["work_s"])
