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


class QuoteUsed(Conflict):
    code = "quote_used"
    title = "The quote has become an order already"


class StockShort(Conflict):
    """Carries ``lines``: for each short line what was asked for, what is there, what else."""

    code = "stock_short"
    title = "Not everything is in stock"


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


class WrongRider(Denied):
    code = "wrong_rider"
    title = "The order goes to another rider"


class WrongDeliveryCode(Denied):
    code = "wrong_delivery_code"
    title = "That is not the customer's code"


class OfferExpired(Conflict):
    code = "offer_expired"
    title = "The offer is no longer open"


class NotOnShift(Conflict):
    code = "not_on_shift"
    title = "Start a shift first"


class OnTrip(Conflict):
    code = "on_trip"
    title = "Finish the trip first"


class AlreadyRated(Conflict):
    code = "already_rated"
    title = "This order has been rated"


class StaleAssignment(Conflict):
    """An assignment was decided on a world that has moved on; it is planned anew."""

    code = "stale_assignment"
    title = "The order or the rider has changed since"


class LeaseLost(Conflict):
    """Another dispatcher holds the city: this one may write nothing."""

    code = "lease_lost"
    title = "Another dispatcher has taken over"
