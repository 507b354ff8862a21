"""The entities of Razorpay's wire: payments, refunds and disputes as it shows them."""

from __future__ import annotations

from typing import Final

from simulator.provider.model import Dispute, Operation, Payment, PaymentStatus

_STATUS: Final = {
    PaymentStatus.PROCESSING: "created",
    PaymentStatus.AUTHORISED: "authorized",
    PaymentStatus.CAPTURED: "captured",
    PaymentStatus.PARTIALLY_REFUNDED: "captured",
    PaymentStatus.REFUNDED: "refunded",
    PaymentStatus.VOIDED: "refunded",
    PaymentStatus.DECLINED: "failed",
    PaymentStatus.FAILED: "failed",
}
_REFUND_STATUS: Final = {
    PaymentStatus.PARTIALLY_REFUNDED: "partial",
    PaymentStatus.REFUNDED: "full",
    PaymentStatus.VOIDED: "full",
}
_FAILED: Final = (PaymentStatus.DECLINED, PaymentStatus.FAILED)
_DESCRIPTION: Final = {
    "card_declined": "Your payment was declined by the bank.",
    "insufficient_funds": "Your payment could not be completed due to insufficient funds.",
    "invalid_token": "The token is not valid.",
}


def payment_of(payment: Payment) -> dict[str, object]:
    lapsed = payment.status is PaymentStatus.VOIDED
    error = error_of(payment) if payment.status in _FAILED else {}
    return {
        "id": payment.payment_id,
        "entity": "payment",
        # A capture takes the whole, unless somebody planted another amount.
        "amount": payment.captured_minor or payment.amount_minor,
        "currency": payment.currency,
        "status": _STATUS[payment.status],
        "order_id": payment.order_reference,
        "invoice_id": None,
        "international": False,
        "method": str(payment.method),
        "amount_refunded": payment.amount_minor if lapsed else payment.refunded_minor,
        "refund_status": _REFUND_STATUS.get(payment.status),
        "captured": payment.captured_minor > 0,
        "description": None,
        "notes": payment.metadata or [],
        "error_code": error.get("code"),
        "error_description": error.get("description"),
        "error_source": error.get("source"),
        "error_step": error.get("step"),
        "error_reason": error.get("reason"),
        "created_at": int(payment.created_at_s),
    }


def error_of(payment: Payment) -> dict[str, object]:
    trouble = payment.status is PaymentStatus.FAILED
    reason = payment.code or "payment_failed"
    return {
        "code": "GATEWAY_ERROR" if trouble else "BAD_REQUEST_ERROR",
        "description": _DESCRIPTION.get(reason, "Payment processing failed."),
        "source": "gateway" if trouble else "issuer_bank",
        "step": "payment_authorization",
        "reason": reason,
        "metadata": {"payment_id": payment.payment_id, "order_id": payment.order_reference},
    }


def refund_of(operation: Operation) -> dict[str, object]:
    notes = {name: text for name, text in operation.metadata.items() if name != "receipt"}
    return {
        "id": "rfnd" + operation.operation_id.removeprefix("sbo"),
        "entity": "refund",
        "amount": operation.amount_minor,
        "currency": operation.currency,
        "payment_id": operation.payment_id,
        "receipt": operation.metadata.get("receipt") or None,
        "notes": notes or [],
        "acquirer_data": {"arn": None},
        "batch_id": None,
        "created_at": int(operation.at_s),
        "speed_processed": "normal",
        "status": "processed",
    }


def dispute_of(dispute: Dispute, payment: Payment) -> dict[str, object]:
    lost = dispute.status == "lost"
    return {
        "id": "disp" + dispute.dispute_id.removeprefix("dsp"),
        "entity": "dispute",
        "payment_id": payment.payment_id,
        "amount": dispute.amount_minor,
        "currency": payment.currency,
        "amount_deducted": dispute.amount_minor if lost else 0,
        "reason_code": dispute.reason,
        "respond_by": int(dispute.opened_at_s) + 7 * 86_400,
        "status": str(dispute.status),
        "phase": "chargeback",
        "created_at": int(dispute.opened_at_s),
    }
