"""What dispatch did with an order, in one shape, from the index or from the files themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson

from dispatch.explain import (
    CANDIDATE_PRICE,
    Candidate,
    Moment,
    decided_price,
    why_later,
    why_not,
)
from dispatch.result import HeldReason, UnassignedReason
from kit.wire import rfc3339
from riders.decisions import explanations

Row = Mapping[str, Any]


def row_of(order_id: str, moment: Moment) -> Row:
    """A moment as the index would give it."""
    decision = moment.decision
    found = next(
        one for one in explanations(decision.decision_id, decision.plan) if one.order_id == order_id
    )
    return {
        **asdict(found),
        "at": datetime.fromtimestamp(moment.at_s, tz=UTC),
        "city_id": decision.city_id,
        "parameter_set": decision.parameter_set,
        "engine": decision.engine,
        "seconds": decision.seconds,
        "orders": len(decision.snapshot.orders),
        "riders": len(decision.snapshot.riders),
    }


def shape(row: Row) -> dict[str, object]:
    """One entry of an order's history, for the API and for ``--json``."""
    why, helps = _sentences(row["outcome"], row["reason"])
    assigned = row["outcome"] == "assigned"
    terms = row["cost_terms"]
    if isinstance(terms, str):
        # A JSON column of a named query comes as text.
        terms = orjson.loads(terms)
    return {
        "decision_id": row["decision_id"],
        "at": rfc3339(row["at"]),
        "outcome": row["outcome"],
        "reason": row["reason"],
        "why": why,
        "what_helps": helps,
        "look_again_at": rfc3339(row["look_again_at"]),
        "rider_id": row["rider_id"],
        "order_ids": row["order_ids"],
        "cost_s": _rounded(row["cost"]),
        "cost_terms_s": None
        if terms is None
        else {name: _rounded(value) for name, value in terms.items()},
        "runner_up": None
        if row["runner_up_rider_id"] is None
        else {
            "rider_id": row["runner_up_rider_id"],
            "cost_s": _rounded(row["runner_up_cost"]),
            "lost_by_s": _lost_by(row),
        },
        "planned_pickup_at": rfc3339(row["pickup_at"]) if assigned else None,
        "planned_dropoff_at": rfc3339(row["dropoff_at"]) if assigned else None,
        "parameter_set": row["parameter_set"],
        "engine": row["engine"],
        "decided_in_s": round(float(row["seconds"]), 4),
        "open_orders": row["orders"],
        "riders": row["riders"],
    }


def _lost_by(row: Row) -> float | None:
    """Only the cost of a trip with one order can be held against another rider's."""
    if row["cost"] is None or row["runner_up_cost"] is None or len(row["order_ids"] or ()) != 1:
        return None
    return _rounded(row["runner_up_cost"] - row["cost"])


def _sentences(outcome: str, reason: str | None) -> tuple[str | None, str | None]:
    """Why, and what would help.  A reason of another version is told by its name alone."""
    if reason is None:
        return None, None
    try:
        if outcome == "held":
            return why_later(HeldReason(reason)), None
        return why_not(UnassignedReason(reason))
    except ValueError:
        return reason.replace("_", " "), None


def shape_candidate(one: Candidate) -> dict[str, object]:
    """A rider who could have had the order as a trip of its own."""
    return {
        "rider_id": one.rider_id,
        "cost_s": _rounded(one.cost),
        "cost_terms_s": {name: _rounded(value) for name, value in one.terms.items()},
        "at_store_at": _time(one.arrives_s),
        "at_door_at": _time(one.delivered_s),
    }


def shape_prices(moment: Moment) -> dict[str, str]:
    """What the costs that are told are of, a sentence each."""
    return {"decided": decided_price(moment.decision.plan), "candidates": CANDIDATE_PRICE}


def _time(seconds: float) -> str | None:
    return rfc3339(datetime.fromtimestamp(seconds, tz=UTC))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 1)
