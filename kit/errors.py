"""The one tree of errors that a caller can act on.

::

    DarkstoreError
    ├── Invalid         the request itself is wrong           (HTTP 400 or 422)
    ├── Unauthenticated nobody knows who is asking            (401)
    ├── PaymentRefused  the payer's bank said no              (402)
    ├── Denied          known, and may not                    (403)
    ├── NotFound        is not there, or is somebody else's   (404)
    ├── Conflict        is legal, but not in this state       (409)
    ├── TooLarge        more bytes than a request may have    (413)
    └── Busy            not now; try again                    (429, 503)

Features subclass them with a stable ``code``.  Only ``server/errors.py`` knows HTTP.  Anything
else that is raised is a bug.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class DarkstoreError(Exception):
    """An expected refusal.  ``detail`` is a sentence on which the reader can act."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "The request was refused"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        extra: Mapping[str, object] | None = None,
        errors: Sequence[Mapping[str, object]] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = dict(extra or {})
        self.errors = list(errors)


class Invalid(DarkstoreError):
    code = "invalid"
    title = "The request is not valid"


class Unauthenticated(DarkstoreError):
    code = "unauthenticated"
    title = "Log in first"


class PaymentRefused(DarkstoreError):
    code = "payment_declined"
    title = "The payment was declined"


class Denied(DarkstoreError):
    code = "denied"
    title = "This is not allowed"


class NotFound(DarkstoreError):
    code = "not_found"
    title = "There is no such thing"


class Conflict(DarkstoreError):
    code = "conflict"
    title = "That is not possible now"


class TooLarge(DarkstoreError):
    code = "too_large"
    title = "The request is too large"


class Busy(DarkstoreError):
    code = "busy"
    title = "Try again in a moment"
    retryable = True

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: int = 1,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail, extra=extra)
        self.retry_after_s = retry_after_s


class RateLimited(Busy):
    code = "rate_limited"
    title = "Too many requests"


class IllegalTransition(Conflict):
    """A state machine was asked for an edge that it does not have; nothing was changed."""

    code = "illegal_transition"
    title = "The state does not allow this"
