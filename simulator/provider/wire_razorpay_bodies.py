"""What callers of Razorpay's wire send: bodies, amounts and pages of lists."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request

from simulator.provider.host import Problem, read_body, whole
from simulator.provider.wire import MAX_AMOUNT_MINOR

_FOREVER: Final = 10**12

Body = TypeVar("Body")


class Amount(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    amount: int
    currency: str = "INR"


class NewOrder(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    amount: int
    currency: str
    receipt: str | None = None
    notes: dict[str, str] = {}
    payment: dict[str, Any] = {}  # capture settings


class NewPayment(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    amount: int
    currency: str
    order_id: str
    token: str
    email: str
    contact: str
    recurring: bool | str = True
    customer_id: str | None = None
    description: str | None = None
    notes: dict[str, str] = {}


class NewRefund(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    amount: int | None = None
    speed: str = "normal"
    receipt: str | None = None
    notes: dict[str, str] = {}


class Notes(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    notes: dict[str, str]


async def read(request: Request, shape: type[Body]) -> tuple[bytes, Body]:
    raw = await read_body(request)
    try:
        return raw, msgspec.json.decode(raw or b"{}", type=shape)
    except msgspec.MsgspecError as error:
        raise Problem(400, "invalid_request", str(error)) from error


def require_amount(amount: int) -> None:
    if not 0 < amount <= MAX_AMOUNT_MINOR:
        raise Problem(400, "invalid_request", "The amount is not valid.", "amount")


def page(request: Request) -> tuple[int, int, int, int]:
    return (
        whole(request, "count", default=10, most=100),
        whole(request, "skip", default=0, most=_FOREVER),
        whole(request, "from", default=0, most=_FOREVER),
        whole(request, "to", default=_FOREVER, most=_FOREVER),
    )
