"""The arithmetic of a day's result."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from simulator.gaps import ChannelLog
from simulator.http_client import HttpStatistics
from simulator.order_state import OrderState
from simulator.report import Span, percentiles, result
from simulator.tally import Tally, stage_times

ENDED_AT = datetime(2026, 1, 1, 11, tzinfo=UTC)


def _order(high: str = "2026-01-01T10:12:00.000Z") -> dict[str, object]:
    return {"placed_at": "2026-01-01T10:00:00.000Z", "promised_at": {"low": None, "high": high}}


def _history(delivered: str = "10:11:30") -> list[dict[str, object]]:
    at = {"confirmed": "10:00:02", "picking": "10:01:00", "packed": "10:04:00",
          "picked_up": "10:05:00", "arriving": "10:10:30", "delivered": delivered}  # fmt: skip
    steps: list[dict[str, object]] = [
        {"machine": "order", "to": to, "at": f"2026-01-01T{time}.000Z"} for to, time in at.items()
    ]
    return [*steps, {"machine": "payment", "to": "captured", "at": "2026-01-01T10:11:31.000Z"}]


def _result(tally: Tally, http: HttpStatistics | None = None) -> dict[str, Any]:
    span = Span(
        seed=1,
        speed=30.0,
        minutes=6.0,
        demand_digest="d",
        ended_at=ENDED_AT,
        real_s=20.0,
        virtual_s=600.0,
        cpu_s=1.0,
    )
    return result(span, tally, http or HttpStatistics())


def test_percentiles_are_nearest_ranks() -> None:
    """Of 1 to 10 the median is 5 and the 90th percentile 9; of nothing both are null."""
    assert percentiles([float(n) for n in range(10, 0, -1)]) == {"p50": 5.0, "p90": 9.0}
    assert percentiles([7.0]) == {"p50": 7.0, "p90": 7.0}
    assert percentiles([]) == {"p50": None, "p90": None}


def test_a_promise_is_kept_up_to_its_latest_moment() -> None:
    """Half a minute early is kept, the very second is kept, a second later is late."""
    tally = Tally()
    tally.door(_order(), _history())
    tally.door(_order(high="2026-01-01T10:11:30.000Z"), _history())
    tally.door(_order(high="2026-01-01T10:11:29.000Z"), _history())
    promise = _result(tally)["promise"]
    assert promise == {"kept": 2, "late": 1, "overdue": 0, "share_kept": 0.6667}


def test_an_order_that_is_still_open_after_its_promise_is_not_kept() -> None:
    """One came in time and one should have; one has time left; cancelled ones are nobody's wait."""
    tally = Tally()
    tally.door(_order(), _history())
    for order_id, status, high in (
        ("stuck", "packed", "2026-01-01T10:20:00.000Z"),
        ("young", "packed", "2026-01-01T11:20:00.000Z"),
        ("refunded", "cancelled", "2026-01-01T10:20:00.000Z"),
        ("undone", "cancelled", "2026-01-01T10:20:00.000Z"),
    ):
        tally.order_placed({**_order(high), "id": order_id, "status": status})
    tally.close_if_over("undone")
    promise = _result(tally)["promise"]
    assert promise == {"kept": 1, "late": 0, "overdue": 1, "share_kept": 0.5}
    assert tally.promised.keys() == {"stuck", "young", "refunded"}


def test_an_order_that_was_moved_has_until_its_new_promise() -> None:
    """The customer asked for a later time, so nobody is late before that."""
    tally = Tally()
    asked_for = {"id": "a", "status": "packed"}
    tally.order_placed({**asked_for, **_order("2026-01-01T10:20:00.000Z")})
    assert tally.overdue(ENDED_AT) == 1
    tally.promise_changed({**asked_for, **_order("2026-01-01T11:20:00.000Z")})
    assert tally.overdue(ENDED_AT) == 0


def test_stages_are_the_times_between_the_orders_own_states() -> None:
    """Each stage in seconds; other machines' entries do not count."""
    tally = Tally()
    tally.door(_order(), _history())
    result = _result(tally)
    assert result["click_to_door_s"] == {"p50": 690.0, "p90": 690.0}
    stages = {name: value["p50"] for name, value in result["stages_s"].items()}
    assert stages == {
        "placed_to_confirmed": 2.0, "confirmed_to_picking": 58.0, "picking_to_packed": 180.0,
        "packed_to_picked_up": 60.0, "picked_up_to_arriving": 330.0,
        "arriving_to_delivered": 60.0,
    }  # fmt: skip
    assert sum(stages.values()) == 690.0
    assert "captured" not in stage_times(_history())


def test_every_placed_order_is_counted_once() -> None:
    """Ended orders by how they ended, all others as open, whether still watched or not."""
    tally = Tally(placed=4)
    tally.status = {"a": "delivered", "b": "packed", "c": "cancelled", "d": "returned"}
    tally.close_if_over("a")
    tally.close_if_over("b")
    orders = _result(tally)["orders"]
    assert (orders["delivered"], orders["cancelled"], orders["undeliverable"]) == (1, 1, 1)
    assert orders["open_by_status"] == {"packed": 1}
    assert list(tally.status) == ["b", "c", "d"]


def test_only_503_is_no_server_error() -> None:
    """A 500 counts with an example; 503 and 409 are problems, and no more."""
    tally = Tally()
    tally.problem(500, "internal_error", "POST", "/v1/orders")
    tally.problem(503, "busy", "POST", "/v1/orders")
    tally.problem(409, "stock_short", "POST", "/v1/orders")
    result = _result(tally)
    assert result["server_errors"] == 1
    assert result["http"]["server_error_examples"] == ["500 POST /v1/orders"]
    assert result["http"]["errors_by_code"] == {
        "409 stock_short": 1, "500 internal_error": 1, "503 busy": 1,
    }  # fmt: skip


def test_gaps_of_all_channels_add_up() -> None:
    """What each channel's log found is in the result."""
    tally = Tally()
    for channel in ("order:a", "order:b"):
        log = ChannelLog(channel)
        log.on_event(3)
        tally.judged(log)
    stream = _result(tally)["stream"]
    assert stream["gaps"] == 2
    assert stream["gap_examples"] == [
        "order:a: event 3 before the snapshot", "order:b: event 3 before the snapshot",
    ]  # fmt: skip


def test_latencies_are_in_milliseconds() -> None:
    """The median of 1, 2 and 3 ms."""
    http = HttpStatistics()
    http.requests = 3
    http.latencies_s.extend([0.003, 0.001, 0.002])
    figures = _result(Tally(), http)["http"]
    assert (figures["p50_ms"], figures["p99_ms"], figures["a_second"]) == (2.0, 3.0, 0.1)


@pytest.fixture(name="order")
def order_as_shown() -> dict[str, object]:
    """An order as a GET shows it."""
    return {
        "status": "picking", "delivery_status": "assigned", "payment_status": "authorised",
        "rider": {"name": "Ada", "vehicle": "scooter"},
        "lines": [
            {"line_id": "l1", "picked_quantity": 0, "refunded": {"amount_minor": 0}},
            {"line_id": "l2", "picked_quantity": 2, "refunded": {"amount_minor": 0}},
        ],
    }  # fmt: skip


def test_events_lead_to_the_state_that_a_fresh_get_shows(order: dict[str, object]) -> None:
    """Snapshot plus events equals the fresh order; before the events each part differs."""
    state = OrderState()
    state.replace(order)
    assert state.differences(order) == []
    fresh = {
        **order, "status": "packed", "rider": None, "delivery_status": "unassigned",
        "lines": [
            {"line_id": "l1", "picked_quantity": 1, "refunded": {"amount_minor": 450}},
            {"line_id": "l2", "picked_quantity": 2, "refunded": {"amount_minor": 0}},
        ],
    }  # fmt: skip
    names = [difference.split(":")[0] for difference in state.differences(fresh)]
    assert names == ["status", "delivery_status", "rider", "lines"]
    state.apply("order.line", {"line_id": "l1", "picked_quantity": 1, "refunded_minor": 450})
    state.apply("order.rider", {"rider": None})
    state.apply(
        "order.status",
        {"status": "packed", "delivery_status": "unassigned", "payment_status": "authorised"},
    )
    assert state.differences(fresh) == []
