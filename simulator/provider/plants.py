"""Differences planted on purpose, so that a reconciliation can be seen to find exactly those.

Each alters the provider's own book behind the merchant's back, and tells nobody.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from kit.ids import new_id
from simulator.provider.model import (
    Operation,
    OperationKind,
    Payment,
    PaymentStatus,
    RefusalKind,
    Refused,
)
from simulator.provider.store import Store


class Plant(StrEnum):
    UNKNOWN_CAPTURE = "unknown_capture"  # a captured payment that nobody asked for
    LOST_CAPTURE = "lost_capture"  # a capture that was answered, and is not there
    WRONG_AMOUNT = "wrong_amount"  # a capture of one minor unit less
    EXTRA_REFUND = "extra_refund"  # a refund of one minor unit that nobody asked for
    LOST_REFUND = "lost_refund"  # the last refund, answered and not there


def plant(store: Store, kind: Plant, payment_id: str, now_s: float) -> Payment:
    """Alter the book around a payment; returns the payment that is now wrong."""
    with store.transaction():
        payment = store.payment(payment_id)
        if payment is None:
            raise Refused(
                RefusalKind.UNKNOWN_PAYMENT, "payment_not_found", "There is no such payment."
            )
        match kind:
            case Plant.UNKNOWN_CAPTURE:
                wrong = _unknown_capture(store, payment, now_s)
            case Plant.LOST_CAPTURE:
                capture = _last(payment, OperationKind.CAPTURE)
                if payment.refunded_minor:
                    raise _not_now("A capture that was refunded cannot be lost.")
                store.set_operation_amount(capture, 0)
                wrong = _changed(payment, captured=0, status=PaymentStatus.AUTHORISED)
            case Plant.WRONG_AMOUNT:
                capture = _last(payment, OperationKind.CAPTURE)
                if payment.captured_minor - payment.refunded_minor < 1:
                    raise _not_now("Nothing of the capture is left.")
                store.set_operation_amount(capture, capture.amount_minor - 1)
                wrong = _changed(payment, captured=payment.captured_minor - 1)
            case Plant.EXTRA_REFUND:
                if payment.refundable_minor < 1:
                    raise _not_now("Nothing is left to refund.")
                _add(store, payment, OperationKind.REFUND, 1, now_s)
                wrong = _changed(payment, refunded=payment.refunded_minor + 1)
            case Plant.LOST_REFUND:
                refund = _last(payment, OperationKind.REFUND)
                store.set_operation_amount(refund, 0)
                wrong = _changed(payment, refunded=payment.refunded_minor - refund.amount_minor)
        store.update_payment(wrong)
        return wrong


def _unknown_capture(store: Store, payment: Payment, now_s: float) -> Payment:
    prefix = payment.payment_id.partition("_")[0]
    stranger = dataclasses.replace(
        payment,
        payment_id=new_id(prefix),
        idempotency_key=new_id("planted"),
        order_reference=new_id("ord"),
        captured_minor=payment.amount_minor,
        refunded_minor=0,
        status=PaymentStatus.CAPTURED,
        created_at_s=now_s,
        metadata={},
    )
    store.insert_payment(stranger)
    _add(store, stranger, OperationKind.CAPTURE, stranger.amount_minor, now_s)
    return stranger


def _add(store: Store, payment: Payment, kind: OperationKind, amount: int, now_s: float) -> None:
    store.add_operation(payment, new_id("sbo"), kind, amount, new_id("planted"), now_s)


def _last(payment: Payment, kind: OperationKind) -> Operation:
    found = [one for one in payment.operations if one.kind is kind]
    if not found:
        raise _not_now(f"The payment has no {kind}.")
    return found[-1]


def _changed(
    payment: Payment,
    *,
    captured: int | None = None,
    refunded: int | None = None,
    status: PaymentStatus | None = None,
) -> Payment:
    captured = payment.captured_minor if captured is None else captured
    refunded = payment.refunded_minor if refunded is None else refunded
    if status is None:
        whole = PaymentStatus.REFUNDED if refunded == captured else None
        part = PaymentStatus.PARTIALLY_REFUNDED if refunded else PaymentStatus.CAPTURED
        status = whole or part
    return dataclasses.replace(
        payment, captured_minor=captured, refunded_minor=refunded, status=status
    )


def _not_now(message: str) -> Refused:
    return Refused(RefusalKind.NOT_NOW, "illegal_state", message)
