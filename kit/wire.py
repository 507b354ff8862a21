"""Values as JSON shows them, the same in every answer and event (API.md, conventions)."""

from __future__ import annotations

from datetime import UTC, datetime

from kit.money import Money


def money(amount_minor: int, currency: str) -> dict[str, object]:
    """``{"amount_minor", "currency"}``."""
    return {"amount_minor": amount_minor, "currency": currency}


def money_of(amount: Money) -> dict[str, object]:
    """The same of a ``Money``."""
    return money(amount.amount_minor, amount.currency)


def rfc3339(moment: datetime | None) -> str | None:
    """``2026-01-31T09:30:00.123Z``: UTC with milliseconds; None stays None."""
    if moment is None:
        return None
    assert moment.tzinfo is not None, "times are aware"
    utc = moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
