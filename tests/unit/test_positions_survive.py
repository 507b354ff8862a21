"""Positions are many, the newest counts: no lost engine ends the process that takes them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from kit.db import DatabaseUnavailable
from riders.locations import PositionIngest, RiderFix

FIX = RiderFix("rdr_1", "cty_1", 1, 10.0, 70.0)


@pytest.mark.parametrize(
    "error",
    [DatabaseUnavailable("away"), ConnectionResetError(), TimeoutError(), RedisConnectionError()],
    ids=lambda error: type(error).__name__,
)
async def test_a_writer_that_fails_loses_its_batch_and_the_next_writer_has_it(
    error: Exception,
) -> None:
    """Postgres or Redis may be away: the next fix comes in seconds."""
    written: list[RiderFix] = []

    async def broken(_fixes: Sequence[RiderFix]) -> None:
        raise error

    async def whole(fixes: Sequence[RiderFix]) -> None:
        written.extend(fixes)

    ingest = PositionIngest([broken, whole])
    ingest.put(FIX)
    await ingest.flush()
    assert written == [FIX]
