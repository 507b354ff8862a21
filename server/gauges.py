"""The state of the whole system as gauges, read from Postgres every few seconds."""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import Gauge

from kit.db import Database
from kit.sql import load
from orders.model import FINAL_ORDER_STATES, OrderState
from server.supply_metrics import read_supply
from server.workers.loop import PASSING

_GAUGES = load("server", "gauges")

log = structlog.get_logger(__name__)

PERIOD_S = 5.0

ORDERS_OPEN = Gauge("darkstore_orders_open", "Orders on their way, by state.", ("status",))
_PLAIN = {
    "outbox_waiting": Gauge("darkstore_outbox_waiting", "Events that are not relayed yet."),
    "outbox_age_s": Gauge(
        "darkstore_outbox_age_seconds", "Age of the oldest event that is not relayed yet."
    ),
    "dead_letters": Gauge("darkstore_dead_letters", "Poison events that nobody has replayed."),
    "payments_pending": Gauge(
        "darkstore_payments_pending", "Payment operations that wait for their turn."
    ),
    "payments_unknown": Gauge(
        "darkstore_payments_unknown", "Payment operations that were asked and not answered."
    ),
    "payment_alerts_open": Gauge(
        "darkstore_payment_alerts_open", "Alerts about payments that nobody has resolved."
    ),
    "disputes_open": Gauge("darkstore_disputes_open", "Disputes that the bank has not decided."),
    "reconciliation_differences": Gauge(
        "darkstore_reconciliation_differences",
        "Differences from the gateways' own logs that nobody has resolved.",
    ),
    "riders_on_shift": Gauge("darkstore_riders_on_shift", "Riders on shift."),
    "trips_active": Gauge("darkstore_trips_active", "Trips that are being ridden."),
    "dispatch_alerts_open": Gauge(
        "darkstore_dispatch_alerts_open", "Orders for which ops are called."
    ),
    "decisions_lost": Gauge(
        "darkstore_dispatch_decisions_lost",
        "Decisions of the last five minutes that the log had no room for or could not write.",
    ),
    "dispatch_controls": Gauge(
        "darkstore_dispatch_controls", "Pins, exclusions and pauses by ops that count now."
    ),
}


async def watch_system(database: Database) -> None:
    """Bring the gauges up to date every ``PERIOD_S`` until cancelled.

    A scrape serves what was read last: it must not wait for a database that is in trouble.
    """
    while True:
        try:
            await read_gauges(database)
        except PASSING as error:
            log.warning("gauges_not_read", error=type(error).__name__)
        await asyncio.sleep(PERIOD_S)


async def read_gauges(database: Database) -> None:
    """Read every gauge once."""
    async with database.begin() as conn:
        row = await _GAUGES.one(conn)
        await read_supply(conn)
    for name, gauge in _PLAIN.items():
        gauge.set(getattr(row, name))
    counts = row.orders_open or {}
    for state in OrderState:
        if state not in FINAL_ORDER_STATES:
            ORDERS_OPEN.labels(state.value).set(counts.get(state.value, 0))
