"""Shapes that routes share: request base, money, places, times and the problem document."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# No field of ours needs more; routes narrow it.
TEXT_MAX_CHARACTERS = 2_000

Item = TypeVar("Item")

# NUL and lone surrogates are legal JSON that Postgres cannot store.
ShortText = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00]*$")
]
IdText = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]


class RequestModel(BaseModel):
    """The base of every request body: unknown fields, NaN and endless text are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        str_max_length=TEXT_MAX_CHARACTERS,
        hide_input_in_errors=True,
    )


class ReasonIn(RequestModel):
    """What is done is written down with who did it; this says why."""

    reason: Annotated[ShortText, Field(min_length=1, description="Why; others read it")]


class LatLon(RequestModel):
    """A place, WGS 84 degrees."""

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)


class MoneyOut(BaseModel):
    """Integer minor units of one currency."""

    amount_minor: int
    currency: str = Field(pattern="^[A-Z]{3}$")


class Page(BaseModel, Generic[Item]):
    """One page of a list; ``next_cursor`` is null on the last."""

    items: list[Item]
    next_cursor: str | None = None


class FieldError(BaseModel):
    """What is wrong with one field, named by its path (``lines.0.quantity``)."""

    field: str
    detail: str


class Problem(BaseModel):
    """RFC 9457.  Some codes carry more members, which their routes describe."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="`/problems/{code}`")
    title: str
    status: int
    detail: str = Field(description="A sentence on which the reader can act")
    code: str = Field(description="Stable; switch on this")
    retryable: bool = Field(description="Whether the same request may pass later")
    request_id: str
    errors: list[FieldError] | None = None
