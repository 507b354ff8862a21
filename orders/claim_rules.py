"""What may be claimed, what it is worth, and which claims need nobody to decide.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from orders.adjustments import Adjustment, AdjustmentKind
from orders.pricing import LineRefund, PricedLine, refund_for, split
from orders.settings import ClaimSettings
from orders.substitution_price import difference, share


class ClaimKind(StrEnum):
    MISSING = "missing"
    DAMAGED = "damaged"
    WRONG = "wrong"
    LATE = "late"
    OTHER = "other"


class ClaimState(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"


# These are about goods, and name them.
ABOUT_GOODS = frozenset({ClaimKind.MISSING, ClaimKind.DAMAGED, ClaimKind.WRONG})
# Nobody but the customer saw these: without a photo somebody has to look at the claim.
_SHOWN_BY_PHOTO = frozenset({ClaimKind.DAMAGED, ClaimKind.WRONG})


@dataclass(frozen=True, slots=True)
class DeliveredItem:
    """What was delivered of a line, or of a substitute that stands in for missing units of it.

    ``delivered`` units, of which ``claimed`` have been refunded after a claim.
    """

    item_id: str
    line_id: str
    delivered: int
    claimed: int
    tax_rate_bp: int
    # The line, with the units of it that never came; or what the delivered substitutes cost.
    line: PricedLine | None = None
    missing: int = 0
    charged: LineRefund | None = None

    def worth(self, quantity: int) -> LineRefund:
        """What the customer paid for the next ``quantity`` units that are claimed.

        A difference of cumulative amounts: claims in any pieces add up to what was paid.
        """
        if self.line is not None:
            return refund_for(self.line, quantity, self.missing + self.claimed)
        assert self.charged is not None
        return difference(
            share(self.charged, self.claimed + quantity, self.delivered),
            share(self.charged, self.claimed, self.delivered),
        )

    @property
    def is_substitute(self) -> bool:
        return self.line is None


def late_worth_minor(
    delivered_at: datetime, promised_high_at: datetime, delivery_fee_minor: int
) -> int:
    """The delivery fee goes back when the order came after its promise."""
    return delivery_fee_minor if delivered_at > promised_high_at else 0


def decided_at_once(
    settings: ClaimSettings,
    kind: ClaimKind,
    worth_minor: int,
    recent_claims: int,
    *,
    has_photo: bool,
) -> bool:
    """Whether a claim is approved without anybody looking at it."""
    if kind is ClaimKind.OTHER or (kind in _SHOWN_BY_PHOTO and not has_photo):
        return False
    return (
        0 < worth_minor <= settings.auto_approve_minor
        and recent_claims < settings.auto_approve_claims
    )


def in_time(settings: ClaimSettings, delivered_at: datetime, now: datetime) -> bool:
    """Whether a claim may still be made."""
    return now <= delivered_at + timedelta(seconds=settings.window_s)


def adjustments_for(
    items: Sequence[tuple[DeliveredItem, int]], amount_minor: int | None
) -> list[Adjustment]:
    """What an approval gives back, item by item: all that they cost, or a part of it.

    A part is shared in proportion to what the items cost, and within each between goods and tax.
    """
    worth = [item.worth(quantity) for item, quantity in items]
    if amount_minor is not None:
        shares = split(amount_minor, [each.total_minor for each in worth])
        worth = [_part(each, part) for each, part in zip(worth, shares, strict=True)]
    return [
        Adjustment(
            AdjustmentKind.CLAIM, each.items_minor, each.tax_minor, item.tax_rate_bp,
            item.line_id, quantity,
        )
        for (item, quantity), each in zip(items, worth, strict=True)
    ]  # fmt: skip


def _part(whole: LineRefund, amount_minor: int) -> LineRefund:
    if whole.total_minor == 0:
        return LineRefund(0, 0)
    tax_minor = whole.tax_minor * amount_minor // whole.total_minor
    return LineRefund(amount_minor - tax_minor, tax_minor)
