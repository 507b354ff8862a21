"""Proposals to idle riders where they had better wait.

A proposal is no order: following it, dismissing it and not looking at it cost a rider nothing,
neither pay nor a place in any sequence.  A rider has one that stands at most.  Each function runs
in the caller's transaction, which writes to that rider's stream alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.errors import NotFound
from kit.ids import new_id
from kit.sql import load
from kit.wire import rfc3339
from riders.proposal_tables import rider_proposals
from riders.tables import riders, trips
from riders.trips import OPEN_TRIPS

_OPEN = load("riders", "open_proposals")
_CURRENT = load("riders", "current_proposal")


class ProposalStatus(StrEnum):
    """``open`` and ``accepted`` stand; the others have ended."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    ARRIVED = "arrived"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


STANDING = (ProposalStatus.OPEN, ProposalStatus.ACCEPTED)


@dataclass(frozen=True, slots=True)
class NewProposal:
    """``chance``: of being needed there; ``gain_s``: what customers are expected to be spared."""

    rider_id: str
    city_id: str
    store_id: str
    way_s: float
    chance: float
    gain_s: float


async def standing(conn: AsyncConnection, city_id: str) -> Sequence[Row[Any]]:
    """Proposals of a city that stand, with whether their riders are on shift and on a trip."""
    return await _OPEN.all(conn, city_id)


async def make(
    conn: AsyncConnection, proposal: NewProposal, now: datetime, expires_at: datetime
) -> str | None:
    """Propose a place to an idle rider; None when the rider has a trip or another proposal."""
    # Whoever makes an offer locks the rider first: none is made between the look and the row.
    await conn.execute(
        select(riders.c.id).where(riders.c.id == proposal.rider_id).with_for_update(read=True)
    )
    busy = await conn.scalar(
        select(trips.c.id).where(
            trips.c.rider_id == proposal.rider_id,
            trips.c.status.in_([status.value for status in OPEN_TRIPS]),
        )
    )
    if busy is not None:
        return None
    proposal_id = new_id("prp")
    try:
        async with conn.begin_nested():
            await conn.execute(
                insert(rider_proposals).values(
                    id=proposal_id, rider_id=proposal.rider_id, city_id=proposal.city_id,
                    store_id=proposal.store_id, way_s=round(proposal.way_s),
                    chance=proposal.chance, gain_s=proposal.gain_s,
                    status=ProposalStatus.OPEN.value, made_at=now, expires_at=expires_at,
                )
            )  # fmt: skip
    except IntegrityError:
        return None
    await _announce(conn, proposal.rider_id)
    return proposal_id


async def end(
    conn: AsyncConnection, proposal_id: str, status: ProposalStatus, now: datetime
) -> bool:
    """End a proposal that stands; False when it has ended already."""
    rider_id = await conn.scalar(
        update(rider_proposals)
        .where(rider_proposals.c.id == proposal_id, rider_proposals.c.ended_at.is_(None))
        .values(status=status.value, ended_at=now)
        .returning(rider_proposals.c.rider_id)
    )
    if rider_id is None:
        return False
    await _announce(conn, rider_id)
    return True


async def answer(
    conn: AsyncConnection, rider_id: str, proposal_id: str, status: ProposalStatus, now: datetime
) -> dict[str, object] | None:
    """The rider accepts or dismisses; the proposal that stands after it.

    Saying it twice is fine.  Raises NotFound for a proposal that is another's or has ended
    otherwise.
    """
    assert status in (ProposalStatus.ACCEPTED, ProposalStatus.DISMISSED)
    row = (
        await conn.execute(
            select(rider_proposals.c.status)
            .where(rider_proposals.c.id == proposal_id, rider_proposals.c.rider_id == rider_id)
            .with_for_update()
        )
    ).first()
    if row is None or (row.status not in STANDING and row.status != status):
        raise NotFound("There is no such proposal any more; wait where you like.")
    if row.status != status:
        await conn.execute(
            update(rider_proposals)
            .where(rider_proposals.c.id == proposal_id)
            .values(
                status=status.value, ended_at=None if status is ProposalStatus.ACCEPTED else now
            )
        )
        await _announce(conn, rider_id)
    return await current(conn, rider_id)


async def current(conn: AsyncConnection, rider_id: str) -> dict[str, object] | None:
    """The proposal that stands, as the rider's app shows it."""
    row = await _CURRENT.first(conn, rider_id)
    if row is None:
        return None
    return {
        "id": row.id,
        "store_id": row.store_id,
        "store_name": row.store_name,
        "lat": row.lat,
        "lon": row.lon,
        "way_s": row.way_s,
        "chance": round(row.chance, 2),
        "status": row.status,
        "made_at": rfc3339(row.made_at),
        "expires_at": rfc3339(row.expires_at),
    }


async def forget(conn: AsyncConnection, before: datetime) -> None:
    """Proposals that ended long ago are of no use to anybody."""
    await conn.execute(delete(rider_proposals).where(rider_proposals.c.ended_at < before))


async def _announce(conn: AsyncConnection, rider_id: str) -> None:
    await outbox.append(
        conn,
        f"rider:{rider_id}",
        "rider.proposal",
        {"proposal": await current(conn, rider_id)},
    )
