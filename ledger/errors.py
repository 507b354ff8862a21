"""What the books refuse, by name."""

from __future__ import annotations

from kit.errors import Conflict, Denied, Invalid


class DayNotOver(Conflict):
    code = "day_not_over"
    title = "The day is not over"


class DayNotClosed(Conflict):
    code = "day_not_closed"
    title = "The day is not closed yet"


class MoreThanHeld(Conflict):
    """Carries ``held``: the cash that the rider has."""

    code = "more_than_held"
    title = "The rider does not hold that much cash"


class UnknownAccount(Invalid):
    code = "unknown_account"
    title = "The chart of accounts has no such account"


class AboveYourLimit(Denied):
    """Carries ``limit``."""

    code = "above_your_limit"
    title = "Your role may not give that much"
