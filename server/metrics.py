"""What the HTTP shell counts, for Prometheus.  Labels are route templates, never paths."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
