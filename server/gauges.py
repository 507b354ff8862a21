"""The state of the whole system as gauges, read from Postgres when they are scraped."""

from __future__ import annotations

import time

from prometheus_client import Gauge

from kit.db import Database
from kit.sql import load
from orders.model import FINAL_ORDER_STATES, OrderState

_GAUGES = load("server", "gauges")

# Several scrapers, or an eager one, share one reading.
LIFE_S = 5.0

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
    "riders_on_shift": Gauge("darkstore_riders_on_shift", "Riders on shift."),
    "trips_active": Gauge("darkstore_trips_active", "Trips that are being ridden."),
}


class SystemGauges:
    """Reads the gauges, at most every ``LIFE_S`` real seconds."""

    def __init__(self) -> None:
        self._read_at = float("-inf")

    async def read(self, database: Database) -> None:
        """Bring the gauges up to date."""
        if time.monotonic() - self._read_at < LIFE_S:
            return
        async with database.begin() as conn:
            row = await _GAUGES.one(conn)
        for name, gauge in _PLAIN.items():
            gauge.set(getattr(row, name))
        counts = row.orders_open or {}
        for state in OrderState:
            if state not in FINAL_ORDER_STATES:
                ORDERS_OPEN.labels(state.value).set(counts.get(state.value, 0))
        self._read_at = time.monotonic()
