"""What a simulated day came to: one JSON object at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from simulator.http_client import HttpStatistics
from simulator.tally import FINAL, STAGES, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What was run, and for how long: wall time, simulated time and processor time.

    ended_at: by the city's clock.
    """

    seed: int
    speed: float
    minutes: float
    demand_digest: str
    ended_at: datetime
    real_s: float
    virtual_s: float
    cpu_s: float


def result(span: Span, tally: Tally, http: HttpStatistics) -> dict[str, object]:
    """The one object that a run ends with."""
    return {
        "seed": span.seed,
        "speed": span.speed,
        "minutes": span.minutes,
        "virtual_s": round(span.virtual_s, 1),
        "real_s": round(span.real_s, 1),
        "simulator_cores": round(span.cpu_s / span.real_s, 3) if span.real_s > 0 else 0.0,
        "demand_digest": span.demand_digest,
        "orders": _orders(tally),
        **_times(tally, span.ended_at),
        "picking": {
            "units": tally.picked_units,
            "short_units": tally.short_units,
            "released": tally.released,
            "substitutions": dict(sorted(tally.substitutions.items())),
        },
        "claims_by_status": dict(sorted(tally.claims.items())),
        **_riders(tally),
        "stream": _stream(tally),
        "http": _http(tally, http, span.real_s),
        "server_errors": tally.server_errors,
    }


def _orders(tally: Tally) -> dict[str, object]:
    by_status = tally.by_status()
    return {
        "demanded": tally.demanded,
        "placed": tally.placed,
        "delivered": by_status["delivered"],
        "cancelled": by_status["cancelled"],
        "payment_failed": by_status["payment_failed"],
        "undeliverable": by_status["undeliverable"] + by_status["returned"],
        "refused_by_code": dict(sorted(tally.refused.items())),
        "gave_up_by_reason": dict(sorted(tally.gave_up.items())),
        "open_by_status": {k: n for k, n in sorted(by_status.items()) if k not in FINAL},
        "rated": tally.rated,
    }


def _times(tally: Tally, ended_at: datetime) -> dict[str, object]:
    """Promises, and how long orders took from click to door and from stage to stage."""
    delivered, share_kept = tally.delivered, tally.share_kept(ended_at)
    return {
        "promise": {
            "kept": tally.kept,
            "late": tally.late,
            "overdue": tally.overdue(ended_at),
            "share_kept": None if share_kept is None else round(share_kept, 4),
        },
        "click_to_door_s": percentiles([order.click_to_door_s for order in delivered]),
        "stages_s": {
            name: percentiles([d.stages_s[name] for d in delivered if name in d.stages_s])
            for name in (f"{a}_to_{b}" for a, b in pairwise(STAGES))
        },
    }


def _riders(tally: Tally) -> dict[str, object]:
    """How they answered, and what they did."""
    offers = ("made", "accepted", "unasked", "declined", "expired")
    return {
        "offers": {name: tally.offers[name] for name in offers},
        "dropped_out": {name: tally.dropped_out[name] for name in ("vanished", "handed_back")},
        "proposals": {name: tally.proposals[name] for name in ("followed", "dismissed", "ignored")},
        "riders": {
            "count": tally.riders,
            "busy_share": round(tally.busy_s / tally.rider_s, 3) if tally.rider_s else 0.0,
            "offline_spells": tally.offline_spells,
            "replayed_actions": tally.replayed_actions,
        },
    }


def _stream(tally: Tally) -> dict[str, object]:
    return {
        "sockets": tally.sockets,
        "events": tally.events,
        "positions_sent": tally.positions_sent,
        "positions_seen": tally.positions_seen,
        "gaps": tally.gap_count,
        "gap_examples": tally.gaps,
        "states_compared": tally.states_compared,
        "state_mismatches": tally.mismatch_count,
        "mismatch_examples": tally.mismatches,
        "reconnects": tally.reconnects,
        "resumed": tally.resumed,
        "restarted": tally.restarted,
        "errors_by_code": dict(sorted(tally.stream_errors.items())),
    }


def _http(tally: Tally, http: HttpStatistics, real_s: float) -> dict[str, object]:
    return {
        "requests": http.requests,
        "a_second": round(http.requests / real_s, 1) if real_s > 0 else 0.0,
        "errors_by_code": dict(sorted(tally.problems.items())),
        "failures": dict(sorted(http.failures.items())),
        **_milliseconds(http.latencies_s),
        "server_errors": tally.server_errors,
        "server_error_examples": tally.server_error_examples,
    }


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """p50 and p90 by nearest rank; null without values."""
    ordered = sorted(values)
    return {"p50": _rank(ordered, 0.5), "p90": _rank(ordered, 0.9)}


def _milliseconds(latencies_s: Iterable[float]) -> dict[str, float | None]:
    ordered = sorted(latencies_s)
    p50, p99 = _rank(ordered, 0.5, 5), _rank(ordered, 0.99, 5)
    return {
        "p50_ms": None if p50 is None else round(p50 * 1000, 2),
        "p99_ms": None if p99 is None else round(p99 * 1000, 2),
    }


def _rank(ordered: Sequence[float], share: float, digits: int = 1) -> float | None:
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], digits)
