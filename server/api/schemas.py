"""Shapes that routes share: request base, money, places, times, pages and the problem document."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from kit.errors import Invalid

PAGE_LIMIT_MAX = 100
PAGE_LIMIT_DEFAULT = 20
CURSOR_MAX_CHARACTERS = 500
# No field of ours needs more; routes narrow it.
TEXT_MAX_CHARACTERS = 2_000

Item = TypeVar("Item")
Row = TypeVar("Row")

# NUL and lone surrogates are legal JSON that Postgres cannot store.
ShortText = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00]*$")
]
IdText = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
PageLimit = Annotated[int, Field(ge=1, le=PAGE_LIMIT_MAX)]
CursorText = Annotated[str, StringConstraints(max_length=CURSOR_MAX_CHARACTERS)]


class RequestModel(BaseModel):
    """The base of every request body: unknown fields, NaN and endless text are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        str_max_length=TEXT_MAX_CHARACTERS,
        hide_input_in_errors=True,
    )


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


class CursorInvalid(Invalid):
    code = "cursor_invalid"
    title = "This cursor is not one of ours"


def encode_cursor(*key: str | int | float | None) -> str:
    """The sort key of the last row of a page, opaque to clients."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).rstrip(b"=").decode()


def decode_cursor(cursor: str, *types: type) -> list[Any]:
    """The key that ``encode_cursor`` was given, one value for each of ``types``.

    Raises ``CursorInvalid`` for anything else: a cursor comes back from a client.
    """
    try:
        padded = cursor[:CURSOR_MAX_CHARACTERS] + "=" * (-len(cursor) % 4)
        key = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        key = None
    # Exact types: a bool is an int to Python and never part of a key.
    if (
        not isinstance(key, list)
        or [type(value) for value in key] != list(types)
        or any(isinstance(value, str) and "\x00" in value for value in key)
    ):
        raise CursorInvalid("Start the list again without a cursor.")
    return key


@dataclass(frozen=True, slots=True)
class PageOf(Generic[Row]):
    """Cut a page out of ``limit + 1`` rows: the extra row tells that there are more."""

    rows: Sequence[Row]
    limit: int

    def body(
        self, shape: Callable[[Row], dict[str, object]], key: Callable[[Row], tuple[Any, ...]]
    ) -> dict[str, object]:
        """``{"items", "next_cursor"}``; ``key`` gives the sort key of a row."""
        page = self.rows[: self.limit]
        more = len(self.rows) > self.limit
        return {
            "items": [shape(row) for row in page],
            "next_cursor": encode_cursor(*key(page[-1])) if more else None,
        }
