"""The objects of Stripe's wire: payments, operations and disputes as it shows them."""

from __future__ import annotations

from typing import Final

from simulator.provider.model import (
    Dispute,
    DisputeStatus,
    Operation,
    OperationKind,
    Payment,
    PaymentStatus,
)

_STATUS: Final = {
    PaymentStatus.PROCESSING: "processing",
    PaymentStatus.AUTHORISED: "requires_capture",
    PaymentStatus.CAPTURED: "succeeded",
    PaymentStatus.PARTIALLY_REFUNDED: "succeeded",
    PaymentStatus.REFUNDED: "succeeded",
    PaymentStatus.VOIDED: "canceled",
    PaymentStatus.DECLINED: "requires_payment_method",
    PaymentStatus.FAILED: "requires_payment_method",
}


def answer_of(payment: Payment) -> tuple[int, dict[str, object]]:
    error = _payment_error(payment)
    if error is None:
        return 200, intent_of(payment)
    status = 402 if error["type"] == "card_error" else 400
    return status, {"error": {**error, "payment_intent": intent_of(payment)}}


def intent_of(payment: Payment) -> dict[str, object]:
    metadata = dict(payment.metadata)
    for operation in payment.operations:
        if operation.kind is OperationKind.CAPTURE:
            metadata |= operation.metadata
    held = payment.status is PaymentStatus.AUTHORISED
    return {
        "id": payment.payment_id,
        "object": "payment_intent",
        "amount": payment.amount_minor,
        "amount_capturable": payment.amount_minor if held else 0,
        "amount_received": payment.captured_minor,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "manual",
        "client_secret": None,
        "confirmation_method": "automatic",
        "created": int(payment.created_at_s),
        "currency": payment.currency.lower(),
        "last_payment_error": _payment_error(payment),
        "latest_charge": _charge_id(payment) if payment.operations else None,
        "livemode": False,
        "metadata": metadata,
        "next_action": None,
        "payment_method_types": ["card"],
        "status": _STATUS[payment.status],
    }


def _payment_error(payment: Payment) -> dict[str, object] | None:
    if payment.status not in (PaymentStatus.DECLINED, PaymentStatus.FAILED):
        return None
    match payment.code:
        case "invalid_token":
            return {
                "type": "invalid_request_error", "code": "resource_missing",
                "param": "payment_method", "message": "No such PaymentMethod.",
            }  # fmt: skip
        case "processing_error":
            return {
                "type": "card_error", "code": "processing_error",
                "message": "An error occurred while processing your card.",
            }  # fmt: skip
        case "insufficient_funds":
            return _declined("insufficient_funds", "Your card has insufficient funds.")
    return _declined("generic_decline", "Your card was declined.")


def _declined(decline_code: str, message: str) -> dict[str, object]:
    return {
        "type": "card_error", "code": "card_declined", "decline_code": decline_code,
        "message": message,
    }  # fmt: skip


def _charge_id(payment: Payment) -> str:
    return "ch" + payment.payment_id.removeprefix("pi")


def _charge(payment: Payment) -> dict[str, object]:
    return {
        "id": _charge_id(payment),
        "object": "charge",
        "amount": payment.amount_minor,
        "amount_captured": payment.captured_minor,
        "amount_refunded": payment.refunded_minor,
        "captured": payment.captured_minor > 0,
        "created": int(payment.created_at_s),
        "currency": payment.currency.lower(),
        "disputed": bool(payment.disputes),
        "livemode": False,
        "metadata": payment.metadata,
        "paid": True,
        "payment_intent": payment.payment_id,
        "refunded": payment.status is PaymentStatus.REFUNDED,
        "status": "succeeded",
    }


def refund_of(operation: Operation, payment: Payment) -> dict[str, object]:
    return {
        "id": "re" + operation.operation_id.removeprefix("sbo"),
        "object": "refund",
        "amount": operation.amount_minor,
        "balance_transaction": _transaction_id(operation),
        "charge": _charge_id(payment),
        "created": int(operation.at_s),
        "currency": operation.currency.lower(),
        "metadata": operation.metadata,
        "payment_intent": payment.payment_id,
        "reason": None,
        "status": "succeeded",
    }


def _transaction_id(operation: Operation) -> str:
    return "txn" + operation.operation_id.removeprefix("sbo")


def balance_of(operation: Operation, payment: Payment) -> dict[str, object]:
    refund = operation.kind is OperationKind.REFUND
    source = refund_of(operation, payment) if refund else _charge(payment)
    amount = -operation.amount_minor if refund else operation.amount_minor
    return {
        "id": _transaction_id(operation),
        "object": "balance_transaction",
        "amount": amount,
        "created": int(operation.at_s),
        "currency": operation.currency.lower(),
        "fee": 0,
        "net": amount,
        "reporting_category": "refund" if refund else "charge",
        "source": {**source, "payment_intent": intent_of(payment)},
        "status": "available",
        "type": "refund" if refund else "charge",
    }


def dispute_of(dispute: Dispute, payment: Payment) -> dict[str, object]:
    is_open = dispute.status is DisputeStatus.OPEN
    return {
        "id": "du" + dispute.dispute_id.removeprefix("dsp"),
        "object": "dispute",
        "amount": dispute.amount_minor,
        "balance_transactions": [],
        "charge": _charge_id(payment),
        "created": int(dispute.opened_at_s),
        "currency": payment.currency.lower(),
        "evidence": {},
        "evidence_details": {
            "due_by": int(dispute.opened_at_s) + 7 * 86_400, "has_evidence": False,
            "past_due": False, "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": payment.payment_id,
        "reason": dispute.reason,
        "status": "needs_response" if is_open else str(dispute.status),
    }  # fmt: skip
