"""Pages of lists: ``?limit=&cursor=`` in the question, ``{"items", "next_cursor"}`` in the answer.

A list goes on after the sort key of the last row that was shown, so that nothing is shown twice or
left out because of what was added meanwhile.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends
from pydantic import Field, StringConstraints

from kit.errors import Invalid

LIMIT_MAX = 100
LIMIT_DEFAULT = 20
CURSOR_MAX_CHARACTERS = 500

Row = TypeVar("Row")
PageLimit = Annotated[int, Field(ge=1, le=LIMIT_MAX)]
CursorText = Annotated[str, StringConstraints(max_length=CURSOR_MAX_CHARACTERS)]


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
class Paging:
    """Which page is asked for: so many rows, after what the cursor names or from the start."""

    limit: int
    cursor: str | None

    @property
    def fetch(self) -> int:
        """How many rows to read: the one more tells that there are more."""
        return self.limit + 1

    @property
    def after(self) -> str | None:
        """Where a list goes on that is sorted by one text.  Raises CursorInvalid."""
        key = self.key(str)
        return None if key is None else str(key[0])

    def key(self, *types: type) -> list[Any] | None:
        """Where a list goes on whose sort key has these types.  Raises CursorInvalid."""
        return decode_cursor(self.cursor, *types) if self.cursor else None

    def body(
        self,
        rows: Sequence[Row],
        shape: Callable[[Row], dict[str, object]],
        key: Callable[[Row], tuple[Any, ...]] = lambda row: (row["id"],),  # type: ignore[index]
    ) -> dict[str, object]:
        """The answer from up to ``fetch`` rows; ``key`` gives the sort key of one."""
        page = rows[: self.limit]
        more = len(rows) > self.limit
        return {
            "items": [shape(row) for row in page],
            "next_cursor": encode_cursor(*key(page[-1])) if more else None,
        }


# Not a plain function: FastAPI sends one to a thread.
async def _paging(limit: PageLimit = LIMIT_DEFAULT, cursor: CursorText | None = None) -> Paging:
    return Paging(limit, cursor)


PagingDep = Annotated[Paging, Depends(_paging)]
