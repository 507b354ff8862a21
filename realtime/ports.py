"""What a session needs from the rest of the system, handed in by the wiring."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Protocol

import msgspec

from realtime.channels import Channel

Latitude = Annotated[float, msgspec.Meta(ge=-90, le=90)]
Longitude = Annotated[float, msgspec.Meta(ge=-180, le=180)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Heading = Annotated[float, msgspec.Meta(ge=0, le=360)]
AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who holds a socket.  ``session_id`` is the log-in, whose end closes the socket."""

    user_id: str
    role: str
    session_id: str
    store_ids: tuple[str, ...] = ()
    city_ids: tuple[str, ...] = ()
    rider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A channel's whole state after event ``seq``, both read in one database snapshot.

    ``data`` is anything that msgspec writes as JSON; ``msgspec.Raw`` holds JSON text as it is.
    """

    epoch: str
    seq: int
    data: object


class Point(msgspec.Struct, frozen=True):
    """One fix of a rider's phone: degrees WGS 84, metres, metres a second."""

    t: AwareTime
    lat: Latitude
    lon: Longitude
    accuracy_m: NotNegative | None = None
    speed_mps: NotNegative | None = None
    heading_deg: Heading | None = None


@dataclass(frozen=True, slots=True)
class PositionReply:
    """How many points were taken; a ``code`` tells the rider's app why others were not."""

    accepted: int
    code: str | None = None
    detail: str = ""


class Authenticator(Protocol):
    async def redeem(self, ticket: str) -> Principal | None:
        """The holder of a one-use ticket; None when it is unknown, used or expired."""
        ...


# False for what is foreign and for what does not exist: the client cannot tell them apart.
Authorise = Callable[[Principal, Channel], Awaitable[bool]]
TakeSnapshot = Callable[[Principal, Channel], Awaitable[Snapshot]]
# Called within the read loop: it must put the points into a bounded buffer and return.
PositionSink = Callable[[Principal, Sequence[Point]], PositionReply]
# Of these log-ins, the ones that have ended.
Revoked = Callable[[Collection[str]], Awaitable[Collection[str]]]


@dataclass(frozen=True, slots=True)
class Ports:
    """All of them, as the wiring gives them in."""

    authenticator: Authenticator
    authorise: Authorise
    snapshot: TakeSnapshot
    positions: PositionSink
    revoked: Revoked
