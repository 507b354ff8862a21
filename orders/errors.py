"""What can go wrong between a quote and a delivery, by name."""

from __future__ import annotations

from kit.errors import Conflict, Denied, Invalid, NotFound


class NotServiceable(Conflict):
    code = "not_serviceable"
    title = "We do not deliver there yet"


class StorePaused(Conflict):
    code = "store_paused"
    title = "The store takes no orders at the moment"
    retryable = True


class UnknownProduct(Invalid):
    code = "unknown_product"
    title = "The store does not sell that"


class QuoteNotFound(NotFound):
    code = "quote_not_found"
    title = "There is no such quote"


class QuoteExpired(Conflict):
    code = "quote_expired"
    title = "The quote has expired"


class PaymentTokenUnusable(Invalid):
    code = "payment_token_unusable"
    title = "No gateway takes this token here"


class QuoteUsed(Conflict):
    code = "quote_used"
    title = "The quote has become an order already"


class SlotUnavailable(Conflict):
    """Carries ``slots``: the next ones that can be had."""

    code = "slot_unavailable"
    title = "There is no such delivery slot"


class SlotFull(Conflict):
    """Carries ``slots``: the next ones in which there is room."""

    code = "slot_full"
    title = "The delivery slot is full"


class PromiseLater(Conflict):
    """Carries ``promised_at`` and ``later_s``: what a new address would make of the promise."""

    code = "promise_later"
    title = "The order would come later"


class TooManyOpenOrders(Conflict):
    """Carries ``limit``: how many unpaid orders a customer may have."""

    code = "too_many_open_orders"
    title = "There are unpaid orders already"
    retryable = True


class StockShort(Conflict):
    """Carries ``lines``: for each short line what was asked for, what is there, what else."""

    code = "stock_short"
    title = "Not everything is in stock"


class WalletShort(Conflict):
    """Carries ``balance`` (what is free of it) and ``total``."""

    code = "wallet_short"
    title = "There is not enough in the wallet"


class CouponUnknown(Invalid):
    code = "coupon_unknown"
    title = "There is no such coupon"


class CouponExpired(Conflict):
    code = "coupon_expired"
    title = "The coupon is not valid now"


class CouponNotApplicable(Conflict):
    code = "coupon_not_applicable"
    title = "The coupon does not fit this basket"


class WrongProduct(Conflict):
    code = "wrong_product"
    title = "That is another product"


class WrongBin(Conflict):
    code = "wrong_bin"
    title = "That is another bin"


class TooMany(Conflict):
    code = "too_many"
    title = "That is more than was ordered"


class NotPicked(Conflict):
    code = "not_picked"
    title = "Some lines are neither picked nor reported short"


class SubstitutionNotWanted(Conflict):
    code = "substitution_not_wanted"
    title = "The customer wants no substitutes"


class NotASubstitute(Conflict):
    code = "not_a_substitute"
    title = "That cannot stand in for this product"


class SubstituteShort(Conflict):
    """Carries ``available`` units of the substitute."""

    code = "substitute_short"
    title = "There are not enough units of the substitute"


class NoTimeToAsk(Conflict):
    code = "no_time_to_ask"
    title = "The promise leaves no time to ask the customer"


class SubstitutionOpen(Conflict):
    """Carries ``deadline_at``: by then the customer has answered, or the default is applied."""

    code = "substitution_open"
    title = "The customer is still being asked"
    retryable = True


class SubstitutionDecided(Conflict):
    """Carries ``status``: what was decided."""

    code = "substitution_decided"
    title = "This has been decided already"


class RefundTooLarge(Conflict):
    code = "refund_too_large"
    title = "That is more than was paid"


class ClaimWindowClosed(Conflict):
    code = "claim_window_closed"
    title = "It is too late for a claim"


class ClaimOpen(Conflict):
    """Carries ``claim_id``: the claim on the same goods that waits for a decision."""

    code = "claim_open"
    title = "There is an open claim on that already"


class ClaimDecided(Conflict):
    """Carries ``status``: what was decided."""

    code = "claim_decided"
    title = "This claim has been decided"


class ClaimNotFound(NotFound):
    code = "claim_not_found"
    title = "There is no such claim"


class ColdChainBroken(Conflict):
    code = "cold_chain_broken"
    title = "The goods were out of the cold for too long"


class WrongRider(Denied):
    code = "wrong_rider"
    title = "The order goes to another rider"


class WrongDeliveryCode(Denied):
    code = "wrong_delivery_code"
    title = "That is not the customer's code"


class OfferExpired(Conflict):
    code = "offer_expired"
    title = "The offer is no longer open"


class OnTrip(Conflict):
    code = "on_trip"
    title = "Finish the trip first"


class AlreadyRated(Conflict):
    code = "already_rated"
    title = "This order has been rated"


class OrderHasRider(Conflict):
    """Carries ``rider_id`` and ``trip_id``."""

    code = "order_has_rider"
    title = "Another rider has the order"


class AlreadyPinned(Conflict):
    """Carries ``control_id`` and ``rider_id``."""

    code = "already_pinned"
    title = "The order is pinned to a rider already"


class CannotAssign(Conflict):
    """Carries ``because``: what no force overrides."""

    code = "cannot_assign"
    title = "The rider cannot take this order"


class WouldOverride(Conflict):
    """Carries ``overrides``: what speaks against it; the same request with ``force`` does it."""

    code = "would_override"
    title = "Something speaks against this rider"


class StaleAssignment(Conflict):
    """An assignment was decided on a world that has moved on; it is planned anew.

    ``reason`` is one of a few words, for counting.
    """

    code = "stale_assignment"
    title = "The order or the rider has changed since"

    @property
    def reason(self) -> str:
        return str(self.extra.get("reason", "changed"))


class LeaseLost(Conflict):
    """Another dispatcher holds the partition: this one may write nothing."""

    code = "lease_lost"
    title = "Another dispatcher has taken over"
