"""How far the live layer is behind the truth: measured where it is written, read where it is shown.

One Redis hash, ``stock:lag``: counts of the time from the commit of a change to its projection, by
bucket, their number and sum, and ``watermark_ms``, the moment up to which everything that was
committed has been projected.  It lies in the layer that it measures: without Redis nothing is
projected, and the age that a reader computes from the last watermark grows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis

KEY = "stock:lag"
# Upper bounds in seconds.  A relay polls every 20 ms, so most are in the first four.
BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


@dataclass(slots=True)
class LagCounts:
    """Observations by bucket (the last one has no bound), and their sum in seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def observe(self, lags_s: Sequence[float]) -> None:
        for lag_s in lags_s:
            self.buckets[bisect_left(BUCKETS_S, lag_s)] += 1
            self.sum_s += lag_s

    @property
    def count(self) -> int:
        return sum(self.buckets)


@dataclass(frozen=True, slots=True)
class Lag:
    """All observations so far, and the watermark in POSIX seconds of real time, None if never."""

    counts: LagCounts
    watermark_s: float | None


async def record(redis: Redis, counts: LagCounts, watermark_s: float | None) -> None:
    """Add observations and raise the watermark.  Raises ``RedisError``."""
    pipeline = redis.pipeline(transaction=False)
    for n, observed in enumerate(counts.buckets):
        if observed:
            pipeline.hincrby(KEY, f"bucket_{n}", observed)
    if counts.sum_s:
        pipeline.hincrby(KEY, "sum_us", round(counts.sum_s * 1e6))
    if watermark_s is not None:
        # Several relays may write it; each speaks of the same outbox, and the last is the newest.
        pipeline.hset(KEY, "watermark_ms", round(watermark_s * 1e3))
    await pipeline.execute()


async def read(redis: Redis) -> Lag:
    """What has been recorded.  Raises ``RedisError``."""
    names = [f"bucket_{n}" for n in range(len(BUCKETS_S) + 1)]
    values = await redis.hmget(KEY, [*names, "sum_us", "watermark_ms"])
    numbers = [int(value or 0) for value in values]
    counts = LagCounts(numbers[: len(names)], numbers[-2] / 1e6)
    return Lag(counts, None if values[-1] is None else numbers[-1] / 1e3)
