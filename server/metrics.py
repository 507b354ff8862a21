"""What the HTTP shell counts, for Prometheus.  Labels are route templates, never paths."""

from __future__ import annotations

import structlog
from prometheus_client import Counter, Gauge, Histogram

from payments.routing import BreakerState

log = structlog.get_logger(__name__)

HTTP_REQUESTS = Counter(
    "darkstore_http_requests_total",
    "HTTP requests answered, by route template.",
    ("method", "route", "status"),
)
HTTP_SECONDS = Histogram(
    "darkstore_http_request_seconds",
    "Time from the first byte of a request to the last of its answer.",
    ("method", "route"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0),
)
HTTP_IN_FLIGHT = Gauge("darkstore_http_in_flight", "HTTP requests that are being answered.")
TRANSACTION_RETRIES = Counter(
    "darkstore_transaction_retries_total",
    "Transactions that were run again, by SQLSTATE.",
    ("sqlstate",),
)
CHECKOUT_BATCHES = Histogram(
    "darkstore_checkout_batch_members",
    "Checkouts that were committed in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
RATE_LIMITED = Counter(
    "darkstore_rate_limited_total", "Requests refused by a rate limit, by its name.", ("limit",)
)
LIMITER_FALLBACKS = Counter(
    "darkstore_rate_limiter_fallbacks_total",
    "Times that the rate limits went over to this process's own memory.",
)
WEBHOOKS = Counter(
    "darkstore_payment_webhooks_total",
    "Webhooks of payment gateways, by what became of them.",
    ("gateway", "outcome"),
)
CIRCUIT = Gauge(
    "darkstore_payment_gateway_circuit",
    "Whether this process leaves a gateway alone: 0 closed, 1 open.  A probe decides.",
    ("gateway",),
)
CIRCUIT_OPENINGS = Counter(
    "darkstore_payment_gateway_circuit_openings_total",
    "Times that this process began to leave a gateway alone.",
    ("gateway",),
)
PAYMENT_ALERTS = Counter(
    "darkstore_payment_alerts_total", "Alerts about payments, by kind.", ("gateway", "kind")
)
CARD_NUMBERS = Counter(
    "darkstore_card_numbers_refused_total", "Requests refused because they held a card number."
)


def show_circuit(gateway: str, state: BreakerState) -> None:
    """What ``payments.routing.Breakers`` tells of every change."""
    opened = state is BreakerState.OPEN
    CIRCUIT.labels(gateway).set(opened)
    if opened:
        CIRCUIT_OPENINGS.labels(gateway).inc()
    log.warning("payment_circuit", gateway=gateway, state=state.value)
