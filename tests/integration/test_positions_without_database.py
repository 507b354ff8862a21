"""Positions while Postgres is away."""

from __future__ import annotations

from typing import cast

import pytest

from kit.db import Database, DatabaseUnavailable
from realtime.bus import Publisher
from riders.locations import RiderFix
from server.territory import TerritoryCache
from server.tracking import PositionFanOut


async def test_a_lost_database_is_told_as_what_it_is(fresh_database: Database) -> None:
    """The bare pool's own errors are many; whoever writes positions has to know but one."""
    fan_out = PositionFanOut(fresh_database, TerritoryCache(fresh_database), cast(Publisher, None))
    fresh_database.pool.terminate()
    with pytest.raises(DatabaseUnavailable):
        await fan_out.write([RiderFix("rdr_1", "cty_1", 1, 10.0, 70.0)])
