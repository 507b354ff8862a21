"""An order as a customer's app holds it: a snapshot, and events folded into it.  Pure."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class OrderState:
    """What an app shows of an order, kept up to date by its channel."""

    def __init__(self) -> None:
        self.known = False
        self.status = ""
        self.delivery_status = ""
        self.payment_status = ""
        self.rider: Json | None = None
        self.lines: dict[str, tuple[int, int]] = {}
        # (status, picked units, charged minor units) by substitution.
        self.substitutions: dict[str, tuple[str, int, int]] = {}

    def replace(self, order: Json) -> None:
        """Take a whole order, as a snapshot or a GET shows it."""
        self.known = True
        self.status = order["status"]
        self.delivery_status = order["delivery_status"]
        self.payment_status = order["payment_status"]
        self.rider = order["rider"]
        self.lines = _lines(order)
        self.substitutions = _substitutions(order)

    def apply(self, event_type: str, data: Json) -> None:
        """Fold one event in."""
        if event_type == "order.status":
            self.status = data["status"]
            self.delivery_status = data["delivery_status"]
            self.payment_status = data["payment_status"]
        elif event_type == "order.rider":
            self.rider = data["rider"]
        elif event_type == "order.line":
            self.lines[data["line_id"]] = (data["picked_quantity"], data["refunded_minor"])
        elif event_type == "order.substitution":
            shown = (data["status"], data["picked_quantity"], data["charged_minor"])
            self.substitutions[data["id"]] = shown

    def differences(self, fresh: Json) -> list[str]:
        """Where a fresh GET shows something else."""
        pairs: dict[str, tuple[object, object]] = {
            "status": (self.status, fresh["status"]),
            "delivery_status": (self.delivery_status, fresh["delivery_status"]),
            "payment_status": (self.payment_status, fresh["payment_status"]),
            "rider": (self.rider, fresh["rider"]),
            "lines": (self.lines, _lines(fresh)),
            "substitutions": (self.substitutions, _substitutions(fresh)),
        }
        return [f"{name}: {a!r}, not {b!r}" for name, (a, b) in pairs.items() if a != b]


def _substitutions(order: Json) -> dict[str, tuple[str, int, int]]:
    return {
        each["id"]: (each["status"], each["picked_quantity"], each["charged"]["amount_minor"])
        for each in order.get("substitutions", ())
    }


def _lines(order: Json) -> dict[str, tuple[int, int]]:
    return {
        line["line_id"]: (line["picked_quantity"], line["refunded"]["amount_minor"])
        for line in order["lines"]
    }
