"""Channel names: ``order:ord_…``, ``store:sto_…``, ``rider:rdr_…``, ``city:cty_…``.

A channel is also the name of an outbox stream, so the text form is what the database, Redis and
the clients share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from realtime.errors import InvalidChannel

# Ids are opaque; this keeps them printable, free of separators, and short enough for any key.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ChannelKind(StrEnum):
    ORDER = "order"
    STORE = "store"
    RIDER = "rider"
    CITY = "city"


_KINDS = {kind.value: kind for kind in ChannelKind}


@dataclass(frozen=True, slots=True)
class Channel:
    """One stream of events; ``id`` is the id of the order, store, rider or city."""

    kind: ChannelKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


def parse_channel(text: str) -> Channel:
    """The channel that ``text`` names.

    Raises :class:`InvalidChannel` when the kind is unknown or the id is not one.
    """
    kind, separator, identifier = text.partition(":")
    if not separator:
        raise InvalidChannel("A channel is a kind and an id, such as order:ord_01J….")
    if kind not in _KINDS:
        kinds = ", ".join(ChannelKind)
        raise InvalidChannel(f"The kind of a channel is one of {kinds}.")
    if _ID.fullmatch(identifier) is None:
        raise InvalidChannel(
            "The id of a channel has 1 to 64 letters, digits, underscores or hyphens."
        )
    return Channel(_KINDS[kind], identifier)
