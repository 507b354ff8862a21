"""The live availability as metrics: how far behind it is, and where it has drifted.

The relay measures the lag and housekeeping looks for drift, in processes of their own that nobody
scrapes; both leave their figures in Redis, and every server shows them.  Read every few seconds, so
that a scrape waits for nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import structlog
from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from redis.asyncio import Redis

from server.workers.loop import PASSING
from stores import availability_lag
from stores.availability_drift import DriftKind
from stores.availability_lag import BUCKETS_S, Lag, LagCounts

log = structlog.get_logger(__name__)

PERIOD_S = 5.0
DRIFT_KEY = "stock:drift"

AGE = Gauge(
    "darkstore_availability_age_seconds",
    "Everything committed longer ago than this is in the live layer; NaN before the first word.",
)


class _Totals(Collector):
    """What other processes have counted, as of the last reading."""

    def __init__(self) -> None:
        self.lag = Lag(LagCounts(), None)
        self.drifts: dict[str, int] = {}

    def collect(self) -> Iterator[HistogramMetricFamily | CounterMetricFamily]:
        histogram = HistogramMetricFamily(
            "darkstore_availability_lag_seconds",
            "Time from the commit of a stock change until the live layer shows it.",
        )
        running, buckets = 0, []
        for bound, observed in zip([*BUCKETS_S, None], self.lag.counts.buckets, strict=True):
            running += observed
            buckets.append(("+Inf" if bound is None else str(bound), float(running)))
        histogram.add_metric([], buckets, self.lag.counts.sum_s)
        yield histogram
        drifts = CounterMetricFamily(
            "darkstore_availability_drifts",
            "Products whose live figure had drifted from Postgres and was repaired, by kind.",
            labels=["kind"],
        )
        for kind in DriftKind:
            drifts.add_metric([kind.value], float(self.drifts.get(kind.value, 0)))
        yield drifts


TOTALS = _Totals()
REGISTRY.register(TOTALS)


async def watch_availability(redis: Redis) -> None:
    """Bring the metrics up to date every ``PERIOD_S`` until cancelled."""
    while True:
        try:
            await read_metrics(redis)
        except PASSING as error:
            log.warning("availability_metrics_not_read", error=type(error).__name__)
        _show_age()
        await asyncio.sleep(PERIOD_S)


async def read_metrics(redis: Redis) -> None:
    """Read every figure once.  Raises ``RedisError``."""
    TOTALS.lag = await availability_lag.read(redis)
    found = await redis.hmget(DRIFT_KEY, [kind.value for kind in DriftKind])
    TOTALS.drifts = {
        kind.value: int(value or 0) for kind, value in zip(DriftKind, found, strict=True)
    }
    _show_age()


def _show_age() -> None:
    """Without Redis the last watermark grows old, as it should."""
    watermark_s = TOTALS.lag.watermark_s
    AGE.set(float("nan") if watermark_s is None else max(0.0, time.time() - watermark_s))


async def count_drifts(redis: Redis, kinds: list[DriftKind]) -> None:
    """Add to the counters.  Raises ``RedisError``."""
    pipeline = redis.pipeline(transaction=False)
    for kind in kinds:
        pipeline.hincrby(DRIFT_KEY, kind.value, 1)
    await pipeline.execute()
