"""Razorpay's account of what took effect, in our words."""

from __future__ import annotations

from datetime import UTC, datetime

from kit.money import Money
from payments.gateway import (
    DEFAULT_DEADLINE_S,
    GatewayOperation,
    GatewayUnavailable,
    OperationKind,
    OperationPage,
)
from payments.razorpay_api import PAGE, RazorpayApi, Unread
from payments.razorpay_wire import (
    CAPTURE_KEY,
    ORDER_ID,
    REST_SUFFIX,
    Payment,
    PaymentList,
    Refund,
    RefundList,
)


async def read_log(
    api: RazorpayApi, cursor: str | None, limit: int, since: datetime | None
) -> OperationPage:
    """One page: all captured payments, then all refunds, each newest first.

    The cursor holds the moment at which the walk began, so that pages do not shift under it.
    """
    until = api.until(2 * DEFAULT_DEADLINE_S)
    what, to, skip = _position(cursor)
    count = min(limit, PAGE)
    parameters = [
        ("count", str(count)), ("skip", str(skip)), ("to", str(to)),
        *([("from", str(int(since.timestamp())))] if since else []),
    ]  # fmt: skip
    try:
        if what == "payments":
            payments = await api.listed("/v1/payments", parameters, PaymentList, until)
            operations = [await _captured(api, one, until) for one in payments.items]
            found = [one for one in operations if one is not None]
            full = len(payments.items) == count
            following = f"payments:{to}:{skip + count}" if full else f"refunds:{to}:0"
            return OperationPage(found, following)
        refunds = await api.listed("/v1/refunds", parameters, RefundList, until)
        found = [
            await _refunded(api, one, until)
            for one in refunds.items
            if not (one.receipt or "").endswith(REST_SUFFIX) and one.status != "failed"
        ]
    except Unread as unread:
        raise GatewayUnavailable(f"Razorpay's log was not read: {unread}.") from unread
    full = len(refunds.items) == count
    return OperationPage(found, f"refunds:{to}:{skip + count}" if full else None)


async def _captured(api: RazorpayApi, payment: Payment, until: float) -> GatewayOperation | None:
    """The log's line for a payment: what was taken, less what its capture gave back."""
    if not payment.captured:
        return None
    kept = payment.amount
    if payment.amount_refunded and payment.wanted_minor not in (None, payment.amount):
        kept -= sum(
            refund.amount
            for refund in await api.refunds(payment.id, until)
            if (refund.receipt or "").endswith(REST_SUFFIX) and refund.status != "failed"
        )
    return GatewayOperation(
        operation_id=payment.id,
        reference=payment.id,
        kind=OperationKind.CAPTURE,
        amount=Money(kept, payment.currency),
        order_id=payment.note(ORDER_ID),
        operation_key=payment.note(CAPTURE_KEY),
        at=datetime.fromtimestamp(payment.created_at, UTC),
    )


async def _refunded(api: RazorpayApi, refund: Refund, until: float) -> GatewayOperation:
    # A refund does not name our order, its payment does.
    payment = await api.payment(refund.payment_id, until)
    return GatewayOperation(
        operation_id=refund.id,
        reference=refund.payment_id,
        kind=OperationKind.REFUND,
        amount=Money(refund.amount, refund.currency),
        order_id=payment.note(ORDER_ID) if payment else "",
        operation_key=refund.receipt or "",
        at=datetime.fromtimestamp(refund.created_at, UTC),
    )


def _position(cursor: str | None) -> tuple[str, int, int]:
    if cursor is None:
        return "payments", int(datetime.now(UTC).timestamp()) + 1, 0
    what, to, skip = cursor.split(":")
    return what, int(to), int(skip)
