"""Rider positions in Redis: one hash a city, and sets of riders by H3 cell (resolution 9).

Keys of a city share a hash tag, so that a cluster keeps them together.  All of it may be lost:
phones send the next fix within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis

from geo.cells import RIDER_RESOLUTION, cell_of, disk
from kit.redis import load_script
from riders.locations import RiderFix, by_city


class _Payload(msgspec.Struct, frozen=True, array_like=True):
    lat: float
    lon: float
    heading_deg: float | None
    speed_mps: float | None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Payload)


class RedisLocations:
    """The live map of riders."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._write = load_script(redis, "riders", "write_positions")
        self._forget = load_script(redis, "riders", "forget_rider")

    async def write(self, fixes: Sequence[RiderFix]) -> None:
        """Write a batch, one script call a city; older fixes than the known ones are ignored."""
        for city_id, group in by_city(fixes).items():
            arguments: list[str | int | bytes] = []
            for fix in group:
                cell = cell_of(fix.lat, fix.lon, RIDER_RESOLUTION)
                payload = _Payload(fix.lat, fix.lon, fix.heading_deg, fix.speed_mps)
                arguments += (fix.rider_id, fix.t_ms, f"{cell:x}", _encoder.encode(payload))
            await self._write(keys=[_positions(city_id), _cells(city_id)], args=arguments)

    async def forget(self, city_id: str, rider_id: str) -> None:
        """Take a rider off the map."""
        await self._forget(keys=[_positions(city_id), _cells(city_id)], args=[rider_id])

    async def read(self, city_id: str, rider_ids: Sequence[str]) -> dict[str, RiderFix]:
        """The newest fix of each of these riders, where there is one."""
        if not rider_ids:
            return {}
        values = await self._redis.hmget(_positions(city_id), list(rider_ids))
        return {
            rider_id: _fix(rider_id, city_id, value)
            for rider_id, value in zip(rider_ids, values, strict=True)
            if value is not None
        }

    async def near(self, city_id: str, lat: float, lon: float, rings: int) -> set[str]:
        """Ids of riders within ``rings`` H3 cells (about 350 m each) of a point."""
        cells = disk(cell_of(lat, lon, RIDER_RESOLUTION), rings)
        found = await self._redis.sunion([f"{_cells(city_id)}{cell:x}" for cell in cells])
        return {member.decode() if isinstance(member, bytes) else member for member in found}


def _positions(city_id: str) -> str:
    return f"riders:{{{city_id}}}:positions"


def _cells(city_id: str) -> str:
    return f"riders:{{{city_id}}}:cell:"


def _fix(rider_id: str, city_id: str, value: bytes | str) -> RiderFix:
    assert isinstance(value, bytes), "the client does not decode"
    t_ms, _cell, payload = value.split(b"|", 2)
    p = _decoder.decode(payload)
    return RiderFix(rider_id, city_id, int(t_ms), p.lat, p.lon, p.heading_deg, p.speed_mps)
