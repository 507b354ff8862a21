"""A what-if as JSON: trips, what is held and why, what has nobody and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dispatch.decision import Decision, engine_version
from dispatch.explain import candidates, decided_price, moment_of, why_later, why_not
from dispatch.overrides import Value
from dispatch.result import Plan, Trip
from kit.wire import rfc3339
from server.dispatch_history import row_of, shape, shape_candidate, shape_prices
from server.what_if import Answer


def shape_answers(
    city_id: str, answers: Sequence[Answer], overrides: dict[str, Value], order_id: str | None
) -> dict[str, Any]:
    """The whole answer; ``order`` is the one that was asked about, null if none was."""
    plans = [one.plan for one in answers]
    return {
        "city_id": city_id,
        "engine": engine_version(),
        "overrides": overrides,
        "parts": [
            {
                "parameter_set": one.part.parameter_set,
                "at": _time(one.part.snapshot.now_s),
                "decided_in_s": round(one.seconds, 4),
                "open_orders": len(one.part.snapshot.orders),
                "riders": len(one.part.snapshot.riders),
                "riders_missing": one.plan.statistics.riders_missing,
                "costs_mean": decided_price(one.plan),
            }
            for one in answers
        ],
        "trips": [_trip(trip) for plan in plans for trip in plan.trips],
        "held": [one for plan in plans for one in _held(plan)],
        "unassigned": [
            {
                "order_id": one.order_id,
                "reason": one.reason.value,
                "why": why_not(one.reason)[0],
                "what_helps": why_not(one.reason)[1],
            }
            for plan in plans
            for one in plan.unassigned
        ],
        "order": None if order_id is None else _order(city_id, answers, order_id),
    }


def _trip(trip: Trip) -> dict[str, Any]:
    why = trip.explanation
    return {
        "rider_id": trip.rider_id,
        "store_id": trip.store_id,
        "order_ids": list(trip.order_ids),
        "extends": trip.extends,
        "leave_at": _time(trip.leave_at_s),
        "riding_s": round(trip.travel_s, 1),
        "stops": [
            {
                "kind": stop.kind.value,
                "order_ids": list(stop.order_ids),
                "planned_arrival_at": _time(stop.planned_arrival_s),
                "planned_departure_at": _time(stop.planned_departure_s),
            }
            for stop in trip.stops
        ],
        "cost_s": round(why.cost, 1),
        "cost_terms_s": {name: round(value, 1) for name, value in why.cost_terms.items()},
        "runner_up": None
        if why.runner_up_rider_id is None or why.runner_up_cost is None
        else {"rider_id": why.runner_up_rider_id, "cost_s": round(why.runner_up_cost, 1)},
    }


def _held(plan: Plan) -> list[dict[str, Any]]:
    meant = {order: trip.rider_id for trip in plan.tentative for order in trip.order_ids}
    return [
        {
            "order_id": one.order_id,
            "reason": one.reason.value,
            "why": why_later(one.reason),
            "look_again_at": _time(one.look_again_at_s),
            "meant_for_rider_id": meant.get(one.order_id),
        }
        for one in plan.held
    ]


def _order(city_id: str, answers: Sequence[Answer], order_id: str) -> dict[str, Any]:
    """What would become of one order, and every rider who could have it."""
    for one in answers:
        decision = Decision(
            decision_id="", city_id=city_id, snapshot=one.part.snapshot, plan=one.plan,
            parameter_set=one.part.parameter_set, engine=engine_version(), seconds=one.seconds,
        )  # fmt: skip
        moment = moment_of(decision, order_id)
        if moment is not None:
            entry = shape(row_of(order_id, moment))
            del entry["decision_id"]
            others = candidates(one.part.snapshot, order_id)
            return {
                **entry,
                "candidates": [shape_candidate(other) for other in others],
                "costs_mean": shape_prices(moment),
            }
    return {
        "outcome": "not_waiting",
        "why": "The order does not wait for a rider now: it has one, is over, or ops hold it.",
    }


def _time(seconds: float) -> str | None:
    try:
        return rfc3339(datetime.fromtimestamp(seconds, tz=UTC))
    except (OverflowError, ValueError):
        return None
