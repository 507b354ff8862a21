"""The street network of a city as apps fetch it: small JSON, compressed once, kept in memory.

A network changes only when a city is seeded anew, so a process keeps those that were asked for
(about 1 MB a city) and asks the database just whether they are still the present ones.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
from sqlalchemy import select

from geo.roads import RoadGraph
from kit.db import Database
from kit.errors import NotFound
from riders.tables import road_networks

OSM_SOURCE: Final = "osm:"
OSM_ATTRIBUTION: Final = "© OpenStreetMap contributors, ODbL"
_CITIES_KEPT: Final = 16
# Level 6 makes the streets of Porto Alegre 4 % larger than 9 does, in a quarter of the time.
_LEVEL: Final = 6


class StreetsNotFound(NotFound):
    code = "streets_not_found"
    title = "There are no streets for that city"


@dataclass(frozen=True, slots=True)
class Streets:
    """``geo.road_json`` with ``city_id`` and ``attribution`` (text or null), gzipped."""

    built_at: datetime
    etag: str
    compressed: bytes


class StreetsCache:
    """Streets by city, the least recently asked for forgotten first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Streets] = OrderedDict()
        # One city is encoded at a time: it takes a second of a core.
        self._encoding = asyncio.Lock()

    async def get(self, database: Database, city_id: str) -> Streets:
        """The present streets of a city.  Raises ``StreetsNotFound``."""
        async with database.begin() as conn:
            query = select(road_networks.c.built_at).where(road_networks.c.city_id == city_id)
            built_at = (await conn.execute(query)).scalar_one_or_none()
        if built_at is None:
            raise StreetsNotFound("There is no street network for this city.")
        async with self._encoding:
            kept = self._kept.get(city_id)
            if kept is None or kept.built_at != built_at:
                kept = await _load(database, city_id)
                self._kept[city_id] = kept
        self._kept.move_to_end(city_id)
        while len(self._kept) > _CITIES_KEPT:
            self._kept.popitem(last=False)
        return kept


async def _load(database: Database, city_id: str) -> Streets:
    async with database.begin() as conn:
        query = select(
            road_networks.c.source, road_networks.c.roads, road_networks.c.built_at
        ).where(road_networks.c.city_id == city_id)
        row = (await conn.execute(query)).one()
    return await asyncio.to_thread(_encode, city_id, row.source, row.roads, row.built_at)


def _encode(city_id: str, source: str, roads: bytes, built_at: datetime) -> Streets:
    attribution = OSM_ATTRIBUTION if source.startswith(OSM_SOURCE) else None
    streets = {
        "city_id": city_id,
        "attribution": attribution,
        **RoadGraph.from_bytes(roads).to_json_dict(),
    }
    text = orjson.dumps(streets)
    etag = f'"{hashlib.sha256(text).hexdigest()[:32]}"'
    # mtime 0: the same streets give the same bytes.
    return Streets(built_at, etag, gzip.compress(text, _LEVEL, mtime=0))
