"""Dispatch decisions as rows: where each is kept, and what became of each order in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.result import Plan, StopKind, Trip
from kit.sql import load
from riders.decision_tables import dispatch_decisions, dispatch_explanations

_OF_ORDER = load("riders", "explanations_of_order")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """One row of dispatch_decisions."""

    id: str
    city_id: str
    at: datetime
    epoch: int
    parameter_set: str
    engine: str
    seconds: float
    orders: int
    riders: int
    trips: int
    file: str | None
    file_offset: int | None
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationRow:
    """One row of dispatch_explanations: what a decision did with one order."""

    order_id: str
    decision_id: str
    outcome: str
    reason: str | None = None
    look_again_at: datetime | None = None
    rider_id: str | None = None
    order_ids: list[str] | None = None
    cost_terms: dict[str, float] | None = None
    cost: float | None = None
    runner_up_rider_id: str | None = None
    runner_up_cost: float | None = None
    pickup_at: datetime | None = None
    dropoff_at: datetime | None = None

    @property
    def gist(self) -> tuple[object, ...]:
        """What has to change for the order to be worth another row."""
        return self.outcome, self.reason, self.rider_id, tuple(self.order_ids or ())


def explanations(decision_id: str, plan: Plan) -> list[ExplanationRow]:
    """What a plan did with each order."""
    rows = [
        _assigned(decision_id, trip, order_id) for trip in plan.trips for order_id in trip.order_ids
    ]
    rows += [
        ExplanationRow(
            order_id=one.order_id,
            decision_id=decision_id,
            outcome="held",
            reason=one.reason.value,
            look_again_at=_time(one.look_again_at_s),
        )
        for one in plan.held
    ]
    rows += [
        ExplanationRow(
            order_id=one.order_id,
            decision_id=decision_id,
            outcome="unassigned",
            reason=one.reason.value,
        )
        for one in plan.unassigned
    ]
    return rows


def _assigned(decision_id: str, trip: Trip, order_id: str) -> ExplanationRow:
    at = {(stop.kind, one): stop for stop in trip.stops for one in stop.order_ids}
    pickup = at.get((StopKind.PICKUP, order_id))
    dropoff = at.get((StopKind.DROPOFF, order_id))
    why = trip.explanation
    return ExplanationRow(
        order_id=order_id,
        decision_id=decision_id,
        outcome="assigned",
        rider_id=trip.rider_id,
        order_ids=list(trip.order_ids),
        cost_terms=dict(why.cost_terms),
        cost=why.cost,
        runner_up_rider_id=why.runner_up_rider_id,
        runner_up_cost=why.runner_up_cost,
        pickup_at=None if pickup is None else _time(pickup.planned_departure_s),
        dropoff_at=None if dropoff is None else _time(dropoff.planned_arrival_s),
    )


def _time(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (OverflowError, ValueError, OSError):
        # "Never", from an engine that writes it as infinity.
        return None


async def insert_decisions(
    conn: AsyncConnection,
    decisions: Sequence[DecisionRow],
    explained: Iterable[ExplanationRow],
) -> None:
    """Keep decisions and what they did with their orders."""
    if decisions:
        await conn.execute(insert(dispatch_decisions), [asdict(one) for one in decisions])
    rows = [asdict(one) for one in explained]
    if rows:
        await conn.execute(insert(dispatch_explanations), rows)


async def of_order(conn: AsyncConnection, order_id: str, limit: int) -> list[dict[str, Any]]:
    """What dispatch did with an order, newest first, each with its decision."""
    return await _OF_ORDER.dicts(conn, order_id, limit)
