"""Afterwards: what was promised is compared with what is there.

The judge reads the database and asks the server directly, never through a proxy, once the faults
are over and everything that was under way has come to its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kit.engines.supervisor import ChildState
from loadtests.chaos import journal
from loadtests.chaos.runner import Ran
from loadtests.chaos.system import System, deaths_not_wanted
from server.verify import verify
from server.wiring import open_services

QUIET_TIMEOUT_S: Final = 120.0
# Real seconds between two steps of an order that the system has to take itself (how long people
# take to pick and to ride is theirs).  The longest planned outage is 20 s; two may follow each
# other, and a payment is then looked up with a back-off.
STUCK_S: Final = 120.0
EXAMPLES: Final = 5

_BUSY = """
    SELECT (SELECT count(*) FROM payment_operations WHERE status IN ('pending', 'unknown'))
             AS operations,
           (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS events,
           (SELECT count(*) FROM reservations
            WHERE status = 'held' AND expires_at < darkstore_now()) AS holds
"""
_STANDSTILLS = """
    WITH steps AS (
        SELECT order_id, to_state, at, lead(at) OVER (PARTITION BY order_id ORDER BY seq) AS next_at
        FROM order_history
    ), ended AS (SELECT max(at) AS at FROM order_history)
    SELECT s.order_id AS id, s.to_state,
           extract(epoch FROM coalesce(s.next_at, ended.at) - s.at)::float8 AS virtual_s
    FROM steps s JOIN orders o ON o.id = s.order_id CROSS JOIN ended
    WHERE s.to_state IN ('placed', 'pending', 'unknown', 'authorised')
      AND (s.next_at IS NOT NULL OR o.delivery_status NOT IN ('done', 'failed', 'cancelled'))
    ORDER BY 3 DESC LIMIT 5
"""
_ORDERS = """
    SELECT o.id, o.user_id, o.status, o.total_minor,
           (SELECT jsonb_object_agg(l.sku_id, l.quantity) FROM order_lines l
            WHERE l.order_id = o.id)::text AS lines
    FROM orders o WHERE o.id = ANY ($1::text[])
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must hold; ``broken`` says how it does not, ``detail`` what was looked at."""

    name: str
    broken: Sequence[str]
    detail: str


async def until_quiet(system: System) -> Finding:
    """Wait until nothing is under way any more."""
    deadline_s = time.monotonic() + QUIET_TIMEOUT_S
    while True:
        (row,) = await system.sql(_BUSY)
        left = {name: n for name, n in dict(row).items() if n}
        if not left or time.monotonic() > deadline_s:
            break
        await asyncio.sleep(0.5)
    waited_s = QUIET_TIMEOUT_S - (deadline_s - time.monotonic())
    broken = [f"still under way: {name} {n}" for name, n in left.items()]
    return Finding("all work comes to an end", broken, f"quiet after {waited_s:.0f} s")


async def judge(system: System, ran: Ran) -> list[Finding]:
    """Every check, once it is quiet."""
    promised = list(journal.read(ran.journal))
    return [
        await until_quiet(system),
        *await _invariants(system, promised),
        await _orders(system, promised),
        await _cancellations(system, promised),
        await _ratings(system, promised),
        await _queued(system, promised),
        _stock(promised),
        _clients(ran),
        _streams(ran),
        _answers(ran),
        _hangs(ran),
        await _standstills(system),
        _processes(system),
        _progress(ran),
        _faults(ran),
    ]


def _of(promised: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [entry for entry in promised if entry["kind"] == kind]


async def _invariants(system: System, promised: Sequence[dict[str, Any]]) -> list[Finding]:
    """``darkstore verify``, with every order that a client was told of."""
    ids = [entry["id"] for entry in _of(promised, "order")]
    async with open_services(system.place.settings, process="verify") as services:
        checks = await verify(services, acknowledged=ids)
    return [
        Finding(
            f"verify: {check.name}",
            [f"{check.broken_rows} rows", *check.examples] if check.broken_rows else
            [f"skipped: {check.skipped}"] if check.skipped else [],
            check.detail,
        )
        for check in checks
    ]  # fmt: skip


async def _orders(system: System, promised: Sequence[dict[str, Any]]) -> Finding:
    """Whose it is, what is in it and what it costs: as acknowledged."""
    told = {entry["id"]: entry for entry in _of(promised, "order")}
    rows = {row["id"]: row for row in await system.sql(_ORDERS, list(told))}
    broken = [f"{order_id} is gone" for order_id in told if order_id not in rows]
    for order_id, row in rows.items():
        want = told[order_id]
        have = (row["user_id"], row["total_minor"], _lines(row["lines"]))
        if have != (want["user_id"], want["total_minor"], want["lines"]):
            broken.append(f"{order_id} is {have}")
        if want["status"] == "payment_failed" and row["status"] != "payment_failed":
            broken.append(f"{order_id} had failed and is {row['status']}")
    return Finding("acknowledged orders are as told", broken, f"{len(told)} orders")


def _lines(text: str | None) -> dict[str, int]:
    return dict(orjson.loads(text)) if text else {}


async def _cancellations(system: System, promised: Sequence[dict[str, Any]]) -> Finding:
    ids = [entry["id"] for entry in _of(promised, "cancelled")]
    rows = await system.sql(
        "SELECT id, status FROM orders WHERE id = ANY ($1::text[]) AND status <> 'cancelled'", ids
    )
    broken = [f"{row['id']} is {row['status']}" for row in rows]
    return Finding("acknowledged cancellations stand", broken, f"{len(ids)} cancellations")


async def _ratings(system: System, promised: Sequence[dict[str, Any]]) -> Finding:
    told = {entry["id"]: entry["stars"] for entry in _of(promised, "rating")}
    rows = await system.sql(
        "SELECT order_id, stars FROM ratings WHERE order_id = ANY ($1::text[])", list(told)
    )
    have = {row["order_id"]: row["stars"] for row in rows}
    broken = [f"{order_id}: {have.get(order_id)}" for order_id in told
              if have.get(order_id) != told[order_id]]  # fmt: skip
    return Finding("acknowledged ratings are there", broken, f"{len(told)} ratings")


async def _queued(system: System, promised: Sequence[dict[str, Any]]) -> Finding:
    """A checkout that was only queued became an order, or its customer was told why not."""
    ids = [entry["id"] for entry in _of(promised, "queued")]
    rows = await system.sql(
        "SELECT id FROM unnest($1::text[]) AS told(id)"
        " WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = told.id)"
        " AND NOT EXISTS (SELECT 1 FROM queued_checkouts q WHERE q.id = told.id)",
        ids,
    )
    broken = [f"{row['id']} was lost" for row in rows]
    return Finding("queued checkouts were placed or refused", broken, f"{len(ids)} checkouts")


def _stock(promised: Sequence[dict[str, Any]]) -> Finding:
    """A product that nobody buys: what was there, and every booking that was acknowledged, once."""
    name = "acknowledged stock bookings took effect once"
    opening, closing = _of(promised, "opening"), _of(promised, "closing")
    if not opening or not closing:
        return Finding(name, ["the shop was not opened or not closed"], "")
    changes = [entry["change"] for entry in _of(promised, "stock")]
    expected = opening[0]["on_hand"] + sum(changes)
    have = closing[-1]["on_hand"]
    broken = [] if have == expected else [f"{have} units instead of {expected}"]
    return Finding(name, broken, f"{len(changes)} bookings")


def _clients(ran: Ran) -> Finding:
    counts = ran.traffic.get("clients", {})
    told = ran.traffic.get("wrong", ["the traffic did not end by itself"])
    broken = [*told]
    if counts.get("clients that never ended"):
        broken.append(f"{counts['clients that never ended']} clients never got to an end")
    return Finding("no promise is broken before a client's eyes", broken,
                   f"{counts.get('orders sent again', 0)} orders sent again")  # fmt: skip


def _streams(ran: Ran) -> Finding:
    """Gap-free sequences, and screens that show what is there."""
    stream = ran.traffic.get("simulator", {}).get("stream", {})
    broken = [*stream.get("gap_examples", []), *stream.get("mismatch_examples", [])]
    detail = (
        f"{stream.get('events', 0)} events, {stream.get('reconnects', 0)} reconnects,"
        f" {stream.get('states_compared', 0)} screens compared"
    )
    return Finding("streams have no gaps and screens tell the truth", broken, detail)


def _answers(ran: Ran) -> Finding:
    """A fault may be answered by 503, as a problem document; 500 is a bug."""
    http = ran.traffic.get("simulator", {}).get("http", {})
    broken = list(http.get("server_error_examples", []))
    broken += [
        f"{n} x {code}: not a problem document"
        for code, n in http.get("errors_by_code", {}).items()
        if code.endswith(f" http_{code.partition(' ')[0]}")
    ]
    return Finding(
        "no answer is a 500", broken,
        f"{http.get('requests', 0)} requests, {http.get('server_errors', 0)} answered 5xx",
    )  # fmt: skip


def _hangs(ran: Ran) -> Finding:
    """Whoever asks is answered; only a wire that swallows the answer excuses silence."""
    excused = [
        (strike.from_s - 1.0, strike.to_s + 1.0)
        for strike in ran.strikes
        if strike.fault.startswith("http:")
    ]
    unanswered = ran.traffic.get("unanswered", [])
    broken = [
        f"{request['what']} at {request['from_s'] - ran.started_s:.0f} s"
        for request in unanswered
        if not any(start < request["to_s"] and request["from_s"] < end for start, end in excused)
    ]
    return Finding("every request is answered in time", broken, f"{len(unanswered)} were not")


async def _standstills(system: System) -> Finding:
    speed = system.speed
    rows = await system.sql(_STANDSTILLS)
    worst = [(row["id"], row["to_state"], row["virtual_s"] / speed) for row in rows]
    broken = [f"{i} in {state} for {s:.0f} s" for i, state, s in worst if s > STUCK_S]
    longest_s = max((s for *_, s in worst), default=0.0)
    return Finding("no order stands still", broken, f"longest {longest_s:.0f} s")


def _processes(system: System) -> Finding:
    down = [child.name for child in system.supervisor.status()
            if child.state is not ChildState.RUNNING]  # fmt: skip
    by_itself = ", ".join(f"{name} {n}" for name, n in deaths_not_wanted(system).items())
    return Finding("every process lives", [f"{name} does not run" for name in down],
                   f"ended by themselves and came back: {by_itself or 'none'}")  # fmt: skip


def _progress(ran: Ran) -> Finding:
    """A run in which nothing happened would prove nothing."""
    orders = ran.traffic.get("simulator", {}).get("orders", {})
    told = ran.traffic.get("clients", {}).get("orders acknowledged", 0)
    delivered = orders.get("delivered", 0)
    broken = [] if delivered >= ran.least_delivered and told else ["too little happened"]
    return Finding("there was traffic", broken, f"{delivered} delivered, {told} others placed")


def _faults(ran: Ran) -> Finding:
    never = [fault for fault, n in ran.fired().items() if n == 0]
    total = sum(ran.fired().values())
    return Finding("every fault fired", never, f"{total} strikes of {len(ran.fired())} faults")
