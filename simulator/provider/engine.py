"""The provider's rules: what may be done to a payment, each in one transaction.

Idempotent by key: the same key with the same fingerprint is answered as the first time and does
nothing again.  A request that is refused has no effect and leaves its key free.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from kit.ids import new_id
from simulator.provider.faults import AuthorisePlan, Control, hits, plan_authorise
from simulator.provider.model import (
    SANDBOX,
    Answer,
    Dispute,
    DisputeStatus,
    Method,
    Operation,
    OperationKind,
    Payment,
    PaymentStatus,
    RefusalKind,
    Refused,
)
from simulator.provider.store import Store

# With duplicates on, the first event of a payment is held long enough for a prompt second one to
# overtake it, and the second copy of each comes late, or soon after a newer event.
FIRST_EVENT_HELD_S = 1.0
LATE_COPY_S = 20.0
LATE_COPY_AFTER_NEWER_S = 2.0

_EVENT = {
    PaymentStatus.AUTHORISED: "payment.authorised",
    PaymentStatus.CAPTURED: "payment.captured",
    PaymentStatus.VOIDED: "payment.voided",
    PaymentStatus.PARTIALLY_REFUNDED: "payment.refunded",
    PaymentStatus.REFUNDED: "payment.refunded",
    PaymentStatus.DECLINED: "payment.declined",
}


class EventRenderer(Protocol):
    """Writes an event in a wire's own form; None where the wire tells nothing of it.

    ``key`` is that of the request that caused it, or the dispute's id for ``dispute.…``.
    """

    def __call__(
        self, event_id: str, event_type: str, key: str, payment: Payment
    ) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Authorisation:
    """A request for money: ``amount_minor`` of ``currency`` from whoever ``token`` stands for.

    ``id_prefix`` is how payments are called on the wire.
    """

    order_reference: str
    method: Method
    currency: str
    amount_minor: int
    token: str
    wire: str = SANDBOX
    id_prefix: str = "sbp"
    metadata: Mapping[str, str] = field(default_factory=dict)


class Engine:
    """Rules over a store.  ``time_scale`` stretches every wait of the provider's own.

    ``render_event`` is None when nobody wants webhooks.  ``fired`` counts the faults that struck
    since the start.
    """

    def __init__(
        self,
        store: Store,
        render_event: EventRenderer | None,
        *,
        time_scale: float = 1.0,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._render_event = render_event
        self._time_scale = time_scale
        self.now_s = now_s
        self.control = store.control()
        self.fired: dict[str, int] = {}

    def set_control(self, control: Control) -> None:
        """Replace all fault settings; they outlive a restart."""
        with self._store.transaction():
            self._store.set_control(control)
        self.control = control

    def count_fault(self, fault: str) -> None:
        self.fired[fault] = self.fired.get(fault, 0) + 1

    def authorise(self, key: str, fingerprint: str, wanted: Authorisation) -> Answer:
        """Make a payment.  A decline is a payment too.  Refuses a reused or running key."""
        with self._store.transaction():
            if replay := self._replay(key, fingerprint):
                return replay
            plan = plan_authorise(wanted.token, key, self.control)
            payment = self._new_payment(key, wanted, plan)
            self._store.insert_payment(payment)
            self._store.remember(key, fingerprint, payment.payment_id, None)
            if plan.unanswered:
                charged = plan.status is PaymentStatus.AUTHORISED
                self.count_fault("timeout_charged" if charged else "timeout_failed")
            if plan.settle_after_s > 0:
                self.count_fault("slow")
                wait_s = plan.settle_after_s * self._time_scale
                return Answer(payment, wait_s=wait_s, unanswered=plan.unanswered)
            return Answer(self._settle(payment), unanswered=plan.unanswered)

    def settle(self, payment_id: str) -> Payment:
        """End a payment's processing, if it has not ended yet."""
        with self._store.transaction():
            payment = self._payment(payment_id)
            if payment.status is PaymentStatus.PROCESSING:
                payment = self._settle(payment)
            return payment

    def settle_due(self) -> int:
        """End all processing whose time has come, such as after a restart; returns how many."""
        due = self._store.unsettled(self.now_s())
        for payment_id in due:
            self.settle(payment_id)
        return len(due)

    def operate(
        self,
        kind: OperationKind,
        key: str,
        fingerprint: str,
        payment_id: str,
        amount_minor: int | None,
        *,
        wire: str | None = SANDBOX,
        metadata: Mapping[str, str] | None = None,
    ) -> Answer:
        """Capture, void or refund; no amount means all that there is.

        The payment has to live on ``wire``; None takes any.
        """
        with self._store.transaction():
            if replay := self._replay(key, fingerprint):
                return replay
            payment = self._payment(payment_id, wire)
            changed, moved_minor = _apply(kind, payment, amount_minor)
            if self._is_lost(key, fingerprint):
                # The transaction ends well, with the note that this key was lost once.
                return Answer(payment, unanswered=True)
            self._store.update_payment(changed)
            payment = self._record(changed, kind, moved_minor, key, metadata)
            self._store.remember(key, fingerprint, payment_id, payment)
            unanswered = hits(self.control, "unanswered", self.control.timeout_charged_rate, key)
            if unanswered:
                self.count_fault("timeout_charged")
            return Answer(payment, unanswered=unanswered)

    def payment(self, payment_id: str, wire: str = SANDBOX) -> Payment:
        with self._store.transaction():
            return self._payment(payment_id, wire)

    def annotate(self, payment_id: str, wire: str, metadata: Mapping[str, str]) -> Payment:
        """Replace a payment's metadata; moves nothing and tells nobody."""
        with self._store.transaction():
            payment = self._payment(payment_id, wire)
            payment = dataclasses.replace(payment, metadata=dict(metadata))
            self._store.update_payment(payment)
            return payment

    def open_dispute(self, payment_id: str, reason: str, amount_minor: int | None) -> Dispute:
        """A payer's bank disputes a captured payment, or part of it."""
        with self._store.transaction():
            payment = self._payment(payment_id)
            if payment.captured_minor == 0:
                raise Refused(
                    RefusalKind.NOT_NOW, "illegal_state", "Only what was captured is disputed."
                )
            amount = _at_most(payment.captured_minor, amount_minor, "captured")
            dispute = Dispute(
                new_id("dsp"), payment_id, amount, reason, DisputeStatus.OPEN, self.now_s()
            )
            self._tell_dispute(payment, dispute, "dispute.created")
            return dispute

    def close_dispute(self, dispute_id: str, outcome: DisputeStatus) -> Dispute:
        """The bank decides, once."""
        with self._store.transaction():
            dispute = self._store.dispute(dispute_id)
            if dispute is None:
                raise Refused(
                    RefusalKind.UNKNOWN_DISPUTE, "dispute_not_found", "There is no such dispute."
                )
            if dispute.status is not DisputeStatus.OPEN:
                raise Refused(RefusalKind.NOT_NOW, "illegal_state", "The dispute is closed.")
            dispute = dataclasses.replace(dispute, status=outcome)
            self._tell_dispute(self._payment(dispute.payment_id), dispute, "dispute.closed")
            return dispute

    def _tell_dispute(self, payment: Payment, dispute: Dispute, event_type: str) -> None:
        self._store.put_dispute(dispute)
        self._store.update_payment(dataclasses.replace(payment, version=payment.version + 1))
        self._tell(self._payment(payment.payment_id), event_type, dispute.dispute_id)

    def find(self, key: str) -> Payment | None:
        """The payment that this idempotency key made or changed."""
        with self._store.transaction():
            payment_id = self._store.payment_id_of(key)
            return None if payment_id is None else self._store.payment(payment_id)

    def operations(self, after_seq: int, limit: int) -> tuple[Operation, ...]:
        return self._store.operations(after_seq, limit)

    def _payment(self, payment_id: str, wire: str | None = None) -> Payment:
        payment = self._store.payment(payment_id)
        if payment is None or wire not in (None, payment.wire):
            raise Refused(
                RefusalKind.UNKNOWN_PAYMENT, "payment_not_found", "There is no such payment."
            )
        return payment

    def _replay(self, key: str, fingerprint: str) -> Answer | None:
        request = self._store.request(key)
        if request is None or (request.payment_id is None and request.fingerprint == fingerprint):
            return None
        if request.fingerprint != fingerprint:
            raise Refused(
                RefusalKind.KEY_REUSED,
                "idempotency_key_reused",
                "This idempotency key was used for another request.",
            )
        if request.answer is None:
            raise Refused(
                RefusalKind.IN_PROGRESS,
                "idempotency_in_progress",
                "The first request with this key is still being processed.",
            )
        return Answer(request.answer, replayed=True)

    def _is_lost(self, key: str, fingerprint: str) -> bool:
        lost = hits(self.control, "timeout_failed", self.control.timeout_failed_rate, key)
        if not lost or self._store.request(key) is not None:
            return False
        self._store.remember(key, fingerprint, None, None)
        self.count_fault("timeout_failed")
        return True

    def _new_payment(self, key: str, wanted: Authorisation, plan: AuthorisePlan) -> Payment:
        now_s = self.now_s()
        return Payment(
            payment_id=new_id(wanted.id_prefix),
            idempotency_key=key,
            order_reference=wanted.order_reference,
            method=wanted.method,
            currency=wanted.currency,
            amount_minor=wanted.amount_minor,
            captured_minor=0,
            refunded_minor=0,
            status=PaymentStatus.PROCESSING,
            code=plan.code,
            version=1,
            created_at_s=now_s,
            planned_status=plan.status,
            settle_at_s=now_s + plan.settle_after_s * self._time_scale,
            duplicates=plan.duplicates,
            wire=wanted.wire,
            metadata=dict(wanted.metadata),
        )

    def _settle(self, payment: Payment) -> Payment:
        payment = dataclasses.replace(
            payment, status=payment.planned_status, version=payment.version + 1
        )
        self._store.update_payment(payment)
        if payment.status is PaymentStatus.AUTHORISED:
            payment = self._record(
                payment, OperationKind.AUTHORISE, payment.amount_minor, payment.idempotency_key
            )
        else:
            self._announce(payment, payment.idempotency_key)
            if payment.status is PaymentStatus.DECLINED:
                self.count_fault("decline")
        self._store.remember_answer(payment.idempotency_key, payment)
        return payment

    def _record(
        self, payment: Payment, kind: OperationKind, amount_minor: int, key: str,
        metadata: Mapping[str, str] | None = None,
    ) -> Payment:  # fmt: skip
        self._store.add_operation(
            payment, new_id("sbo"), kind, amount_minor, key, self.now_s(), metadata
        )
        payment = self._payment(payment.payment_id)
        self._announce(payment, key)
        return payment

    def _announce(self, payment: Payment, key: str) -> None:
        event_type = _EVENT.get(payment.status)
        if event_type is not None:
            self._tell(payment, event_type, key)

    def _tell(self, payment: Payment, event_type: str, key: str) -> None:
        if self._render_event is None:
            return
        event_id = new_id("evt")
        body = self._render_event(event_id, event_type, key, payment)
        if body is None:
            return
        now_s = self.now_s()
        due_at_s = now_s
        if payment.duplicates:
            self.count_fault("duplicate_webhook")
            first = len(payment.operations) <= 1
            due_at_s += FIRST_EVENT_HELD_S * self._time_scale if first else 0.0
            self._store.hasten_late_copies(
                payment.payment_id, now_s + LATE_COPY_AFTER_NEWER_S * self._time_scale
            )
            late_at_s = now_s + LATE_COPY_S * self._time_scale
            self._store.enqueue(event_id, payment.payment_id, body, late_at_s, late=True)
        self._store.enqueue(event_id, payment.payment_id, body, due_at_s)


def _apply(kind: OperationKind, payment: Payment, amount_minor: int | None) -> tuple[Payment, int]:
    """The payment after an operation, and how much it moved; raises ``Refused``."""
    match kind:
        case OperationKind.CAPTURE:
            _require(payment, kind, {PaymentStatus.AUTHORISED})
            moved = _at_most(payment.amount_minor, amount_minor, "authorised")
            return _changed(payment, PaymentStatus.CAPTURED, captured_minor=moved), moved
        case OperationKind.VOID:
            _require(payment, kind, {PaymentStatus.AUTHORISED})
            return _changed(payment, PaymentStatus.VOIDED), payment.amount_minor
        case OperationKind.REFUND:
            _require(payment, kind, {PaymentStatus.CAPTURED, PaymentStatus.PARTIALLY_REFUNDED})
            moved = _at_most(payment.refundable_minor, amount_minor, "captured and not refunded")
            refunded = payment.refunded_minor + moved
            status = (
                PaymentStatus.REFUNDED
                if refunded == payment.captured_minor
                else PaymentStatus.PARTIALLY_REFUNDED
            )
            return _changed(payment, status, refunded_minor=refunded), moved
        case OperationKind.AUTHORISE:
            raise AssertionError("a payment is authorised when it is made")
        case _:
            assert_never(kind)


def _changed(
    payment: Payment,
    status: PaymentStatus,
    *,
    captured_minor: int | None = None,
    refunded_minor: int | None = None,
) -> Payment:
    return dataclasses.replace(
        payment,
        status=status,
        captured_minor=payment.captured_minor if captured_minor is None else captured_minor,
        refunded_minor=payment.refunded_minor if refunded_minor is None else refunded_minor,
        version=payment.version + 1,
    )


def _require(payment: Payment, kind: OperationKind, allowed: set[PaymentStatus]) -> None:
    if payment.status not in allowed:
        raise Refused(
            RefusalKind.NOT_NOW,
            "illegal_state",
            f"A payment that is {payment.status} cannot take a {kind}.",
        )


def _at_most(limit_minor: int, amount_minor: int | None, what: str) -> int:
    if amount_minor is None:
        return limit_minor
    if amount_minor > limit_minor:
        raise Refused(
            RefusalKind.NOT_THAT_MUCH, "amount_too_large", f"Only {limit_minor} is {what}."
        )
    return amount_minor
