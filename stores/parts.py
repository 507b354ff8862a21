"""Splitting a city's dispatch: each store belongs to one part, and a part is planned by itself."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import Invalid
from stores.tables import stores


async def split(conn: AsyncConnection, city_id: str, parts: Sequence[Sequence[str]]) -> None:
    """Let the n-th group of store ids be part n; a single group puts the city together again.

    Raises Invalid unless every store of the city is named, once.  Whoever plans meanwhile finds out
    at the next look; until then two dispatchers may want the same order, and one of them gets it.
    """
    known = set(
        await conn.scalars(
            select(stores.c.id).where(stores.c.city_id == city_id).order_by(stores.c.id)
            .with_for_update()
        )
    )  # fmt: skip
    named = [store_id for part in parts for store_id in part]
    if len(set(named)) != len(named) or set(named) != known:
        missing = sorted(known - set(named))
        raise Invalid(
            "Every store of the city belongs to one part.",
            errors=[{"field": "parts", "detail": f"name each of {', '.join(missing)}"}]
            if missing
            else [{"field": "parts", "detail": "a store is named twice, or is of another city"}],
        )
    for part, store_ids in enumerate(parts):
        await conn.execute(
            update(stores).where(stores.c.id.in_(store_ids)).values(dispatch_part=part)
        )
