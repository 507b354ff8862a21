"""What actors count while a simulated day runs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from simulator.gaps import ChannelLog

STAGES: Final = ("placed", "confirmed", "picking", "packed", "picked_up", "arriving", "delivered")
FINAL: Final = frozenset({"delivered", "cancelled", "payment_failed", "undeliverable", "returned"})
_EXAMPLES_KEPT: Final = 20
# A demo runs for days: figures are of the latest orders.
_ORDERS_KEPT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Delivered:
    """One delivered order: seconds from click to door, and whether the promise was kept."""

    click_to_door_s: float
    kept: bool
    stages_s: Mapping[str, float]


@dataclass
class Tally:
    """Counters that the actors write."""

    demanded: int = 0
    placed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    # Orders that are not over, by id; those that are, by how they ended.
    status: dict[str, str] = field(default_factory=dict)
    # Until when orders that nobody has seen the end of were promised, by id.
    promised: dict[str, datetime] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    delivered: deque[Delivered] = field(default_factory=lambda: deque(maxlen=_ORDERS_KEPT))
    kept: int = 0
    late: int = 0
    gave_up: Counter[str] = field(default_factory=Counter)
    rated: int = 0
    # What was offered, answered and fetched in place of what was missing; and what was claimed.
    substitutions: Counter[str] = field(default_factory=Counter)
    claims: Counter[str] = field(default_factory=Counter)
    cancel_asked: Counter[str] = field(default_factory=Counter)
    # Another door or another time, and what the answer was.
    changes_asked: Counter[str] = field(default_factory=Counter)

    offers: Counter[str] = field(default_factory=Counter)
    dropped_out: Counter[str] = field(default_factory=Counter)
    proposals: Counter[str] = field(default_factory=Counter)
    riders: int = 0
    rider_s: float = 0.0
    busy_s: float = 0.0
    riders_busy_now: int = 0
    offline_spells: int = 0
    replayed_actions: int = 0

    picked_units: int = 0
    short_units: int = 0
    released: int = 0

    sockets: int = 0
    sockets_open: int = 0
    reconnects: int = 0
    events: int = 0
    positions_sent: int = 0
    positions_seen: int = 0
    gaps: list[str] = field(default_factory=list)
    gap_count: int = 0
    resumed: int = 0
    restarted: int = 0
    stream_errors: Counter[str] = field(default_factory=Counter)
    states_compared: int = 0
    mismatches: list[str] = field(default_factory=list)
    mismatch_count: int = 0

    problems: Counter[str] = field(default_factory=Counter)
    server_errors: int = 0
    server_error_examples: list[str] = field(default_factory=list)

    def problem(self, status: int, code: str, method: str, path: str) -> None:
        """A problem document was answered."""
        self.problems[f"{status} {code}"] += 1
        if status >= 500 and status != 503:
            self.server_errors += 1
            _keep(self.server_error_examples, f"{status} {method} {path}")

    def order_placed(self, order: Mapping[str, Any]) -> None:
        """A customer has an order."""
        self.placed += 1
        self.status[order["id"]] = order["status"]
        self.promise_changed(order)

    def promise_changed(self, order: Mapping[str, Any]) -> None:
        """An order that is not over is promised until another moment."""
        self.promised[order["id"]] = _moment(order["promised_at"]["high"])

    def close_if_over(self, order_id: str) -> None:
        """Nobody watches the order any more: if it is over, only its end is counted."""
        status = self.status[order_id]
        if status in FINAL:
            del self.status[order_id]
            self.promised.pop(order_id, None)
            self.ended[status] += 1

    def by_status(self) -> Counter[str]:
        """How many of the placed orders stand where."""
        return self.ended + Counter(self.status.values())

    def overdue(self, now: datetime) -> int:
        """Orders that are not over and should be: without them a slow day would look punctual."""
        return sum(
            until < now and self.status[order_id] not in FINAL
            for order_id, until in self.promised.items()
        )

    def share_kept(self, now: datetime) -> float | None:
        """Kept promises of all that are delivered or overdue."""
        judged = self.kept + self.late + self.overdue(now)
        return self.kept / judged if judged else None

    def socket_opened(self, *, again: bool) -> None:
        self.sockets += not again
        self.reconnects += again
        self.sockets_open += 1

    def judged(self, log: ChannelLog) -> None:
        """A channel that nobody of ours watches any more."""
        self.gap_count += len(log.violations)
        for violation in log.violations:
            _keep(self.gaps, violation)
        self.resumed += log.resumed
        self.restarted += log.restarted

    def mismatch(self, what: str) -> None:
        """A client's state was not what a fresh GET showed."""
        self.mismatch_count += 1
        _keep(self.mismatches, what)

    def door(self, order: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """A delivered order with its history."""
        reached = stage_times(history)
        placed_at = _moment(order["placed_at"])
        delivered_at = reached.get("delivered")
        if delivered_at is None:
            return
        kept = delivered_at <= _moment(order["promised_at"]["high"])
        self.kept += kept
        self.late += not kept
        reached["placed"] = placed_at
        stages = {
            f"{a}_to_{b}": (reached[b] - reached[a]).total_seconds()
            for a, b in pairwise(STAGES)
            if a in reached and b in reached
        }
        seconds = (delivered_at - placed_at).total_seconds()
        self.delivered.append(Delivered(seconds, kept, stages))


def stage_times(history: Sequence[Mapping[str, Any]]) -> dict[str, datetime]:
    """When the order's own machine entered each of its states."""
    return {
        str(entry["to"]): _moment(entry["at"]) for entry in history if entry["machine"] == "order"
    }


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _keep(examples: list[str], what: str) -> None:
    if len(examples) < _EXAMPLES_KEPT:
        examples.append(what)
